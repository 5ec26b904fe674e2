//! Policies trained inside a world model (PWM: Georgiev et al. 2024).
//!
//! Each epoch plays a window of steps in all envs and imagines it with the same actions. The gradient of the discounted
//! predicted rewards, and of the value of what the window led to, goes back through the model to the actor; the critics are
//! fitted to TD(λ) targets of what was imagined; then the model learns from sequences of finished episodes.
//!
//! A run is a function of its configuration: episodes, noise and sequences are drawn by number, and a checkpoint holds
//! everything else, the replay included.

mod config;
#[cfg(test)]
mod parity;
mod rehearsal;
mod replay;
mod window;

use std::collections::BTreeMap;

use envs::batch::StepBatch;
use envs::dataset::{ColumnSpec, Dataset};
use envs::env::EnvError;
use envs::vector::{BatchEnv, Reset, VectorSnapshot};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, Tensor, nn};
use world_models::adam::Adam;
use world_models::checkpoint::{Checkpoint, CheckpointError, Named};
use world_models::latent::{Dynamics, FlowConfig, LatentModel, Ready, Times};

use crate::agent::Agent;
use crate::columns::{floats, floats_of, normal};
use crate::config::{PolicyConfig, Trainer};
use crate::critic;
use crate::learner::{Learner, ModelReport, NotFinite, Report, TakeInError};
use crate::moments::{CLIP, Moments, mean};
use crate::played::Played;
use crate::returns::{Course, td_lambda, weights};

pub use config::{ModelTraining, PwmConfig};
pub use rehearsal::Rehearsal;
use replay::{Replay, ReplayState};
use window::{Bars, Window};

/// What a run needs beside tensors to go on exactly where it stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    epoch: u64,
    env_steps: u64,
    skipped: u64,
    broken_steps: u64,
    /// Batches drawn from the replay.
    batches: u64,
    /// Updates before the first epoch.
    pretrained: u64,
    /// Of the rewards of batches; empty where they are not normalised.
    rewards: Option<Moments>,
    /// Of the returns of windows.
    returns: Moments,
    /// Updates of actor, critics and model.
    updates: [u64; 3],
    played: Played,
    /// `[N, O]`.
    obs: Vec<f32>,
    envs: VectorSnapshot,
    replay: ReplayState,
}

/// A PWM run in memory.
pub struct Pwm {
    config: PwmConfig,
    seed: Seed,
    envs: Box<dyn BatchEnv>,
    out: StepBatch,
    agent: Agent,
    model: LatentModel,
    model_weights: nn::VarStore,
    adam: [Adam; 3],
    replay: Replay,
    state: State,
}

/// What the actor's gradient was taken of. Columns are `[T, N]`, time-major.
struct Imagined {
    rows: usize,
    /// Mean over rows of minus the discounted return, not divided by its deviation.
    loss: f64,
    /// Where steps began, `[T * N, L]`.
    latents: Tensor,
    rewards: Vec<f32>,
    /// Of what steps led to.
    worth: Vec<f32>,
    courses: Vec<Course>,
}

/// The world model of a run and its weights, for `inputs` observed numbers and `actions`.
pub(crate) fn model(config: &PwmConfig, seed: Seed, [inputs, actions]: [i64; 2]) -> (nn::VarStore, LatentModel) {
    let weights = nn::VarStore::new(Device::Cpu);
    let model = LatentModel::new(&(weights.root() / "model"), &config.model, inputs, actions, seed);
    (weights, model)
}

