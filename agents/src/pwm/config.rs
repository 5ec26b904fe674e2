//! Everything about PWM that can be set. The defaults are those of its repository for one task.

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use world_models::adam::AdamConfig;
use world_models::latent::{self, LatentConfig};
use world_models::mlp::Numbers;

use crate::config::Schedule;
use crate::inside::Objective;
use crate::networks::{ActorConfig, CriticConfig, MANY, positive};
use crate::returns::WindowEnd;

/// How the world model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelTraining {
    /// Learning rate at first.
    pub learning_rate: f64,
    /// Sequences of an update.
    pub batch: usize,
    /// Steps that are imagined before a sequence goes on from what was seen: a part of the horizon, all of it where nothing is said. With 1
    /// every step begins with what was seen (teacher forcing).
    pub unroll: Option<usize>,
    /// Updates of each epoch.
    pub updates: u64,
    /// Updates of the first epoch that has an episode to learn from, if there were none before.
    pub first_updates: u64,
    /// Updates before the first epoch, on the episodes of a dataset.
    pub pretraining_updates: u64,
    /// Learning rate at the first of these (or, if there are none, of those of the first epoch), from which it falls along a line to that of
    /// the epochs; the same as there, where nothing is said.
    pub first_learning_rate: Option<f64>,
    /// The optimiser.
    pub adam: AdamConfig,
}

impl Default for ModelTraining {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            batch: 256,
            unroll: None,
            updates: 8,
            first_updates: 1000,
            pretraining_updates: 0,
            first_learning_rate: None,
            adam: AdamConfig { clip_norm: 20.0, ..AdamConfig::default() },
        }
    }
}

/// What becomes of rewards before a model learns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Nothing.
    No,
    /// They are divided by their running deviation.
    Scale,
    /// Their running mean is taken away first, as in the published settings. Where an episode can end early, that changes the task:
    /// while a policy earns less than the mean, living on costs, and it learns to fall.
    Centre,
}

/// What the latents of a window are, after its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rollouts {
    /// Imagined, each from the one before, as published.
    Imagined,
    /// Those of what the envs have shown, with the gradient as if it had been foreseen (stochastic value gradients: Heess et al. 2015):
    /// errors of the model do not add up, and it gives slopes only.
    Real,
}

/// Policies trained inside a world model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PwmConfig {
    /// Envs side by side.
    pub num_envs: usize,
    /// Steps of a window, and of a sequence that the model learns from.
    pub horizon: usize,
    /// Windows, and updates of the actor.
    pub epochs: u64,
    /// Discount, also of the model's losses.
    pub gamma: f64,
    /// Of the critic's targets.
    pub lambda: f64,
    /// All learning rates fall to it along a line.
    pub final_learning_rate: f64,
    /// What networks are computed in.
    pub numbers: Numbers,
    /// Whether the actor sees latents without gradient, so that an action's credit goes through what it leads to alone.
    pub detach: bool,
    /// What its latents are.
    pub rollouts: Rollouts,
    /// How the end of a window counts.
    pub window_end: WindowEnd,
    /// What becomes of rewards before the model learns them.
    pub normalise_rewards: Normalise,
    /// The world model.
    pub model: LatentConfig,
    /// How it is trained.
    pub model_training: ModelTraining,
    /// Steps of finished episodes that are kept to learn from.
    pub replay: usize,
    /// The actor.
    pub actor: ActorConfig,
    /// The critics.
    pub critic: CriticConfig,
    /// Rollouts that the actor's gradient is judged by, before every line of the log (see [`crate::learner::Diagnosis`]); 0 for none.
    pub diagnosis_rollouts: usize,
    /// Epochs between two lines of the log.
    pub log_every: u64,
    /// Epochs between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Epochs in a row that may be left out because a number is not finite.
    pub nonfinite_limit: u64,
}

impl Default for PwmConfig {
    fn default() -> Self {
        Self {
            num_envs: 128,
            horizon: 16,
            epochs: 15_000,
            gamma: 0.99,
            lambda: 0.95,
            final_learning_rate: 1e-5,
            numbers: Numbers::F32,
            detach: true,
            rollouts: Rollouts::Imagined,
            window_end: WindowEnd::Fixed,
            normalise_rewards: Normalise::Scale,
            model: LatentConfig::default(),
            model_training: ModelTraining::default(),
            replay: 1_000_000,
            actor: ActorConfig { min_log_std: -1.427, learning_rate: 5e-4, ..ActorConfig::default() },
            critic: CriticConfig { passes: 8, ..CriticConfig::default() },
            diagnosis_rollouts: 8,
            log_every: 50,
            checkpoint_every: 500,
            keep_checkpoints: 2,
            nonfinite_limit: 3,
        }
    }
}

