//! Short-horizon actor-critic (Xu et al. 2022): a policy trained by the gradient of its return through the simulator.
//!
//! Each epoch plays a window of steps in all envs (`rollout.rs`), takes the gradient of the discounted rewards of the window
//! and of the value of what it led to, all the way back through the simulator and the policy, and moves the actor by it;
//! then it fits the critics to TD(λ) targets of the same window.
//!
//! A run is a function of its configuration and (on a CPU) the number of threads: episodes and noise are drawn by number, and
//! a checkpoint holds everything else, so that a resumed run ends with the same bits as one that was never interrupted.

mod config;
mod rollout;

use envs::batch::StepBatch;
use envs::dataset::Dataset;
use envs::differentiable::DifferentiableEnv;
use envs::env::{EnvError, EnvSpec};
use envs::vector::{Reset, VectorSnapshot};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulators::rng::{Purpose, Seed, stream};
use tch::Tensor;
use world_models::checkpoint::{Checkpoint, CheckpointError, Named};
use world_models::mlp::Numbers;

use crate::actor::Normaliser;
use crate::agent::Agent;
use crate::columns::{floats, floats_of, normal};
use crate::critic;
use crate::learner::{Learner, NotFinite, Report, TakeInError};
use crate::moments::{Moments, mean};
use crate::played::Played;
use crate::returns::{WindowEnd, td_lambda, weights};

pub use config::{Scale, ShacConfig};
use rollout::{Bars, Rollout};

/// What a run needs beside weights and moments of optimisers to go on exactly where it stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Epochs done.
    pub epoch: u64,
    /// Steps of the env done.
    pub env_steps: u64,
    /// Epochs whose actor or critics were left as they were because a number was not finite.
    pub skipped: u64,
    /// Steps of single envs that ended in numbers that were not finite.
    pub broken_steps: u64,
    /// Of the observations; empty where they are not normalised.
    pub observations: Option<Moments>,
    /// Of the returns of windows.
    returns: Moments,
    /// Updates of actor and critics.
    updates: [u64; 2],
    played: Played,
    /// `[N, O]`.
    obs: Vec<f32>,
    envs: VectorSnapshot,
}

/// A SHAC run in memory.
pub struct Shac {
    config: ShacConfig,
    seed: Seed,
    envs: Box<dyn DifferentiableEnv>,
    out: StepBatch,
    agent: Agent,
    state: State,
}

/// Width of observations and actions of a spec.
fn sizes(spec: &EnvSpec) -> [i64; 2] {
    [spec.observation.size() as i64, spec.action.size() as i64]
}

impl Shac {
    /// A fresh run; its envs play the episodes of `seed`.
    ///
    /// # Errors
    /// If the envs cannot be reset.
    pub fn new(config: &ShacConfig, seed: Seed, mut envs: Box<dyn DifferentiableEnv>) -> Result<Self, EnvError> {
        let spec = envs.spec();
        let agent = Agent::new(&config.actor, &config.critic, seed, sizes(spec));
        let columns = spec.observation.size();
        let rows = envs.num_envs();
        let mut out = StepBatch::for_spec(spec, rows);
        envs.reset(Reset::Seed(seed), out.obs_mut())?;
        let state = State {
            epoch: 0,
            env_steps: 0,
            skipped: 0,
            broken_steps: 0,
            observations: config.normalise_observations.then(|| Moments::new(columns)),
            returns: Moments::new(1),
            updates: [0; 2],
            played: Played::new(rows),
            obs: floats(out.obs()).to_vec(),
            envs: envs.snapshot(),
        };
        Ok(Self { config: config.clone(), seed, envs, out, agent, state })
    }

    /// The state, that of envs and optimisers included.
    fn state_now(&self) -> State {
        State { envs: self.envs.snapshot(), updates: self.agent.updates(), ..self.state.clone() }
    }

