//! `report.json` of a model of vectors: versioned, closed, without paths.
//!
//! Errors of observations and rewards are mean squared errors divided by the variance over the dataset; entry 0 of a list by
//! steps is the first imagined step.

use serde::{Deserialize, Serialize};

use super::scales::Scales;
use crate::memory::Origin;
use crate::memory::report::{ReportError, Saved};

pub use crate::memory::report::SCHEMA;

/// The most that a report may have of anything that it can show.
const MOST: usize = 1_000_000;
/// Models side by side.
const MOST_MODELS: usize = 1_000;
/// Letters of a name.
const LONGEST_NAME: usize = 1_000;
/// No error of numbers in single precision is larger.
const MOST_ERROR: f64 = 1e100;

/// What is observed; tells these reports from those of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observations {
    /// Vectors of numbers.
    Vectors,
}

/// A report on what one or more models foresee, beside the rows that need no learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorReport {
    /// Version of this format, [`SCHEMA`].
    pub schema: u32,
    /// Vectors.
    pub observations: Observations,
    /// Where the clips came from.
    pub origin: Origin,
    /// How many clips every number is a mean over.
    pub clips: u64,
    /// Observations seen in each clip.
    pub context: usize,
    /// Steps imagined after them.
    pub horizon: usize,
    /// Steps that the table shows.
    pub horizons: Vec<usize>,
    /// How many episodes clips are from, and how many others readouts are fitted on.
    pub episodes: Episodes,
    /// The components of observations that change, by number. No error is measured of others.
    pub components: Vec<usize>,
    /// Of all observations of the dataset.
    pub observation_scales: Scales,
    /// Of all rewards of the dataset.
    pub reward_scales: Scales,
    /// Rows that need no learning.
    pub baselines: Baselines,
    /// The models.
    pub models: Vec<ModelScores>,
}

/// Which episodes are for what: they are put in the order of a number that each draws from the stream `(0, Clips, k)`, `k` its
/// own; the first half of those that are long enough is evaluated, and readouts are fitted on all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Episodes {
    /// Clips are from these.
    pub evaluated: u64,
    /// Readouts are fitted on these.
    pub fitted: u64,
}

/// Errors of observations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// By step, mean over the components that change.
    pub steps: Vec<f64>,
    /// Of each component that changes, by step.
    pub components: Vec<Vec<f64>>,
}

/// Rows that need no learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baselines {
    /// The last observation for ever.
    pub copy_last: Errors,
    /// The mean of the dataset.
    pub mean: Errors,
}

/// The numbers of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelScores {
    /// What it is called.
    pub name: String,
    /// In its own latents; those of two models cannot be compared.
    pub latents: LatentScores,
    /// How well its latents can be read.
    pub readout: ReadoutScores,
    /// What is read from imagined latents.
    pub observations: Errors,
    /// Nothing where rewards do not change.
    pub rewards: Option<RewardScores>,
}

/// Mean squared errors of latents, by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentScores {
    /// Mean variance of a latent's numbers over the episodes that readouts are fitted on: what always saying the mean would score.
    pub variance: f64,
    /// Of imagined latents, against those of what was observed.
    pub imagined: Vec<f64>,
    /// Of the last latents seen, for ever.
    pub copy_last: Vec<f64>,
}

/// Errors of what is read from latents of what was observed: nothing of them is the imagination's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadoutScores {
    /// Rows that it was fitted on.
    pub rows: u64,
    /// The weight of the ridge, as a multiple of the latents' variance.
    pub ridge: f64,
    /// At the last observation seen.
    pub start: f64,
    /// Of each component that changes, there.
    pub start_components: Vec<f64>,
    /// At each step after it.
    pub steps: Vec<f64>,
}

/// Errors of rewards by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardScores {
    /// Predicted from imagined latents.
    pub imagined: Vec<f64>,
    /// Predicted from latents of what was observed.
    pub seeing: Vec<f64>,
    /// Of what is predicted from imagined latents with what was recorded; nothing where either is constant.
    pub correlation: Vec<Option<f64>>,
    /// The same over all steps.
    pub correlation_of_all: Option<f64>,
}