impl Pwm {
    /// A fresh run; its envs, which reset in the same step, play the episodes of `seed`.
    ///
    /// # Errors
    /// If observations or actions are not floats, or the envs cannot be reset.
    pub fn new(config: &PwmConfig, seed: Seed, mut envs: Box<dyn BatchEnv>) -> Result<Self, EnvError> {
        let spec = envs.spec();
        let (rows, [o, a]) = (envs.num_envs(), [spec.observation.size(), spec.action.size()]);
        let mut out = StepBatch::for_spec(spec, rows);
        let is_float = |space: &envs::space::Space| space.dtype() == envs::buffer::Dtype::Float32;
        if !(is_float(&spec.observation) && is_float(&spec.action)) {
            return Err(EnvError::NoVectors { env: spec.id.clone() });
        }
        let sizes = [o as i64, a as i64];
        let agent = Agent::new(&config.actor, &config.critic, seed, [config.model.latent, sizes[1]]);
        let (model_weights, model) = model(config, seed, sizes);
        let adam = [
            Adam::new(&agent.actor_weights, config.actor.adam),
            Adam::new(&agent.critic_weights, config.critic.adam),
            Adam::new(&model_weights, config.model_training.adam),
        ];
        envs.reset(Reset::Seed(seed), out.obs_mut())?;
        let mut replay = Replay::new(config.replay, config.horizon, [o, a], rows);
        let obs = floats(out.obs()).to_vec();
        obs.chunks_exact(o).enumerate().for_each(|(row, obs)| replay.begin(row, obs));
        let state = State {
            epoch: 0,
            env_steps: 0,
            skipped: 0,
            broken_steps: 0,
            batches: 0,
            pretrained: 0,
            rewards: config.normalise_rewards.then(|| Moments::new(1)),
            returns: Moments::new(1),
            updates: [0; 3],
            played: Played::new(rows),
            obs,
            envs: envs.snapshot(),
            replay: replay.state(),
        };
        Ok(Self { config: config.clone(), seed, envs, out, agent, model, model_weights, adam, replay, state })
    }

    fn sizes(&self) -> [usize; 2] {
        [self.envs.spec().observation.size(), self.envs.spec().action.size()]
    }

