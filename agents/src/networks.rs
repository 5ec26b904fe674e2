//! Settings of the actors and critics that every training here has.

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use world_models::adam::AdamConfig;
use world_models::flow::Path;
use world_models::latent::config::widths;
use world_models::mlp::{Activation, Numbers, Shape, Start};

/// Moments of the published optimisers: short memories, since the objective moves with the policy.
const BETAS: [f64; 2] = [0.7, 0.95];

/// The actor: a Gaussian whose mean is a network's output and whose deviation is a parameter, or a flow from such noise around
/// zero; squashed by `tanh`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActorConfig {
    /// How noise becomes an action where the network gives a velocity; without it, the network gives the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Path>,
    /// Widths of the hidden layers.
    pub hidden: Vec<i64>,
    /// What follows them.
    pub activation: Activation,
    /// How weights begin.
    pub start: Start,
    /// What it is computed in while it is trained; afterwards it acts in single precision.
    pub numbers: Numbers,
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
            flow: None,
            hidden: vec![400, 200, 100],
            activation: Activation::Mish,
            start: Start::Uniform,
            numbers: Numbers::F32,
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
    /// Deviation of the noise on what they are fitted on. Where they see hundreds of numbers that lie near a surface of few dimensions, as
    /// latents do, nothing else holds their gradients to it.
    pub input_noise: f64,
    /// What they are fitted in.
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
            input_noise: 0.0,
            numbers: Numbers::F32,
            target_stays: None,
            adam: AdamConfig { beta1, beta2, clip_norm: 100.0, ..AdamConfig::default() },
        }
    }
}

/// The most of anything that is counted over a run.
pub(crate) const MANY: i128 = 1_000_000_000;

/// A rate.
pub(crate) fn positive(field: &str, value: f64) -> Limit {
    Limit::real(field, value, (Bound::Excluded(0.0), Bound::Included(10.0)))
}

impl ActorConfig {
    /// The network, from `inputs` numbers to `actions`.
    pub(crate) fn shape(&self, inputs: i64, actions: i64) -> Shape {
        // A velocity depends on where the action is on its way, and when.
        let more = if self.flow.is_some() { actions + 1 } else { 0 };
        Shape::plain(&[&[inputs + more], self.hidden.as_slice(), &[actions]].concat(), self.activation)
    }

    /// Trainable numbers.
    pub(crate) fn parameters(&self, inputs: i64, actions: i64) -> u64 {
        self.shape(inputs, actions).parameters() + actions as u64
    }

    /// Hidden numbers of a row.
    pub(crate) fn hidden_numbers(&self) -> u64 {
        self.flow.map_or(1, |path| path.velocities() as u64) * self.hidden.iter().sum::<i64>() as u64
    }

    /// What every field may hold.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        let own = [
            Limit::real("initial_log_std", self.initial_log_std, -20.0..=2.0),
            Limit::real("min_log_std", self.min_log_std, -20.0..=2.0),
            positive("learning_rate", self.learning_rate),
        ];
        let adam = self.adam.limits().into_iter().map(|limit| limit.within("adam"));
        let flow = self.flow.map_or_else(Vec::new, Path::limits).into_iter().map(|limit| limit.within("flow"));
        own.into_iter().chain(widths("hidden", &self.hidden)).chain(adam).chain(flow).collect()
    }
}

impl CriticConfig {
    /// Each network, from `inputs` numbers to a value.
    pub(crate) fn shape(&self, inputs: i64) -> Shape {
        Shape::plain(&[&[inputs], self.hidden.as_slice(), &[1]].concat(), self.activation)
    }

    /// Trainable numbers, target critics included.
    pub(crate) fn parameters(&self, inputs: i64) -> u64 {
        let copies = if self.target_stays.is_some() { 2 } else { 1 };
        copies * self.count as u64 * self.shape(inputs).parameters()
    }

    /// Hidden numbers of a row.
    pub(crate) fn hidden_numbers(&self) -> u64 {
        self.count as u64 * self.hidden.iter().sum::<i64>() as u64
    }

    /// What every field may hold.
    pub(crate) fn limits(&self, rows: usize) -> Vec<Limit> {
        let most = rows.clamp(1, 65_536) as i128;
        let own = [
            Limit::whole("count", self.count.into(), 1..=64),
            positive("learning_rate", self.learning_rate),
            Limit::real("input_noise", self.input_noise, 0.0..=10.0),
            Limit::whole("passes", self.passes.into(), 1..=10_000),
            Limit::whole("minibatches", self.minibatches as i128, 1..=most).because("rows times steps of a window"),
        ];
        let target = self.target_stays.map(|share| Limit::real("target_stays", share, 0.0..1.0));
        let adam = self.adam.limits().into_iter().map(|limit| limit.within("adam"));
        own.into_iter().chain(target).chain(widths("hidden", &self.hidden)).chain(adam).collect()
    }
}
