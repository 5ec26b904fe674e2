//! Errors by imagined step, summed over clips: feed what was imagined and what was observed, get a [`VectorReport`].
//!
//! Rows are scored in parallel and their sums added in the order in which they came, so the number of threads changes no bit.

use rayon::prelude::*;

use super::readout::Readout;
use super::report::{self, Baselines, Errors, LatentScores, ModelScores, RewardScores, VectorReport};
use super::rewards::{RewardSums, Rewards};
use super::scales::Scales;
use crate::memory::{MemoryError, Origin};

/// What is imagined of `B` clips, and what is true, some steps after the last observation.
#[derive(Debug, Clone, Copy)]
pub struct StepRows<'a> {
    /// Imagined latents `[B, L]`.
    pub imagined: &'a [f32],
    /// What the encoder makes of what was observed, `[B, L]`.
    pub encoded: &'a [f32],
    /// The latents when the model last saw, `[B, L]`.
    pub still: &'a [f32],
    /// What was observed, `[B, O]`.
    pub observed: &'a [f32],
    /// What the model last saw, `[B, O]`.
    pub last: &'a [f32],
    /// Rewards of the step that led here, `[B]` each.
    pub rewards: Rewards<'a>,
}

/// Sums over rows of one step.
#[derive(Debug, Clone, Default)]
struct Sums {
    rows: u64,
    /// Squared errors of latents, mean over `L`: of those imagined, and of those that stay.
    latents: [f64; 2],
    /// Squared errors of each component: read from imagined latents, copy last, mean, read from encoded latents.
    components: Vec<[f64; 4]>,
    rewards: RewardSums,
}

/// Sums over the clips so far.
#[derive(Debug, Clone)]
pub struct VectorEvaluation {
    yardstick: Yardstick,
    context: usize,
    horizon: usize,
    /// Of the last observation, then of each imagined step.
    steps: Vec<Sums>,
}

/// Everything an evaluation needs beside the clips.
#[derive(Debug, Clone)]
pub struct Yardstick {
    /// Reads latents, fitted with this ridge on episodes that are not evaluated.
    pub readout: Readout,
    /// `λ`.
    pub ridge: f64,
    /// Of all observations of the dataset.
    pub observations: Scales,
    /// Of all rewards of the dataset, one column.
    pub rewards: Scales,
    /// Episodes evaluated, and fitted.
    pub episodes: report::Episodes,
}

impl VectorEvaluation {
    /// An evaluation of `horizon` steps after `context` observations.
    ///
    /// # Errors
    /// Both are at least 1, and some component of the observations changes.
    ///
    /// # Panics
    /// When the yardstick's parts are of different sizes.
    pub fn new(yardstick: Yardstick, context: usize, horizon: usize) -> Result<Self, MemoryError> {
        for (field, value) in [("context", context), ("horizon", horizon)] {
            if value == 0 {
                return Err(MemoryError::Setting { field, value: "0".into(), allowed: "1 or more steps".into() });
            }
        }
        let Yardstick { readout, observations, rewards, .. } = &yardstick;
        assert_eq!((readout.observed(), 1), (observations.mean.len(), rewards.mean.len()), "one scale a number");
        if observations.changing().is_empty() {
            return Err(MemoryError::Setting {
                field: "variance of the observations",
                value: "0 in every component".into(),
                allowed: "observations that change".into(),
            });
        }
        let steps = vec![Sums::default(); horizon + 1];
        Ok(Self { yardstick, context, horizon, steps })
    }

    /// Scores what the model last saw: latents `[B, L]` and observations `[B, O]`.
    pub fn add_start(&mut self, latents: &[f32], observed: &[f32]) {
        let nothing = Rewards { imagined: &[], seeing: &[], recorded: &[] };
        let (imagined, last) = (latents, observed);
        let rows = StepRows { imagined, encoded: latents, still: latents, observed, last, rewards: nothing };
        self.add(0, rows);
    }

    /// Scores imagined step `step`, of 1 to the horizon, of as many clips as there are rows.
    ///
    /// # Panics
    /// When there is no such step, or rows do not fit each other.
    pub fn add_step(&mut self, step: usize, rows: StepRows<'_>) {
        assert!((1..=self.horizon).contains(&step), "step {step} of 1..={}", self.horizon);
        self.add(step, rows);
        self.steps[step].rewards.add(self.yardstick.rewards.mean[0], rows.rewards);
    }

