//! Policies that live in the belief of a world model, whichever it is: they see what it believes of everything, in view or not, and are
//! trained in what it imagines.
//!
//! Each epoch plays some steps in all envs, eyes open: what is seen goes into the belief, and what is paid there into the reward head.
//! Then it dreams on from the beliefs it has come to: the gradient of the rewards that the head promises, and of the value of what
//! comes after, goes back through the belief to the actor ([`world_models::dream::Taped`]). The world model stays as it is.
//!
//! A run is a function of its configuration; a checkpoint holds everything else, the world model's weights and the beliefs included.

mod config;
mod mind;
mod rewards;

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::dataset::Dataset;
use envs::env::EnvError;
use envs::vector::{BatchEnv, Reset, VectorSnapshot};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, Kind, Tensor, nn};
use world_models::belief::{Belief, WorldModel};
use world_models::checkpoint::{Checkpoint, CheckpointError, Named};
use world_models::dream::{ActionScale, Taped};
use world_models::train::Loaded;

use crate::agent::Agent;
use crate::columns::{broken_rows, floats_of, normal};
use crate::learner::{Learner, ModelReport, NotFinite, Report, TakeInError};
use crate::moments::{Moments, mean};
use crate::played::Played;
use crate::returns::Course;
use crate::window::Window;

pub use config::{DreamConfig, RewardTraining};
pub use mind::Mind;
pub(crate) use mind::{frames, senses};
use rewards::{Rewards, Ring};

/// What a run needs beside tensors to go on exactly where it stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    epoch: u64,
    env_steps: u64,
    skipped: u64,
    broken_steps: u64,
    /// Of the returns of dreams.
    returns: Moments,
    /// Updates of actor, critics and reward head.
    updates: [u64; 3],
    ring: Ring,
    played: Played,
    envs: VectorSnapshot,
}

/// A run in memory.
pub struct Dreamer {
    config: DreamConfig,
    seed: Seed,
    envs: Box<dyn BatchEnv>,
    out: StepBatch,
    agent: Agent,
    mind: Box<dyn WorldModel>,
    mind_weights: nn::VarStore,
    /// Side and colours.
    frame: [i64; 2],
    scale: ActionScale,
    rewards: Rewards,
    /// After what the envs show now.
    belief: Belief,
    state: State,
}

/// The networks of a run: the world model and its weights, which want no gradients, and those of the reward head.
pub(crate) fn networks(
    config: &DreamConfig,
    seed: Seed,
    [side, colours]: [i64; 2],
) -> (Box<dyn WorldModel>, nn::VarStore, Rewards) {
    let mut weights = nn::VarStore::new(Device::Cpu);
    let mind = config.mind.build(&(weights.root() / "world"), [side, colours]);
    weights.freeze();
    let features = config.mind.features(side * side * colours);
    (mind, weights, Rewards::new(&config.reward, features, seed))
}

/// The belief of one who sees `pictures` `[N, C, H, W]` first.
pub(crate) fn awake(mind: &dyn WorldModel, pictures: &Tensor, actions: usize) -> Belief {
    let rows = pictures.size()[0];
    let still = Tensor::zeros([rows, actions as i64], (Kind::Float, Device::Cpu));
    tch::no_grad(|| mind.observe(&mind.start(rows), &still, pictures))
}

fn bytes(buffer: &Buffer) -> &[u8] {
    buffer.get::<u8>().expect("checked when the run began")
}

impl Dreamer {
    /// A fresh run; its envs, which reset in the same step, play the episodes of `seed`.
    ///
    /// # Errors
    /// If they do not show the pictures that the belief is made of, or the envs cannot be reset.
    pub fn new(config: &DreamConfig, seed: Seed, mut envs: Box<dyn BatchEnv>) -> Result<Self, EnvError> {
        let spec = envs.spec();
        let (rows, actions) = (envs.num_envs(), spec.action.size());
        let (frame, scale) = senses(&config.mind, spec)?;
        let mut out = StepBatch::for_spec(spec, rows);
        let features = config.mind.features(spec.observation.size() as i64);
        let agent = Agent::new(&config.actor, &config.critic, seed, [features, actions as i64]);
        let (mind, mind_weights, rewards) = networks(config, seed, frame);
        envs.reset(Reset::Seed(seed), out.obs_mut())?;
        let belief = awake(mind.as_ref(), &frames(bytes(out.obs()), frame), actions);
        let state = State {
            epoch: 0,
            env_steps: 0,
            skipped: 0,
            broken_steps: 0,
            returns: Moments::new(1),
            updates: [0; 3],
            ring: Ring::default(),
            played: Played::new(rows),
            envs: envs.snapshot(),
        };
        let config = config.clone();
        Ok(Self { config, seed, envs, out, agent, mind, mind_weights, frame, scale, rewards, belief, state })
    }

