//! A trained policy, as whoever plays it sees it.

use envs::buffer::Buffer;
use envs::env::EnvSpec;
use envs::policy::{EpisodeStreams, Policy, PolicyError};
use envs::registry::find;
use envs::vector::BatchEnv;
use rand_distr::{Distribution as _, StandardNormal};
use simulators::rng::Seed;
use tch::{Tensor, nn};
use world_models::checkpoint::Checkpoint;
use world_models::mlp::Numbers;

use crate::actor::Actor;
use crate::agent::Agent;
use crate::columns::floats_of;
use crate::config::{PolicyConfig, Trainer};
use crate::eyes::{Eyes, Look, ROWS};
use crate::learner::TakeInError;
use crate::train::TrainError;
use crate::{dreamer, pwm, shac};

/// How a trained actor plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Whether it explores as in training, with noise of its own for each episode; otherwise it does what is likeliest.
    pub stochastic: bool,
    /// It looks at the first so many observations of an episode, and at one at least; what it does not look at it imagines.
    pub look_first: u32,
    /// It looks at every so-many-th step too.
    pub look_every: u32,
}

impl Default for Manner {
    fn default() -> Self {
        Self { stochastic: false, look_first: 1, look_every: 1 }
    }
}

/// The actor of a run's checkpoint, and what it sees by.
pub struct Learned {
    actor: Actor,
    eyes: Eyes,
    config: PolicyConfig,
    /// Of the env it was trained in.
    spec: EnvSpec,
    noise: Option<EpisodeStreams>,
    manner: Manner,
}

impl Learned {
    /// Takes the actor out of a checkpoint.
    ///
    /// # Errors
    /// If the checkpoint is not one of a policy, or its tensors do not fit; or if it is to imagine and has no world model.
    pub fn open(checkpoint: &Checkpoint, manner: Manner) -> Result<Self, TrainError> {
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
                if !state.observations.as_ref().is_none_or(|moments| moments.fit(inputs as usize)) {
                    return Err(checkpoint.refuse_state(&"its moments are not those of its observations").into());
                }
                let agent = Agent::new(&shac.actor, &shac.critic, Seed(0), sizes);
                checkpoint.load_model(&agent.model())?;
                if manner.look_every > 1 {
                    return Err(TakeInError::NoModel { trainer: "shac" }.into());
                }
                (agent.actor, Eyes::normaliser(state.observations.as_ref()))
            }
            Trainer::Pwm(config) => {
                let (agent, _, model) = pwm::opened(checkpoint, config, sizes)?;
                (agent.actor, Eyes::latents(model.ready(Numbers::F32), actions))
            }
            Trainer::Dream(config) => {
                let (frame, scale) = dreamer::senses(&config.mind, env.spec())?;
                let features = config.mind.features(inputs);
                let agent = Agent::new(&config.actor, &config.critic, Seed(0), [features, actions]);
                let (mind, weights, rewards) = dreamer::networks(config, Seed(0), frame);
                let own = [&weights, &rewards.weights].into_iter().flat_map(nn::VarStore::variables);
                checkpoint.load_model(&agent.model().into_iter().chain(own).collect())?;
                (agent.actor, Eyes::belief(mind, scale, frame, actions))
            }
        };
        let noise = manner.stochastic.then(EpisodeStreams::default);
        Ok(Self { actor, eyes, config, spec: env.spec().clone(), noise, manner })
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
        let shape = |id: &str, spec: &EnvSpec| format!("{id} with observations of {:?}", spec.observation.shape());
        let fits = spec.observation == self.spec.observation && spec.action == self.spec.action;
        let wrong = || PolicyError::WrongEnv {
            policy: "of this run".to_owned(),
            acts_in: shape(&self.config.env.id, &self.spec),
            env: shape(&spec.id, spec),
        };
        let a = spec.action.size();
        if spec.id != self.config.env.id || !fits || actions.dtype() != spec.action.dtype() {
            return Err(wrong());
        }
        let actor = self.actor.ready(Numbers::F32);
        for (chunk, first) in (0..envs.num_envs()).step_by(ROWS).enumerate() {
            let rows = first..(first + ROWS).min(envs.num_envs());
            let steps: Vec<u32> = rows.clone().map(|row| envs.row(row).steps).collect();
            let Manner { look_first, look_every, .. } = self.manner;
            let look = Look {
                begins: steps.iter().map(|&steps| steps == 0).collect(),
                looks: steps
                    .iter()
                    .map(|&steps| steps < look_first || steps.is_multiple_of(look_every.max(1)))
                    .collect(),
            };
            let inputs = self.eyes.see(chunk, obs, (rows.clone(), spec.observation.size()), &look).ok_or_else(wrong)?;
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
            let done = match noise {
                Some(noise) => actor.explore(&inputs, noise).0,
                None => actor.likeliest(&inputs),
            };
            let done = self.eyes.act(chunk, &done);
            actions.write(rows.start * a, &floats_of(&done)[..rows.len() * a]);
        }
        Ok(())
    }
}
