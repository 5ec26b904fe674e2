//! Everything about policies that live in a belief that can be set.

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use world_models::adam::AdamConfig;
use world_models::latent::config::widths;
use world_models::mlp::{Activation, Numbers, Shape};

use super::mind::Mind;
use crate::config::Schedule;
use crate::inside::Objective;
use crate::networks::{ActorConfig, CriticConfig, positive};
use crate::returns::WindowEnd;

/// The head that says what is earned in a belief: fitted to what envs paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardTraining {
    /// Widths of the hidden layers.
    pub hidden: Vec<i64>,
    /// Learning rate at first.
    pub learning_rate: f64,
    /// Beliefs of an update.
    pub batch: usize,
    /// Updates of each epoch.
    pub updates: u64,
    /// Beliefs, with what was paid, that are kept to learn from.
    pub replay: usize,
    /// The optimiser.
    pub adam: AdamConfig,
}

impl Default for RewardTraining {
    fn default() -> Self {
        Self {
            hidden: vec![256, 128],
            learning_rate: 1e-3,
            batch: 256,
            updates: 8,
            replay: 8192,
            adam: AdamConfig { clip_norm: 10.0, ..AdamConfig::default() },
        }
    }
}

impl RewardTraining {
    /// The network, from `features` numbers.
    pub(crate) fn shape(&self, features: i64) -> Shape {
        Shape::plain(&[&[features], self.hidden.as_slice(), &[1]].concat(), Activation::Mish)
    }

    fn limits(&self) -> Vec<Limit> {
        let own = [
            positive("learning_rate", self.learning_rate),
            Limit::whole("batch", self.batch as i128, 1..=65_536),
            Limit::whole("updates", self.updates.into(), 1..=10_000),
            Limit::whole("replay", self.replay as i128, 1..=1_000_000),
        ];
        let adam = self.adam.limits().into_iter().map(|limit| limit.within("adam"));
        own.into_iter().chain(widths("hidden", &self.hidden)).chain(adam).collect()
    }
}

/// Policies that live in the belief of a world model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DreamConfig {
    /// What keeps the belief.
    pub mind: Mind,
    /// Envs side by side.
    pub num_envs: usize,
    /// Steps that are played between two updates, and steps of a dream.
    pub horizon: usize,
    /// Dreams from each belief, and updates of the actor, after so many steps.
    pub dreams: usize,
    /// Times that so many steps are played.
    pub epochs: u64,
    /// Discount.
    pub gamma: f64,
    /// Of the critic's targets.
    pub lambda: f64,
    /// All learning rates fall to it along a line.
    pub final_learning_rate: f64,
    /// Whether the actor sees beliefs without gradient, so that an action's credit goes through what it leads to alone.
    pub detach: bool,
    /// The reward head.
    pub reward: RewardTraining,
    /// The actor.
    pub actor: ActorConfig,
    /// The critics.
    pub critic: CriticConfig,
    /// Epochs between two lines of the log.
    pub log_every: u64,
    /// Epochs between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Epochs in a row that may be left out because a number is not finite.
    pub nonfinite_limit: u64,
}

impl Default for DreamConfig {
    fn default() -> Self {
        Self {
            mind: Mind::default(),
            num_envs: 32,
            horizon: 8,
            dreams: 2,
            epochs: 400,
            gamma: 0.95,
            lambda: 0.95,
            final_learning_rate: 1e-5,
            detach: true,
            reward: RewardTraining::default(),
            actor: ActorConfig { min_log_std: -2.0, learning_rate: 1e-3, ..ActorConfig::default() },
            critic: CriticConfig { passes: 4, ..CriticConfig::default() },
            log_every: 10,
            checkpoint_every: 100,
            keep_checkpoints: 2,
            nonfinite_limit: 3,
        }
    }
}

impl DreamConfig {
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let rows = self.num_envs.saturating_mul(self.horizon);
        let own = [
            Limit::whole("dreams", self.dreams as i128, 1..=1024),
            Limit::real("gamma", self.gamma, 0.0..=1.0),
            Limit::real("lambda", self.lambda, 0.0..=1.0),
        ];
        let groups = [
            ("mind", self.mind.limits()),
            ("reward", self.reward.limits()),
            ("actor", self.actor.limits()),
            ("critic", self.critic.limits(rows)),
        ];
        let of = |(name, limits): (&'static str, Vec<Limit>)| limits.into_iter().map(move |limit| limit.within(name));
        self.schedule().limits().into_iter().chain(own).chain(groups.into_iter().flat_map(of)).collect()
    }

    /// Numbers, those of the world model included, for frames of `inputs` numbers and `actions`.
    #[must_use]
    pub fn parameters(&self, [inputs, actions]: [i64; 2]) -> u64 {
        let features = self.mind.features(inputs);
        self.mind.parameters()
            + self.actor.parameters(features, actions)
            + self.critic.parameters(features)
            + self.reward.shape(features).parameters()
    }

    /// About how many bytes a run takes, for frames of `inputs` numbers and `actions`: beliefs, what the way back through a dream needs, what rewards are learned from.
    #[must_use]
    pub fn bytes(&self, sizes: [i64; 2]) -> u64 {
        let features = self.mind.features(sizes[0]) as u64;
        let row = features + 2 * (self.actor.hidden_numbers() + self.critic.hidden_numbers());
        let dream = self.schedule().steps().saturating_mul(row);
        let replay = (self.reward.replay as u64).saturating_mul(features + 1);
        let beliefs = (self.num_envs * (self.horizon + 2)) as u64;
        4 * (dream + replay)
            + beliefs.saturating_mul(self.mind.belief_bytes(sizes[0] as u64))
            + 16 * self.parameters(sizes)
    }

    pub(crate) fn objective(&self) -> Objective {
        let Self { gamma, lambda, .. } = *self;
        Objective { gamma, lambda, window_end: WindowEnd::Fixed, numbers: Numbers::F32 }
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
