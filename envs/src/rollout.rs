//! Rollouts from outside: many states, many actions, and what becomes of them, without episodes, policies or streams.
//!
//! The shape is that of `MuJoCo`'s `rollout`: row `n` starts in `state[n]` and takes `actions[n, t]` one after the other.

/// What is rolled out.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// `[N, S]`, the state of each row before its first action.
    pub state: Vec<f64>,
    /// `[N, T, A]`.
    pub actions: Vec<f64>,
    /// `N`.
    pub rows: usize,
    /// `T`.
    pub steps: usize,
}

/// How to roll out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Also compute the gradient of each row's sum of rewards with respect to its actions.
    pub gradients: bool,
    /// Where an episode would end, go on from the row's own first state.
    pub resets: bool,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// `[N, T, S]`, the state after each action.
    pub states: Vec<f64>,
    /// `[N, T, O]`, the observation of it.
    pub observations: Vec<f64>,
    /// `[N, T]`.
    pub rewards: Vec<f64>,
    /// `[N, T]`, whether an episode would have ended there.
    pub terminations: Vec<bool>,
    /// `[N, T, A]`, if asked for. A reset cuts it.
    pub gradients: Vec<f64>,
}

/// Lengths of one row of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// `S`.
    pub state: usize,
    /// `A`.
    pub action: usize,
    /// `O`.
    pub observation: usize,
}

/// Why a rollout was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// The env's state is no vector.
    #[error("{env} cannot be rolled out from outside: its state is not a vector; envs that can: {known}")]
    NoVector {
        /// Id of the env.
        env: String,
        /// Those that can.
        known: String,
    },
    /// An input of the wrong length.
    #[error("{env}: `{name}` has {found} numbers, {expected} are needed for {rows} rows of {each}")]
    Length {
        /// Id of the env.
        env: String,
        /// Which input.
        name: &'static str,
        /// Numbers found.
        found: usize,
        /// Numbers needed.
        expected: usize,
        /// Rows.
        rows: usize,
        /// What a row is.
        each: String,
    },
    /// An input that is no number.
    #[error("{env}: `{name}` is {value} at number {at} of row {row}; allowed: finite numbers")]
    NonFinite {
        /// Id of the env.
        env: String,
        /// Which input.
        name: &'static str,
        /// Row.
        row: usize,
        /// Position in the row.
        at: usize,
        /// What stands there.
        value: f64,
    },
    /// The env could not be made.
    #[error(transparent)]
    Env(#[from] crate::env::EnvError),
}

impl Inputs {
    /// Refuses lengths that do not fit and numbers that are none.
    pub(crate) fn check(&self, env: &str, sizes: Sizes) -> Result<(), RolloutError> {
        let inputs = [
            ("state", &self.state, sizes.state, format!("{} numbers", sizes.state)),
            ("actions", &self.actions, self.steps * sizes.action, format!("{} x {}", self.steps, sizes.action)),
        ];
        for (name, values, row_len, each) in inputs {
            let env = env.to_owned();
            let (rows, expected, found) = (self.rows, self.rows * row_len, values.len());
            if expected != found {
                return Err(RolloutError::Length { env, name, found, expected, rows, each });
            }
            if let Some(place) = values.iter().position(|x| !x.is_finite()) {
                let (row, at, value) = (place / row_len, place % row_len, values[place]);
                return Err(RolloutError::NonFinite { env, name, row, at, value });
            }
        }
        Ok(())
    }
}
