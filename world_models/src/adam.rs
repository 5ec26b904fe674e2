//! Adam, with a state that can be saved: tch's own optimiser cannot show its moments.
//!
//! On a CPU an update is one pass over memory. In tensor operations, of which each is a round of all threads, it takes as long
//! as the way back through small networks.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use tch::{Device, Kind, Tensor, nn};

use crate::checkpoint::is_finite;
use crate::raw::{CHUNK, slice, slice_mut};

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
    /// The share of a weight, in learning rates, that each update takes away (Loshchilov & Hutter 2019).
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, clip_norm: 1.0, weight_decay: 0.0 }
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
            Limit::real("weight_decay", self.weight_decay, 0.0..=0.1),
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
        let gradients: Vec<Tensor> = self.parameters.values().map(Tensor::grad).filter(Tensor::defined).collect();
        if gradients.iter().all(is_plain) {
            return gradients.iter().map(sum_of_squares).sum::<f64>().sqrt();
        }
        let squares: Vec<Tensor> = gradients.iter().map(|g| g.square().sum(Kind::Double)).collect();
        Tensor::stack(&squares, 0).sum(Kind::Double).double_value(&[]).sqrt()
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
        let AdamConfig { beta1, beta2, epsilon, clip_norm, weight_decay } = self.config;
        let scale = (clip_norm / norm.max(1e-30)).min(1.0);
        let exponent = self.updates.min(i32::MAX as u64) as i32;
        let (correction1, correction2) = (1.0 - beta1.powi(exponent), 1.0 - beta2.powi(exponent));
        let plain = Plain {
            scale: scale as f32,
            keep: [beta1 as f32, beta2 as f32],
            take: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
            unbias: [(1.0 / correction1) as f32, (1.0 / correction2) as f32],
            epsilon: epsilon as f32,
            learning_rate: learning_rate as f32,
        };
        tch::no_grad(|| {
            for (name, parameter) in &mut self.parameters {
                let gradient = parameter.grad();
                if !gradient.defined() {
                    continue;
                }
                if weight_decay > 0.0 {
                    let _ = parameter.g_mul_scalar_(1.0 - learning_rate * weight_decay);
                }
                let (first, second) = (&self.first[name], &self.second[name]);
                if [&gradient, parameter, first, second].into_iter().all(is_plain) {
                    plain.step(&gradient, [parameter, first, second].map(Tensor::shallow_clone));
                    continue;
                }
                let gradient = gradient * scale;
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

/// Whether an update can be made in one pass over memory.
fn is_plain(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous()
}

/// In double precision, chunk by chunk, so that the number of threads changes no bit.
fn sum_of_squares(gradient: &Tensor) -> f64 {
    let values = slice::<f32>(gradient, gradient.numel());
    // Eight sums side by side: one alone would wait for each addition.
    let of_chunk = |chunk: &[f32]| {
        let (eights, rest) = chunk.as_chunks::<8>();
        let mut sums = [0.0; 8];
        for eight in eights {
            sums.iter_mut().zip(eight).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        }
        sums.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
    };
    values.par_chunks(CHUNK).map(of_chunk).collect::<Vec<_>>().into_iter().sum()
}

/// An update in single precision.
struct Plain {
    /// Of gradients.
    scale: f32,
    keep: [f32; 2],
    take: [f32; 2],
    unbias: [f32; 2],
    epsilon: f32,
    learning_rate: f32,
}

impl Plain {
    /// Of a parameter and its two moments.
    fn step(&self, gradient: &Tensor, mut written: [Tensor; 3]) {
        let len = gradient.numel();
        let [parameter, first, second] = written.each_mut().map(|tensor| slice_mut::<f32>(tensor, len));
        let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
        let chunks = parameter.par_chunks_mut(CHUNK).zip(moments).zip(slice::<f32>(gradient, len).par_chunks(CHUNK));
        chunks.for_each(|((parameter, (first, second)), gradient)| {
            for (((parameter, first), second), gradient) in parameter.iter_mut().zip(first).zip(second).zip(gradient) {
                let gradient = gradient * self.scale;
                *first = *first * self.keep[0] + gradient * self.take[0];
                *second = *second * self.keep[1] + gradient * gradient * self.take[1];
                let deviation = (*second * self.unbias[1]).sqrt() + self.epsilon;
                *parameter -= self.learning_rate * (*first * self.unbias[0]) / deviation;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn weights_decay_in_learning_rates_whatever_their_gradient() {
        let vs = nn::VarStore::new(Device::Cpu);
        let x = vs.root().var_copy("x", &Tensor::from_slice(&[4.0f32]));
        let mut adam = Adam::new(&vs, AdamConfig { weight_decay: 0.05, ..Default::default() });
        (&x * 0.0).sum(Kind::Float).backward();
        adam.step(0.1, 0.0);
        assert!((x.double_value(&[0]) - 4.0 * (1.0 - 0.005)).abs() < 1e-6);
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
