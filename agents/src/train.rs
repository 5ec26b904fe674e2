//! The loop around a policy's training: epochs, log, checkpoints, and what stops it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use envs::dataset::{Dataset, DatasetError};
use envs::env::EnvError;
use envs::registry::{UnknownEnv, find};
use envs::storage::{Failed, create_folders};
use envs::vector::{AutoresetMode, VectorConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulators::limits::{self, Limit, OutOfRange};
use simulators::rng::Seed;
use world_models::checkpoint::{self, Checkpoint, CheckpointError, Named, Parts};
use world_models::metrics::MetricsLog;
use world_models::train::Folder;

use crate::networks::{MANY, positive};
use crate::pwm::{Pwm, PwmConfig};
use crate::shac::{Shac, ShacConfig};

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
    /// How it is trained, if by the gradient of its return through the simulator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shac: Option<ShacConfig>,
    /// How it is trained, if inside a learned model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pwm: Option<PwmConfig>,
}

/// How a policy is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trainer<'a> {
    /// By the gradient of its return through the simulator.
    Shac(&'a ShacConfig),
    /// Inside a learned model.
    Pwm(&'a PwmConfig),
}

/// What the loop needs to know of a trainer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Envs side by side.
    pub num_envs: usize,
    /// Steps of a window.
    pub horizon: usize,
    /// Epochs in all.
    pub epochs: u64,
    /// Epochs between two lines of the log.
    pub log_every: u64,
    /// Epochs between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Epochs in a row that may be left out because a number is not finite.
    pub nonfinite_limit: u64,
    /// Learning rate of the actor at first.
    pub learning_rate: f64,
    /// That of the end.
    pub final_learning_rate: f64,
}

impl Schedule {
    /// What every field may hold, the actor's learning rate apart.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        vec![
            // Their states are in every checkpoint.
            Limit::whole("num_envs", self.num_envs as i128, 1..=4096),
            Limit::whole("horizon", self.horizon as i128, 1..=1024),
            Limit::whole("epochs", self.epochs.into(), 1..=MANY),
            positive("final_learning_rate", self.final_learning_rate),
            Limit::whole("log_every", self.log_every.into(), 1..=MANY),
            Limit::whole("checkpoint_every", self.checkpoint_every.into(), 1..=MANY),
            Limit::whole("keep_checkpoints", self.keep_checkpoints as i128, 1..=10_000),
            Limit::whole("nonfinite_limit", self.nonfinite_limit.into(), 1..=1_000),
        ]
    }

    /// A learning rate that begins at `first`, in epoch `epoch` of all.
    #[must_use]
    pub fn rate(&self, first: f64, epoch: u64) -> f64 {
        first + (self.final_learning_rate - first) * epoch as f64 / self.epochs as f64
    }

    /// Steps of the env in each epoch.
    #[must_use]
    pub fn steps(&self) -> u64 {
        (self.num_envs * self.horizon) as u64
    }
}

impl Trainer<'_> {
    /// Its name, on the command line and in configurations.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shac(_) => "shac",
            Self::Pwm(_) => "pwm",
        }
    }

    /// What the loop needs to know of it.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        match self {
            Self::Shac(config) => config.schedule(),
            Self::Pwm(config) => config.schedule(),
        }
    }

    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        match self {
            Self::Shac(config) => config.limits(),
            Self::Pwm(config) => config.limits(),
        }
    }

    /// Trainable numbers, for `inputs` observed numbers and `actions`.
    #[must_use]
    pub fn parameters(&self, sizes: [i64; 2]) -> u64 {
        match self {
            Self::Shac(config) => config.parameters(sizes),
            Self::Pwm(config) => config.parameters(sizes),
        }
    }

    /// About how many bytes a run takes, for `inputs` observed numbers and `actions`.
    #[must_use]
    pub fn bytes(&self, sizes: [i64; 2]) -> u64 {
        match self {
            Self::Shac(config) => config.bytes(sizes),
            Self::Pwm(config) => config.bytes(sizes),
        }
    }
}

impl PolicyConfig {
    /// How the policy is trained.
    ///
    /// # Panics
    /// If the configuration is not valid.
    #[must_use]
    pub fn trainer(&self) -> Trainer<'_> {
        match (&self.shac, &self.pwm) {
            (Some(config), None) => Trainer::Shac(config),
            (None, Some(config)) => Trainer::Pwm(config),
            _ => panic!("a valid configuration has one trainer"),
        }
    }

    /// What every field may hold, those of the env apart.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let trainers = usize::from(self.shac.is_some()) + usize::from(self.pwm.is_some());
        if trainers != 1 {
            return vec![Limit::whole("shac and pwm", trainers as i128, 1..=1).because("a policy has one trainer")];
        }
        let trainer = self.trainer();
        let limits = trainer.limits().into_iter().map(|limit| limit.within(trainer.name()));
        [self.seed.limit("seed")].into_iter().chain(limits).collect()
    }

    /// Checks every field, those of the env apart.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        limits::check(&self.limits())
    }
}

/// A run in memory, epoch by epoch.
pub trait Learner {
    /// Goes on where the run that `checkpoint` is of stood.
    ///
    /// # Errors
    /// If it is of another run's shape.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError>;

    /// All weights by name; they share memory with the run.
    fn model(&self) -> Named;

    /// All moments by name, and whatever else a checkpoint keeps as tensors.
    fn optimizer(&self) -> Named;

    /// What a checkpoint needs beside tensors.
    fn state(&self) -> Value;

    /// Epochs done.
    fn epochs_done(&self) -> u64;

