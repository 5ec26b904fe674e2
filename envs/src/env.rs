//! The seam between tasks and everything that drives them: `Env`, its spec, and what can go wrong.

use serde::{Deserialize, Serialize};
use simulators::rng::{Rng, Seed};

use crate::buffer::{Dtype, Scalar};
use crate::space::Space;

/// What a caller needs to know about an environment before the first step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvSpec {
    /// Name and version, such as `MnistWorld-v0`; the version rises whenever a change alters trajectories.
    pub id: String,
    /// What one observation is.
    pub observation: Space,
    /// What one action is.
    pub action: Space,
    /// Steps after which an episode is truncated; `None` for never. `VectorEnv` enforces it, the env does not count.
    pub max_steps: Option<u32>,
    /// Frames per second at which a viewer should play it.
    pub fps: f64,
    /// The resolved configuration that the env was built from.
    pub config: serde_json::Value,
}

impl EnvSpec {
    /// The number after the last `-v` of the id.
    ///
    /// # Panics
    /// If the id does not end in `-v` and a number, which every registered id does.
    #[must_use]
    pub fn version(&self) -> u32 {
        let version = self.id.rsplit_once("-v").and_then(|(_, number)| number.parse().ok());
        version.expect("an id ends in its version")
    }
}

/// What one step gave, besides the next observation.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Outcome {
    /// Reward for reaching the next observation.
    pub reward: f32,
    /// Whether the world ended there. Time limits are not the env's business.
    pub terminated: bool,
}

/// A task: a world with spaces, rewards and ends. It knows nothing of batches, time limits, auto-reset or tensors.
///
/// Every random draw of `reset` and `step` comes from the generator they are given, which is the stream of the episode;
/// so an episode is a function of (id, config, seed, episode index, actions).
pub trait Env: Send + Sync + 'static {
    /// Element type of observations.
    type Obs: Scalar;
    /// Element type of actions.
    type Action: Scalar;

    /// Spaces, time limit and configuration; never changes.
    fn spec(&self) -> &EnvSpec;

    /// Starts an episode and writes its first observation, `[O]`.
    fn reset(&mut self, rng: &mut Rng, obs: &mut [Self::Obs]);

    /// Takes `action`, `[A]`, a member of the action space, and writes the next observation, `[O]`. Allocates nothing.
    fn step(&mut self, action: &[Self::Action], rng: &mut Rng, obs: &mut [Self::Obs]) -> Outcome;

    /// Takes one step in each of several envs, as [`Env::step`] would in each alone, to the last bit. Envs whose worlds
    /// share SIMD lanes do it together.
    fn step_together(turns: &mut [Turn<'_, Self>])
    where
        Self: Sized,
    {
        for turn in turns {
            turn.outcome = turn.env.step(turn.action, turn.rng, turn.obs);
        }
    }

    /// The whole state but the generator.
    fn save(&self) -> serde_json::Value;

    /// Puts back a state that an env of the same spec saved; what follows is the same to the last bit.
    ///
    /// # Errors
    /// If the value cannot have come from such an env. The state is then unchanged.
    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError>;
}

/// One env's part of [`Env::step_together`].
pub struct Turn<'a, E: Env> {
    /// The env.
    pub env: &'a mut E,
    /// `[A]`, a member of the action space.
    pub action: &'a [E::Action],
    /// The stream of its episode.
    pub rng: &'a mut Rng,
    /// `[O]`, where the next observation goes.
    pub obs: &'a mut [E::Obs],
    /// What the step gave.
    pub outcome: Outcome,
}

