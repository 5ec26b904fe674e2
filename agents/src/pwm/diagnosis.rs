//! How good the actor's gradient is: its signal among the noise of rollouts, how far credit reaches, how steep the model is, and whether
//! its slopes are those of the world.

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::differentiable::StepBars;
use simulators::rng::{Purpose, Rng, stream};
use tch::{Device, Kind, Tensor};
use world_models::dream::Dream as _;
use world_models::latent::Ready;
use world_models::latent::dream::LatentDream;
use world_models::mlp::gradient;

use super::{Pwm, Rollouts};
use crate::columns::{courses, floats, floats_of, normal};
use crate::learner::Diagnosis;
use crate::returns::Course;
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
        let agreement = self.agreement(ready, rng);
        let frobenius = |bar: &Tensor| (bar.square().sum(Kind::Double).double_value(&[]) / rows as f64).sqrt();
        Diagnosis {
            signal_to_noise: signal_to_noise(&gradients),
            credit: [first, last],
            steepness: [frobenius(&of_latents), frobenius(&of_actions)],
            agreement,
        }
    }

    /// The cosine between two gradients of the discounted rewards of a window, up to the first end of an episode, with respect to its
    /// actions: by the model, as the actor is trained, and by the simulator, with the same actions from the same states.
    fn agreement(&mut self, ready: &Ready, rng: &mut Rng) -> Option<f64> {
        let ([o, a], rows, horizon) = (self.sizes(), self.envs.num_envs(), self.config.horizon);
        let truth = self.truth.as_mut()?;
        truth.restore(&self.envs.snapshot()).ok()?;
        let mut out = StepBatch::for_spec(truth.spec(), rows);
        let as_tensor = |obs: &[f32]| Tensor::from_slice(obs).view([-1, o as i64]);
        let mut dream = LatentDream::new(ready, &as_tensor(&self.state.obs));
        let (mut alive, mut bars) = (vec![true; rows], Vec::new());
        for t in 0..horizon {
            let (actions, _) = self.agent.actor.explore(&dream.seen(), normal(rng, rows, a));
            dream.act(&actions);
            truth.step(&Buffer::F32(floats_of(&actions)), &mut out).ok()?;
            if self.config.rollouts == Rollouts::Real {
                dream.correct(&as_tensor(floats(out.final_obs())));
            }
            let discount = self.config.gamma.powi(t as i32) as f32;
            bars.push(alive.iter().map(|&alive| if alive { discount } else { 0.0 }).collect::<Vec<_>>());
            for (alive, course) in alive.iter_mut().zip(courses(&out)) {
                *alive &= course == Course::On;
            }
        }
        let _ = dream.rewards();
        dream.pull_back_rewards(&Tensor::from_slice(&bars.concat()));
        let (nothing, everywhere) =
            (dream.seen().zeros_like(), Tensor::ones([rows as i64, 1], (Kind::Float, Device::Cpu)));
        let (none, mut of_true) = (vec![0.0; rows * o], vec![0.0; rows * a]);
        let (mut both, mut squares) = (0.0, [0.0; 2]);
        for reward in bars.iter().rev() {
            let of_actions = dream.pull_back(&nothing, &everywhere);
            truth.pull_back(StepBars { obs: &none, final_obs: &none, reward }, &mut of_true);
            for (&model, &truth) in floats_of(&of_actions).iter().zip(&of_true) {
                let [model, truth] = [model, truth].map(f64::from);
                both += model * truth;
                squares[0] += model * model;
                squares[1] += truth * truth;
            }
        }
        Some(both / (squares[0] * squares[1]).sqrt()).filter(|cosine| cosine.is_finite())
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