    /// Steps of the env done, epochs left out, and env steps lost, to numbers that were not finite.
    fn counts(&self) -> [u64; 3];

    /// Takes in the episodes of a dataset, as many as there is room for, before the run begins.
    ///
    /// # Errors
    /// A dataset that this run cannot learn from.
    fn take_in(&mut self, dataset: &Dataset) -> Result<(), TakeInError>;

    /// Updates before the first epoch: done, and to be done in all.
    fn pretrained(&self) -> [u64; 2] {
        [0, 0]
    }

    /// So many updates before the first epoch.
    ///
    /// # Errors
    /// The first number that was not finite; nothing was learned from it.
    fn pretrain(&mut self, updates: u64) -> Result<ModelReport, NotFinite> {
        unreachable!("{updates} updates of a run that has none before its first epoch")
    }

    /// One epoch. If a number is not finite, nothing is learned from what it came from, and it is returned with the report.
    ///
    /// # Errors
    /// If the envs refuse what they are given.
    fn epoch(&mut self) -> Result<(Report, Option<NotFinite>), EnvError>;
}

/// What an epoch was like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Mean over rows of what the actor lowers: minus the discounted return of the window.
    pub actor_loss: f64,
    /// Mean squared error of the critics.
    pub critic_loss: f64,
    /// Mean reward of a step.
    pub reward: f64,
    /// Norms before they were clipped.
    pub actor_gradient: f64,
    /// The mean over updates.
    pub critic_gradient: f64,
    /// Mean deviation of the actions before they are squashed.
    pub deviation: f64,
    /// Mean return and length of the last 100 episodes that ended, of the policy as it explores.
    pub episodes: Option<(f64, f64)>,
    /// Episodes that ended because the world did.
    pub terminated: usize,
    /// What the world model learned, where there is one.
    pub model: Option<ModelReport>,
}

/// What went wrong with an epoch: nothing was learned from it.
#[derive(Debug, Clone, PartialEq)]
pub struct NotFinite {
    /// Which number.
    pub what: &'static str,
    /// `NaN`, `inf` or `-inf`.
    pub value: f64,
}

/// What a world model learned in an epoch: means over its updates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelReport {
    /// Of the dynamics.
    pub dynamics_loss: f64,
    /// Of rewards.
    pub reward_loss: f64,
    /// The norm of the gradient before it was clipped.
    pub gradient: f64,
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
    /// A dataset that cannot be learned from.
    #[error(transparent)]
    TakeIn(#[from] TakeInError),
    /// Numbers went wrong and stayed wrong.
    #[error("{0}")]
    NonFinite(String),
}

/// Why a run cannot learn from a dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeInError {
    /// The trainer has no use for one.
    #[error("{trainer} learns in an environment only, not from a dataset")]
    NoUse {
        /// Its name.
        trainer: &'static str,
    },
    /// Episodes of something else.
    #[error("{}: rows of `{column}` have {found} numbers, those of the environment {expected}", dataset.display())]
    Width {
        /// The dataset.
        dataset: PathBuf,
        /// The column.
        column: &'static str,
        /// Numbers of its rows.
        found: usize,
        /// Those of the env.
        expected: usize,
    },
    /// No episode that can be used.
    #[error("{}: no episode has {horizon} steps or more and fits in a replay of {replay}", dataset.display())]
    Short {
        /// The dataset.
        dataset: PathBuf,
        /// Steps of a sequence.
        horizon: usize,
        /// Rows of the replay.
        replay: usize,
    },
    /// A column that is missing or of another type.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
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
    })
}

/// What a run begins with.
#[derive(Clone, Copy, Default)]
pub struct From<'a> {
    /// Where an earlier one stopped.
    pub resume: Option<&'a Checkpoint>,
    /// Episodes to learn from, unless it is resumed: what it had of them is in the checkpoint.
    pub data: Option<&'a Dataset>,
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
    From { resume, data }: From<'_>,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    let schedule = config.trainer().schedule();
    let mut run = fresh(config)?;
    if let Some(checkpoint) = resume {
        run.restore(checkpoint)?;
        checkpoint::settle(folder.storage, checkpoint)?;
    } else if let Some(dataset) = data {
        run.take_in(dataset)?;
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
                scalars.extend([
                    ("train/model_dynamics_loss", model.dynamics_loss),
                    ("train/model_reward_loss", model.reward_loss),
                    ("train/model_gradient_norm", model.gradient),
                ]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rates_fall_along_a_line() {
        for schedule in [ShacConfig::default().schedule(), PwmConfig::default().schedule()] {
            let rate = |epoch| schedule.rate(schedule.learning_rate, epoch);
            assert!((rate(0) - schedule.learning_rate).abs() < 1e-15 && (rate(schedule.epochs) - 1e-5).abs() < 1e-15);
            assert!((rate(schedule.epochs / 2) - f64::midpoint(schedule.learning_rate, 1e-5)).abs() < 1e-15);
        }
    }

    #[test]
    fn a_policy_has_one_trainer() {
        let config = |more: &str| {
            let text = format!(r#"{{"seed": 0, "env": {{"id": "Ant-v0", "config": {{}}}}{more}}}"#);
            serde_json::from_str::<PolicyConfig>(&text).expect("a configuration")
        };
        for wrong in [config(""), config(r#", "shac": {}, "pwm": {}"#)] {
            let said = wrong.validate().expect_err("no trainer, or two").to_string();
            assert!(said.contains("a policy has one trainer"), "{said}");
        }
        assert_eq!(config(r#", "pwm": {}"#).trainer().name(), "pwm");
    }
}
