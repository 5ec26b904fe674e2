//! `CartPoleSwingUp-v0` and `DoublePendulum-v0`: swing up and stay there, as in dflex's tasks.

use std::f64::consts::{FRAC_PI_2, PI, TAU};

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use simulators::articulated::{Model, Portrait, cartpole};
use simulators::limits::Limit;
use simulators::rng::Rng;

use super::{Creature, Physics, Seen, SeenBar};

/// Settings of both.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PendulumConfig {
    /// What all bodies have.
    pub physics: Physics,
}

/// A cart that swings its pole up. Upright is angle zero; episodes begin near hanging.
#[derive(Clone)]
pub struct CartPole(PendulumConfig);

/// Two poles, of which the motor drives the second.
#[derive(Clone)]
pub struct DoublePendulum(PendulumConfig);

/// Steps of an episode of either.
const STEPS: u32 = 240;

/// The angle between minus and plus half a turn.
fn wrapped(angle: f64) -> f64 {
    angle - TAU * libm::floor((angle + PI) / TAU)
}

/// Near `rest`, and moving a little.
fn near(rest: [f64; 2], rng: Option<&mut Rng>) -> Vec<f64> {
    let mut state = vec![rest[0], rest[1], 0.0, 0.0];
    if let Some(rng) = rng {
        state[..2].iter_mut().for_each(|x| *x += rng.random_range(-FRAC_PI_2..=FRAC_PI_2));
        state[2..].iter_mut().for_each(|x| *x = rng.random_range(-0.25..=0.25));
    }
    state
}

fn physical(mut model: Model, physics: &Physics) -> Model {
    model.inertia = physics.inertia;
    model.mass_matrix_every = physics.mass_matrix_every.unwrap_or(model.mass_matrix_every);
    model
}

/// `-Σ weight x²`, with its gradient: rewards of both tasks, over `x` and its weights.
fn cost(terms: [(f64, f64); 4]) -> f64 {
    -terms.iter().map(|(weight, x)| weight * x * x).sum::<f64>()
}

fn cost_bar(terms: [(f64, f64); 4], reward_bar: f64, state: &mut [f64]) {
    state.iter_mut().zip(terms).for_each(|(bar, (weight, x))| *bar -= reward_bar * 2.0 * weight * x);
}

impl CartPole {
    /// Weight and value of place, angle and their rates.
    fn terms(seen: &Seen<'_>) -> [(f64, f64); 4] {
        let s = seen.state;
        [(0.05, s[0]), (1.0, wrapped(s[1])), (0.1, s[2]), (0.1, s[3])]
    }
}

impl Creature for CartPole {
    const ID: &'static str = "CartPoleSwingUp-v0";
    const ALIAS: &'static str = "cartpole-swing-up";
    const ABOUT: &'static str = "a cart swings its pole up and holds it; cost: angle, place and both rates, squared";
    const OBSERVATIONS: usize = 5;
    const MAX_STEPS: u32 = STEPS;
    type Config = PendulumConfig;

    fn limits(_: &PendulumConfig) -> Vec<Limit> {
        vec![]
    }

    fn new(config: &PendulumConfig) -> Self {
        Self(*config)
    }

    fn physics(config: &PendulumConfig) -> &Physics {
        &config.physics
    }

    fn model(&self) -> Model {
        physical(cartpole::cartpole(), &self.0.physics)
    }

    fn portrait(&self, state: &[f64]) -> Portrait {
        cartpole::cartpole_portrait(&self.model(), state)
    }

    fn start(&self, rng: Option<&mut Rng>) -> Vec<f64> {
        near([0.0, -PI], rng)
    }

    fn observe(&self, seen: &Seen<'_>, obs: &mut [f64]) {
        let s = seen.state;
        let (sin, cos) = libm::sincos(s[1]);
        obs.copy_from_slice(&[s[0], s[2], sin, cos, s[3]]);
    }

    fn observe_bar(&self, seen: &Seen<'_>, obs_bar: &[f64], bar: &mut SeenBar<'_>) {
        let (sin, cos) = libm::sincos(seen.state[1]);
        bar.state[0] += obs_bar[0];
        bar.state[1] += cos * obs_bar[2] - sin * obs_bar[3];
        bar.state[2] += obs_bar[1];
        bar.state[3] += obs_bar[4];
    }

    fn reward(&self, seen: &Seen<'_>) -> f64 {
        cost(Self::terms(seen))
    }

    fn reward_bar(&self, seen: &Seen<'_>, reward_bar: f64, bar: &mut SeenBar<'_>) {
        cost_bar(Self::terms(seen), reward_bar, bar.state);
    }

    fn terminated(&self, _: &[f64]) -> bool {
        false
    }
}

impl DoublePendulum {
    fn terms(seen: &Seen<'_>) -> [(f64, f64); 4] {
        let s = seen.state;
        [(1.0, wrapped(s[0])), (1.0, wrapped(s[1])), (0.1, s[2]), (0.1, s[3])]
    }
}

impl Creature for DoublePendulum {
    const ID: &'static str = "DoublePendulum-v0";
    const ALIAS: &'static str = "double-pendulum";
    const ABOUT: &'static str = "two poles swing up by a motor between them; cost: both angles and rates, squared";
    const OBSERVATIONS: usize = 6;
    const MAX_STEPS: u32 = STEPS;
    type Config = PendulumConfig;

    fn limits(_: &PendulumConfig) -> Vec<Limit> {
        vec![]
    }

    fn new(config: &PendulumConfig) -> Self {
        Self(*config)
    }

    fn physics(config: &PendulumConfig) -> &Physics {
        &config.physics
    }

    fn model(&self) -> Model {
        physical(cartpole::double_pendulum(), &self.0.physics)
    }

    fn portrait(&self, state: &[f64]) -> Portrait {
        cartpole::double_pendulum_portrait(&self.model(), state)
    }

    fn start(&self, rng: Option<&mut Rng>) -> Vec<f64> {
        near([-PI, 0.0], rng)
    }

    fn observe(&self, seen: &Seen<'_>, obs: &mut [f64]) {
        let s = seen.state;
        let ((sin, cos), (sin2, cos2)) = (libm::sincos(s[0]), libm::sincos(s[1]));
        obs.copy_from_slice(&[cos, sin, cos2, sin2, s[2], s[3]]);
    }

    fn observe_bar(&self, seen: &Seen<'_>, obs_bar: &[f64], bar: &mut SeenBar<'_>) {
        for joint in 0..2 {
            let (sin, cos) = libm::sincos(seen.state[joint]);
            bar.state[joint] += cos * obs_bar[2 * joint + 1] - sin * obs_bar[2 * joint];
            bar.state[2 + joint] += obs_bar[4 + joint];
        }
    }

    fn reward(&self, seen: &Seen<'_>) -> f64 {
        cost(Self::terms(seen))
    }

    fn reward_bar(&self, seen: &Seen<'_>, reward_bar: f64, bar: &mut SeenBar<'_>) {
        cost_bar(Self::terms(seen), reward_bar, bar.state);
    }

    fn terminated(&self, _: &[f64]) -> bool {
        false
    }
}