/// A saved state that does not fit the env it should be loaded into.
#[derive(Debug, thiserror::Error)]
#[error("saved state of `{env}` does not fit this env")]
pub struct StateError {
    /// Id of the env.
    pub env: String,
    /// What does not fit.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why a batch of envs could not be made, reset, stepped or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// A field of a configuration is out of range.
    #[error("{env}: `{field}` is {value}, allowed: {allowed}")]
    Config {
        /// Id of the env.
        env: String,
        /// Dotted path of the field.
        field: String,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: String,
    },
    /// A configuration could not be read at all: a wrong type or an unknown field.
    #[error("{env}: configuration refused")]
    Parse {
        /// Id of the env.
        env: String,
        /// Names the field by its dotted path.
        source: serde_path_to_error::Error<serde_json::Error>,
    },
    /// Digit images could not be read.
    #[error("{env}: digits cannot be read")]
    Digits {
        /// Id of the env.
        env: String,
        /// Names the file and the field of its header.
        source: simulators::digits::DigitError,
    },
    /// Textures could not be read.
    #[error("{env}: textures cannot be read")]
    Textures {
        /// Id of the env.
        env: String,
        /// Names the file.
        source: simulators::block_world::SurfaceError,
    },
    /// A buffer of the wrong element type.
    #[error("{env}: {what} are {found:?}, the spec says {expected:?}")]
    ElementType {
        /// Id of the env.
        env: String,
        /// Which buffer.
        what: &'static str,
        /// The spec's element type.
        expected: Dtype,
        /// The buffer's.
        found: Dtype,
    },
    /// A buffer or mask of the wrong length.
    #[error("{env}: {what} have {found} elements, {expected} are needed for {num_envs} envs")]
    Length {
        /// Id of the env.
        env: String,
        /// Which buffer.
        what: &'static str,
        /// Rows of the batch.
        num_envs: usize,
        /// Elements needed.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// An action outside its space. No row was stepped.
    #[error("{env}: action of env {row}, component {component} is {value}, allowed: {allowed}")]
    Action {
        /// Id of the env.
        env: String,
        /// Row of the batch.
        row: usize,
        /// Component of the action.
        component: usize,
        /// What stands there.
        value: f64,
        /// What may stand there.
        allowed: String,
    },
    /// A step in disabled mode while an episode is over. No row was stepped.
    #[error("{env}: the episode of env {row} is over; reset that row before the next step")]
    NeedsReset {
        /// Id of the env.
        env: String,
        /// Row of the batch.
        row: usize,
    },
    /// A step before the first reset. No row was stepped.
    #[error("{env}: reset before the first step")]
    NotStarted {
        /// Id of the env.
        env: String,
    },
    /// A reset mask without a single true.
    #[error("{env}: the reset mask chooses none of {num_envs} envs, at least one is needed")]
    EmptyMask {
        /// Id of the env.
        env: String,
        /// Rows of the batch.
        num_envs: usize,
    },
    /// A reward or observation is not finite. The row's episode is over, the other rows are stepped and valid.
    #[error("{env}: {what} of env {row} is not finite at step {step} of episode {episode}, seed {seed}{}", others(*rows))]
    NonFinite {
        /// Id of the env.
        env: String,
        /// Reward or observation.
        what: &'static str,
        /// Row of the batch.
        row: usize,
        /// Episode index.
        episode: u64,
        /// Steps taken in it; 0 for its first observation.
        step: u32,
        /// Seed of the batch.
        seed: Seed,
        /// How many rows went wrong at once; the one described is the first.
        rows: usize,
    },
    /// The env cannot be differentiated.
    #[error("{env} has no gradients: its steps cannot be differentiated; envs that have: {known}")]
    NoGradients {
        /// Id of the env.
        env: String,
        /// Those that have.
        known: String,
    },
    /// The env does not show or take vectors of floats.
    #[error(
        "{env}: observations and actions must be vectors of 32-bit floats for a policy to be trained in a latent model"
    )]
    NoVectors {
        /// Id of the env.
        env: String,
    },
    /// The env does not show the pictures that a belief is made of.
    #[error(
        "{env}: a policy that lives in this belief needs {expected} pictures of bytes, and actions that are a vector"
    )]
    NoPictures {
        /// Id of the env.
        env: String,
        /// Which pictures.
        expected: String,
    },
    /// The env cannot be drawn.
    #[error("{env} cannot be drawn; envs that can: {known}")]
    NoPicture {
        /// Id of the env.
        env: String,
        /// Those that can.
        known: String,
    },
    /// The env cannot be drawn from above.
    #[error("{env} has no map; envs that have: {known}")]
    NoMap {
        /// Id of the env.
        env: String,
        /// Those that have.
        known: String,
    },
    /// A snapshot of another batch.
    #[error("{env}: snapshot field `{field}` is {found}, this batch has {expected}")]
    Snapshot {
        /// Id of the env.
        env: String,
        /// Field of the snapshot.
        field: &'static str,
        /// What the batch has.
        expected: String,
        /// What the snapshot holds.
        found: String,
    },
    /// A snapshot whose env state does not fit.
    #[error(transparent)]
    State(#[from] StateError),
}

fn others(rows: usize) -> String {
    if rows > 1 { format!("; {rows} envs went wrong at once") } else { String::new() }
}
