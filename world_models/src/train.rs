//! The one training loop, read top to bottom: draw clips, take the model's loss, step, log, save.
//!
//! A run is a function of its configuration, its dataset and (on a CPU) the number of threads: clips are drawn by number,
//! weights start from a named stream, and a checkpoint holds everything else, so that a resumed run ends with the same
//! bits as one that was never interrupted.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use envs::dataset::Window;
use serde::{Deserialize, Serialize};
use simulators::rng::Seed;
use tch::{Device, nn};

use crate::adam::{Adam, AdamConfig};
use crate::belief::WorldModel;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Progress};
use crate::clips::ClipLoader;
use crate::libtorch::DeviceChoice;
use crate::metrics::MetricsLog;
use crate::registry::WorldModelConfig;

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls along half a cosine to `final_share` of itself at the last update.
    Cosine,
}

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Updates in all.
    pub updates: u64,
    /// `B`, clips of one update.
    pub batch_size: usize,
    /// Frames seen.
    pub context: i64,
    /// Frames predicted.
    pub horizon: i64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Updates over which the learning rate rises from zero.
    pub warmup: u64,
    /// Its course after that.
    pub schedule: Schedule,
    /// The learning rate of the last update under `cosine`, as a share of the peak.
    pub final_share: f64,
    /// The optimiser.
    pub adam: AdamConfig,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Updates between two lines of the log.
    pub log_every: u64,
    /// Updates between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Updates in a row with a non-finite loss or gradient after which the run stops.
    pub nonfinite_limit: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            updates: 2_000,
            batch_size: 8,
            context: 50,
            horizon: 20,
            learning_rate: 1e-3,
            warmup: 50,
            schedule: Schedule::Cosine,
            final_share: 0.02,
            adam: AdamConfig::default(),
            device: DeviceChoice::Auto,
            log_every: 10,
            checkpoint_every: 200,
            keep_checkpoints: 3,
            nonfinite_limit: 3,
        }
    }
}

impl TrainConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// A line naming the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        let whole = |field: &str, value: i128, low: i128, high: i128| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("train.{field} = {value}: allowed is {low}..={high}"))
            }
        };
        whole("updates", self.updates.into(), 1, 1_000_000_000)?;
        whole("batch_size", self.batch_size as i128, 1, 65_536)?;
        whole("context", self.context.into(), 1, 100_000)?;
        whole("horizon", self.horizon.into(), 1, 100_000)?;
        whole("warmup", self.warmup.into(), 0, 1_000_000_000)?;
        whole("log_every", self.log_every.into(), 1, 1_000_000_000)?;
        whole("checkpoint_every", self.checkpoint_every.into(), 1, 1_000_000_000)?;
        whole("keep_checkpoints", self.keep_checkpoints as i128, 1, 10_000)?;
        whole("nonfinite_limit", self.nonfinite_limit.into(), 1, 1_000)?;
        if !(self.learning_rate > 0.0 && self.learning_rate <= 10.0) {
            return Err(format!("train.learning_rate = {}: allowed is a finite number in (0, 10]", self.learning_rate));
        }
        if !(0.0..=1.0).contains(&self.final_share) {
            return Err(format!("train.final_share = {}: allowed is 0..=1", self.final_share));
        }
        self.adam.validate()
    }

    /// The learning rate of update number `update`, counted from 0.
    #[must_use]
    pub fn learning_rate_at(&self, update: u64) -> f64 {
        if update < self.warmup {
            return self.learning_rate * (update + 1) as f64 / self.warmup as f64;
        }
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let span = self.updates.saturating_sub(self.warmup).max(1) as f64;
                let course = ((update - self.warmup) as f64 / span).min(1.0);
                let share = f64::midpoint(1.0, (std::f64::consts::PI * course).cos());
                self.learning_rate * (self.final_share + (1.0 - self.final_share) * share)
            }
        }
    }
}

/// Everything that defines a run, as its folder keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of the weights and of the draws.
    pub seed: Seed,
    /// The model.
    pub model: WorldModelConfig,
    /// The training.
    pub train: TrainConfig,
}