/// The steps that a table of `horizon` steps shows: powers of two, and the last.
#[must_use]
pub fn horizons(horizon: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |step| Some(2 * step)).take_while(|&step| step < horizon);
    powers.chain([horizon]).collect()
}

impl VectorReport {
    /// The share of the copy-last error of observations that a model removes at a step, counted from 1; nothing where there is no
    /// error to remove.
    #[must_use]
    pub fn share_removed(&self, model: &ModelScores, step: usize) -> Option<f64> {
        let copy_last = self.baselines.copy_last.steps[step - 1];
        (copy_last > 0.0).then(|| 1.0 - model.observations.steps[step - 1] / copy_last)
    }

    /// Adds the models of another report on the same clips, so that one table shows them side by side.
    ///
    /// # Errors
    /// Everything but the models must be the same.
    pub fn with_models_of(mut self, other: &Self) -> Result<Self, ReportError> {
        let same = |field, ours: String, theirs: String| {
            if ours == theirs { Ok(()) } else { Err(ReportError::Differ { field, ours, theirs }) }
        };
        same("origin", format!("{:?}", self.origin), format!("{:?}", other.origin))?;
        same("clips", self.clips.to_string(), other.clips.to_string())?;
        same("context", self.context.to_string(), other.context.to_string())?;
        same("horizon", self.horizon.to_string(), other.horizon.to_string())?;
        same("episodes", format!("{:?}", self.episodes), format!("{:?}", other.episodes))?;
        same("baselines", format!("{:?}", self.baselines), format!("{:?}", other.baselines))?;
        self.models.extend(other.models.iter().cloned());
        Ok(self)
    }
}

impl Saved for VectorReport {
    fn check(&self) -> Result<(), String> {
        if !(1..=MOST).contains(&self.horizon) || !(1..=MOST).contains(&self.context) {
            return Err(format!("context = {}, horizon = {}: 1..={MOST}", self.context, self.horizon));
        }
        let (numbers, steps) = (self.observation_scales.mean.len(), self.horizon);
        let scales =
            [self.observation_scales.variance.len(), self.reward_scales.mean.len(), self.reward_scales.variance.len()];
        if scales != [numbers, 1, 1] || self.components != self.observation_scales.changing() {
            return Err("components: not those whose variance is above 0".to_owned());
        }
        if self.components.is_empty() || self.clips == 0 || self.horizons != horizons(steps) {
            return Err(format!("horizons = {:?}: not those of {} clips of {steps} steps", self.horizons, self.clips));
        }
        if !(1..=MOST_MODELS).contains(&self.models.len()) {
            return Err(format!("models: {} of them, 1..={MOST_MODELS} are shown", self.models.len()));
        }
        let many = |list: &[f64], many: usize| {
            list.len() == many && list.iter().all(|error| (0.0..=MOST_ERROR).contains(error))
        };
        let steps_are = |list: &[f64]| many(list, steps);
        let whole = |errors: &Errors| {
            steps_are(&errors.steps)
                && errors.components.len() == self.components.len()
                && errors.components.iter().all(|component| steps_are(component))
        };
        if !whole(&self.baselines.copy_last) || !whole(&self.baselines.mean) {
            return Err(format!("baselines: not errors of {steps} steps and {} components", self.components.len()));
        }
        self.models.iter().enumerate().try_for_each(|(index, model)| {
            let ModelScores { name, latents, readout, observations, rewards } = model;
            let fits = name.len() <= LONGEST_NAME
                && steps_are(&latents.imagined)
                && steps_are(&latents.copy_last)
                && steps_are(&readout.steps)
                && many(&readout.start_components, self.components.len())
                && many(&[readout.start, latents.variance], 2)
                && whole(observations)
                && rewards.as_ref().is_none_or(|rewards| {
                    steps_are(&rewards.imagined) && steps_are(&rewards.seeing) && rewards.correlation.len() == steps
                });
            let reason =
                || format!("models.{index}: not errors of {steps} steps and {} components", self.components.len());
            if fits { Ok(()) } else { Err(reason()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_show_powers_of_two_and_the_last_step() {
        assert_eq!([1, 2, 16, 20].map(horizons), [vec![1], vec![1, 2], vec![1, 2, 4, 8, 16], vec![1, 2, 4, 8, 16, 20]]);
    }
}
