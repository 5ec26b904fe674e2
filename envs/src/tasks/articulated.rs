//! Tasks of articulated bodies: what is common to the Ant, the Hopper and the pendulums of the SHAC and PWM papers.
//!
//! A [`Creature`] says what is seen of a body, what it is rewarded for, and how gradients go through both; the body itself is
//! moved by [`simulators::articulated`], up to sixteen envs at a time.

mod ant;
mod hopper;
mod pendulum;
mod roll;
mod window;

use std::sync::Arc;

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use simulators::articulated::{Body, InertiaMode, Model, Portrait, Scalar, Simulator};
use simulators::limits::{self, Limit};
use simulators::rng::Rng;
use simulators::view::View;

pub use ant::{Ant, AntConfig};
pub use hopper::{Hopper, HopperConfig};
pub use pendulum::{CartPole, DoublePendulum, PendulumConfig};
pub(crate) use window::differentiable;

use super::mnist_world::refused;
use crate::buffer::Dtype;
use crate::env::{Env, EnvError, EnvSpec, Outcome, StateError, Turn};
use crate::registry::{Drawn, Task};
use crate::space::Space;

/// How exactly to compute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single: sixteen bodies at a time.
    #[default]
    F32,
    /// Double: eight at a time.
    F64,
}

/// Which observation a reward is computed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardTiming {
    /// The one before the step, `r(s, a)`, as in the fork of dflex that PWM uses.
    #[default]
    Before,
    /// The one after it, `r(s', a)`, as in dflex.
    After,
}

/// What all creatures have settings for. The defaults are what published returns rest on.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Physics {
    /// How inertias are put together.
    pub inertia: InertiaMode,
    /// Control steps share one mass matrix; a smaller number of substeps computes it more often. `None` is once a step.
    pub mass_matrix_every: Option<usize>,
    /// How exactly to compute.
    pub precision: Precision,
    /// Which observation a reward is computed from.
    pub reward: RewardTiming,
    /// Whether an episode starts near the rest pose, or at it.
    pub stochastic_reset: bool,
}

impl Default for Physics {
    fn default() -> Self {
        Self {
            inertia: InertiaMode::Dflex,
            mass_matrix_every: None,
            precision: Precision::F32,
            reward: RewardTiming::Before,
            stochastic_reset: true,
        }
    }
}

/// A body as a task looks at it, in double precision whatever it is computed in.
pub struct Seen<'a> {
    /// Coordinates, then velocities, in the frame of [`Body::centred`].
    pub state: &'a [f64],
    /// Where that frame is, x and z, m.
    pub origin: [f64; 2],
    /// The last action, zero at the start of an episode.
    pub action: &'a [f64],
}

/// The gradient of some number with respect to what a [`Seen`] holds.
pub struct SeenBar<'a> {
    /// Of the coordinates and velocities.
    pub state: &'a mut [f64],
    /// Of the action.
    pub action: &'a mut [f64],
}

