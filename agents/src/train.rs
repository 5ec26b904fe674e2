//! The loop around a policy's training: epochs, log, checkpoints, and what stops it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use envs::env::EnvError;
use envs::registry::{UnknownEnv, find};
use envs::storage::{Failed, create_folders};
use envs::vector::VectorConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulators::limits::{self, Limit, OutOfRange};
use simulators::rng::Seed;
use world_models::checkpoint::{self, Checkpoint, CheckpointError, Parts};
use world_models::metrics::MetricsLog;
use world_models::train::Folder;

use crate::shac::{NotFinite, Report, Shac, ShacConfig};

/// Where a policy acts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Id of the env, with version.
    pub id: String,
    /// Its configuration; what is left out is the default.
    pub config: Value,
}

/// Everything that defines a run, as its folder keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Seed of weights, episodes and noise.
    pub seed: Seed,
    /// Where the policy acts.
    pub env: Task,
    /// How it is trained.
    pub shac: ShacConfig,
}

impl PolicyConfig {
    /// What every field may hold, those of the env apart.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let shac = self.shac.limits().into_iter().map(|limit| limit.within("shac"));
        [self.seed.limit("seed")].into_iter().chain(shac).collect()
    }

    /// Checks every field, those of the env apart.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        limits::check(&self.limits())
    }
}

