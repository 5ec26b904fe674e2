//! A trained policy, as whoever plays it sees it.

use envs::buffer::Buffer;
use envs::policy::{EpisodeStreams, Policy, PolicyError};
use envs::registry::find;
use envs::vector::BatchEnv;
use rand_distr::{Distribution as _, StandardNormal};
use simulators::rng::Seed;
use tch::Tensor;
use world_models::checkpoint::Checkpoint;
use world_models::latent::Ready;
use world_models::mlp::Numbers;

use crate::actor::{Actor, Normaliser};
use crate::agent::Agent;
use crate::config::{PolicyConfig, Trainer};
use crate::moments::Moments;
use crate::train::TrainError;
use crate::{pwm, shac};

/// The actor of a run's checkpoint, and what it sees by.
pub struct Learned {
    actor: Actor,
    eyes: Eyes,
    config: PolicyConfig,
    noise: Option<EpisodeStreams>,
}

/// What becomes of observations before the actor has them.
enum Eyes {
    /// They are centred and scaled.
    Normaliser(Normaliser),
    /// They become latents, every step anew.
    Encoder(Box<Ready>),
}

impl Eyes {
    fn see(&self, obs: &Tensor) -> Tensor {
        match self {
            Self::Normaliser(normaliser) => normaliser.apply(obs),
            Self::Encoder(ready) => ready.encode(obs),
        }
    }
}

/// Rows that the network takes at a time. Always so many, so that no row's last bits depend on how many others there are.
const ROWS: usize = 64;

impl Learned {
    /// Takes the actor out of a checkpoint. A `stochastic` one explores as in training, with noise of its own for each
    /// episode; otherwise it does what is likeliest.
    ///
    /// # Errors
    /// If the checkpoint is not one of a policy, or its tensors do not fit.
    pub fn open(checkpoint: &Checkpoint, stochastic: bool) -> Result<Self, TrainError> {
        let config: PolicyConfig = checkpoint.config()?;
        config.validate().map_err(|refusal| checkpoint.refuse_config(&refusal))?;
        let vector = envs::vector::VectorConfig::default();
        let env = find(&config.env.id)?.make(&config.env.config, &vector)?;
        let [inputs, actions] = [env.spec().observation.size() as i64, env.spec().action.size() as i64];
        let sizes = [inputs, actions];
        checkpoint.expect_parameters(config.trainer().parameters(sizes))?;
        let (actor, eyes) = match config.trainer() {
            Trainer::Shac(shac) => {
                let state: shac::State = checkpoint.state()?;
                let fits = |moments: &Moments| {
                    let columns = inputs as usize;
                    moments.mean.len() == columns && moments.variance.len() == columns && moments.is_possible()
                };
                if !state.observations.as_ref().is_none_or(fits) {
                    return Err(checkpoint.refuse_state(&"its moments are not those of its observations").into());
                }
                let agent = Agent::new(&shac.actor, &shac.critic, Seed(0), sizes);
                checkpoint.load_model(&agent.model())?;
                (agent.actor, Eyes::Normaliser(Normaliser::new(state.observations.as_ref())))
            }
            Trainer::Pwm(config) => {
                let agent = Agent::new(&config.actor, &config.critic, Seed(0), [config.model.latent, actions]);
                let (weights, model) = pwm::model(config, Seed(0), sizes);
                checkpoint.load_model(&agent.model().into_iter().chain(weights.variables()).collect())?;
                (agent.actor, Eyes::Encoder(Box::new(model.ready(Numbers::F32))))
            }
        };
        Ok(Self { actor, eyes, config, noise: stochastic.then(EpisodeStreams::default) })
    }

    /// The run it comes from.
    #[must_use]
    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }
}

impl Policy for Learned {
    fn act(&mut self, envs: &dyn BatchEnv, obs: &Buffer, actions: &mut Buffer) -> Result<(), PolicyError> {
        let spec = envs.spec();
        let wrong = || PolicyError::WrongEnv {
            policy: "of this run".to_owned(),
            acts_in: self.config.env.id.clone(),
            env: spec.id.clone(),
        };
        let (o, a) = (spec.observation.size(), spec.action.size());
        let fits = spec.id == self.config.env.id;
        let (Some(obs), Some(actions), true) = (obs.get::<f32>(), actions.get_mut::<f32>(), fits) else {
            return Err(wrong());
        };
        for first in (0..envs.num_envs()).step_by(ROWS) {
            let rows = first..(first + ROWS).min(envs.num_envs());
            let mut padded = vec![0.0f32; ROWS * o];
            padded[..rows.len() * o].copy_from_slice(&obs[rows.start * o..rows.end * o]);
            // What an episode that is over has shown need not be a number.
            padded.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 0.0);
            let noise = self.noise.as_mut().map(|streams| {
                let mut noise = vec![0.0f32; ROWS * a];
                for (row, noise) in rows.clone().zip(noise.chunks_exact_mut(a)).filter(|(row, _)| !envs.row(*row).over)
                {
                    let (rng, _) = streams.row(envs, row);
                    for x in noise {
                        *x = StandardNormal.sample(rng);
                    }
                }
                Tensor::from_slice(&noise).view([ROWS as i64, a as i64])
            });
            let inputs = self.eyes.see(&Tensor::from_slice(&padded).view([ROWS as i64, o as i64]));
            let done = match noise {
                Some(noise) => self.actor.explore(&inputs, noise).0,
                None => self.actor.likeliest(&inputs),
            };
            let done = done.flatten(0, -1);
            let done = Vec::<f32>::try_from(done).expect("a vector of floats");
            actions[rows.start * a..rows.end * a].copy_from_slice(&done[..rows.len() * a]);
        }
        Ok(())
    }
}
