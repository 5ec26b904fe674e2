//! What is earned in a belief: a head on its features, fitted to what envs paid there.

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use simulators::rng::{Purpose, Rng, Seed, stream};
use tch::{Device, Kind, Tensor, nn};
use world_models::adam::Adam;
use world_models::checkpoint::Named;
use world_models::mlp::passes::Passes;
use world_models::mlp::{Mlps, Numbers, Start};

use super::config::RewardTraining;

/// Where the ring stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ring {
    used: usize,
    next: usize,
}

/// The head, its optimiser, and the last beliefs with what was paid there.
pub(crate) struct Rewards {
    config: RewardTraining,
    network: Mlps,
    pub weights: nn::VarStore,
    pub adam: Adam,
    /// `[replay, F]`.
    features: Tensor,
    /// `[replay]`.
    paid: Tensor,
    pub ring: Ring,
}

impl Rewards {
    pub fn new(config: &RewardTraining, features: i64, seed: Seed) -> Self {
        let weights = nn::VarStore::new(Device::Cpu);
        let rng = &mut stream(seed, Purpose::Weights, 2);
        let network = Mlps::new(&(weights.root() / "reward"), 1, &config.shape(features), Start::Uniform, rng);
        let adam = Adam::new(&weights, config.adam);
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let rows = config.replay as i64;
        let (features, paid) = (zeros(&[rows, features]), zeros(&[rows]));
        Self { config: config.clone(), network, weights, adam, features, paid, ring: Ring::default() }
    }

    /// With the weights of now.
    pub fn passes(&self) -> Passes {
        self.network.passes(Numbers::F32)
    }

    /// Remembers features `[N, F]` and what was paid there, `[N]`, in place of the oldest.
    pub fn remember(&mut self, features: &Tensor, paid: &[f32]) {
        let rows: Vec<i64> = (0..paid.len()).map(|row| ((self.ring.next + row) % self.config.replay) as i64).collect();
        let rows = Tensor::from_slice(&rows);
        let _ = self.features.index_copy_(0, &rows, features);
        let _ = self.paid.index_copy_(0, &rows, &Tensor::from_slice(paid));
        self.ring.next = (self.ring.next + paid.len()) % self.config.replay;
        self.ring.used = (self.ring.used + paid.len()).min(self.config.replay);
    }

    /// Updates on what is remembered: the mean squared error and gradient norm. It stops at the first that is not finite.
    pub fn fit(&mut self, rate: f64, rng: &mut Rng) -> (f64, f64) {
        let (mut losses, mut norms) = (0.0, 0.0);
        for _ in 0..self.config.updates {
            let rows: Vec<i64> = (0..self.config.batch).map(|_| rng.random_range(0..self.ring.used) as i64).collect();
            let rows = Tensor::from_slice(&rows);
            self.adam.zero_grad();
            let (found, run) = self.network.run(&self.features.index_select(0, &rows), Numbers::F32);
            let error = found - self.paid.index_select(0, &rows).view([1, -1, 1]);
            let loss = error.square().mean(Kind::Double).double_value(&[]);
            self.network.pull_back(run, &(&error * (2.0 / error.numel() as f64)));
            let norm = self.adam.gradient_norm();
            if !(loss.is_finite() && norm.is_finite()) {
                return (loss, norm);
            }
            self.adam.step(rate, norm);
            losses += loss / self.config.updates as f64;
            norms += norm / self.config.updates as f64;
        }
        (losses, norms)
    }

    /// What a checkpoint keeps beside weights; it shares memory.
    pub fn optimizer(&self) -> Named {
        let kept = [("replay.features", &self.features), ("replay.rewards", &self.paid)];
        let kept = kept.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
        self.adam.state().into_iter().chain(kept).collect()
    }

    /// Whether the ring can stand there.
    pub fn is_possible(&self, ring: Ring) -> bool {
        ring.used <= self.config.replay && ring.next < self.config.replay && (ring.next <= ring.used)
    }
}
