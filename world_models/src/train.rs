//! The one training loop, read top to bottom: draw clips, take the model's loss, step, log, save.
//!
//! A run is a function of its configuration, its dataset and (on a CPU) the number of threads: clips are drawn by number,
//! weights start from a named stream, and a checkpoint holds everything else, so that a resumed run ends with the same
//! bits as one that was never interrupted.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use envs::storage::{Failed, Storage, create_folders};
use serde::{Deserialize, Serialize};
use simulators::limits::{self, Limit, OutOfRange};
use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, nn};

use crate::adam::{Adam, AdamConfig};
use crate::belief::WorldModel;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Parts, Progress, Unlogged};
use crate::clips::{ClipError, ClipLoader};
use crate::libtorch::DeviceChoice;
use crate::metrics::MetricsLog;
use crate::nonfinite::{self, GaveUp, LeftOut};
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
    /// Updates in a row with a non-finite loss or gradient after which the run stops: 1 stops at the first, more skip those
    /// before.
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
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        const MANY: i128 = 1_000_000_000;
        let own = [
            Limit::whole("updates", self.updates.into(), 1..=MANY),
            Limit::whole("batch_size", self.batch_size as i128, 1..=65_536),
            Limit::whole("context", self.context.into(), 1..=100_000),
            Limit::whole("horizon", self.horizon.into(), 1..=100_000),
            Limit::real("learning_rate", self.learning_rate, (Bound::Excluded(0.0), Bound::Included(10.0))),
            Limit::whole("warmup", self.warmup.into(), 0..=MANY),
            Limit::real("final_share", self.final_share, 0.0..=1.0),
            Limit::whole("log_every", self.log_every.into(), 1..=MANY),
            Limit::whole("checkpoint_every", self.checkpoint_every.into(), 1..=MANY),
            Limit::whole("keep_checkpoints", self.keep_checkpoints as i128, 1..=10_000),
            Limit::whole("nonfinite_limit", self.nonfinite_limit.into(), 1..=1_000),
        ];
        own.into_iter().chain(self.adam.limits().into_iter().map(|limit| limit.within("adam"))).collect()
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

impl RunConfig {
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let model = self.model.limits().into_iter().map(|limit| limit.within("model"));
        let train = self.train.limits().into_iter().map(|limit| limit.within("train"));
        [self.seed.limit("seed")].into_iter().chain(model).chain(train).collect()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        limits::check(&self.limits())
    }

    /// About how many bytes training takes: weights, their gradients and moments, and the buffers of one update.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let (batch, steps) = (self.train.batch_size as i64, self.train.context + self.train.horizon);
        let updates = self.model.training_bytes(batch, steps) as u64;
        updates.saturating_add(self.model.parameters().saturating_mul(BYTES_PER_PARAMETER))
    }
}

/// A weight, its gradient and two moments, in single precision.
const BYTES_PER_PARAMETER: u64 = 16;

/// Why a run stopped before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log cannot be written.
    #[error(transparent)]
    Metrics(#[from] Failed),
    /// The dataset is not one to learn from.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// Numbers went wrong and stayed wrong.
    #[error("{0}")]
    NonFinite(Box<GaveUp>),
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
///
/// # Errors
/// If the dataset is not one to learn from.
pub fn cost(config: &RunConfig, loader: &mut ClipLoader, device: Device) -> Result<Cost, ClipError> {
    measure(config, &Loaded::fresh(config, device), loader, 0)
}

fn measure(config: &RunConfig, loaded: &Loaded, loader: &mut ClipLoader, done: u64) -> Result<Cost, ClipError> {
    let train = &config.train;
    let begin = Instant::now();
    loaded.model.loss(&loader.draw(0, train.batch_size, train.context)?).backward();
    Ok(Cost {
        parameters: loaded.weights().values().map(|w| w.numel() as i64).sum(),
        bytes: config.model.training_bytes(train.batch_size as i64, train.context + train.horizon),
        update_seconds: begin.elapsed().as_secs_f64(),
        updates: train.updates.saturating_sub(done),
    })
}

/// What a run begins with: nothing, so fresh weights; or one of these.
#[derive(Debug, Clone, Copy, Default)]
pub struct From<'a> {
    /// The run's own checkpoint: go on as if never interrupted.
    pub resume: Option<&'a Checkpoint>,
    /// Another run's checkpoint: take its weights, begin anew. Weights that it lacks are those of a new model.
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
    /// An update was left out because a number was not finite; it has been logged and warned of.
    Skipped(&'a LeftOut),
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
    /// If the checkpoint's configuration cannot be, or its weights do not fit it.
    pub fn from_checkpoint(checkpoint: &Checkpoint, device: Device) -> Result<(Self, RunConfig), CheckpointError> {
        let config: RunConfig = checkpoint.config()?;
        config.validate().map_err(|refusal| checkpoint.refuse_config(&refusal))?;
        checkpoint.expect_parameters(config.model.parameters())?;
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

/// Where a run is, and how it is written.
#[derive(Clone, Copy)]
pub struct Folder<'a> {
    /// The run's folder.
    pub run: &'a Path,
    /// The disk.
    pub storage: &'a dyn Storage,
}

impl Folder<'_> {
    /// Where its checkpoints are.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.run.join("checkpoints")
    }
}

/// Trains in a folder until the configured number of updates or until `stop` is raised.
///
/// # Errors
/// See [`TrainError`].
pub fn train(
    folder: Folder<'_>,
    config: &RunConfig,
    loader: &mut ClipLoader,
    device: Device,
    from: From<'_>,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    train_model(folder, config, &Loaded::fresh(config, device), loader, from, stop, watch)
}