    fn add<'a>(&mut self, step: usize, rows: StepRows<'a>) {
        let Yardstick { readout, observations, .. } = &self.yardstick;
        let o = readout.observed();
        let b = rows.observed.len() / o;
        let StepRows { imagined, encoded, still, observed, last, .. } = rows;
        let l = imagined.len() / b.max(1);
        let fits =
            [imagined.len(), encoded.len(), still.len()] == [b * l; 3] && [observed.len(), last.len()] == [b * o; 2];
        assert!(fits, "as many latents as observations");
        let score = |row: usize| {
            let of = |values: &'a [f32], width: usize| &values[row * width..(row + 1) * width];
            let (imagined, encoded, still) = (of(imagined, l), of(encoded, l), of(still, l));
            let [read, seeing] = [imagined, encoded].map(|latents| readout.read(latents));
            let components = of(observed, o).iter().zip(of(last, o)).enumerate().map(|(k, (&truth, &last))| {
                [read[k], last.into(), observations.mean[k], seeing[k]].map(|said| (said - f64::from(truth)).powi(2))
            });
            ([distance(imagined, encoded), distance(still, encoded)], components.collect::<Vec<_>>())
        };
        let scored: Vec<_> = (0..b).into_par_iter().map(score).collect();
        let sums = &mut self.steps[step];
        sums.components.resize(o, [0.0; 4]);
        for (latents, components) in scored {
            sums.rows += 1;
            sums.latents.iter_mut().zip(latents).for_each(|(sum, error)| *sum += error);
            for (sums, errors) in sums.components.iter_mut().zip(components) {
                sums.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error);
            }
        }
    }

    /// The report on everything added. `model` is what it is called.
    ///
    /// # Errors
    /// There must be at least one clip.
    pub fn report(&self, model: &str, origin: Origin) -> Result<VectorReport, MemoryError> {
        let imagined = &self.steps[1..];
        if imagined.iter().any(|sums| sums.rows == 0) {
            return Err(MemoryError::NoClips);
        }
        let Yardstick { readout, ridge, observations, rewards: of_rewards, episodes } = &self.yardstick;
        let changing = observations.changing();
        // Of component `k` at a step: `row` of the four.
        let error =
            |sums: &Sums, k: usize, row: usize| sums.components[k][row] / sums.rows as f64 / observations.variance[k];
        let mean =
            |sums: &Sums, row| changing.iter().map(|&k| error(sums, k, row)).sum::<f64>() / changing.len() as f64;
        let errors = |row| Errors {
            steps: imagined.iter().map(|sums| mean(sums, row)).collect(),
            components: changing.iter().map(|&k| imagined.iter().map(|sums| error(sums, k, row)).collect()).collect(),
        };
        let latents = |row: usize| imagined.iter().map(|sums| sums.latents[row] / sums.rows as f64).collect();
        let all = imagined.iter().fold(RewardSums::default(), |all, sums| all.with(&sums.rewards));
        let variance = of_rewards.variance[0];
        let rewards = (variance > 0.0).then(|| {
            let each: Vec<&RewardSums> = imagined.iter().map(|sums| &sums.rewards).collect();
            RewardScores {
                imagined: each.iter().map(|sums| sums.error(0) / variance).collect(),
                seeing: each.iter().map(|sums| sums.error(1) / variance).collect(),
                correlation: each.iter().map(|sums| sums.correlation()).collect(),
                correlation_of_all: all.correlation(),
            }
        });
        Ok(VectorReport {
            schema: report::SCHEMA,
            observations: report::Observations::Vectors,
            origin,
            clips: imagined[0].rows,
            context: self.context,
            horizon: self.horizon,
            horizons: report::horizons(self.horizon),
            episodes: *episodes,
            components: changing.clone(),
            observation_scales: observations.clone(),
            reward_scales: of_rewards.clone(),
            baselines: Baselines { copy_last: errors(1), mean: errors(2) },
            models: vec![ModelScores {
                name: model.to_owned(),
                latents: LatentScores { variance: readout.variance(), imagined: latents(0), copy_last: latents(1) },
                readout: report::ReadoutScores {
                    rows: readout.rows(),
                    ridge: *ridge,
                    start: mean(&self.steps[0], 3),
                    start_components: changing.iter().map(|&k| error(&self.steps[0], k, 3)).collect(),
                    steps: imagined.iter().map(|sums| mean(sums, 3)).collect(),
                },
                observations: errors(0),
                rewards,
            }],
        })
    }
}

/// The mean squared difference.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>() / a.len() as f64
}