/// Why a run stopped before its end, or could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The env is not one to train in.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// There is no such env.
    #[error(transparent)]
    Unknown(#[from] UnknownEnv),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log cannot be written.
    #[error(transparent)]
    Metrics(#[from] Failed),
    /// Numbers went wrong and stayed wrong.
    #[error("{0}")]
    NonFinite(String),
}

/// What the loop tells whoever watches.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Before the first epoch: trainable numbers, epochs to do, steps of the env in each.
    Begin {
        /// Trainable numbers.
        parameters: usize,
        /// Epochs to do.
        epochs: u64,
        /// Steps of the env in each.
        steps: u64,
    },
    /// After an epoch.
    Epoch {
        /// Epochs done.
        epoch: u64,
        /// Steps of the env done.
        env_steps: u64,
        /// What it was like.
        report: &'a Report,
    },
    /// A checkpoint was written.
    Saved {
        /// Where.
        path: &'a Path,
    },
    /// Nothing was learned from an epoch because a number was not finite.
    Skipped {
        /// The epoch, counted from 0.
        epoch: u64,
        /// Which number.
        wrong: &'a NotFinite,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Epochs done.
    pub epoch: u64,
    /// Steps of the env done.
    pub env_steps: u64,
    /// Mean return of the last episodes, of the policy as it explores.
    pub mean_return: Option<f64>,
    /// Whether it was asked to stop before the end.
    pub stopped: bool,
}

/// A run in memory, at its beginning.
///
/// # Errors
/// An env that is not there, or not one to train in.
pub fn fresh(config: &PolicyConfig) -> Result<Shac, TrainError> {
    let entry = find(&config.env.id)?;
    let vector = VectorConfig { num_envs: config.shac.num_envs, seed: config.seed, ..VectorConfig::default() };
    Ok(Shac::new(&config.shac, config.seed, entry.differentiable(&config.env.config, &vector)?)?)
}

/// Trains in a folder until the configured number of epochs or until `stop` is raised.
///
/// # Errors
/// See [`TrainError`].
pub fn train(
    folder: Folder<'_>,
    config: &PolicyConfig,
    resume: Option<&Checkpoint>,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    let shac = &config.shac;
    let mut run = fresh(config)?;
    if let Some(checkpoint) = resume {
        run.restore(checkpoint)?;
        checkpoint::settle(folder.storage, checkpoint)?;
    }
    create_folders(folder.storage, &folder.checkpoints())?;
    let mut log = MetricsLog::open(folder.storage, folder.run, run.counts()[0])?;
    let parameters = run.model().values().map(tch::Tensor::numel).sum();
    watch(Event::Begin { parameters, epochs: shac.epochs, steps: shac.steps() });

    let begin = Instant::now();
    let mut saved = resume.map(|_| run.epochs_done());
    let mut last_saved = resume.map(|checkpoint| checkpoint.path().to_owned());
    let (mut in_a_row, mut save_due, mut mean_return) = (0, false, None);
    while run.epochs_done() < shac.epochs && !stop.load(Ordering::Relaxed) {
        let (report, wrong) = run.epoch()?;
        let (epoch, [env_steps, skipped, broken_steps]) = (run.epochs_done(), run.counts());
        mean_return = report.episodes.map(|(mean, _)| mean);
        watch(Event::Epoch { epoch, env_steps, report: &report });
        if let Some(wrong) = &wrong {
            in_a_row += 1;
            watch(Event::Skipped { epoch: epoch - 1, wrong });
            if in_a_row >= shac.nonfinite_limit {
                return Err(TrainError::NonFinite(gave_up(config, epoch - 1, wrong, in_a_row, last_saved.as_deref())));
            }
        } else {
            in_a_row = 0;
        }
        if epoch.is_multiple_of(shac.log_every) {
            let mut scalars = vec![
                ("train/epoch", epoch as f64),
                ("train/actor_loss", report.actor_loss),
                ("train/critic_loss", report.critic_loss),
                ("train/reward", report.reward),
                ("train/actor_gradient_norm", report.actor_gradient),
                ("train/critic_gradient_norm", report.critic_gradient),
                ("train/actor_std", report.deviation),
                ("train/actor_learning_rate", shac.learning_rate(shac.actor.learning_rate, epoch - 1)),
                ("train/terminated", report.terminated as f64),
                ("train/skipped", skipped as f64),
                ("train/broken_steps", broken_steps as f64),
            ];
            if let Some((mean, length)) = report.episodes {
                scalars.extend([("train/return", mean), ("train/episode_length", length)]);
            }
            log.write(env_steps, begin.elapsed().as_secs_f64(), &scalars)?;
        }
        // Between bad epochs it waits: a run resumed there would count them anew.
        save_due |= epoch.is_multiple_of(shac.checkpoint_every);
        if save_due && in_a_row == 0 && epoch < shac.epochs {
            let path = save(folder, config, &run, &mut log)?;
            watch(Event::Saved { path: &path });
            (save_due, saved, last_saved) = (false, Some(epoch), Some(path));
        }
    }
    let (epoch, [env_steps, ..]) = (run.epochs_done(), run.counts());
    if saved != Some(epoch) && epoch > 0 {
        let path = save(folder, config, &run, &mut log)?;
        watch(Event::Saved { path: &path });
    }
    Ok(Outcome { epoch, env_steps, mean_return, stopped: epoch < shac.epochs })
}

fn save(folder: Folder<'_>, config: &PolicyConfig, run: &Shac, log: &mut MetricsLog) -> Result<PathBuf, TrainError> {
    log.sync()?;
    let (model, optimizer, state) = (&run.model(), &run.optimizer(), &run.state());
    let parts = Parts { update: run.epochs_done(), config, state, model, optimizer };
    Ok(checkpoint::save(folder.storage, &folder.checkpoints(), &parts, config.shac.keep_checkpoints)?)
}

fn gave_up(config: &PolicyConfig, epoch: u64, wrong: &NotFinite, in_a_row: u64, saved: Option<&Path>) -> String {
    let NotFinite { what, value } = wrong;
    let PolicyConfig { seed, shac, .. } = config;
    let kept = match saved {
        Some(path) => format!("the last good checkpoint, {}, is intact", path.display()),
        None => "no checkpoint had been written yet".to_owned(),
    };
    format!(
        "epoch {epoch}: {what} is {value}, {in_a_row} in a row, and shac.nonfinite_limit is {}; seed {seed}; {kept}. --resume \
         would meet the same numbers again: begin anew with a lower shac.actor.learning_rate (it is {}), or another --seed",
        shac.nonfinite_limit, shac.actor.learning_rate
    )
}
