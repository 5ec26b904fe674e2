//! Everything about SHAC that can be set. The defaults are those of the PWM repository; `configs/shac` has the others.

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;

use crate::config::Schedule;
use crate::networks::{ActorConfig, CriticConfig};

/// What the objective of a window is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Rows, and the running deviation of their returns.
    Returns,
    /// Rows and steps.
    Steps,
}

/// Short-horizon actor-critic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShacConfig {
    /// Envs side by side.
    pub num_envs: usize,
    /// Steps of a window.
    pub horizon: usize,
    /// Windows, and updates of the actor.
    pub epochs: u64,
    /// Discount.
    pub gamma: f64,
    /// Of the critic's targets.
    pub lambda: f64,
    /// All learning rates fall to it along a line.
    pub final_learning_rate: f64,
    /// Whether observations are centred and scaled by their running moments.
    pub normalise_observations: bool,
    /// What the objective is divided by.
    pub scale: Scale,
    /// Times the median of its step that the gradient of a row's actions may be long; without it, as long as it is. Of hundreds
    /// of rows a few touch the ground so that their gradients are thousands of times as long, and once the sum is clipped
    /// nothing is left of the others.
    pub row_gradients: Option<f64>,
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

impl Default for ShacConfig {
    fn default() -> Self {
        Self {
            num_envs: 128,
            horizon: 32,
            epochs: 2000,
            gamma: 0.99,
            lambda: 0.95,
            final_learning_rate: 1e-5,
            normalise_observations: true,
            scale: Scale::Returns,
            row_gradients: None,
            actor: ActorConfig::default(),
            critic: CriticConfig::default(),
            log_every: 10,
            checkpoint_every: 100,
            keep_checkpoints: 3,
            nonfinite_limit: 3,
        }
    }
}

impl ShacConfig {
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let rows = self.num_envs.saturating_mul(self.horizon);
        let own = [Limit::real("gamma", self.gamma, 0.0..=1.0), Limit::real("lambda", self.lambda, 0.0..=1.0)];
        let gradients = self.row_gradients.map(|most| Limit::real("row_gradients", most, 1.0..=1e6));
        let actor = self.actor.limits().into_iter().map(|limit| limit.within("actor"));
        let critic = self.critic.limits(rows).into_iter().map(|limit| limit.within("critic"));
        self.schedule().limits().into_iter().chain(own).chain(gradients).chain(actor).chain(critic).collect()
    }

    /// Trainable numbers, target critics included, for `inputs` observed numbers and `actions`.
    #[must_use]
    pub fn parameters(&self, [inputs, actions]: [i64; 2]) -> u64 {
        self.actor.parameters(inputs, actions) + self.critic.parameters(inputs)
    }

    /// About how many bytes a run takes, for `inputs` observed numbers and `actions`: what the way back through a window and
    /// the values of all that it led to need, and weights with gradients and moments.
    #[must_use]
    pub fn bytes(&self, sizes: [i64; 2]) -> u64 {
        let [inputs, actions] = sizes.map(|size| size as u64);
        // Of every hidden number what the product gave and what became of it; of every step also the bodies before it.
        let row = 2 * (self.actor.hidden_numbers() + self.critic.hidden_numbers()) + 8 * inputs + 4 * actions;
        4 * self.steps().saturating_mul(row) + 16 * self.parameters(sizes)
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

    /// A learning rate that begins at `first`, in epoch `epoch` of all.
    #[must_use]
    pub fn learning_rate(&self, first: f64, epoch: u64) -> f64 {
        self.schedule().rate(first, epoch)
    }

    /// Steps of the env in each epoch.
    #[must_use]
    pub fn steps(&self) -> u64 {
        (self.num_envs * self.horizon) as u64
    }
}