    /// Plays and imagines a window with the policy as it explores; and the mean real reward of a step.
    fn play(&mut self, ready: &Ready) -> Result<(Window, f64), EnvError> {
        let noise = &mut stream(self.seed, Purpose::Noise, self.state.epoch);
        let ([o, a], rows) = (self.sizes(), self.envs.num_envs());
        let mut window = Window::new(rows, self.config.detach);
        let seen = |obs: &[f32]| ready.encode(&Tensor::from_slice(obs).view([-1, o as i64]));
        let mut latents = seen(&self.state.obs);
        let mut rewards = 0.0;
        for _ in 0..self.config.horizon {
            let (actions, next) = window.imagine(ready, &self.agent.actor, &latents, normal(noise, rows, a));
            let broken = window.play(self.envs.as_mut(), &actions, &mut self.out)?;
            self.state.broken_steps += broken as u64;
            rewards += self.out.reward().iter().filter(|x| x.is_finite()).map(|&x| f64::from(x)).sum::<f64>();
            self.state.obs.copy_from_slice(floats(self.out.obs()));
            // What a row shows in which a number was not finite; it is reset by the next step, whatever its action.
            self.state.obs.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 0.0);
            self.remember(&floats_of(&actions));
            let courses = &window.courses[window.courses.len() - rows..];
            let anew: Vec<i64> = (0..rows).filter(|&row| courses[row] != Course::On).map(|row| row as i64).collect();
            latents = if anew.is_empty() {
                next
            } else {
                let obs: Vec<f32> = anew
                    .iter()
                    .flat_map(|&row| &self.state.obs[row as usize * o..(row as usize + 1) * o])
                    .copied()
                    .collect();
                next.index_copy(0, &Tensor::from_slice(&anew), &seen(&obs))
            };
        }
        Ok((window, rewards / self.config.schedule().steps() as f64))
    }

    /// Imagines a window from `observations` `[N, O]`, and has no env play it.
    fn dream(&self, ready: &Ready, observations: &Tensor) -> Window {
        let (rows, [_, a]) = (observations.size()[0] as usize, self.sizes());
        let noise = &mut stream(self.seed, Purpose::Noise, self.state.epoch);
        let mut window = Window::new(rows, self.config.detach);
        let mut latents = ready.encode(observations);
        for _ in 0..self.config.horizon {
            latents = window.imagine(ready, &self.agent.actor, &latents, normal(noise, rows, a)).1;
        }
        window.courses = vec![Course::On; rows * self.config.horizon];
        window
    }

    /// Takes the latest step of the envs into the replay and the returns.
    fn remember(&mut self, actions: &[f32]) {
        let [o, a] = self.sizes();
        let columns = floats(self.out.final_obs()).chunks_exact(o).zip(actions.chunks_exact(a));
        let stops = self.out.stop().iter().zip(self.out.ignored());
        for (row, (((led_to, action), &reward), (stop, &ignored))) in
            columns.zip(self.out.reward()).zip(stops).enumerate()
        {
            let anew = &self.state.obs[row * o..(row + 1) * o];
            let finite = reward.is_finite() && led_to.iter().all(|x| x.is_finite());
            if ignored || !finite {
                // An episode whose numbers went wrong is not learned from.
                self.replay.begin(row, anew);
                self.state.played.step(row, 0.0, !finite);
                continue;
            }
            self.replay.step(row, action, reward, led_to);
            self.state.played.step(row, reward.into(), stop.any());
            if stop.any() {
                self.replay.end(row);
                self.replay.begin(row, anew);
            }
        }
    }

    /// Updates of the model; their means. It stops at the first that is not finite.
    fn train_model(&mut self, updates: u64) -> Result<ModelReport, NotFinite> {
        let training = &self.config.model_training;
        let rate = self.config.schedule().rate(training.learning_rate, self.state.epoch);
        let mut means = ModelReport { dynamics_loss: 0.0, reward_loss: 0.0, gradient: 0.0 };
        for _ in 0..updates {
            let rng = &mut stream(self.seed, Purpose::Replay, self.state.batches);
            self.state.batches += 1;
            let mut batch = self.replay.sample(training.batch, rng);
            if let Some(moments) = &mut self.state.rewards {
                moments.update(&floats_of(&batch.rewards));
                let scale = moments.scales().next().expect("one column");
                batch.rewards = ((batch.rewards - moments.mean[0]) * scale).clamp(-CLIP, CLIP);
            }
            let shape = batch.rewards.size();
            let times = match self.config.model.dynamics {
                Dynamics::Mlp | Dynamics::Residual { .. } => None,
                Dynamics::Flow(FlowConfig { times: Times::Midpoint, .. }) => Some(batch.rewards.full_like(0.5)),
                Dynamics::Flow(_) => {
                    let times: Vec<f32> = (0..shape[0] * shape[1]).map(|_| rng.random()).collect();
                    Some(Tensor::from_slice(&times).view(shape.as_slice()))
                }
            };
            let adam = &mut self.adam[2];
            adam.zero_grad();
            let losses = self.model.learn(&batch, self.config.gamma, self.config.numbers, times.as_ref());
            let norm = adam.gradient_norm();
            let loss = losses.dynamics + losses.reward;
            if !(loss.is_finite() && norm.is_finite()) {
                return Err(NotFinite { what: "the model's loss or the norm of its gradient", value: loss });
            }
            adam.step(rate, norm);
            means.dynamics_loss += losses.dynamics / updates as f64;
            means.reward_loss += losses.reward / updates as f64;
            means.gradient += norm / updates as f64;
        }
        Ok(means)
    }

    /// Takes the gradient of what the actor lowers: minus the discounted rewards of the window and the value of what it led to.
    fn pull_back(&mut self, ready: &Ready, window: Window) -> Imagined {
        let (config, rows) = (&self.config, window.rows());
        let (latents, ends) = (window.begins(), window.ends());
        let inputs = Tensor::cat(&[&latents, &window.actions()], 1);
        let (rewards, mut rewarded) = ready.reward.rewards(&inputs);
        let rewards = floats_of(&rewards);
        let judges = self.agent.judges();
        let worth = floats_of(&critic::values(judges, &ends, config.numbers));
        let weights = weights(&window.courses, rows, config.gamma, config.window_end);
        let losses = weights.losses(&rewards, &worth, rows);
        let loss = mean(&losses);
        let down = weights.down(self.state.returns.scale_with(&losses) / rows as f64);
        let of_inputs = rewarded.pull_back(&Tensor::from_slice(&down.rewards));
        let of_ends = critic::value_gradient(judges, &ends, &down.values, config.numbers);
        self.adam[0].zero_grad();
        let courses = window.pull_back(&self.agent.actor, &Bars { inputs: &of_inputs, ends: &of_ends });
        Imagined { rows, loss, latents, rewards, worth, courses }
    }

    /// The actor's update from a window.
    fn train_actor(&mut self, ready: &Ready, window: Window, report: &mut Report) -> Result<Imagined, NotFinite> {
        let imagined = self.pull_back(ready, window);
        let config = &self.config;
        (report.actor_loss, report.actor_gradient) = (imagined.loss, self.adam[0].gradient_norm());
        if !report.actor_loss.is_finite() {
            return Err(NotFinite { what: "the actor's loss", value: report.actor_loss });
        }
        if !report.actor_gradient.is_finite() {
            return Err(NotFinite { what: "the norm of the actor's gradient", value: report.actor_gradient });
        }
        let rate = config.schedule().rate(config.actor.learning_rate, self.state.epoch);
        self.adam[0].step(rate, report.actor_gradient);
        self.agent.actor.keep_exploring();
        Ok(imagined)
    }

    /// The critics' updates from what was imagined before the actor's.
    fn train_critics(&mut self, imagined: &Imagined, report: &mut Report) -> Result<(), NotFinite> {
        let (config, Imagined { rows, latents, rewards, worth, courses, .. }) = (&self.config, imagined);
        let targets = Tensor::from_slice(&td_lambda(rewards, worth, courses, *rows, config.gamma, config.lambda));
        let rate = config.schedule().rate(config.critic.learning_rate, self.state.epoch);
        let (critics, adam) = (&self.agent.critic, &mut self.adam[1]);
        (report.critic_loss, report.critic_gradient) =
            critic::fit(critics, adam, &config.critic, rate, latents, &targets);
        if let Some(stays) = config.critic.target_stays {
            self.agent.follow(stays);
        }
        let finite = report.critic_loss.is_finite() && report.critic_gradient.is_finite();
        let what = "the critics' loss or the norm of its gradient";
        if finite { Ok(()) } else { Err(NotFinite { what, value: report.critic_loss }) }
    }

    /// What an epoch is like in which nothing was done.
    fn report(&self) -> Report {
        Report {
            actor_loss: 0.0,
            critic_loss: 0.0,
            reward: 0.0,
            actor_gradient: 0.0,
            critic_gradient: 0.0,
            deviation: self.agent.actor.deviation(),
            episodes: self.state.played.means(),
            terminated: 0,
            model: None,
        }
    }
}