/// What makes a task of a body.
pub trait Creature: Clone + Send + Sync + Sized + 'static {
    /// Id with version.
    const ID: &'static str;
    /// Name on the command line.
    const ALIAS: &'static str;
    /// One line about it.
    const ABOUT: &'static str;
    /// Numbers of an observation.
    const OBSERVATIONS: usize;
    /// Steps of an episode.
    const MAX_STEPS: u32;
    /// Everything that can be set.
    type Config: Clone + Serialize + DeserializeOwned + Default + Send + Sync;

    /// What the numbers of its configuration may be, those of [`Physics`] apart.
    fn limits(config: &Self::Config) -> Vec<Limit>;

    /// Takes its configuration, which is within its limits.
    fn new(config: &Self::Config) -> Self;

    /// What it has in common with others.
    fn physics(config: &Self::Config) -> &Physics;

    /// The body.
    fn model(&self) -> Model;

    /// What a person sees of the body in a state, coordinates and velocities in the world's frame.
    fn portrait(&self, state: &[f64]) -> Portrait;

    /// The state at the start of an episode; drawn near the rest pose where there is a generator.
    fn start(&self, rng: Option<&mut Rng>) -> Vec<f64>;

    /// Writes the observation.
    fn observe(&self, seen: &Seen<'_>, obs: &mut [f64]);

    /// Adds to `bar` the gradient through [`Creature::observe`], given that with respect to the observation.
    fn observe_bar(&self, seen: &Seen<'_>, obs_bar: &[f64], bar: &mut SeenBar<'_>);

    /// The reward of an action in a state: `seen.action` is that action.
    fn reward(&self, seen: &Seen<'_>) -> f64;

    /// Adds to `bar` the gradient of [`Creature::reward`] times `reward_bar`.
    fn reward_bar(&self, seen: &Seen<'_>, reward_bar: f64, bar: &mut SeenBar<'_>);

    /// Whether an episode ends with this observation.
    fn terminated(&self, obs: &[f64]) -> bool;
}

#[derive(Clone)]
enum Sim {
    Single(Arc<Simulator<f32>>, Body<f32>),
    Double(Arc<Simulator<f64>>, Body<f64>),
}

impl Sim {
    fn single(&mut self) -> &mut Body<f32> {
        match self {
            Self::Single(_, body) => body,
            Self::Double(..) => unreachable!("all envs of a batch were built alike"),
        }
    }

    fn double(&mut self) -> &mut Body<f64> {
        match self {
            Self::Double(_, body) => body,
            Self::Single(..) => unreachable!("all envs of a batch were built alike"),
        }
    }
}

/// Numbers of the actions of as many envs as have lanes: motors of a body are not more than 32.
const ACTIONS: usize = 512;

/// Moves the bodies of all envs by one control step.
fn move_all<C: Creature, T: Scalar>(
    simulator: &Simulator<T>,
    turns: &mut [Turn<'_, Articulated<C>>],
    body: fn(&mut Sim) -> &mut Body<T>,
) {
    for turns in turns.chunks_mut(T::WIDTH) {
        let mut actions = ArrayVec::<T, ACTIONS>::new();
        let mut bodies = ArrayVec::<&mut Body<T>, 16>::new();
        for turn in turns {
            actions.extend(turn.env.action.iter().map(|&x| T::of(x)));
            bodies.push(body(&mut turn.env.sim));
        }
        simulator.step(&mut bodies, &actions);
    }
}

/// The task of a creature.
#[derive(Clone)]
pub struct Articulated<C: Creature> {
    creature: C,
    physics: Physics,
    spec: EnvSpec,
    sim: Sim,
    /// What the body is in, in double precision: kept so that looking at it costs no allocation.
    state: Vec<f64>,
    action: Vec<f64>,
    obs: Vec<f64>,
    /// The reward of the step in hand, where it is computed before it.
    reward: f64,
}

impl<C: Creature> Articulated<C> {
    /// What is seen now.
    fn seen(&self) -> Seen<'_> {
        let origin = match &self.sim {
            Sim::Single(_, body) => body.origin(),
            Sim::Double(_, body) => body.origin(),
        };
        Seen { state: &self.state, origin, action: &self.action }
    }

    fn look(&mut self, obs: &mut [f32]) {
        match &self.sim {
            Sim::Single(_, body) => widen(body, &mut self.state),
            Sim::Double(_, body) => widen(body, &mut self.state),
        }
        let mut own = std::mem::take(&mut self.obs);
        self.creature.observe(&self.seen(), &mut own);
        self.obs = own;
        obs.iter_mut().zip(&self.obs).for_each(|(out, &x)| *out = x as f32);
    }

    /// Takes an action; the reward it brings is known now or after the step.
    fn act(&mut self, action: &[f32]) {
        self.action.iter_mut().zip(action).for_each(|(own, &x)| *own = x.into());
        if self.physics.reward == RewardTiming::Before {
            self.reward = self.creature.reward(&self.seen());
        }
    }

    /// What the step led to.
    fn judge(&mut self, obs: &mut [f32]) -> Outcome {
        self.look(obs);
        if self.physics.reward == RewardTiming::After {
            self.reward = self.creature.reward(&self.seen());
        }
        Outcome { reward: self.reward as f32, terminated: self.creature.terminated(&self.obs) }
    }

    fn put(&mut self, state: &[f64]) {
        match &mut self.sim {
            Sim::Single(simulator, body) => *body = simulator.body(state),
            Sim::Double(simulator, body) => *body = simulator.body(state),
        }
    }
}

fn widen<T: Scalar>(body: &Body<T>, state: &mut [f64]) {
    state.iter_mut().zip(body.centred()).for_each(|(out, x)| *out = x.to_f64());
}

/// What an env saves: the state in its own frame, where that is, and the last action.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    state: Vec<f64>,
    origin: [f64; 2],
    action: Vec<f64>,
}

