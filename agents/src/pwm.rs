//! Policies trained inside a world model (PWM: Georgiev et al. 2024).
//!
//! Each epoch plays a window of steps in all envs and imagines it with the same actions. The gradient of the discounted
//! predicted rewards, and of the value of what the window led to, goes back through the model to the actor; the critics are
//! fitted to TD(λ) targets of what was imagined; then the model learns from sequences of finished episodes.
//!
//! A run is a function of its configuration: episodes, noise and sequences are drawn by number, and a checkpoint holds
//! everything else, the replay included.

mod config;
mod diagnosis;
mod imagination;
#[cfg(test)]
mod parity;
mod rehearsal;
mod replay;
#[cfg(test)]
mod tests;

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::dataset::{ColumnSpec, Dataset};
use envs::differentiable::DifferentiableEnv;
use envs::env::EnvError;
use envs::registry::find;
use envs::vector::{BatchEnv, Reset, VectorConfig, VectorSnapshot};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, Tensor, nn};
use world_models::adam::Adam;
use world_models::checkpoint::{Checkpoint, CheckpointError, Named};
use world_models::latent::dream::LatentDream;
use world_models::latent::{Dynamics, FlowConfig, LatentConfig, LatentModel, Ready, Shown, Times};
use world_models::mlp::passes::Keeps;

use crate::actor::ReadyActor;
use crate::agent::Agent;
use crate::columns::{broken_rows, courses, floats, floats_of, normal};
use crate::config::{PolicyConfig, Trainer};
use crate::learner::{Learner, ModelReport, NotFinite, Report, TakeInError};
use crate::moments::{CLIP, EPSILON, Moments};
use crate::played::Played;
use crate::returns::Course;
use crate::window::Shares;

pub use config::{ModelTraining, Normalise, PwmConfig, Rollouts};
pub use imagination::Imagination;
pub use rehearsal::Rehearsal;
use replay::{Replay, ReplayState};

/// Sequences of which latents are measured each epoch where they are normalised.
const MEASURED: usize = 64;
/// Epochs of which latents are remembered where they are normalised: the encoder goes on learning.
const LATE: usize = 100;

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
    /// Of the observations of batches; empty where they are not normalised.
    #[serde(default)]
    observations: Option<Moments>,
    /// Of what the encoder has made of late; empty where latents are not normalised.
    #[serde(default)]
    latents: Option<Moments>,
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

/// A window that the envs have played.
struct Lived {
    window: Shares<LatentDream>,
    /// How episodes went on, `[T * N]`.
    courses: Vec<Course>,
    /// The mean real one of a step.
    reward: f64,
}

/// A PWM run in memory.
pub struct Pwm {
    config: PwmConfig,
    seed: Seed,
    envs: Box<dyn BatchEnv>,
    /// The same with derivatives, where they have any and are asked for: what the model's are judged by.
    truth: Option<Box<dyn DifferentiableEnv>>,
    out: StepBatch,
    agent: Agent,
    model: LatentModel,
    model_weights: nn::VarStore,
    model_adam: Adam,
    replay: Replay,
    state: State,
}

/// The world model of a run and its weights, for `inputs` observed numbers and `actions`.
fn model(config: &PwmConfig, seed: Seed, [inputs, actions]: [i64; 2]) -> (nn::VarStore, LatentModel) {
    let weights = nn::VarStore::new(Device::Cpu);
    let model = LatentModel::new(&(weights.root() / "model"), &config.model, inputs, actions, seed);
    (weights, model)
}