impl Learner for Pwm {
    fn epoch(&mut self) -> Result<(Report, Option<NotFinite>), EnvError> {
        let ready = self.model.ready(self.config.numbers);
        let (window, reward) = self.play(&ready)?;
        self.state.env_steps += self.config.schedule().steps();
        let terminated = window.courses.iter().filter(|&&course| course == Course::Terminated).count();
        let mut report = Report { reward, terminated, ..self.report() };
        let training = &self.config.model_training;
        let updates = if self.state.batches == 0 { training.first_updates } else { training.updates };
        // Until an episode has ended there is nothing that a model could have learned.
        let done = if self.replay.is_empty() {
            Ok(())
        } else {
            self.train_actor(&ready, window, &mut report)
                .and_then(|imagined| self.train_critics(&imagined, &mut report))
                .and_then(|()| self.train_model(updates).map(|found| report.model = Some(found)))
        };
        let wrong = done.err();
        self.state.epoch += 1;
        self.state.skipped += u64::from(wrong.is_some());
        Ok((report, wrong))
    }

    fn take_in(&mut self, dataset: &Dataset) -> Result<(), TakeInError> {
        let [o, a] = self.sizes();
        for (name, width) in [("observations", o), ("actions", a)] {
            let column = dataset.columns().iter().find(|column| column.name == name);
            let found = column.map_or(0, ColumnSpec::row_len);
            if found != width {
                let (dataset, column) = (dataset.dir().to_owned(), name);
                return Err(TakeInError::Width { dataset, column, found, expected: width });
            }
        }
        for episode in dataset.episodes() {
            let rewards = episode.column::<f32>("rewards")?;
            if !self.replay.has_room(rewards.len()) {
                continue;
            }
            let (observations, actions) = (episode.column::<f32>("observations")?, episode.column::<f32>("actions")?);
            self.replay.keep(observations, actions.to_vec(), rewards.to_vec());
            if let Some(moments) = &mut self.state.rewards {
                moments.update(rewards);
            }
        }
        if self.replay.is_empty() {
            let dataset = dataset.dir().to_owned();
            return Err(TakeInError::Short { dataset, horizon: self.config.horizon, replay: self.config.replay });
        }
        Ok(())
    }