impl<C: Creature> Task for Articulated<C> {
    const ID: &'static str = C::ID;
    const ALIAS: &'static str = C::ALIAS;
    const ABOUT: &'static str = C::ABOUT;
    type Config = C::Config;

    fn limits(config: &C::Config) -> Vec<Limit> {
        let cached = C::physics(config).mass_matrix_every;
        let cached = cached.map(|every| Limit::whole("physics.mass_matrix_every", every as i128, 1..=MOST_CACHED));
        C::limits(config).into_iter().chain(cached).collect()
    }

    fn build(config: C::Config) -> Result<Self, EnvError> {
        limits::check(&<Self as Task>::limits(&config)).map_err(refused(C::ID))?;
        let creature = C::new(&config);
        let physics = *C::physics(&config);
        let model = creature.model();
        let rest = creature.start(None);
        let sim = match physics.precision {
            Precision::F32 => {
                let simulator = Simulator::new(&model);
                let body = simulator.body(&rest);
                Sim::Single(Arc::new(simulator), body)
            }
            Precision::F64 => {
                let simulator = Simulator::new(&model);
                let body = simulator.body(&rest);
                Sim::Double(Arc::new(simulator), body)
            }
        };
        let action = Space::Box { dtype: Dtype::Float32, shape: vec![model.motors.len()], low: -1.0, high: 1.0 };
        let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
        let spec = EnvSpec {
            id: C::ID.to_owned(),
            observation: Space::Box { dtype: Dtype::Float32, shape: vec![C::OBSERVATIONS], low, high },
            action,
            max_steps: Some(C::MAX_STEPS),
            fps: 1.0 / (model.dt * model.substeps as f64),
            config: serde_json::to_value(&config).expect("a configuration is plain data"),
        };
        Ok(Self {
            creature,
            physics,
            spec,
            sim,
            state: rest,
            action: vec![0.0; model.motors.len()],
            obs: vec![0.0; C::OBSERVATIONS],
            reward: 0.0,
        })
    }
}

impl<C: Creature> Drawn for Articulated<C> {
    fn view(&self) -> View {
        let mut state = vec![0.0; self.state.len()];
        match &self.sim {
            Sim::Single(simulator, body) => simulator.state(body, &mut state),
            Sim::Double(simulator, body) => simulator.state(body, &mut state),
        }
        View::Body(self.creature.portrait(&state))
    }
}

/// A mass matrix may serve so many substeps.
const MOST_CACHED: i128 = 1024;

impl<C: Creature> Env for Articulated<C> {
    type Obs = f32;
    type Action = f32;

    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        let state = self.creature.start(self.physics.stochastic_reset.then_some(rng));
        self.put(&state);
        self.action.fill(0.0);
        self.look(obs);
    }

    fn step(&mut self, action: &[f32], rng: &mut Rng, obs: &mut [f32]) -> Outcome {
        let mut turn = [Turn { env: self, action, rng, obs, outcome: Outcome::default() }];
        Self::step_together(&mut turn);
        turn[0].outcome
    }

    fn step_together(turns: &mut [Turn<'_, Self>]) {
        for turn in &mut *turns {
            turn.env.act(turn.action);
        }
        // All envs of a batch were built alike.
        match turns.first().map(|turn| &turn.env.sim) {
            Some(Sim::Single(simulator, _)) => move_all(&Arc::clone(simulator), turns, Sim::single),
            Some(Sim::Double(simulator, _)) => move_all(&Arc::clone(simulator), turns, Sim::double),
            None => {}
        }
        for turn in turns {
            turn.outcome = turn.env.judge(turn.obs);
        }
    }

    fn save(&self) -> serde_json::Value {
        let origin = self.seen().origin;
        let saved = Saved { state: self.state.clone(), origin, action: self.action.clone() };
        serde_json::to_value(saved).expect("plain data")
    }

    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError> {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| StateError { env: C::ID.to_owned(), source };
        let saved = Saved::deserialize(state).map_err(|error| refused(error.into()))?;
        for (what, found, expected) in
            [("state", saved.state.len(), self.state.len()), ("action", saved.action.len(), self.action.len())]
        {
            if found != expected {
                return Err(refused(format!("`{what}` has {found} numbers, {expected} are needed").into()));
            }
        }
        match &mut self.sim {
            Sim::Single(simulator, body) => *body = simulator.centred_body(&saved.state, saved.origin),
            Sim::Double(simulator, body) => *body = simulator.centred_body(&saved.state, saved.origin),
        }
        (self.state, self.action) = (saved.state, saved.action);
        Ok(())
    }
}