/// Agent and world model of a run's checkpoint, and the world model's weights.
///
/// # Errors
/// If it is too small for them, or its tensors do not fit.
pub(crate) fn opened(
    checkpoint: &Checkpoint,
    config: &PwmConfig,
    sizes: [i64; 2],
) -> Result<(Agent, nn::VarStore, LatentModel), CheckpointError> {
    checkpoint.expect_parameters(config.parameters(sizes))?;
    let agent = Agent::new(&config.actor, &config.critic, Seed(0), [config.model.features(sizes[0]), sizes[1]]);
    let (weights, model) = model(config, Seed(0), sizes);
    checkpoint.load_model(&agent.model().into_iter().chain(weights.variables()).collect())?;
    Ok((agent, weights, model))
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
        let agent = Agent::new(&config.actor, &config.critic, seed, [config.model.features(sizes[0]), sizes[1]]);
        let (model_weights, model) = model(config, seed, sizes);
        let model_adam = Adam::new(&model_weights, config.model_training.adam);
        let vector = VectorConfig { num_envs: rows, ..VectorConfig::default() };
        let spec = envs.spec();
        let truth = find(&spec.id)
            .ok()
            .filter(|_| config.diagnosis_rollouts > 0)
            .and_then(|entry| entry.differentiable(&spec.config, &vector).ok());
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
            rewards: (config.normalise_rewards != Normalise::No).then(|| Moments::new(1)),
            observations: config.model.normalise_observations.then(|| Moments::new(o)),
            latents: config.model.normalise_latents.then(|| Moments::new(config.model.latent as usize)),
            returns: Moments::new(1),
            updates: [0; 3],
            played: Played::new(rows),
            obs,
            envs: envs.snapshot(),
            replay: replay.state(),
        };
        Ok(Self {
            config: config.clone(),
            seed,
            envs,
            truth,
            out,
            agent,
            model,
            model_weights,
            model_adam,
            replay,
            state,
        })
    }

    fn sizes(&self) -> [usize; 2] {
        [self.envs.spec().observation.size(), self.envs.spec().action.size()]
    }

    /// A window that begins with `observations` `[N, O]`.
    fn window(&self, ready: &Ready, actor: &ReadyActor, observations: &Tensor) -> Shares<LatentDream> {
        let dream = |part: &Tensor| LatentDream::new(ready.on_one_thread(), part);
        Shares::new(observations, actor, self.config.detach, dream)
    }

    /// The world model with the weights of now, as policies are trained in it.
    fn ready(&self) -> Ready {
        self.model.ready(self.config.numbers).keeping(Keeps::Inputs)
    }

    /// The actor with the weights of now.
    fn actor(&self) -> ReadyActor {
        self.agent.actor.ready(self.config.actor.numbers)
    }

    /// Plays and imagines a window with the policy as it explores.
    fn play(&mut self, ready: &Ready) -> Result<Lived, EnvError> {
        let noise = &mut stream(self.seed, Purpose::Noise, self.state.epoch);
        let ([o, a], rows, real) = (self.sizes(), self.envs.num_envs(), self.config.rollouts == Rollouts::Real);
        let as_tensor = |obs: &[f32]| Tensor::from_slice(obs).view([-1, o as i64]);
        let mut window = self.window(ready, &self.actor(), &as_tensor(&self.state.obs));
        let (mut all, mut reward) = (Vec::new(), 0.0);
        for _ in 0..self.config.horizon {
            let actions = floats_of(&window.step(&normal(noise, rows, a)));
            let broken = broken_rows(self.envs.step(&Buffer::F32(actions.clone()), &mut self.out))?;
            let courses: Vec<Course> = courses(&self.out).collect();
            self.state.broken_steps += broken as u64;
            reward += self.out.reward().iter().filter(|x| x.is_finite()).map(|&x| f64::from(x)).sum::<f64>();
            self.state.obs.copy_from_slice(floats(self.out.obs()));
            // What a row shows in which a number was not finite; it is reset by the next step, whatever its action.
            self.state.obs.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 0.0);
            self.remember(&actions);
            if real {
                let led_to = as_tensor(floats(self.out.final_obs())).nan_to_num(0.0, 0.0, 0.0);
                window.each(&led_to, |window, led_to| window.correct(|dream| dream.correct(led_to)));
            }
            if courses.iter().any(|&course| course != Course::On) {
                let ended: Vec<f32> = courses.iter().map(|&c| f32::from(u8::from(c != Course::On))).collect();
                let anew = Tensor::cat(&[Tensor::from_slice(&ended).unsqueeze(1), as_tensor(&self.state.obs)], 1);
                window.each(&anew, |window, anew| {
                    let rows = anew.select(1, 0).nonzero().flatten(0, 1);
                    if rows.numel() > 0 {
                        window.dream.begin_anew(&rows, &anew.narrow(1, 1, o as i64).index_select(0, &rows));
                    }
                });
            }
            all.extend(courses);
        }
        Ok(Lived { window, courses: all, reward: reward / self.config.schedule().steps() as f64 })
    }

    /// Imagines a window from `observations` `[N, O]`, and has no env play it.
    fn dream(&self, ready: &Ready, actor: &ReadyActor, observations: &Tensor) -> Shares<LatentDream> {
        let (rows, [_, a]) = (observations.size()[0] as usize, self.sizes());
        let noise = &mut stream(self.seed, Purpose::Noise, self.state.epoch);
        let noises: Vec<Tensor> = (0..self.config.horizon).map(|_| normal(noise, rows, a)).collect();
        self.window(ready, actor, observations).dreamt(&Tensor::stack(&noises, 0))
    }

    /// Those of all optimisers by name.
    fn moments(&self) -> Named {
        self.agent.optimizer().into_iter().chain(self.model_adam.state()).collect()
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

    /// Where latents are normalised, takes in those of a batch of what has been seen so far. `ready` shares the scales of the model, so they
    /// are new in it, too.
    fn measure_latents(&mut self, ready: &Ready) {
        let Some(moments) = &mut self.state.latents else { return };
        if self.replay.is_empty() {
            return;
        }
        let rng = &mut stream(self.seed, Purpose::Latents, self.state.epoch);
        let observations = self.replay.sample(MEASURED, rng).observations.flatten(0, 1);
        let latents = floats_of(&ready.encode(&observations));
        moments.forget_beyond((LATE * MEASURED * (self.config.horizon + 1)) as f64);
        moments.update(&latents);
        let variance = moments.variance.iter().sum::<f64>() / moments.variance.len() as f64;
        self.model.rescale_latents(&moments.mean, 1.0 / (variance + EPSILON).sqrt());
    }

    /// Updates of the model, the k-th at `rate(k)`; their means. It stops at the first that is not finite.
    fn train_model(&mut self, updates: u64, rate: impl Fn(u64) -> f64) -> Result<ModelReport, NotFinite> {
        let training = &self.config.model_training;
        let (mut dynamics_loss, mut decoding_loss, mut reward_loss, mut gradient) = (0.0, 0.0, 0.0, 0.0);
        for update in 0..updates {
            let rng = &mut stream(self.seed, Purpose::Replay, self.state.batches);
            self.state.batches += 1;
            let mut batch = self.replay.sample(training.batch, rng);
            if let Some(moments) = &mut self.state.rewards {
                moments.update(&floats_of(&batch.rewards));
                let scale = moments.scales().next().expect("one column");
                let middle = if self.config.normalise_rewards == Normalise::Centre { moments.mean[0] } else { 0.0 };
                batch.rewards = ((batch.rewards - middle) * scale).clamp(-CLIP, CLIP);
            }
            if let Some(moments) = &mut self.state.observations {
                moments.update(&floats_of(&batch.observations));
                self.model.rescale_observations(&moments.mean, &moments.scales().collect::<Vec<_>>());
            }
            let batch = batch.cut(training.unroll(self.config.horizon) as i64);
            let shape = batch.rewards.size();
            let times = match self.config.model.dynamics {
                Dynamics::Mlp | Dynamics::Residual { .. } => None,
                Dynamics::Flow(FlowConfig { times: Times::Midpoint, .. }) => Some(batch.rewards.full_like(0.5)),
                Dynamics::Flow(_) => {
                    let times: Vec<f32> = (0..shape[0] * shape[1]).map(|_| rng.random()).collect();
                    Some(Tensor::from_slice(&times).view(shape.as_slice()))
                }
            };
            let adam = &mut self.model_adam;
            adam.zero_grad();
            let losses = self.model.learn(&batch, self.config.gamma, self.config.numbers, times.as_ref());
            let norm = adam.gradient_norm();
            let loss = losses.dynamics + losses.reward + losses.decoding;
            if !(loss.is_finite() && norm.is_finite()) {
                return Err(NotFinite { what: "the model's loss or the norm of its gradient", value: loss });
            }
            adam.step(rate(update), norm);
            dynamics_loss += losses.dynamics / updates as f64;
            decoding_loss += losses.decoding / updates as f64;
            reward_loss += losses.reward / updates as f64;
            gradient += norm / updates as f64;
        }
        let decoding_loss = (self.config.model.shown != Shown::Latents).then_some(decoding_loss);
        Ok(ModelReport { dynamics_loss: Some(dynamics_loss), decoding_loss, reward_loss, gradient })
    }

    /// The actor's update from a window and, if they are to learn too, the critics' from what was imagined before it.
    fn train_policy(
        &mut self,
        window: Shares<LatentDream>,
        courses: Vec<Course>,
        critics_too: bool,
        report: &mut Report,
    ) -> Result<(), NotFinite> {
        let config = &self.config;
        let (objective, schedule, epoch) = (config.objective(), config.schedule(), self.state.epoch);
        let imagined = self.agent.pull_back(objective, &mut self.state.returns, window, courses);
        self.agent.train_actor(imagined.loss, schedule.rate(config.actor.learning_rate, epoch), report)?;
        if !critics_too {
            return Ok(());
        }
        let rate = schedule.rate(config.critic.learning_rate, epoch);
        let pairs = [&imagined.seen, &imagined.targets(objective)];
        let noise = &mut stream(self.seed, Purpose::Critics, epoch);
        self.agent.train_critics(&config.critic, rate, pairs, noise, report)
    }

    /// What an epoch is like in which nothing was done.
    fn report(&self) -> Report {
        Report { deviation: self.agent.actor.deviation(), episodes: self.state.played.means(), ..Report::default() }
    }
}

