//! What the training loop asks of a trainer, and what it is told.

use std::path::PathBuf;

use envs::dataset::{Dataset, DatasetError};
use envs::env::EnvError;
use serde_json::Value;
use world_models::checkpoint::{Checkpoint, CheckpointError, Named};

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

    /// Begins with the world model of another run's checkpoint, before the first epoch.
    ///
    /// # Errors
    /// A checkpoint that has none, or another one.
    fn start_from(&mut self, checkpoint: &Checkpoint) -> Result<(), TakeInError>;

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
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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
    /// How good the actor's gradient is, where that was looked at.
    pub diagnosis: Option<Diagnosis>,
}

/// How good the actor's gradient is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Diagnosis {
    /// Signal to noise over rollouts with other noise, in decibels.
    pub signal_to_noise: f64,
    /// Length of the gradient with respect to the actions of the first step of a window, and of the last.
    pub credit: [f64; 2],
    /// Frobenius norms of a step's derivatives with respect to latents and to actions.
    pub steepness: [f64; 2],
    /// Cosines between gradients with respect to the actions of a window, by the model and by the simulator, if that has derivatives:
    /// whether the model's slopes are those of the world. Of the window's rewards, and of the value of what it led to.
    pub agreement: [Option<f64>; 2],
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
    /// Of the dynamics, where they are learned.
    pub dynamics_loss: Option<f64>,
    /// Of observations, where they are read from latents.
    pub decoding_loss: Option<f64>,
    /// Of rewards.
    pub reward_loss: f64,
    /// The norm of the gradient before it was clipped.
    pub gradient: f64,
}

/// Why a run cannot learn from a dataset, or begin with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeInError {
    /// The trainer has no use for one.
    #[error("{trainer} learns in an environment only, not from a dataset")]
    NoUse {
        /// Its name.
        trainer: &'static str,
    },
    /// The trainer, or that of the other run, has no world model.
    #[error("{trainer} has no world model to begin with")]
    NoModel {
        /// Its name.
        trainer: &'static str,
    },
    /// The other run's world model has other sizes, or another environment's.
    #[error("{}: its world model is another one: {difference}", checkpoint.display())]
    OtherModel {
        /// The other run's checkpoint.
        checkpoint: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The other run's checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
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
