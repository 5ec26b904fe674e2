//! One row of a vectorised env: an env, the episode it is in, that episode's stream and its clock.

use serde::{Deserialize, Serialize};
use simulators::rng::{Purpose, Rng, Seed, stream};

use crate::buffer::{Dtype, Scalar};
use crate::env::{Env, Outcome, StateError, Turn};
use crate::stop::Stop;

/// What all rows of a batch have in common.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub seed: Seed,
    /// Number of rows: from one episode of a row to its next.
    pub stride: u64,
    pub max_steps: Option<u32>,
    /// Whether an episode that stops is followed by the next one in the same step.
    pub same_step: bool,
}

pub(crate) struct Slot<E> {
    pub env: E,
    rng: Rng,
    /// Index of the running episode.
    pub episode: u64,
    /// Index of the episode that the next reset starts.
    next: u64,
    /// Steps taken in the running episode.
    pub steps: u32,
    /// Whether the running episode has stopped, so that only a reset can follow.
    pub over: bool,
    /// Whether it stopped because a number was not finite: its state is worth nothing.
    broken: bool,
}

/// State of one row; the generator is named by seed and episode, so its position is all there is to keep.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowSnapshot {
    episode: u64,
    next: u64,
    steps: u32,
    over: bool,
    /// 32-bit words that the episode has drawn.
    words: u64,
    /// `None` once a number was not finite: no text holds it, and the reset that comes next needs no state.
    env: Option<serde_json::Value>,
}

/// Half of what a stream number holds, so that a row that is put back has as many episodes again before it.
const MOST_EPISODES: u64 = 1 << 55;
/// The same for the words that an episode draws.
const MOST_WORDS: u64 = 1 << 63;

impl RowSnapshot {
    /// Refuses numbers that no row can have reached: the field, what is allowed, what is there.
    pub fn check(&self, max_steps: Option<u32>) -> Result<(), (&'static str, String, String)> {
        let most_steps = u64::from(max_steps.unwrap_or(u32::MAX - 1)) + 1;
        let fields = [
            ("rows.episode", self.episode, MOST_EPISODES),
            ("rows.next", self.next, MOST_EPISODES),
            ("rows.steps", u64::from(self.steps), most_steps),
            ("rows.words", self.words, MOST_WORDS),
        ];
        match fields.into_iter().find(|&(_, value, end)| value >= end) {
            Some((field, value, end)) => Err((field, format!("0..{end}"), value.to_string())),
            None => Ok(()),
        }
    }
}

/// One row's part of a `StepBatch`, observations apart.
#[derive(Default)]
pub(crate) struct Advance {
    pub reward: f32,
    pub stop: Stop,
    pub ignored: bool,
    pub episode: u64,
    /// What was not finite, if anything.
    pub fault: Option<&'static str>,
}

impl<E: Env> Slot<E> {
    /// Row `index`, before its first episode.
    pub fn new(env: E, index: u64, seed: Seed) -> Self {
        let rng = stream(seed, Purpose::World, index);
        Self { env, rng, episode: index, next: index, steps: 0, over: true, broken: false }
    }

    /// Makes episode `index` the next one.
    pub fn rewind(&mut self, index: u64) {
        self.next = index;
    }

    /// Starts the next episode. Says what was not finite, if anything; the episode is then over before its first step.
    pub fn begin(&mut self, rules: &Rules, obs: &mut [E::Obs]) -> Option<&'static str> {
        self.episode = self.next;
        self.next += rules.stride;
        self.steps = 0;
        self.rng = stream(rules.seed, Purpose::World, self.episode);
        self.env.reset(&mut self.rng, obs);
        let fault = (!finite(obs)).then_some("observation");
        self.broken = fault.is_some();
        self.over = self.broken;
        fault
    }

    /// Takes its turn in a step, or, where the episode is already over, the reset that stands in for one.
    pub fn turn<'a>(
        &'a mut self,
        rules: &Rules,
        action: &'a [E::Action],
        obs: &mut [E::Obs],
        final_obs: &'a mut [E::Obs],
    ) -> Result<Turn<'a, E>, Advance> {
        if self.over {
            let fault = self.begin(rules, obs);
            final_obs.copy_from_slice(obs);
            return Err(Advance { ignored: true, episode: self.episode, fault, ..Advance::default() });
        }
        Ok(Turn { env: &mut self.env, action, rng: &mut self.rng, obs: final_obs, outcome: Outcome::default() })
    }

    /// What follows from the outcome of a step that led to `final_obs`.
    pub fn advance(&mut self, rules: &Rules, outcome: Outcome, obs: &mut [E::Obs], final_obs: &[E::Obs]) -> Advance {
        self.steps += 1;
        let stop =
            Stop { terminated: outcome.terminated, truncated: rules.max_steps.is_some_and(|most| self.steps >= most) };
        let fault = if !outcome.reward.is_finite() {
            Some("reward")
        } else if !finite(final_obs) {
            Some("observation")
        } else {
            None
        };
        let mut advance = Advance { reward: outcome.reward, stop, ignored: false, episode: self.episode, fault };
        self.broken = fault.is_some();
        self.over = stop.any() || self.broken;
        if stop.any() && !self.broken && rules.same_step {
            advance.fault = self.begin(rules, obs);
        } else {
            obs.copy_from_slice(final_obs);
        }
        advance
    }

    pub fn snapshot(&self) -> RowSnapshot {
        let words = u64::try_from(self.rng.get_word_pos()).expect("an episode draws fewer than 2^64 words");
        let Self { episode, next, steps, over, .. } = *self;
        RowSnapshot { episode, next, steps, over, words, env: (!self.broken).then(|| self.env.save()) }
    }

    pub fn restore(&mut self, row: &RowSnapshot, seed: Seed) -> Result<(), StateError> {
        match &row.env {
            Some(state) => self.env.load(state)?,
            None if row.over => {}
            None => {
                let source = "a row whose episode runs has no state".into();
                return Err(StateError { env: self.env.spec().id.clone(), source });
            }
        }
        self.broken = row.env.is_none();
        (self.episode, self.next, self.steps, self.over) = (row.episode, row.next, row.steps, row.over);
        self.rng = stream(seed, Purpose::World, self.episode);
        self.rng.set_word_pos(u128::from(row.words));
        Ok(())
    }
}

/// Whether every number of an observation is finite; only floats can fail to be.
fn finite<T: Scalar>(obs: &[T]) -> bool {
    T::TYPE != Dtype::Float32 || obs.iter().all(|value| value.to_f64().is_finite())
}