    /// Plays some steps with the policy as it explores, eyes open; the mean reward, and episodes that ended because the world did.
    fn play(&mut self) -> Result<(f64, usize), EnvError> {
        let noise = &mut stream(self.seed, Purpose::Noise, self.state.epoch);
        let (rows, actions) = (self.envs.num_envs(), self.envs.spec().action.size());
        let (frame, actor) = (self.frame, self.agent.actor.ready(self.config.actor.numbers));
        let (mut rewards, mut terminated) = (0.0, 0);
        for _ in 0..self.config.horizon {
            let seen = self.mind.features(&self.belief);
            let done = actor.explore(&seen, normal(noise, rows, actions)).0;
            let done = self.scale.apply(&done);
            let mut buffer = Buffer::zeros(self.envs.spec().action.dtype(), rows * actions);
            buffer.write(0, &floats_of(&done));
            self.state.broken_steps += broken_rows(self.envs.step(&buffer, &mut self.out))? as u64;
            let led_to = frames(bytes(self.out.final_obs()), frame);
            self.belief = self.mind.observe(&self.belief, &done, &led_to);
            // An env whose numbers went wrong has paid nothing.
            let paid: Vec<f32> = self.out.reward().iter().map(|&x| if x.is_finite() { x } else { 0.0 }).collect();
            self.rewards.remember(&self.mind.features(&self.belief), &paid);
            let courses: Vec<Course> = courses_of(&self.out).collect();
            for (row, (&course, &reward)) in courses.iter().zip(&paid).enumerate() {
                self.state.played.step(row, reward.into(), course != Course::On);
            }
            rewards += mean(&paid) / self.config.horizon as f64;
            terminated += courses.iter().filter(|&&course| course == Course::Terminated).count();
            if courses.iter().any(|&course| course != Course::On) {
                let anew = awake(self.mind.as_ref(), &frames(bytes(self.out.obs()), frame), actions);
                let ended: Vec<bool> = courses.iter().map(|&course| course != Course::On).collect();
                self.belief = self.belief.with_rows_of(&anew, &Tensor::from_slice(&ended));
            }
        }
        Ok((rewards, terminated))
    }

    /// The updates of an epoch; they stop at the first number that is not finite.
    fn learn(&mut self, report: &mut Report) -> Result<(), NotFinite> {
        let (config, epoch) = (&self.config, self.state.epoch);
        let (objective, schedule) = (config.objective(), config.schedule());
        let rate = schedule.rate(config.reward.learning_rate, epoch);
        let (loss, gradient) = self.rewards.fit(rate, &mut stream(self.seed, Purpose::Replay, epoch));
        report.model = Some(ModelReport { dynamics_loss: None, decoding_loss: None, reward_loss: loss, gradient });
        if !(loss.is_finite() && gradient.is_finite()) {
            return Err(NotFinite { what: "the reward head's loss or the norm of its gradient", value: loss });
        }
        let passes = self.rewards.passes();
        let (rows, actions) = (self.envs.num_envs(), self.envs.spec().action.size());
        let noise = &mut stream(self.seed, Purpose::Dream, epoch);
        let of_critics = &mut stream(self.seed, Purpose::Critics, epoch);
        for _ in 0..config.dreams {
            let dream = Taped::new(self.mind.as_ref(), &self.scale, &passes, self.belief.shallow_clone());
            let noises = (0..config.horizon).map(|_| normal(noise, rows, actions));
            let actor = self.agent.actor.ready(config.actor.numbers);
            let window = Window::new(dream, actor, config.detach).dreamt(noises);
            let courses = vec![Course::On; rows * config.horizon];
            let imagined = self.agent.pull_back(objective, &mut self.state.returns, window, courses);
            let rate = schedule.rate(config.actor.learning_rate, epoch);
            self.agent.train_actor(imagined.loss, rate, report)?;
            let rate = schedule.rate(config.critic.learning_rate, epoch);
            let pairs = [&imagined.seen, &imagined.targets(objective)];
            self.agent.train_critics(&config.critic, rate, pairs, of_critics, report)?;
        }
        Ok(())
    }

