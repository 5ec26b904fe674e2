//! PWM at its published sizes on noise: what benchmarks take the time of.

use envs::registry::find;
use envs::vector::VectorConfig;
use serde_json::json;
use simulators::rng::Seed;
use tch::{Device, Kind, Tensor};
use world_models::latent::{Dynamics, LatentConfig, Sequences};
use world_models::mlp::Numbers;
use world_models::mlp::passes::Keeps;

use super::{Pwm, PwmConfig};
use crate::learner::NotFinite;
use crate::returns::Course;
use crate::train::TrainError;

/// A run for the Ant that no env plays, and rows of noise in place of what it would see.
pub struct Rehearsal {
    pwm: Pwm,
    batch: Sequences,
    /// `[T, B]`, at which a flow's velocities are matched.
    times: Tensor,
}

impl Rehearsal {
    /// Windows and sequences of `horizon` steps in `rows` rows.
    ///
    /// # Errors
    /// If there cannot be so many rows.
    pub fn new(dynamics: Dynamics, numbers: Numbers, rows: usize, horizon: usize) -> Result<Self, TrainError> {
        let model = LatentConfig { dynamics, ..LatentConfig::default() };
        let mut config =
            PwmConfig { num_envs: rows, horizon, model, numbers, diagnosis_rollouts: 0, ..PwmConfig::default() };
        config.critic.numbers = numbers;
        let vector = VectorConfig { num_envs: rows, ..VectorConfig::default() };
        let envs = find("ant")?.make(&json!({}), &vector)?;
        let pwm = Pwm::new(&config, Seed(0), envs)?;
        let ([o, a], [rows, horizon]) = (pwm.sizes().map(|size| size as i64), [rows as i64, horizon as i64]);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let batch = Sequences {
            observations: random(&[horizon + 1, rows, o]),
            actions: random(&[horizon, rows, a]).tanh(),
            rewards: random(&[horizon, rows]),
        };
        Ok(Self { pwm, batch, times: random(&[horizon, rows]).sigmoid() })
    }

    /// An update of the world model.
    pub fn model_update(&mut self) {
        let Self { pwm, batch, times } = self;
        pwm.model_adam.zero_grad();
        let _ = pwm.model.learn(batch, pwm.config.gamma, pwm.config.numbers, Some(times));
        let norm = pwm.model_adam.gradient_norm();
        pwm.model_adam.step(1e-5, norm);
    }

    /// An update of the actor and, if they are to learn too, all of an epoch's of the critics.
    ///
    /// # Errors
    /// The first number that was not finite.
    pub fn policy_update(&mut self, critics_too: bool) -> Result<(), NotFinite> {
        let (ready, mut report) = (self.pwm.ready(), self.pwm.report());
        let window = self.pwm.dream(&ready, &self.pwm.actor(), &self.batch.observations.get(0));
        let courses = vec![Course::On; self.pwm.config.schedule().steps() as usize];
        self.pwm.train_policy(window, courses, critics_too, &mut report)
    }

    /// A window is imagined that cannot be gone back, with its rewards `[T, N]`.
    pub fn rollout(&self) -> Tensor {
        let ready = self.pwm.ready().keeping(Keeps::Nothing);
        self.pwm.dream(&ready, &self.pwm.actor().keeping(Keeps::Nothing), &self.batch.observations.get(0)).rewards()
    }
}