    /// Takes the model's weights and the moments of the rewards that it learned; its optimiser begins anew.
    fn start_from(&mut self, checkpoint: &Checkpoint) -> Result<(), TakeInError> {
        let other: PolicyConfig = checkpoint.config()?;
        other.validate().map_err(|refusal| checkpoint.refuse_config(&refusal))?;
        let Trainer::Pwm(config) = other.trainer() else {
            return Err(TakeInError::NoModel { trainer: other.trainer().name() });
        };
        let differs = |difference: String| {
            let checkpoint = checkpoint.path().to_owned();
            TakeInError::OtherModel { checkpoint, difference }
        };
        if other.env.id != self.envs.spec().id {
            return Err(differs(format!("it is of {}, not of {}", other.env.id, self.envs.spec().id)));
        }
        if config.model != self.config.model {
            return Err(differs(format!("{:?}, not {:?}", config.model, self.config.model)));
        }
        let sizes = self.sizes().map(|size| size as i64);
        checkpoint.expect_parameters(config.parameters(sizes))?;
        let agent = Agent::new(&config.actor, &config.critic, Seed(0), [config.model.latent, sizes[1]]);
        let all = agent.model().into_iter().chain(self.model_weights.variables()).collect();
        checkpoint.load_model(&all)?;
        let state: State = checkpoint.state()?;
        if let (Some(own), Some(rewards)) = (&mut self.state.rewards, state.rewards) {
            if !(rewards.mean.len() == 1 && rewards.variance.len() == 1 && rewards.is_possible()) {
                return Err(checkpoint.refuse_state(&"its moments are not those of rewards").into());
            }
            *own = rewards;
        }
        self.state.batches = state.batches;
        Ok(())
    }

    fn pretrained(&self) -> [u64; 2] {
        [self.state.pretrained, self.config.model_training.pretraining_updates]
    }

    fn pretrain(&mut self, updates: u64) -> Result<ModelReport, NotFinite> {
        let report = self.train_model(updates)?;
        self.state.pretrained += updates;
        Ok(report)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let state: State = checkpoint.state()?;
        let refused = |reason: &str| checkpoint.refuse_state(&reason);
        let fits = |moments: &Moments| moments.mean.len() == 1 && moments.variance.len() == 1 && moments.is_possible();
        if state.obs.len() != self.state.obs.len() || state.played.open.len() != self.envs.num_envs() {
            return Err(refused("its envs are of another number or kind"));
        }
        if state.rewards.is_some() != self.state.rewards.is_some()
            || !state.rewards.iter().chain([&state.returns]).all(fits)
        {
            return Err(refused("its moments are not those of rewards and returns"));
        }
        let room = self.replay.room(&state.replay).map_err(refused)?;
        checkpoint.load_model(&self.model())?;
        let moments = self.adam.iter().flat_map(Adam::state).collect::<Named>();
        let all = moments.iter().chain(&room).map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        checkpoint.load_optimizer(&all)?;
        self.envs.restore(&state.envs).map_err(|error| refused(&error.to_string()))?;
        self.adam.iter_mut().zip(state.updates).for_each(|(adam, updates)| adam.set_updates(updates));
        self.replay.restore(state.replay.clone(), &room);
        self.state = state;
        Ok(())
    }

    fn model(&self) -> Named {
        self.agent.model().into_iter().chain(self.model_weights.variables()).collect()
    }

    fn optimizer(&self) -> Named {
        self.adam.iter().flat_map(Adam::state).chain(self.replay.tensors()).collect::<BTreeMap<_, _>>()
    }

    fn state(&self) -> Value {
        let updates = std::array::from_fn(|i| self.adam[i].updates());
        let (envs, replay) = (self.envs.snapshot(), self.replay.state());
        let state = State { updates, envs, replay, ..self.state.clone() };
        serde_json::to_value(state).expect("a state is plain data")
    }

    fn epochs_done(&self) -> u64 {
        self.state.epoch
    }