/// Why a run stopped before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log cannot be written.
    #[error("cannot write the metrics of {run}")]
    Metrics {
        /// The run folder.
        run: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Numbers went wrong and stayed wrong.
    #[error(
        "update {update}: {what} is not finite, {count} updates in a row; seed {seed}, clips (episode, start) {batch:?}. \
         The last good checkpoint is intact"
    )]
    NonFinite {
        /// The update.
        update: u64,
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// How many in a row.
        count: u64,
        /// The run's seed.
        seed: Seed,
        /// The clips of that update.
        batch: Vec<(usize, usize)>,
    },
}

/// What training will cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Trainable numbers.
    pub parameters: i64,
    /// Bytes of one update's buffers, about.
    pub bytes: i64,
    /// Seconds of one update, measured on one that was thrown away.
    pub update_seconds: f64,
    /// Updates to do.
    pub updates: u64,
}

/// Measures what a run from its beginning will cost.
#[must_use]
pub fn cost(config: &RunConfig, loader: &mut ClipLoader, device: Device) -> Cost {
    measure(config, &Loaded::fresh(config, device), loader, 0)
}

fn measure(config: &RunConfig, loaded: &Loaded, loader: &mut ClipLoader, done: u64) -> Cost {
    let train = &config.train;
    let begin = Instant::now();
    loaded.model.loss(&loader.draw(0, train.batch_size, train.context)).backward();
    Cost {
        parameters: loaded.weights().values().map(|w| w.numel() as i64).sum(),
        bytes: config.model.training_bytes(train.batch_size as i64, train.context + train.horizon),
        update_seconds: begin.elapsed().as_secs_f64(),
        updates: train.updates.saturating_sub(done),
    }
}

/// What a run begins with: nothing, so fresh weights; or one of these.
#[derive(Debug, Clone, Copy, Default)]
pub struct From<'a> {
    /// The run's own checkpoint: go on as if never interrupted.
    pub resume: Option<&'a Checkpoint>,
    /// Another run's checkpoint: take its weights, begin anew.
    pub weights: Option<&'a Checkpoint>,
}

/// What the loop tells whoever watches.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Before the first update.
    Cost(Cost),
    /// After an update.
    Updated {
        /// Updates done.
        update: u64,
        /// Its loss.
        loss: f64,
    },
    /// A checkpoint was written.
    Saved {
        /// Where.
        path: &'a Path,
    },
    /// An update was left out because a number was not finite.
    Skipped {
        /// The update.
        update: u64,
        /// `loss` or `gradient norm`.
        what: &'static str,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Updates done.
    pub update: u64,
    /// The mean loss since the last line of the log, or of the last update.
    pub loss: f64,
    /// Whether it was asked to stop before the end.
    pub stopped: bool,
}

/// A model with its weights.
pub struct Loaded {
    /// The weights.
    pub vs: nn::VarStore,
    /// The model.
    pub model: Box<dyn WorldModel>,
}

impl Loaded {
    /// A fresh model.
    #[must_use]
    pub fn fresh(config: &RunConfig, device: Device) -> Self {
        let vs = nn::VarStore::new(device);
        let model = config.model.build(&vs.root(), config.seed);
        Self { vs, model }
    }

    /// The model of a checkpoint.
    ///
    /// # Errors
    /// If the checkpoint's weights do not fit its configuration.
    pub fn from_checkpoint(checkpoint: &Checkpoint, device: Device) -> Result<(Self, RunConfig), CheckpointError> {
        let config: RunConfig = checkpoint.config()?;
        let loaded = Self::fresh(&config, device);
        checkpoint.load_model(&loaded.weights())?;
        Ok((loaded, config))
    }

    /// The weights by name; they share memory with the model.
    #[must_use]
    pub fn weights(&self) -> checkpoint::Named {
        self.vs.variables().into_iter().collect()
    }
}

