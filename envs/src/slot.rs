//! One row of a vectorised env: an env, the episode it is in, that episode's stream and its clock.

use serde::{Deserialize, Serialize};
use simulators::rng::{Purpose, Rng, Seed, stream};

use crate::buffer::{Dtype, Scalar};
use crate::env::{Env, StateError};
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
    env: serde_json::Value,
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
        Self { env, rng, episode: index, next: index, steps: 0, over: true }
    }

    /// Makes episode `index` the next one.
    pub fn rewind(&mut self, index: u64) {
        self.next = index;
    }

    /// Starts the next episode.
    pub fn begin(&mut self, rules: &Rules, obs: &mut [E::Obs]) {
        self.episode = self.next;
        self.next += rules.stride;
        (self.steps, self.over) = (0, false);
        self.rng = stream(rules.seed, Purpose::World, self.episode);
        self.env.reset(&mut self.rng, obs);
    }

    /// One step, or the reset that stands in for it where the episode is already over.
    pub fn advance(
        &mut self,
        rules: &Rules,
        action: &[E::Action],
        obs: &mut [E::Obs],
        final_obs: &mut [E::Obs],
    ) -> Advance {
        if self.over {
            self.begin(rules, obs);
            final_obs.copy_from_slice(obs);
            return Advance { ignored: true, episode: self.episode, ..Advance::default() };
        }
        let outcome = self.env.step(action, &mut self.rng, final_obs);
        self.steps += 1;
        let stop =
            Stop { terminated: outcome.terminated, truncated: rules.max_steps.is_some_and(|most| self.steps >= most) };
        let fault = if !outcome.reward.is_finite() {
            Some("reward")
        } else if E::Obs::TYPE == Dtype::Float32 && final_obs.iter().any(|value| !value.to_f64().is_finite()) {
            Some("observation")
        } else {
            None
        };
        let advance = Advance { reward: outcome.reward, stop, ignored: false, episode: self.episode, fault };
        self.over = stop.any() || fault.is_some();
        if self.over && fault.is_none() && rules.same_step {
            self.begin(rules, obs);
        } else {
            obs.copy_from_slice(final_obs);
        }
        advance
    }

    pub fn snapshot(&self) -> RowSnapshot {
        let words = u64::try_from(self.rng.get_word_pos()).expect("an episode draws fewer than 2^64 words");
        let Self { episode, next, steps, over, .. } = *self;
        RowSnapshot { episode, next, steps, over, words, env: self.env.save() }
    }

    pub fn restore(&mut self, row: &RowSnapshot, seed: Seed) -> Result<(), StateError> {
        self.env.load(&row.env)?;
        (self.episode, self.next, self.steps, self.over) = (row.episode, row.next, row.steps, row.over);
        self.rng = stream(seed, Purpose::World, self.episode);
        self.rng.set_word_pos(u128::from(row.words));
        Ok(())
    }
}