    fn counts(&self) -> [u64; 3] {
        [self.state.env_steps, self.state.skipped, self.state.broken_steps]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::EPSILON;
    use envs::registry::find;
    use envs::vector::{AutoresetMode, VectorConfig};
    use serde_json::json;
    use tch::Kind;
    use world_models::mlp::gradient;

    fn run(more: &Value) -> Pwm {
        let mut config = json!({"num_envs": 6, "horizon": 5,
            "model": {"latent": 16, "units": [24], "encoder_units": [16]},
            "model_training": {"batch": 10, "updates": 2, "first_updates": 3},
            "actor": {"hidden": [16, 8]}, "critic": {"hidden": [16], "passes": 2, "minibatches": 2}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = PwmConfig::deserialize(&config).unwrap();
        let vector =
            VectorConfig { num_envs: config.num_envs, autoreset: AutoresetMode::SameStep, ..VectorConfig::default() };
        let envs = find("hopper").unwrap().make(&json!({}), &vector).unwrap();
        Pwm::new(&config, Seed(5), envs).unwrap()
    }

    /// Where the actor sees latents with gradient, its own is that of differences of what it lowers; where it does not, credit
    /// through what it sees is missing.
    #[test]
    fn the_actor_s_gradient_is_that_of_the_objective() {
        for (dynamics, detach) in [
            (json!({"kind": "mlp"}), false),
            (json!({"kind": "flow", "solver": "euler"}), false),
            (json!({"kind": "mlp"}), true),
        ] {
            let model = json!({"latent": 16, "units": [24], "encoder_units": [16], "dynamics": dynamics});
            let mut pwm = run(&json!({"detach": detach, "model": model}));
            tch::manual_seed(3);
            for mut weight in pwm.model_weights.variables().into_values() {
                let noise = weight.randn_like() * 0.5;
                let _ = tch::no_grad(|| weight.g_add_(&noise));
            }
            let observations = Tensor::randn([6, 11], (Kind::Float, Device::Cpu));
            let ready = pwm.model.ready(pwm.config.numbers);
            let objective = |pwm: &mut Pwm| {
                pwm.state.returns = Moments::new(1);
                let window = pwm.dream(&ready, &observations);
                pwm.pull_back(&ready, window).loss
            };
            let mut furthest = 0.0f64;
            for (name, parameter) in pwm.agent.actor_weights.variables().into_iter().collect::<Named>() {
                let place = parameter.detach().flatten(0, -1).get(0);
                let mut moved = |by: f64| {
                    let _ = place.shallow_clone().g_add_scalar_(by);
                    let found = objective(&mut pwm);
                    let _ = place.shallow_clone().g_add_scalar_(-by);
                    found
                };
                let expected = (moved(1e-3) - moved(-1e-3)) / 2e-3;
                objective(&mut pwm);
                let deviation = (pwm.state.returns.variance[0] + EPSILON).sqrt();
                let found = gradient(&parameter).flatten(0, -1).double_value(&[0]) * deviation;
                let error = (found - expected).abs() / expected.abs().max(0.05);
                assert!(detach || error < 3e-2, "{name}: {found}, not {expected}");
                furthest = furthest.max(error);
            }
            assert!(!detach || furthest > 0.05, "nothing is missing");
        }
    }

    #[test]
    fn a_state_that_is_not_finite_ends_its_own_env_and_is_not_learned_from() {
        let mut pwm = run(&json!({}));
        pwm.epoch().unwrap();
        let mut snapshot = serde_json::to_value(pwm.envs.snapshot()).unwrap();
        snapshot["rows"][2]["env"]["state"][9] = json!(1e30);
        pwm.envs.restore(&serde_json::from_value(snapshot).unwrap()).unwrap();
        let (report, wrong) = pwm.epoch().unwrap();
        assert_eq!((wrong, pwm.state.broken_steps), (None, 1));
        // That step, and the reset that came instead of the next one.
        assert_eq!(report.terminated, 2);
        for _ in 0..20 {
            assert_eq!(pwm.epoch().unwrap().1, None);
        }
        assert!(!pwm.replay.is_empty() && pwm.state.broken_steps == 1);
        assert!(pwm.replay.tensors().values().all(|rows| rows.isfinite().all().int64_value(&[]) == 1));
    }

    /// Nothing is learned before an episode has ended; then the model first.
    #[test]
    fn learning_begins_with_the_first_episode() {
        let mut pwm = run(&json!({}));
        let (first, _) = pwm.epoch().unwrap();
        assert_eq!((first.model, pwm.state.batches), (None, 0));
        while pwm.state.batches == 0 {
            pwm.epoch().unwrap();
        }
        assert_eq!((pwm.state.batches, pwm.adam[0].updates()), (3, 1));
        let before: Vec<Tensor> = pwm.model_weights.variables().into_values().map(|weight| weight.copy()).collect();
        pwm.epoch().unwrap();
        assert_eq!((pwm.state.batches, pwm.adam[0].updates(), pwm.adam[1].updates()), (5, 2, 8));
        assert!(pwm.model_weights.variables().into_values().zip(before).any(|(now, before)| now != before));
    }
}
