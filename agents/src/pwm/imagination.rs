//! The world model of a PWM run, as the memory benchmark asks it.

use envs::registry::find;
use envs::vector::VectorConfig;
use tch::Tensor;
use world_models::checkpoint::Checkpoint;
use world_models::evaluate::vectors::VectorModel;
use world_models::latent::Ready;
use world_models::mlp::Numbers;

use super::{Normalise, State, opened};
use crate::config::{PolicyConfig, Trainer};
use crate::learner::TakeInError;
use crate::moments::Moments;
use crate::train::TrainError;

/// The world model of a run's checkpoint, its rewards in units of the environment.
pub struct Imagination {
    ready: Ready,
    /// What a predicted reward is multiplied by, and what is added then.
    units: [f64; 2],
    sizes: [usize; 3],
}

impl Imagination {
    /// Takes the world model out of a checkpoint. It is computed in single precision, whatever it was trained in.
    ///
    /// # Errors
    /// If the checkpoint is not one of PWM, or its tensors or moments do not fit.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self, TrainError> {
        let run: PolicyConfig = checkpoint.config()?;
        run.validate().map_err(|refusal| checkpoint.refuse_config(&refusal))?;
        let Trainer::Pwm(config) = run.trainer() else {
            return Err(TakeInError::NoModel { trainer: run.trainer().name() }.into());
        };
        let env = find(&run.env.id)?.make(&run.env.config, &VectorConfig::default())?;
        let [inputs, actions] = [env.spec().observation.size(), env.spec().action.size()];
        let sizes = [inputs as i64, actions as i64];
        let (_, _, model) = opened(checkpoint, config, sizes)?;
        let State { rewards, .. } = checkpoint.state()?;
        let units = units(config.normalise_rewards, rewards.as_ref())
            .ok_or_else(|| checkpoint.refuse_state(&"its moments are not those of rewards"))?;
        Ok(Self { ready: model.ready(Numbers::F32), units, sizes: [inputs, actions, config.model.latent as usize] })
    }
}

/// What undoes the normalisation of rewards: a factor, and what is added then. Nothing where moments and setting do not fit.
fn units(normalise: Normalise, moments: Option<&Moments>) -> Option<[f64; 2]> {
    let fits = |moments: &&Moments| moments.fit(1);
    let factor = |moments: &Moments| moments.scales().next().map(|scale| 1.0 / scale);
    match (normalise, moments) {
        (Normalise::No, None) => Some([1.0, 0.0]),
        (Normalise::Scale, moments) => Some([factor(moments.filter(fits)?)?, 0.0]),
        (Normalise::Centre, moments) => {
            let moments = moments.filter(fits)?;
            Some([factor(moments)?, moments.mean[0]])
        }
        (Normalise::No, Some(_)) => None,
    }
}

impl VectorModel for Imagination {
    fn sizes(&self) -> [usize; 3] {
        self.sizes
    }

    fn observe(&self, observations: &Tensor) -> Tensor {
        self.ready.encode(observations)
    }

    fn imagine(&self, latents: &Tensor, actions: &Tensor) -> Tensor {
        self.ready.dynamics.step(latents, actions).0
    }

    fn reward(&self, latents: &Tensor, actions: &Tensor) -> Tensor {
        let [factor, middle] = self.units;
        self.ready.reward.as_recorded(&Tensor::cat(&[latents, actions], 1)) * factor + middle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::{EPSILON, Moments};

    /// What training does to rewards is undone.
    #[test]
    fn rewards_are_given_in_units_of_the_environment() {
        let mut moments = Moments::new(1);
        moments.update(&[1.0, 5.0, -3.0, 9.0]);
        let [factor, middle] = units(Normalise::Centre, Some(&moments)).expect("they fit");
        let learned = (5.0 - moments.mean[0]) * moments.scales().next().expect("one column");
        assert!((learned * factor + middle - 5.0).abs() < 1e-12);
        assert!((factor - (20.0 + EPSILON).sqrt()).abs() < 1e-3 && (middle - 3.0).abs() < 1e-3);
        assert_eq!(units(Normalise::Scale, Some(&moments)), Some([factor, 0.0]));
        assert_eq!(units(Normalise::No, None), Some([1.0, 0.0]));
        for normalise in [Normalise::Scale, Normalise::Centre] {
            assert_eq!((units(normalise, None), units(normalise, Some(&Moments::new(2)))), (None, None));
        }
        assert_eq!(units(Normalise::No, Some(&moments)), None);
    }
}