impl ModelTraining {
    /// Steps of the pieces that sequences of `horizon` steps are cut into.
    #[must_use]
    pub fn unroll(&self, horizon: usize) -> usize {
        self.unroll.unwrap_or(horizon)
    }

    /// Learning rate of the `update`-th of `of` updates before all others.
    pub(super) fn first_rate(&self, update: u64, of: u64) -> f64 {
        let fall = self.first_learning_rate.map_or(0.0, |first| first - self.learning_rate);
        self.learning_rate + fall * (1.0 - update as f64 / of as f64)
    }

    fn limits(&self, horizon: usize) -> Vec<Limit> {
        let unroll = self.unroll(horizon);
        let part = (1..=unroll.min(horizon)).rev().find(|&part| horizon.is_multiple_of(part)).unwrap_or(1) as i128;
        let own = [
            Limit::whole("unroll", unroll as i128, 1..=horizon as i128).because("a part of the horizon"),
            Limit::whole("unroll", unroll as i128, part..=part).because("the horizon in equal parts"),
            positive("learning_rate", self.learning_rate),
            Limit::whole("batch", self.batch as i128, 1..=65_536),
            Limit::whole("updates", self.updates.into(), 1..=10_000),
            Limit::whole("first_updates", self.first_updates.into(), 1..=1_000_000),
            Limit::whole("pretraining_updates", self.pretraining_updates.into(), 0..=MANY),
        ];
        let first = self.first_learning_rate.map(|rate| positive("first_learning_rate", rate));
        own.into_iter().chain(first).chain(self.adam.limits().into_iter().map(|limit| limit.within("adam"))).collect()
    }
}

impl PwmConfig {
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let rows = self.num_envs.saturating_mul(self.horizon);
        let own = [
            Limit::real("gamma", self.gamma, 0.0..=1.0),
            Limit::real("lambda", self.lambda, 0.0..=1.0),
            Limit::whole("replay", self.replay as i128, 1..=100_000_000),
            Limit::whole("diagnosis_rollouts", self.diagnosis_rollouts as i128, 0..=1024),
        ];
        let groups = [
            ("model", self.model.limits()),
            ("model_training", self.model_training.limits(self.horizon)),
            ("actor", self.actor.limits()),
            ("critic", self.critic.limits(rows)),
        ];
        let of = |(name, limits): (&'static str, Vec<Limit>)| limits.into_iter().map(move |limit| limit.within(name));
        self.schedule().limits().into_iter().chain(own).chain(groups.into_iter().flat_map(of)).collect()
    }

    /// Trainable numbers for `inputs` observed numbers and `actions`.
    #[must_use]
    pub fn parameters(&self, [inputs, actions]: [i64; 2]) -> u64 {
        let features = self.model.features(inputs);
        latent::parameters(&self.model, inputs, actions)
            + self.actor.parameters(features, actions)
            + self.critic.parameters(features)
    }

    /// About how many bytes a run takes, for `inputs` observed numbers and `actions`: what the ways back through a window and
    /// through a batch of sequences need, the replay, and weights with gradients and moments.
    #[must_use]
    pub fn bytes(&self, sizes: [i64; 2]) -> u64 {
        let [inputs, actions] = sizes.map(|size| size as u64);
        let widths = |hidden: &[i64]| hidden.iter().sum::<i64>() as u64;
        let LatentConfig { latent, units, encoder_units, .. } = &self.model;
        let model = 4 * widths(units) + 2 * widths(encoder_units) + 8 * *latent as u64 + inputs + actions;
        let heads = self.actor.hidden_numbers() + self.critic.hidden_numbers();
        let batch = (self.model_training.batch * self.horizon) as u64;
        let numbers = self.schedule().steps().saturating_mul(2 * (model + heads)) + batch.saturating_mul(2 * model);
        let replay = (self.replay as u64).saturating_mul(inputs + actions + 1);
        4 * (numbers + replay) + 16 * self.parameters(sizes)
    }

    pub(crate) fn objective(&self) -> Objective {
        let Self { gamma, lambda, window_end, numbers, .. } = *self;
        Objective { gamma, lambda, window_end, numbers }
    }

    /// What the training loop needs to know.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule {
            num_envs: self.num_envs,
            horizon: self.horizon,
            epochs: self.epochs,
            log_every: self.log_every,
            checkpoint_every: self.checkpoint_every,
            keep_checkpoints: self.keep_checkpoints,
            nonfinite_limit: self.nonfinite_limit,
            learning_rate: self.actor.learning_rate,
            final_learning_rate: self.final_learning_rate,
        }
    }
}