    /// The belief as a checkpoint keeps it: all in single precision, which holds every part exactly.
    fn belief_tensors(&self) -> Named {
        let kept = |(name, part): (&str, &Tensor)| (format!("belief.{name}"), part.to_kind(Kind::Float).copy());
        self.belief.parts().map(kept).collect()
    }
}

/// How episodes of pictures went on: there is no number in them that could be wrong.
fn courses_of(out: &StepBatch) -> impl Iterator<Item = Course> {
    out.stop().iter().map(|stop| match (stop.terminated, stop.truncated) {
        (true, _) => Course::Terminated,
        (_, true) => Course::Truncated,
        _ => Course::On,
    })
}

impl Learner for Dreamer {
    fn epoch(&mut self) -> Result<(Report, Option<NotFinite>), EnvError> {
        let (reward, terminated) = tch::no_grad(|| self.play())?;
        self.state.env_steps += self.config.schedule().steps();
        let mut report = Report { reward, terminated, episodes: self.state.played.means(), ..Report::default() };
        let wrong = self.learn(&mut report).err();
        report.deviation = self.agent.actor.deviation();
        self.state.epoch += 1;
        self.state.skipped += u64::from(wrong.is_some());
        Ok((report, wrong))
    }

    fn take_in(&mut self, _: &Dataset) -> Result<(), TakeInError> {
        Err(TakeInError::NoUse { trainer: "dream" })
    }

    /// Takes the world model of a run that learned from a dataset.
    fn start_from(&mut self, checkpoint: &Checkpoint) -> Result<(), TakeInError> {
        let (loaded, other) = Loaded::from_checkpoint(checkpoint, Device::Cpu)?;
        let Mind::Learned { model } = &self.config.mind else {
            return Err(TakeInError::NoModel { trainer: "the last frame" });
        };
        if *model != other.model {
            let difference = format!("{:?}, not {model:?}", other.model);
            return Err(TakeInError::OtherModel { checkpoint: checkpoint.path().to_owned(), difference });
        }
        let weights = loaded.weights();
        for (name, mut own) in self.mind_weights.variables().into_iter().collect::<Named>() {
            let name = name.strip_prefix("world.").unwrap_or(&name);
            tch::no_grad(|| own.copy_(&weights[name]));
        }
        // What was seen first is believed by other weights now.
        let frame = self.frame;
        let actions = self.envs.spec().action.size();
        self.belief = awake(self.mind.as_ref(), &frames(bytes(self.out.obs()), frame), actions);
        Ok(())
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let state: State = checkpoint.state()?;
        let refused = |reason: &str| checkpoint.refuse_state(&reason);
        if state.played.open.len() != self.envs.num_envs() {
            return Err(refused("its envs are of another number or kind"));
        }
        if !state.returns.fit(1) {
            return Err(refused("its moments are not those of returns"));
        }
        if !self.rewards.is_possible(state.ring) {
            return Err(refused("what rewards are learned from is not there"));
        }
        checkpoint.load_model(&self.model())?;
        let beliefs = self.belief_tensors();
        let mut all = self.agent.optimizer();
        all.extend(self.rewards.optimizer());
        all.extend(beliefs.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())));
        checkpoint.load_optimizer(&all)?;
        self.envs.restore(&state.envs).map_err(|error| refused(&error.to_string()))?;
        self.belief = Belief::new(
            self.belief.parts().map(|(name, part)| (name, beliefs[&format!("belief.{name}")].to_kind(part.kind()))),
        );
        let [actor, critic, reward] = state.updates;
        self.agent.set_updates([actor, critic]);
        self.rewards.adam.set_updates(reward);
        self.rewards.ring = state.ring;
        self.state = state;
        Ok(())
    }

    fn model(&self) -> Named {
        let own = [&self.mind_weights, &self.rewards.weights].into_iter().flat_map(nn::VarStore::variables);
        self.agent.model().into_iter().chain(own).collect()
    }

    fn optimizer(&self) -> Named {
        self.agent.optimizer().into_iter().chain(self.rewards.optimizer()).chain(self.belief_tensors()).collect()
    }

    fn state(&self) -> Value {
        let [actor, critic] = self.agent.updates();
        let updates = [actor, critic, self.rewards.adam.updates()];
        let state = State { updates, ring: self.rewards.ring, envs: self.envs.snapshot(), ..self.state.clone() };
        serde_json::to_value(state).expect("a state is plain data")
    }

    fn epochs_done(&self) -> u64 {
        self.state.epoch
    }

    fn counts(&self) -> [u64; 3] {
        [self.state.env_steps, self.state.skipped, self.state.broken_steps]
    }
}
