//! Where a task's digits come from, as a configuration says it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use simulators::digits::{DigitBank, Split};
use simulators::limits::Limit;
use simulators::rng::Seed;

use super::mnist_world::refused;
use crate::env::EnvError;

/// Where the digits come from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DigitSource {
    /// Strokes that Mindseye draws itself; needs no file.
    Drawn(Drawn),
    /// A pair of idx files, MNIST's own format, gzip-compressed or not.
    Idx(Idx),
}

impl Default for DigitSource {
    fn default() -> Self {
        Self::Drawn(Drawn::default())
    }
}

/// Settings of [`DigitSource::Drawn`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drawn {
    /// Seed of the strokes; apart from the seed of the episodes, so that other episodes can show the same digits.
    pub seed: Seed,
    /// Images of each label, `1..=`[`MAX_PER_LABEL`].
    pub per_label: usize,
}

/// Most images of a label that are drawn: ten times MNIST.
pub const MAX_PER_LABEL: usize = 60_000;

impl Default for Drawn {
    fn default() -> Self {
        Self { seed: Seed(0), per_label: 200 }
    }
}

/// Settings of [`DigitSource::Idx`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idx {
    /// Path of the images.
    pub images: PathBuf,
    /// Path of the labels.
    pub labels: PathBuf,
    /// Which images to use.
    #[serde(with = "SplitName", default = "train")]
    pub split: Split,
}

/// How [`Split`] is spelled in a configuration.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Split", rename_all = "snake_case")]
enum SplitName {
    Train,
    Validation,
    All,
}

fn train() -> Split {
    Split::Train
}

impl DigitSource {
    /// What the settings may be.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        match self {
            Self::Drawn(Drawn { seed, per_label }) => {
                vec![seed.limit("seed"), Limit::whole("per_label", *per_label as i128, 1..=MAX_PER_LABEL as i128)]
            }
            Self::Idx(_) => Vec::new(),
        }
    }

    /// Draws or reads the digits, as patches of `side` pixels.
    ///
    /// # Errors
    /// A setting out of range or a file that cannot be read, with `env` as the culprit's id.
    pub fn bank(&self, env: &str, side: usize) -> Result<Arc<DigitBank>, EnvError> {
        let env = env.to_owned();
        match self {
            Self::Drawn(Drawn { seed, per_label }) => {
                let within = |limit: Limit| limit.within("digits").check();
                self.limits().into_iter().try_for_each(within).map_err(refused(&env))?;
                Ok(Arc::new(DigitBank::draw(*seed, *per_label, side)))
            }
            Self::Idx(Idx { images, labels, split }) => match DigitBank::from_idx(images, labels, side, *split) {
                Ok(bank) => Ok(Arc::new(bank)),
                Err(source) => Err(EnvError::Digits { env, source }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_kinds_are_told_apart_and_typos_refused() {
        let parse = serde_json::from_str::<DigitSource>;
        assert_eq!(parse(r#"{"kind":"drawn"}"#).unwrap(), DigitSource::default());
        let idx = parse(r#"{"kind":"idx","images":"i","labels":"l","split":"validation"}"#).unwrap();
        assert!(matches!(idx, DigitSource::Idx(Idx { split: Split::Validation, .. })));
        let text = serde_json::to_string(&idx).unwrap();
        assert_eq!(serde_json::from_str::<DigitSource>(&text).unwrap(), idx);
        for typo in [r#"{"kind":"drawm"}"#, r#"{"kind":"drawn","per_lable":3}"#, r#"{"kind":"idx","images":"i"}"#] {
            assert!(parse(typo).is_err(), "{typo}");
        }
    }

    #[test]
    fn errors_name_the_field_or_the_file() {
        let none = DigitSource::Drawn(Drawn { per_label: 0, ..Drawn::default() });
        let message = none.bank("X-v0", 28).unwrap_err().to_string();
        assert_eq!(message, "X-v0: `digits.per_label` is 0, allowed: 1..=60000");
        let lost = Idx { images: "no/such/file".into(), labels: "neither".into(), split: Split::All };
        let error = DigitSource::Idx(lost).bank("X-v0", 28).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("no/such/file"), "{source}");
    }
}