    /// Plays a window with the policy as it explores.
    fn play(&mut self, normaliser: &Normaliser) -> Result<Rollout, EnvError> {
        let noise = &mut stream(self.seed, Purpose::Noise, self.state.epoch);
        self.envs.forget();
        let ([columns, actions], rows) = (sizes(self.envs.spec()), self.envs.num_envs());
        let actor = self.agent.actor.ready(self.config.actor.numbers);
        let mut rollout = Rollout::new(self.envs.spec(), rows, self.config.horizon, actor);
        for _ in 0..self.config.horizon {
            if let Some(moments) = &mut self.state.observations {
                moments.update(&self.state.obs);
            }
            let obs = Tensor::from_slice(&self.state.obs).view([-1, columns]);
            let normal = normal(noise, rows, actions as usize);
            let inputs = normaliser.apply(&obs);
            let broken = rollout.step(self.envs.as_mut(), (&inputs, normal), &mut self.out)?;
            self.state.broken_steps += broken as u64;
            self.state.obs.copy_from_slice(floats(self.out.obs()));
            if broken > 0 {
                // Such a row is reset by the next step, whatever its action.
                let columns = self.state.obs.len() / self.envs.num_envs();
                let rows = self.state.obs.chunks_exact_mut(columns);
                rows.filter(|row| row.iter().any(|x| !x.is_finite())).for_each(|row| row.fill(0.0));
            }
            let (rewards, courses) = rollout.latest();
            for (row, (&reward, &course)) in rewards.iter().zip(courses).enumerate() {
                self.state.played.step(row, reward.into(), course != crate::returns::Course::On);
            }
        }
        Ok(rollout)
    }

    /// What observations, `[n, O]`, are worth.
    fn worth(&self, normaliser: &Normaliser, obs: &[f32]) -> Vec<f32> {
        let [columns, _] = sizes(self.envs.spec());
        let obs = Tensor::from_slice(obs).view([-1, columns]);
        floats_of(&critic::values(self.agent.judges(), &normaliser.apply(&obs), Numbers::F32))
    }

    /// The gradient of `Σ weight · value` with respect to the observations `[n, O]`.
    fn value_gradient(&self, normaliser: &Normaliser, obs: &[f32], weights: &[f32]) -> Vec<f32> {
        let [columns, _] = sizes(self.envs.spec());
        let inputs = normaliser.apply(&Tensor::from_slice(obs).view([-1, columns]));
        let bar = critic::value_gradient(self.agent.judges(), &inputs, weights, Numbers::F32);
        floats_of(&normaliser.pull_back(&inputs, &bar))
    }
}

impl Learner for Shac {
    fn take_in(&mut self, _: &Dataset) -> Result<(), TakeInError> {
        Err(TakeInError::NoUse { trainer: "shac" })
    }

    fn start_from(&mut self, _: &Checkpoint) -> Result<(), TakeInError> {
        Err(TakeInError::NoModel { trainer: "shac" })
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let state: State = checkpoint.state()?;
        let refused = |reason: &str| checkpoint.refuse_state(&reason);
        let (rows, columns) = (self.envs.num_envs(), self.state.obs.len() / self.envs.num_envs());
        if state.obs.len() != rows * columns || state.played.open.len() != rows {
            return Err(refused("its envs are of another number or kind"));
        }
        if state.observations.is_some() != self.state.observations.is_some()
            || !state.observations.iter().all(|moments| moments.fit(columns))
            || !state.returns.fit(1)
        {
            return Err(refused("its moments are not those of its observations"));
        }
        checkpoint.load_model(&self.model())?;
        checkpoint.load_optimizer(&self.optimizer())?;
        self.envs.restore(&state.envs).map_err(|error| refused(&error.to_string()))?;
        self.agent.set_updates(state.updates);
        self.state = state;
        Ok(())
    }

    fn model(&self) -> Named {
        self.agent.model()
    }

    fn optimizer(&self) -> Named {
        self.agent.optimizer()
    }

    fn state(&self) -> Value {
        serde_json::to_value(self.state_now()).expect("a state is plain data")
    }

