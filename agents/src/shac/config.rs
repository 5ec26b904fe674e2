//! Everything about SHAC that can be set. The defaults are those of the PWM repository; `configs/shac` has the others.

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use world_models::adam::AdamConfig;
use world_models::mlp::{Activation, Numbers, Shape, Start};

/// Moments of the published optimisers: short memories, since the objective moves with the policy.
const BETAS: [f64; 2] = [0.7, 0.95];

/// The actor: a Gaussian whose mean is a network's output and whose deviation is a parameter, squashed by `tanh`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActorConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<i64>,
    /// What follows them.
    pub activation: Activation,
    /// How weights begin.
    pub start: Start,
    /// Logarithm of the deviation at first.
    pub initial_log_std: f64,
    /// The deviation's logarithm never falls below it.
    pub min_log_std: f64,
    /// Learning rate at first.
    pub learning_rate: f64,
    /// The optimiser.
    pub adam: AdamConfig,
}

impl Default for ActorConfig {
    fn default() -> Self {
        let [beta1, beta2] = BETAS;
        Self {
            hidden: vec![400, 200, 100],
            activation: Activation::Mish,
            start: Start::Uniform,
            initial_log_std: -1.0,
            min_log_std: -10.0,
            learning_rate: 2e-3,
            adam: AdamConfig { beta1, beta2, clip_norm: 1.0, ..AdamConfig::default() },
        }
    }
}

/// The critics. The least of them is what an observation is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CriticConfig {
    /// How many.
    pub count: i64,
    /// Widths of the hidden layers.
    pub hidden: Vec<i64>,
    /// What follows them.
    pub activation: Activation,
    /// Learning rate at first.
    pub learning_rate: f64,
    /// Times that each window is gone through.
    pub passes: u64,
    /// Updates of each time.
    pub minibatches: usize,
    /// What they are fitted in; their values are always computed in single precision.
    pub numbers: Numbers,
    /// Share of a target critic that stays when it follows the critic after a window; without it there is no target critic.
    pub target_stays: Option<f64>,
    /// The optimiser.
    pub adam: AdamConfig,
}

impl Default for CriticConfig {
    fn default() -> Self {
        let [beta1, beta2] = BETAS;
        Self {
            count: 3,
            hidden: vec![400, 200],
            activation: Activation::Mish,
            learning_rate: 5e-4,
            passes: 16,
            minibatches: 4,
            numbers: Numbers::F32,
            target_stays: None,
            adam: AdamConfig { beta1, beta2, clip_norm: 100.0, ..AdamConfig::default() },
        }
    }
}

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
            actor: ActorConfig::default(),
            critic: CriticConfig::default(),
            log_every: 10,
            checkpoint_every: 100,
            keep_checkpoints: 3,
            nonfinite_limit: 3,
        }
    }
}

/// The most of anything that is counted over a run.
const MANY: i128 = 1_000_000_000;

fn positive(field: &str, value: f64) -> Limit {
    Limit::real(field, value, (Bound::Excluded(0.0), Bound::Included(10.0)))
}

fn widths(hidden: &[i64]) -> impl Iterator<Item = Limit> {
    let layers = Limit::whole("hidden", hidden.len() as i128, 1..=16).because("that many layers");
    let width = |&width: &i64| Limit::whole("hidden", width.into(), 1..=16_384);
    [layers].into_iter().chain(hidden.iter().map(width))
}

impl ActorConfig {
    fn limits(&self) -> Vec<Limit> {
        let own = [
            Limit::real("initial_log_std", self.initial_log_std, -20.0..=2.0),
            Limit::real("min_log_std", self.min_log_std, -20.0..=2.0),
            positive("learning_rate", self.learning_rate),
        ];
        let adam = self.adam.limits().into_iter().map(|limit| limit.within("adam"));
        own.into_iter().chain(widths(&self.hidden)).chain(adam).collect()
    }
}

impl CriticConfig {
    fn limits(&self, rows: usize) -> Vec<Limit> {
        let most = rows.clamp(1, 65_536) as i128;
        let own = [
            Limit::whole("count", self.count.into(), 1..=64),
            positive("learning_rate", self.learning_rate),
            Limit::whole("passes", self.passes.into(), 1..=10_000),
            Limit::whole("minibatches", self.minibatches as i128, 1..=most).because("rows times steps of a window"),
        ];
        let target = self.target_stays.map(|share| Limit::real("target_stays", share, 0.0..1.0));
        let adam = self.adam.limits().into_iter().map(|limit| limit.within("adam"));
        own.into_iter().chain(target).chain(widths(&self.hidden)).chain(adam).collect()
    }
}

impl ShacConfig {
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let rows = self.num_envs.saturating_mul(self.horizon);
        let own = [
            // Their states are in every checkpoint.
            Limit::whole("num_envs", self.num_envs as i128, 1..=4096),
            Limit::whole("horizon", self.horizon as i128, 1..=1024),
            Limit::whole("epochs", self.epochs.into(), 1..=MANY),
            Limit::real("gamma", self.gamma, 0.0..=1.0),
            Limit::real("lambda", self.lambda, 0.0..=1.0),
            positive("final_learning_rate", self.final_learning_rate),
            Limit::whole("log_every", self.log_every.into(), 1..=MANY),
            Limit::whole("checkpoint_every", self.checkpoint_every.into(), 1..=MANY),
            Limit::whole("keep_checkpoints", self.keep_checkpoints as i128, 1..=10_000),
            Limit::whole("nonfinite_limit", self.nonfinite_limit.into(), 1..=1_000),
        ];
        let actor = self.actor.limits().into_iter().map(|limit| limit.within("actor"));
        let critic = self.critic.limits(rows).into_iter().map(|limit| limit.within("critic"));
        own.into_iter().chain(actor).chain(critic).collect()
    }

    /// Trainable numbers, target critics included, for `inputs` observed numbers and `actions`.
    #[must_use]
    pub fn parameters(&self, [inputs, actions]: [i64; 2]) -> u64 {
        let network = |hidden: &[i64], outputs: i64| -> u64 {
            Shape::plain(&[&[inputs], hidden, &[outputs]].concat(), Activation::Mish).parameters()
        };
        let critics = self.critic.count as u64 * network(&self.critic.hidden, 1);
        let copies = if self.critic.target_stays.is_some() { 2 } else { 1 };
        network(&self.actor.hidden, actions) + actions as u64 + copies * critics
    }

    /// About how many bytes a run takes, for `inputs` observed numbers and `actions`: what the way back through a window and
    /// the values of all that it led to need, and weights with gradients and moments.
    #[must_use]
    pub fn bytes(&self, sizes: [i64; 2]) -> u64 {
        let [inputs, actions] = sizes.map(|size| size as u64);
        let widths = |hidden: &[i64]| hidden.iter().sum::<i64>() as u64;
        // Of every hidden number what the product gave and what became of it; of every step also the bodies before it.
        let row = 2 * (widths(&self.actor.hidden) + self.critic.count as u64 * widths(&self.critic.hidden))
            + 8 * inputs
            + 4 * actions;
        4 * self.steps().saturating_mul(row) + 16 * self.parameters(sizes)
    }

    /// A learning rate that begins at `first`, in epoch `epoch` of all.
    #[must_use]
    pub fn learning_rate(&self, first: f64, epoch: u64) -> f64 {
        first + (self.final_learning_rate - first) * epoch as f64 / self.epochs as f64
    }

    /// Steps of the env in each epoch.
    #[must_use]
    pub fn steps(&self) -> u64 {
        (self.num_envs * self.horizon) as u64
    }
}
