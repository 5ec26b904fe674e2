//! Named random streams: [`stream`] is the only way to make a generator.
//!
//! A stream is addressed, not handed on: adding an environment, a thread or a new purpose changes nothing that another
//! stream draws.

use crate::limits::Limit;
use rand::SeedableRng;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The generator behind every stream: `ChaCha` with 8 rounds, counter based, the same on every platform.
pub type Rng = rand::rngs::ChaCha8Rng;

/// The seed of a run: `0..=2^63-1`, so that it fits a signed 64-bit integer of any file format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub struct Seed(pub u64);

/// A seed outside `0..=2^63-1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed is {value}, allowed: 0..={}", Seed::MAX.0)]
pub struct SeedError {
    /// The refused value.
    pub value: u64,
}

impl Seed {
    /// The largest seed.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// What a field that holds a seed may hold.
    #[must_use]
    pub fn limit(self, field: &str) -> Limit {
        Limit::whole(field, self.0.into(), 0..=Self::MAX.0.into())
    }
}

impl TryFrom<u64> for Seed {
    type Error = SeedError;

    fn try_from(value: u64) -> Result<Self, SeedError> {
        if value <= Self::MAX.0 { Ok(Self(value)) } else { Err(SeedError { value }) }
    }
}

impl From<Seed> for u64 {
    fn from(seed: Seed) -> Self {
        seed.0
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a stream is for. The numbers are part of every dataset ever made: append, never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Start states and random events of worlds; index = episode.
    World = 0,
    /// Draws of collectors and policies; index = episode.
    Policy = 1,
    /// Digits that we draw ourselves; index = label and number.
    Digits = 2,
    /// Choice of training clips; index = training step.
    Clips = 3,
    /// Initial weights; index = network.
    Weights = 4,
    /// Exploration noise of a policy in training; index = update.
    Noise = 5,
    /// Choice of sequences from a replay; index = update.
    Replay = 6,
    /// Rollouts that a gradient is judged by; index = update.
    Diagnosis = 7,
    /// Noise of a policy in what a world model imagines; index = update.
    Dream = 8,
    /// Choice of observations whose latents are measured; index = update.
    Latents = 9,
    /// Noise on what critics are fitted on; index = update.
    Critics = 10,
    /// Textures that we draw ourselves; index = surface and layer.
    Textures = 11,
    /// What a world model's loss leaves to chance; index = update.
    Loss = 12,
    /// Sequences of actions that a planner tries; index = episode.
    Plans = 13,
}

/// Bits of a stream number that hold the index; the purpose sits above them.
const INDEX_BITS: u32 = 56;

/// Stream `(purpose, index)` of `seed`: the seed makes the key, purpose and index choose the `ChaCha` stream.
///
/// # Panics
/// If `index` is `2^56` or more.
#[must_use]
pub fn stream(seed: Seed, purpose: Purpose, index: u64) -> Rng {
    assert!(index >> INDEX_BITS == 0, "stream index {index} needs more than {INDEX_BITS} bits");
    // Spelled out rather than `seed_from_u64`, whose expansion belongs to the rand crate and may change with it.
    let mut key = *b"--------mindseye stream key, v.1";
    key[..8].copy_from_slice(&seed.0.to_le_bytes());
    let mut rng = Rng::from_seed(key);
    rng.set_stream((u64::from(purpose as u8) << INDEX_BITS) | index);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng as _;

    fn first(seed: u64, purpose: Purpose, index: u64) -> u64 {
        stream(Seed(seed), purpose, index).next_u64()
    }

    #[test]
    fn streams_differ_in_each_part_of_their_address() {
        let base = first(1, Purpose::World, 5);
        assert_eq!(base, first(1, Purpose::World, 5));
        for other in [first(2, Purpose::World, 5), first(1, Purpose::Policy, 5), first(1, Purpose::World, 6)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn seeds_stay_within_a_signed_integer() {
        assert_eq!(Seed::try_from(7), Ok(Seed(7)));
        assert_eq!(serde_json::to_string(&Seed(7)).unwrap(), "7");
        let refused = serde_json::from_str::<Seed>("9223372036854775808").unwrap_err().to_string();
        assert!(refused.contains("allowed: 0..=9223372036854775807"), "{refused}");
    }

    #[test]
    #[should_panic(expected = "56 bits")]
    fn an_index_that_would_run_into_the_purpose_is_refused() {
        let _ = stream(Seed(0), Purpose::World, 1 << 56);
    }
}