    fn epochs_done(&self) -> u64 {
        self.state.epoch
    }

    fn counts(&self) -> [u64; 3] {
        [self.state.env_steps, self.state.skipped, self.state.broken_steps]
    }

    fn epoch(&mut self) -> Result<(Report, Option<NotFinite>), EnvError> {
        let normaliser = Normaliser::new(self.state.observations.as_ref());
        let mut rollout = self.play(&normaliser)?;
        let config = &self.config;
        let rows = self.envs.num_envs();

        let worth = self.worth(&normaliser, &rollout.final_obs);
        let weights = weights(&rollout.courses, rows, config.gamma, WindowEnd::Fixed);
        let losses = weights.losses(&rollout.rewards, &worth, rows);
        let actor_loss = mean(&losses);
        let down = weights.down(match config.scale {
            Scale::Returns => self.state.returns.scale_with(&losses) / rows as f64,
            Scale::Steps => 1.0 / rollout.rewards.len() as f64,
        });

        self.agent.actor_adam.zero_grad();
        let final_obs_bar = self.value_gradient(&normaliser, &rollout.final_obs, &down.values);
        let objective = Bars { rewards: &down.rewards, final_obs: &final_obs_bar };
        let (gradients, inputs) = rollout.pull_back(self.envs.as_mut(), &normaliser, &objective, config.row_gradients);
        self.agent.actor.add(&gradients);
        let mut report = Report {
            reward: mean(&rollout.rewards),
            deviation: self.agent.actor.deviation(),
            episodes: self.state.played.means(),
            terminated: rollout.terminated(),
            ..Report::default()
        };
        let rate = config.learning_rate(config.actor.learning_rate, self.state.epoch);
        let mut wrong = self.agent.train_actor(actor_loss, rate, &mut report).err();
        let targets = td_lambda(&rollout.rewards, &worth, &rollout.courses, rows, config.gamma, config.lambda);
        let rate = config.learning_rate(config.critic.learning_rate, self.state.epoch);
        let pairs = [&inputs, &Tensor::from_slice(&targets)];
        let noise = &mut stream(self.seed, Purpose::Critics, self.state.epoch);
        if let Err(other) = self.agent.train_critics(&config.critic, rate, pairs, noise, &mut report) {
            wrong.get_or_insert(other);
        }
        report.deviation = self.agent.actor.deviation();
        self.state.epoch += 1;
        self.state.env_steps += self.config.steps();
        self.state.skipped += u64::from(wrong.is_some());
        Ok((report, wrong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envs::registry::find;
    use envs::vector::VectorConfig;
    use serde_json::json;
    use world_models::mlp::gradient;

    fn run(env: &str, settings: &Value, shac: &Value) -> Shac {
        let config = ShacConfig::deserialize(shac).unwrap();
        let vector = VectorConfig { num_envs: config.num_envs, seed: Seed(5), ..VectorConfig::default() };
        let envs = find(env).unwrap().differentiable(settings, &vector).unwrap();
        Shac::new(&config, Seed(5), envs).unwrap()
    }

    fn small(more: &Value) -> Value {
        let mut config = json!({"num_envs": 6, "horizon": 8, "scale": "steps",
            "actor": {"hidden": [16, 8]}, "critic": {"hidden": [16], "passes": 2, "minibatches": 2}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    }

    impl Shac {
        /// What the actor lowers, of the window that begins now; then everything is as before.
        fn objective(&mut self) -> f64 {
            let state = self.state_now();
            let normaliser = Normaliser::new(self.state.observations.as_ref());
            let rollout = self.play(&normaliser).unwrap();
            let worth = self.worth(&normaliser, &rollout.final_obs);
            let weights = weights(&rollout.courses, self.envs.num_envs(), self.config.gamma, WindowEnd::Fixed);
            let gained = |place: usize| {
                f64::from(weights.rewards[place]) * f64::from(rollout.rewards[place])
                    + f64::from(weights.values[place]) * f64::from(worth[place])
            };
            let total: f64 = (0..worth.len()).map(gained).sum();
            self.envs.restore(&state.envs).unwrap();
            self.state = state;
            -total / worth.len() as f64
        }
    }

    #[test]
    fn the_actor_s_gradient_is_that_of_the_objective() {
        // Without contacts, in double precision.
        let settings = json!({"physics": {"precision": "f64"}});
        for env in ["cartpole-swing-up", "double-pendulum"] {
            let slow = json!({"horizon": 9, "actor": {"hidden": [16, 8], "learning_rate": 1e-9}});
            let mut shac = run(env, &settings, &small(&slow));
            for _ in 0..26 {
                shac.epoch().unwrap();
            }
            // Critics know something by now, and the episodes of 240 steps end in the window to come.
            let parameters: Named = shac.agent.actor_weights.variables().into_iter().collect();
            let difference = |parameter: &Tensor| {
                let place = parameter.detach().flatten(0, -1).get(0);
                let mut moved = |by: f64| {
                    let _ = place.shallow_clone().g_add_scalar_(by);
                    let found = shac.objective();
                    let _ = place.shallow_clone().g_add_scalar_(-by);
                    found
                };
                (moved(1e-2) - moved(-1e-2)) / 2e-2
            };
            let differences: Vec<f64> = parameters.values().map(difference).collect();
            assert_eq!(shac.state.played.finished, 0);
            shac.epoch().unwrap();
            assert_eq!(shac.state.played.finished, 6);
            for ((name, parameter), expected) in parameters.iter().zip(differences) {
                let found = gradient(parameter).flatten(0, -1).double_value(&[0]);
                let near = (found - expected).abs() <= 2e-2 * expected.abs().max(0.05);
                assert!(near, "{env} {name}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn a_state_that_is_not_finite_ends_its_own_env_and_is_counted() {
        let mut shac = run("ant", &json!({}), &small(&json!({})));
        shac.epoch().unwrap();
        let mut snapshot = serde_json::to_value(shac.envs.snapshot()).unwrap();
        // A joint that turns faster than single precision can hold the square of.
        snapshot["rows"][2]["env"]["state"][25] = json!(1e30);
        shac.envs.restore(&serde_json::from_value(snapshot).unwrap()).unwrap();
        let (report, wrong) = shac.epoch().unwrap();
        assert_eq!((wrong, shac.state.broken_steps), (None, 1));
        // That step, and the reset that came instead of the next one.
        assert_eq!(report.terminated, 2);
        assert!(report.actor_gradient.is_finite() && report.critic_loss.is_finite(), "{report:?}");
        let (_, wrong) = shac.epoch().unwrap();
        assert_eq!((wrong, shac.state.broken_steps), (None, 1));
    }

    #[test]
    fn weights_that_are_not_finite_are_an_error_that_says_where() {
        let mut shac = run("hopper", &json!({}), &small(&json!({})));
        let (_, weight) =
            shac.agent.actor_weights.variables().into_iter().min_by_key(|(name, _)| name.clone()).unwrap();
        let _ = weight.detach().fill_(f64::NAN);
        let said = shac.epoch().unwrap_err().to_string();
        assert!(said.starts_with("Hopper-v0: action of env 0, component 0 is NaN, allowed: finite numbers"), "{said}");
    }

    #[test]
    fn a_target_critic_follows_by_its_share() {
        let mut shac =
            run("hopper", &json!({}), &small(&json!({"critic": {"target_stays": 0.2, "hidden": [8], "passes": 1}})));
        let of =
            |vs: &tch::nn::VarStore| vs.variables().into_iter().collect::<Named>().into_values().next().unwrap().copy();
        let before = of(&shac.agent.target_weights);
        assert_eq!(before, of(&shac.agent.critic_weights), "both begin alike");
        shac.epoch().unwrap();
        let expected = before * 0.2 + of(&shac.agent.critic_weights) * 0.8;
        assert!(of(&shac.agent.target_weights).allclose(&expected, 1e-5, 1e-7, false));
    }
}