impl Learner for Pwm {
    fn epoch(&mut self) -> Result<(Report, Option<NotFinite>), EnvError> {
        let ready = self.ready();
        self.measure_latents(&ready);
        let due = self.config.diagnosis_rollouts > 0
            && (self.state.epoch + 1).is_multiple_of(self.config.log_every)
            && !self.replay.is_empty();
        let diagnosis = due.then(|| self.diagnose(&ready));
        let Lived { window, courses, reward } = self.play(&ready)?;
        self.state.env_steps += self.config.schedule().steps();
        let terminated = courses.iter().filter(|&&course| course == Course::Terminated).count();
        let mut report = Report { reward, terminated, diagnosis, ..self.report() };
        let training = self.config.model_training.clone();
        let rate = self.config.schedule().rate(training.learning_rate, self.state.epoch);
        let first = (self.state.batches == 0).then_some(training.first_updates);
        let updates = first.unwrap_or(training.updates);
        let rate = |update| first.map_or(rate, |of| training.first_rate(update, of));
        // Until an episode has ended there is nothing that a model could have learned.
        let done = if self.replay.is_empty() {
            Ok(())
        } else {
            self.train_policy(window, courses, true, &mut report)
                .and_then(|()| self.train_model(updates, rate).map(|found| report.model = Some(found)))
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
            self.replay.keep(&observations, actions.to_vec(), rewards.to_vec());
            let columns = [(&mut self.state.rewards, rewards), (&mut self.state.observations, observations)];
            for (moments, column) in columns {
                if let Some(moments) = moments {
                    moments.update(&column);
                }
            }
        }
        if self.replay.is_empty() {
            let dataset = dataset.dir().to_owned();
            return Err(TakeInError::Short { dataset, horizon: self.config.horizon, replay: self.config.replay });
        }
        Ok(())
    }