/// Trains in `run` until the configured number of updates or until `stop` is raised.
///
/// # Errors
/// See [`TrainError`].
pub fn train(
    run: &Path,
    config: &RunConfig,
    loader: &mut ClipLoader,
    device: Device,
    from: From<'_>,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    let train = &config.train;
    let loaded = Loaded::fresh(config, device);
    let weights = loaded.weights();
    let mut adam = Adam::new(&loaded.vs, train.adam);
    let mut progress = Progress { update: 0, draws: 0, skipped: 0 };
    if let Some(checkpoint) = from.weights {
        checkpoint.load_model(&weights)?;
    }
    if let Some(checkpoint) = from.resume {
        checkpoint.load_model(&weights)?;
        checkpoint.load_optimizer(&adam.state())?;
        progress = checkpoint.progress()?;
        adam.set_updates(progress.update - progress.skipped);
    }
    let metrics_failed = |source| TrainError::Metrics { run: run.to_owned(), source };
    let mut log = MetricsLog::open(run, progress.update).map_err(metrics_failed)?;
    let checkpoints = run.join("checkpoints");

    watch(Event::Cost(measure(config, &loaded, loader, progress.update)));

    let begin = Instant::now();
    let (mut nonfinite, mut since_log, mut sums) = (0, 0, [0.0; 2]);
    let mut mean_loss = f64::NAN;
    while progress.update < train.updates && !stop.load(Ordering::Relaxed) {
        let clip = loader.draw(progress.draws, train.batch_size, train.context);
        adam.zero_grad();
        let loss = loaded.model.loss(&clip);
        loss.backward();
        let (loss, norm) = (loss.double_value(&[]), adam.gradient_norm());
        if loss.is_finite() && norm.is_finite() {
            adam.step(train.learning_rate_at(progress.update), norm);
            nonfinite = 0;
            since_log += 1;
            sums = [sums[0] + loss, sums[1] + norm];
            mean_loss = sums[0] / since_log as f64;
        } else {
            let what = if loss.is_finite() { "gradient norm" } else { "loss" };
            nonfinite += 1;
            progress.skipped += 1;
            watch(Event::Skipped { update: progress.update, what });
            if nonfinite >= train.nonfinite_limit {
                let windows = loader.clips().draws(progress.draws, train.batch_size);
                let batch = windows.iter().map(|w: &Window| (w.episode, w.start)).collect();
                let (update, seed, count) = (progress.update, config.seed, nonfinite);
                return Err(TrainError::NonFinite { update, what, count, seed, batch });
            }
        }
        progress.update += 1;
        progress.draws += train.batch_size as u64;
        watch(Event::Updated { update: progress.update, loss });

        if progress.update.is_multiple_of(train.log_every) && since_log > 0 {
            let count = since_log as f64;
            let scalars = [
                ("train/loss", sums[0] / count),
                ("train/gradient_norm", sums[1] / count),
                ("train/learning_rate", train.learning_rate_at(progress.update - 1)),
                ("train/skipped", progress.skipped as f64),
            ];
            log.write(progress.update, begin.elapsed().as_secs_f64(), &scalars).map_err(metrics_failed)?;
            (since_log, sums) = (0, [0.0; 2]);
        }
        if progress.update.is_multiple_of(train.checkpoint_every) && progress.update < train.updates {
            let path = save(&checkpoints, progress, config, &weights, &adam)?;
            watch(Event::Saved { path: &path });
        }
    }
    let path = save(&checkpoints, progress, config, &weights, &adam)?;
    watch(Event::Saved { path: &path });
    Ok(Outcome { update: progress.update, loss: mean_loss, stopped: progress.update < train.updates })
}

fn save(
    checkpoints: &Path,
    progress: Progress,
    config: &RunConfig,
    weights: &checkpoint::Named,
    adam: &Adam,
) -> Result<PathBuf, CheckpointError> {
    checkpoint::save(checkpoints, progress, config, weights, &adam.state(), config.train.keep_checkpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_then_falls_along_a_cosine() {
        let config =
            TrainConfig { updates: 110, warmup: 10, learning_rate: 1.0, final_share: 0.1, ..Default::default() };
        assert!((config.learning_rate_at(0) - 0.1).abs() < 1e-12);
        assert!((config.learning_rate_at(10) - 1.0).abs() < 1e-12);
        assert!((config.learning_rate_at(60) - 0.55).abs() < 1e-12, "half way: the middle of 1 and 0.1");
        assert!((config.learning_rate_at(110) - 0.1).abs() < 1e-12);
    }
}
