//! Adam, with a state that can be saved: tch's own optimiser cannot show its moments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use tch::{Kind, Tensor, nn};

use crate::checkpoint::is_finite;

/// Adam's constants (Kingma & Ba 2015), and the largest norm a gradient may have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Gradients of a larger global norm are scaled down to it.
    pub clip_norm: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, clip_norm: 1.0 }
    }
}

impl AdamConfig {
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        vec![
            Limit::real("beta1", self.beta1, 0.0..1.0),
            Limit::real("beta2", self.beta2, 0.0..1.0),
            Limit::real("epsilon", self.epsilon, 1e-30..1.0),
            Limit::real("clip_norm", self.clip_norm, 1e-30..1e30),
        ]
    }
}

/// Parameters by name, and the two moments of each.
pub struct Adam {
    config: AdamConfig,
    parameters: BTreeMap<String, Tensor>,
    first: BTreeMap<String, Tensor>,
    second: BTreeMap<String, Tensor>,
    updates: u64,
}

impl Adam {
    /// An optimiser of everything trainable in `vs`.
    #[must_use]
    pub fn new(vs: &nn::VarStore, config: AdamConfig) -> Self {
        let parameters: BTreeMap<_, _> = vs.variables().into_iter().filter(|(_, t)| t.requires_grad()).collect();
        let zeros = || parameters.iter().map(|(name, t)| (name.clone(), t.detach().zeros_like())).collect();
        Self { config, first: zeros(), second: zeros(), parameters, updates: 0 }
    }

    /// Forgets the gradients of the last step.
    pub fn zero_grad(&mut self) {
        for parameter in self.parameters.values_mut() {
            parameter.zero_grad();
        }
    }

    /// The global norm of the gradients.
    ///
    /// One read-back from the device.
    #[must_use]
    pub fn gradient_norm(&self) -> f64 {
        let squares: Vec<Tensor> = self
            .parameters
            .values()
            .map(Tensor::grad)
            .filter(Tensor::defined)
            .map(|g| g.square().sum(Kind::Double))
            .collect();
        if squares.is_empty() { 0.0 } else { Tensor::stack(&squares, 0).sum(Kind::Double).double_value(&[]).sqrt() }
    }

    /// The parameters whose gradients are not finite everywhere.
    #[must_use]
    pub fn nonfinite_gradients(&self) -> Vec<String> {
        let gradients = self.parameters.iter().map(|(name, parameter)| (name, parameter.grad()));
        gradients.filter(|(_, g)| g.defined() && !is_finite(g)).map(|(name, _)| name.clone()).collect()
    }

    /// One update with gradients of global norm `norm`, which must be finite.
    pub fn step(&mut self, learning_rate: f64, norm: f64) {
        self.updates += 1;
        let AdamConfig { beta1, beta2, epsilon, clip_norm } = self.config;
        let scale = (clip_norm / norm.max(1e-30)).min(1.0);
        let exponent = self.updates.min(i32::MAX as u64) as i32;
        let (correction1, correction2) = (1.0 - beta1.powi(exponent), 1.0 - beta2.powi(exponent));
        tch::no_grad(|| {
            for (name, parameter) in &mut self.parameters {
                let gradient = parameter.grad();
                if !gradient.defined() {
                    continue;
                }
                let gradient = gradient * scale;
                let (first, second) = (&self.first[name], &self.second[name]);
                let _ = first.shallow_clone().g_mul_scalar_(beta1).g_add_(&(&gradient * (1.0 - beta1)));
                let _ = second.shallow_clone().g_mul_scalar_(beta2).g_add_(&(gradient.square() * (1.0 - beta2)));
                let step = (first / correction1) / ((second / correction2).sqrt() + epsilon);
                let _ = parameter.g_sub_(&(step * learning_rate));
            }
        });
    }

    /// Updates made so far.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Both moments of every parameter, named `first.<parameter>` and `second.<parameter>`: they share memory with the
    /// optimiser, so copying into them restores it.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let named = |prefix: &'static str, moments: &BTreeMap<String, Tensor>| {
            moments.iter().map(move |(name, t)| (format!("{prefix}.{name}"), t.shallow_clone())).collect::<Vec<_>>()
        };
        named("first", &self.first).into_iter().chain(named("second", &self.second)).collect()
    }

    /// Continues the count after a restore of [`Adam::state`].
    pub fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn first_step_is_the_learning_rate_against_the_sign_of_the_gradient() {
        // m / (1 - b1) = g and v / (1 - b2) = g^2, so the first step is lr * g / (|g| + eps).
        let vs = nn::VarStore::new(Device::Cpu);
        let x = vs.root().var_copy("x", &Tensor::from_slice(&[1.0f32, -2.0]));
        let mut adam = Adam::new(&vs, AdamConfig { clip_norm: 1e9, ..Default::default() });
        (&x * Tensor::from_slice(&[3.0f32, -4.0])).sum(Kind::Float).backward();
        let norm = adam.gradient_norm();
        assert!((norm - 5.0).abs() < 1e-6);
        adam.step(0.1, norm);
        assert!((x.double_value(&[0]) - 0.9).abs() < 1e-6 && (x.double_value(&[1]) + 1.9).abs() < 1e-6);
    }

    #[test]
    fn a_long_gradient_is_scaled_to_the_clip_norm() {
        let vs = nn::VarStore::new(Device::Cpu);
        let x = vs.root().var_copy("x", &Tensor::from_slice(&[0.0f32, 0.0]));
        let mut adam = Adam::new(&vs, AdamConfig { clip_norm: 0.5, ..Default::default() });
        (&x * Tensor::from_slice(&[3.0f32, -4.0])).sum(Kind::Float).backward();
        adam.step(0.1, adam.gradient_norm());
        // Scaled gradient (0.3, -0.4): first moment a tenth of it.
        assert!((adam.state()["first.x"].double_value(&[0]) - 0.03).abs() < 1e-6);
    }
}