    /// Takes the model's weights and the moments of the rewards and observations that it learned from; its optimiser begins anew.
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
        // How a policy sees latents is not the model's, but a readout of observations is.
        let LatentConfig { normalise_latents, shown, .. } = self.config.model;
        let shown = if config.model.shown == Shown::Latents { Shown::Latents } else { shown };
        let theirs = LatentConfig { normalise_latents, shown, ..config.model.clone() };
        if theirs != self.config.model {
            return Err(differs(format!("{:?}, not {:?}", config.model, self.config.model)));
        }
        let (_, weights, _) = opened(checkpoint, config, self.sizes().map(|size| size as i64))?;
        let own = self.model_weights.variables();
        for (name, found) in weights.variables().into_iter().collect::<Named>() {
            if let Some(own) = own.get(&name) {
                tch::no_grad(|| own.shallow_clone().copy_(&found));
            }
        }
        let state: State = checkpoint.state()?;
        let columns = [(&mut self.state.rewards, state.rewards), (&mut self.state.observations, state.observations)];
        for (own, found) in columns {
            if let (Some(own), Some(found)) = (own, found) {
                if !found.fit(own.mean.len()) {
                    return Err(checkpoint
                        .refuse_state(&"its moments are not those of rewards and observations")
                        .into());
                }
                *own = found;
            }
        }
        self.state.batches = state.batches;
        Ok(())
    }

    fn pretrained(&self) -> [u64; 2] {
        [self.state.pretrained, self.config.model_training.pretraining_updates]
    }

    fn pretrain(&mut self, updates: u64) -> Result<ModelReport, NotFinite> {
        let ([done, of], training) = (self.pretrained(), self.config.model_training.clone());
        let report = self.train_model(updates, |update| training.first_rate(done + update, of))?;
        self.state.pretrained += updates;
        Ok(report)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let state: State = checkpoint.state()?;
        let refused = |reason: &str| checkpoint.refuse_state(&reason);
        if state.obs.len() != self.state.obs.len() || state.played.open.len() != self.envs.num_envs() {
            return Err(refused("its envs are of another number or kind"));
        }
        let alike = |found: Option<&Moments>, own: Option<&Moments>| match (found, own) {
            (Some(found), Some(own)) => found.fit(own.mean.len()),
            (None, None) => true,
            _ => false,
        };
        if !(alike(state.rewards.as_ref(), self.state.rewards.as_ref())
            && alike(state.observations.as_ref(), self.state.observations.as_ref())
            && alike(state.latents.as_ref(), self.state.latents.as_ref())
            && state.returns.fit(1))
        {
            return Err(refused("its moments are not those of rewards, observations and returns"));
        }
        let room = self.replay.room(&state.replay).map_err(refused)?;
        checkpoint.load_model(&self.model())?;
        let mut all = self.moments();
        all.extend(room.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())));
        checkpoint.load_optimizer(&all)?;
        self.envs.restore(&state.envs).map_err(|error| refused(&error.to_string()))?;
        let [actor, critic, model] = state.updates;
        self.agent.set_updates([actor, critic]);
        self.model_adam.set_updates(model);
        self.replay.restore(state.replay.clone(), &room);
        self.state = state;
        Ok(())
    }

    fn model(&self) -> Named {
        self.agent.model().into_iter().chain(self.model_weights.variables()).collect()
    }

    fn optimizer(&self) -> Named {
        self.moments().into_iter().chain(self.replay.tensors()).collect()
    }

    fn state(&self) -> Value {
        let [actor, critic] = self.agent.updates();
        let updates = [actor, critic, self.model_adam.updates()];
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
