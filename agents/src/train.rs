//! The loop around a policy's training: epochs, log, checkpoints, and what stops it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use envs::dataset::Dataset;
use envs::env::EnvError;
use envs::registry::{UnknownEnv, find};
use envs::storage::{Failed, create_folders};
use envs::vector::{AutoresetMode, VectorConfig};
use world_models::checkpoint::{self, Checkpoint, CheckpointError, Parts};
use world_models::metrics::MetricsLog;
use world_models::train::Folder;

use crate::config::{PolicyConfig, Trainer};
use crate::dreamer::Dreamer;
use crate::learner::{Learner, ModelReport, NotFinite, Report, TakeInError};
use crate::pwm::Pwm;
use crate::shac::Shac;

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
    /// A dataset that cannot be learned from.
    #[error(transparent)]
    TakeIn(#[from] TakeInError),
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
    /// After some of the updates before the first epoch.
    Pretrained {
        /// Updates done.
        updates: u64,
        /// Updates to do.
        of: u64,
        /// What the latest were like.
        report: &'a ModelReport,
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
pub fn fresh(config: &PolicyConfig) -> Result<Box<dyn Learner>, TrainError> {
    let (entry, settings, trainer) = (find(&config.env.id)?, &config.env.config, config.trainer());
    let vector = |autoreset| VectorConfig {
        num_envs: trainer.schedule().num_envs,
        seed: config.seed,
        autoreset,
        ..VectorConfig::default()
    };
    Ok(match trainer {
        Trainer::Shac(shac) => {
            let envs = entry.differentiable(settings, &vector(AutoresetMode::default()))?;
            Box::new(Shac::new(shac, config.seed, envs)?)
        }
        Trainer::Pwm(pwm) => {
            let envs = entry.make(settings, &vector(AutoresetMode::SameStep))?;
            Box::new(Pwm::new(pwm, config.seed, envs)?)
        }
        Trainer::Dream(dream) => {
            let envs = entry.make(settings, &vector(AutoresetMode::SameStep))?;
            Box::new(Dreamer::new(dream, config.seed, envs)?)
        }
    })
}

/// What a run begins with.
#[derive(Clone, Copy, Default)]
pub struct From<'a> {
    /// Where an earlier one stopped.
    pub resume: Option<&'a Checkpoint>,
    /// Episodes to learn from, unless it is resumed: what it had of them is in the checkpoint.
    pub data: Option<&'a Dataset>,
    /// A run whose world model it begins with, unless it is resumed.
    pub start_from: Option<&'a Checkpoint>,
}

/// Updates between two looks at what comes before the first epoch.
const PRETRAINING: u64 = 100;
/// Checkpoints of it.
const PRETRAINING_PARTS: u64 = 5;

/// Trains in a folder until the configured number of epochs or until `stop` is raised.
///
/// # Errors
/// See [`TrainError`].
pub fn train(
    folder: Folder<'_>,
    config: &PolicyConfig,
    From { resume, data, start_from }: From<'_>,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    let schedule = config.trainer().schedule();
    let mut run = fresh(config)?;
    if let Some(checkpoint) = resume {
        run.restore(checkpoint)?;
        checkpoint::settle(folder.storage, checkpoint)?;
    } else {
        data.map_or(Ok(()), |dataset| run.take_in(dataset))?;
        start_from.map_or(Ok(()), |other| run.start_from(other))?;
    }
    create_folders(folder.storage, &folder.checkpoints())?;
    let mut log = MetricsLog::open(folder.storage, folder.run, run.counts()[0])?;
    let parameters = run.model().values().map(tch::Tensor::numel).sum();
    watch(Event::Begin { parameters, epochs: schedule.epochs, steps: schedule.steps() });

    let begin = Instant::now();
    let mut saved = resume.map(|_| run.epochs_done());
    let mut last_saved = resume.map(|checkpoint| checkpoint.path().to_owned());
    let (mut in_a_row, mut save_due, mut mean_return) = (0, false, None);
    while let [done, of] = run.pretrained()
        && done < of
        && !stop.load(Ordering::Relaxed)
    {
        let updates = PRETRAINING.min(of - done);
        let report = run
            .pretrain(updates)
            .map_err(|wrong| TrainError::NonFinite(gave_up(config, 0, &wrong, 1, last_saved.as_deref())))?;
        watch(Event::Pretrained { updates: done + updates, of, report: &report });
        let part = |updates: u64| updates * PRETRAINING_PARTS / of;
        saved = None;
        if part(done + updates) > part(done) {
            let path = save(folder, config, run.as_ref(), &mut log)?;
            watch(Event::Saved { path: &path });
            (saved, last_saved) = (Some(0), Some(path));
        }
    }
    while run.epochs_done() < schedule.epochs && !stop.load(Ordering::Relaxed) {
        let (report, wrong) = run.epoch()?;
        let (epoch, [env_steps, skipped, broken_steps]) = (run.epochs_done(), run.counts());
        mean_return = report.episodes.map(|(mean, _)| mean);
        watch(Event::Epoch { epoch, env_steps, report: &report });
        if let Some(wrong) = &wrong {
            in_a_row += 1;
            watch(Event::Skipped { epoch: epoch - 1, wrong });
            if in_a_row >= schedule.nonfinite_limit {
                return Err(TrainError::NonFinite(gave_up(config, epoch - 1, wrong, in_a_row, last_saved.as_deref())));
            }
        } else {
            in_a_row = 0;
        }
        if epoch.is_multiple_of(schedule.log_every) {
            let mut scalars = vec![
                ("train/epoch", epoch as f64),
                ("train/actor_loss", report.actor_loss),
                ("train/critic_loss", report.critic_loss),
                ("train/reward", report.reward),
                ("train/actor_gradient_norm", report.actor_gradient),
                ("train/critic_gradient_norm", report.critic_gradient),
                ("train/actor_std", report.deviation),
                ("train/actor_learning_rate", schedule.rate(schedule.learning_rate, epoch - 1)),
                ("train/terminated", report.terminated as f64),
                ("train/skipped", skipped as f64),
                ("train/broken_steps", broken_steps as f64),
            ];
            if let Some(model) = report.model {
                scalars.extend(model.dynamics_loss.map(|loss| ("train/model_dynamics_loss", loss)));
                scalars.extend(model.decoding_loss.map(|loss| ("train/model_decoding_loss", loss)));
                scalars.extend([
                    ("train/model_reward_loss", model.reward_loss),
                    ("train/model_gradient_norm", model.gradient),
                ]);
            }
            if let Some(found) = report.diagnosis {
                scalars.extend([
                    ("train/actor_gradient_esnr_db", found.signal_to_noise),
                    ("train/action_gradient_first", found.credit[0]),
                    ("train/action_gradient_last", found.credit[1]),
                    ("train/jacobian_latents", found.steepness[0]),
                    ("train/jacobian_actions", found.steepness[1]),
                ]);
                let [rewards, value] = found.agreement;
                scalars.extend(rewards.map(|cosine| ("train/action_gradient_agreement", cosine)));
                scalars.extend(value.map(|cosine| ("train/value_gradient_agreement", cosine)));
            }
            if let Some((mean, length)) = report.episodes {
                scalars.extend([("train/return", mean), ("train/episode_length", length)]);
            }
            log.write(env_steps, begin.elapsed().as_secs_f64(), &scalars)?;
        }
        // Between bad epochs it waits: a run resumed there would count them anew.
        save_due |= epoch.is_multiple_of(schedule.checkpoint_every);
        if save_due && in_a_row == 0 && epoch < schedule.epochs {
            let path = save(folder, config, run.as_ref(), &mut log)?;
            watch(Event::Saved { path: &path });
            (save_due, saved, last_saved) = (false, Some(epoch), Some(path));
        }
    }
    let (epoch, [env_steps, ..]) = (run.epochs_done(), run.counts());
    if saved != Some(epoch) && (epoch > 0 || run.pretrained()[0] > 0) {
        let path = save(folder, config, run.as_ref(), &mut log)?;
        watch(Event::Saved { path: &path });
    }
    Ok(Outcome { epoch, env_steps, mean_return, stopped: epoch < schedule.epochs })
}

fn save(
    folder: Folder<'_>,
    config: &PolicyConfig,
    run: &dyn Learner,
    log: &mut MetricsLog,
) -> Result<PathBuf, TrainError> {
    log.sync()?;
    let (model, optimizer, state) = (&run.model(), &run.optimizer(), &run.state());
    let parts = Parts { update: run.epochs_done(), config, state, model, optimizer };
    Ok(checkpoint::save(folder.storage, &folder.checkpoints(), &parts, config.trainer().schedule().keep_checkpoints)?)
}

fn gave_up(config: &PolicyConfig, epoch: u64, wrong: &NotFinite, in_a_row: u64, saved: Option<&Path>) -> String {
    let NotFinite { what, value } = wrong;
    let (seed, trainer) = (config.seed, config.trainer());
    let (name, schedule) = (trainer.name(), trainer.schedule());
    let kept = match saved {
        Some(path) => format!("the last good checkpoint, {}, is intact", path.display()),
        None => "no checkpoint had been written yet".to_owned(),
    };
    format!(
        "epoch {epoch}: {what} is {value}, {in_a_row} in a row, and {name}.nonfinite_limit is {}; seed {seed}; {kept}. --resume \
         would meet the same numbers again: begin anew with a lower {name}.actor.learning_rate (it is {}), or another --seed",
        schedule.nonfinite_limit, schedule.learning_rate
    )
}
