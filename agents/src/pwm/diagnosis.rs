//! How good the actor's gradient is: its signal among the noise of rollouts, how far credit reaches, and how steep the model is.

use simulators::rng::{Purpose, stream};
use tch::{Kind, Tensor};
use world_models::latent::Ready;
use world_models::latent::dream::LatentDream;
use world_models::mlp::gradient;

use super::Pwm;
use crate::columns::normal;
use crate::learner::Diagnosis;
use crate::window::Window;

/// Added where a logarithm or a quotient could meet zero.
const LEAST: f64 = 1e-10;

/// The expected signal-to-noise ratio of gradients `[M]`, in decibels: the squared length of their mean over their variance around it
/// (Parmas et al. 2023).
fn signal_to_noise(gradients: &[Tensor]) -> f64 {
    let square = |x: &Tensor| x.square().sum(Kind::Double).double_value(&[]);
    let count = gradients.len() as f64;
    let mean = gradients.iter().fold(gradients[0].zeros_like(), |sum, gradient| sum + gradient) / count;
    let (signal, squares) = (square(&mean), gradients.iter().map(square).sum::<f64>() / count);
    10.0 * (signal / (squares - signal).max(LEAST) + LEAST).log10()
}

impl Pwm {
    /// From what the envs show now, with the parameters of now; nothing is changed. Gradients are those before they are clipped.
    pub(super) fn diagnose(&mut self, ready: &Ready) -> Diagnosis {
        let (rollouts, [o, a]) = (self.config.diagnosis_rollouts, self.sizes());
        let (objective, rows) = (self.config.objective(), self.envs.num_envs());
        let rng = &mut stream(self.seed, Purpose::Diagnosis, self.state.epoch);
        let observations = Tensor::from_slice(&self.state.obs).view([-1, o as i64]);
        let weights = self.agent.actor_weights.trainable_variables();
        let (mut gradients, mut first, mut last) = (Vec::new(), 0.0, 0.0);
        for _ in 0..rollouts {
            let window = Window::new(LatentDream::new(ready, &observations), self.config.detach);
            let window = window.dreamt(&self.agent.actor, (0..self.config.horizon).map(|_| normal(rng, rows, a)));
            let imagined = self.agent.pull_back(objective, &mut self.state.returns.clone(), window);
            first += imagined.lengths[0] / rollouts as f64;
            last += imagined.lengths[imagined.lengths.len() - 1] / rollouts as f64;
            let flat: Vec<Tensor> = weights.iter().map(|weight| gradient(weight).flatten(0, -1)).collect();
            gradients.push(Tensor::cat(&flat, 0));
        }
        // The squared length of a random vector times a matrix is on average the sum of the matrix's squares.
        let latents = ready.encode(&observations);
        let (next, mut step) = ready.dynamics.step(&latents, &normal(rng, rows, a).tanh());
        let random = normal(rng, rows, next.size()[1] as usize);
        let (of_latents, of_actions) = step.pull_back(&random);
        let frobenius = |bar: &Tensor| (bar.square().sum(Kind::Double).double_value(&[]) / rows as f64).sqrt();
        Diagnosis {
            signal_to_noise: signal_to_noise(&gradients),
            credit: [first, last],
            steepness: [frobenius(&of_latents), frobenius(&of_actions)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gradients of a mean `μ` and a variance `σ²` in each of `n` numbers have `|μ|² / n σ²`.
    #[test]
    fn signal_and_noise_are_told_apart() {
        let rng = &mut stream(simulators::rng::Seed(3), Purpose::Diagnosis, 0);
        let gradients: Vec<Tensor> = (0..2000).map(|_| normal(rng, 1, 40).flatten(0, -1) * 0.5 + 2.0).collect();
        let expected = 10.0 * (4.0f64 / 0.25).log10();
        assert!((signal_to_noise(&gradients) - expected).abs() < 0.1, "{}", signal_to_noise(&gradients));
        let same: Vec<Tensor> = (0..3).map(|_| Tensor::from_slice(&[1.0f32; 5])).collect();
        assert!(signal_to_noise(&same) > 90.0);
    }
}
