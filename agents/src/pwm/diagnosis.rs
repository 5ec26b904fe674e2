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
use crate::critic;
use crate::learner::Diagnosis;
use crate::returns::Course;

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

/// Of what the actor raises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The discounted rewards of a window.
    Rewards,
    /// The value of what it led to.
    Value,
}

impl Pwm {
    /// From what the envs show now, with the parameters of now; nothing is changed. Gradients are those before they are clipped.
    pub(super) fn diagnose(&mut self, ready: &Ready) -> Diagnosis {
        let (rollouts, [o, a]) = (self.config.diagnosis_rollouts, self.sizes());
        let (objective, rows, horizon) = (self.config.objective(), self.envs.num_envs(), self.config.horizon);
        let rng = &mut stream(self.seed, Purpose::Diagnosis, self.state.epoch);
        let observations = Tensor::from_slice(&self.state.obs).view([-1, o as i64]);
        let weights = self.agent.actor_weights.trainable_variables();
        let (mut gradients, mut first, mut last) = (Vec::new(), 0.0, 0.0);
        for _ in 0..rollouts {
            let noises: Vec<Tensor> = (0..horizon).map(|_| normal(rng, rows, a)).collect();
            let window = self.window(ready, &self.actor(), &observations).dreamt(&Tensor::stack(&noises, 0));
            let (mut returns, courses) = (self.state.returns.clone(), vec![Course::On; rows * horizon]);
            let imagined = self.agent.pull_back(objective, &mut returns, window, courses);
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
        let agreement = [Part::Rewards, Part::Value].map(|part| self.agreement(ready, part, rng));
        let frobenius = |bar: &Tensor| (bar.square().sum(Kind::Double).double_value(&[]) / rows as f64).sqrt();
        Diagnosis {
            signal_to_noise: signal_to_noise(&gradients),
            credit: [first, last],
            steepness: [frobenius(&of_latents), frobenius(&of_actions)],
            agreement,
        }
    }

    /// The cosine between two gradients with respect to the actions of a window: by the model, as the actor is trained, and by the simulator,
    /// with the same actions from the same states. Rows count up to the first end of an episode.
    fn agreement(&mut self, ready: &Ready, of: Part, rng: &mut Rng) -> Option<f64> {
        let ([o, a], rows, horizon) = (self.sizes(), self.envs.num_envs(), self.config.horizon);
        let (truth, judges) = (self.truth.as_mut()?, self.agent.judges());
        truth.restore(&self.envs.snapshot()).ok()?;
        let mut out = StepBatch::for_spec(truth.spec(), rows);
        let as_tensor = |obs: &[f32]| Tensor::from_slice(obs).view([-1, o as i64]);
        let actor = self.agent.actor.ready(self.config.actor.numbers);
        let mut dream = LatentDream::new(ready.on_one_thread(), &as_tensor(&self.state.obs));
        let (mut alive, mut of_rewards) = (vec![1.0; rows], Vec::new());
        for t in 0..horizon {
            let (actions, _) = actor.explore(&dream.seen(), normal(rng, rows, a));
            dream.act(&actions);
            truth.step(&Buffer::F32(floats_of(&actions)), &mut out).ok()?;
            if self.config.rollouts == Rollouts::Real {
                dream.correct(&as_tensor(floats(out.final_obs())));
            }
            let discount = if of == Part::Rewards { self.config.gamma.powi(t as i32) as f32 } else { 0.0 };
            of_rewards.push(alive.iter().map(|alive| alive * discount).collect::<Vec<f32>>());
            for (alive, course) in alive.iter_mut().zip(courses(&out)) {
                *alive *= f32::from(u8::from(course == Course::On));
            }
        }
        let _ = dream.rewards();
        dream.pull_back_rewards(&Tensor::from_slice(&of_rewards.concat()));
        let (everywhere, mut of_seen) =
            (Tensor::ones([rows as i64, 1], (Kind::Float, Device::Cpu)), dream.seen().zeros_like());
        let (none, mut of_led_to, mut of_true) = (vec![0.0; rows * o], vec![0.0; rows * o], vec![0.0; rows * a]);
        if of == Part::Value {
            let slopes = |seen: &Tensor| critic::value_gradient(judges, seen, &alive, self.config.numbers);
            let led_to = as_tensor(floats(out.final_obs()));
            let really_seen = ready.shown(&ready.encode(&led_to)).0;
            of_led_to = floats_of(&ready.pull_back_to_observations(&led_to, &slopes(&really_seen)));
            of_seen = slopes(&dream.seen());
        }
        let (mut both, mut squares) = (0.0, [0.0; 2]);
        for reward in of_rewards.iter().rev() {
            let of_actions = dream.pull_back(&of_seen, &everywhere);
            truth.pull_back(StepBars { obs: &none, final_obs: &of_led_to, reward }, &mut of_true);
            let _ = of_seen.zero_();
            of_led_to.fill(0.0);
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