/// [`train`] for a model that the caller has made, of the kind and sizes of `config.model`.
///
/// # Errors
/// See [`TrainError`].
pub fn train_model(
    folder: Folder<'_>,
    config: &RunConfig,
    loaded: &Loaded,
    loader: &mut ClipLoader,
    from: From<'_>,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    let train = &config.train;
    let weights = loaded.weights();
    let mut adam = Adam::new(&loaded.vs, train.adam);
    let mut progress = Progress::default();
    if let Some(checkpoint) = from.weights {
        checkpoint.load_model_in_part(&weights)?;
    }
    if let Some(checkpoint) = from.resume {
        checkpoint.load_model(&weights)?;
        checkpoint.load_optimizer(&adam.state())?;
        progress = checkpoint.progress()?;
        adam.set_updates(progress.update - progress.skipped);
        checkpoint::settle(folder.storage, checkpoint)?;
    }
    create_folders(folder.storage, &folder.checkpoints())?;
    let mut log = MetricsLog::open(folder.storage, folder.run, progress.update)?;
    nonfinite::forget_from(folder.storage, folder.run, progress.update)?;
    let mut saved = from.resume.map(|_| progress);

    if from.weights.is_some() && saved.is_none() {
        // A run that is cut off before its first update must not go on without the weights it began with.
        save(folder, progress, config, &weights, &adam, &mut log)?;
        saved = Some(progress);
    }

    watch(Event::Cost(measure(config, loaded, loader, progress.update)?));

    let begin = Instant::now();
    let (mut in_a_row, mut mean_loss, mut save_due) = (0, f64::NAN, false);
    let mut last_saved = from.resume.map(|checkpoint| checkpoint.path().to_owned());
    while progress.update < train.updates && !stop.load(Ordering::Relaxed) {
        let windows = loader.clips().draws(progress.draws, train.batch_size);
        let clip = loader.load(&windows, train.context)?;
        adam.zero_grad();
        let loss = loaded.model.training_loss(&clip, &mut stream(config.seed, Purpose::Loss, progress.update));
        loss.backward();
        let (loss, norm) = (loss.double_value(&[]), adam.gradient_norm());
        if loss.is_finite() && norm.is_finite() {
            adam.step(train.learning_rate_at(progress.update), norm);
            in_a_row = 0;
            let so_far = &mut progress.unlogged;
            so_far.updates += 1;
            so_far.loss += loss;
            so_far.gradient_norm += norm;
            mean_loss = so_far.loss / so_far.updates as f64;
        } else {
            in_a_row += 1;
            progress.skipped += 1;
            let (what, value) = if loss.is_finite() { ("gradient norm", norm) } else { ("loss", loss) };
            let left_out = LeftOut {
                update: progress.update,
                what,
                value: value.to_string(),
                gradients: if loss.is_finite() { adam.nonfinite_gradients() } else { Vec::new() },
                weights: weights.iter().filter(|(_, w)| !checkpoint::is_finite(w)).map(|(n, _)| n.clone()).collect(),
                in_a_row,
                seed: config.seed,
                clips: nonfinite::places(loader.clips(), &windows),
            };
            nonfinite::append(folder.storage, folder.run, &left_out)?;
            tracing::warn!("left out {left_out}");
            watch(Event::Skipped(&left_out));
            if in_a_row >= train.nonfinite_limit || !left_out.weights.is_empty() {
                return Err(TrainError::NonFinite(Box::new(GaveUp {
                    last: left_out,
                    limit: train.nonfinite_limit,
                    learning_rate: train.learning_rate,
                    run: folder.run.to_owned(),
                    checkpoint: last_saved,
                })));
            }
        }
        progress.update += 1;
        progress.draws += train.batch_size as u64;
        watch(Event::Updated { update: progress.update, loss });

        if progress.update.is_multiple_of(train.log_every) {
            let mut scalars = vec![
                ("train/learning_rate", train.learning_rate_at(progress.update - 1)),
                ("train/skipped", progress.skipped as f64),
            ];
            let Unlogged { updates, loss, gradient_norm } = progress.unlogged;
            if updates > 0 {
                let count = updates as f64;
                scalars.extend([("train/loss", loss / count), ("train/gradient_norm", gradient_norm / count)]);
            }
            log.write(progress.update, begin.elapsed().as_secs_f64(), &scalars)?;
            progress.unlogged = Unlogged::default();
        }
        // Between bad updates it waits: a run resumed there would count them anew.
        save_due |= progress.update.is_multiple_of(train.checkpoint_every);
        if save_due && in_a_row == 0 && progress.update < train.updates {
            let path = save(folder, progress, config, &weights, &adam, &mut log)?;
            saved = Some(progress);
            watch(Event::Saved { path: &path });
            (save_due, last_saved) = (false, Some(path));
        }
    }
    // A finished checkpoint is never written again, and fresh weights are made again.
    if saved != Some(progress) && progress.update > 0 {
        let path = save(folder, progress, config, &weights, &adam, &mut log)?;
        watch(Event::Saved { path: &path });
    }
    Ok(Outcome { update: progress.update, loss: mean_loss, stopped: progress.update < train.updates })
}

fn save(
    folder: Folder<'_>,
    progress: Progress,
    config: &RunConfig,
    weights: &checkpoint::Named,
    adam: &Adam,
    log: &mut MetricsLog,
) -> Result<PathBuf, TrainError> {
    log.sync()?;
    let keep = config.train.keep_checkpoints;
    let (state, optimizer) = (&progress, &adam.state());
    let parts = Parts { update: progress.update, config, state, model: weights, optimizer };
    Ok(checkpoint::save(folder.storage, &folder.checkpoints(), &parts, keep)?)
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
