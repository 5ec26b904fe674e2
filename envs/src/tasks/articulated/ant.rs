//! `Ant-v0`: run forwards. Observation, reward and ends as in dflex's Ant.

use std::f64::consts::PI;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use simulators::articulated::{Model, Portrait, ant};
use simulators::limits::Limit;
use simulators::rng::Rng;

use super::{Creature, Physics, Seen, SeenBar};

/// Settings of the Ant.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AntConfig {
    /// What all bodies have.
    pub physics: Physics,
    /// Whether an episode ends when the torso is lower than `termination_height`.
    pub early_termination: bool,
    /// m.
    pub termination_height: f64,
    /// Whether the observation shows the last action. In dflex it is zero while gradients are recorded.
    pub observe_last_action: bool,
}

impl Default for AntConfig {
    fn default() -> Self {
        Self {
            physics: Physics::default(),
            early_termination: true,
            termination_height: 0.27,
            observe_last_action: true,
        }
    }
}

/// See [`AntConfig`].
#[derive(Clone)]
pub struct Ant(AntConfig);

/// Where it runs to, m forward: so far that the direction hardly changes.
const TARGET: f64 = 10_000.0;
/// What joint velocities are multiplied by to be seen.
const RATE: f64 = 0.1;
/// What uprightness adds to the reward.
const UP: f64 = 0.1;
const S: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// The inverse of the orientation at the start, `x y z w`.
const FROM_START: [f64; 4] = [S, 0.0, 0.0, S];

fn times([ax, ay, az, aw]: [f64; 4], [bx, by, bz, bw]: [f64; 4]) -> [f64; 4] {
    [
        aw * bx + bw * ax + ay * bz - az * by,
        aw * by + bw * ay + az * bx - ax * bz,
        aw * bz + bw * az + ax * by - ay * bx,
        aw * bw - ax * bx - ay * by - az * bz,
    ]
}

fn cross([ax, ay, az]: [f64; 3], [bx, by, bz]: [f64; 3]) -> [f64; 3] {
    [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]
}

fn three(x: &[f64]) -> [f64; 3] {
    [x[0], x[1], x[2]]
}

/// The parts of the state that the torso has.
struct Torso {
    place: [f64; 3],
    /// Orientation relative to the start's.
    turn: [f64; 4],
    spin: [f64; 3],
    velocity: [f64; 3],
    /// Unit vector to the target on the ground, x and z, and the distance.
    target: [f64; 2],
    distance: f64,
}

impl Torso {
    fn of(seen: &Seen<'_>) -> Self {
        let s = seen.state;
        let (place, spin) = (three(s), three(&s[15..]));
        let around = cross(spin, place);
        let velocity = [s[18] + around[0], s[19] + around[1], s[20] + around[2]];
        let to = [TARGET - seen.origin[0] - place[0], -seen.origin[1] - place[2]];
        let distance = (to[0] * to[0] + to[1] * to[1]).sqrt();
        let target = [to[0] / distance, to[1] / distance];
        let turn = times([s[3], s[4], s[5], s[6]], FROM_START);
        Self { place, turn, spin, velocity, target, distance }
    }

    /// How far up the body's up points.
    fn up(&self) -> f64 {
        let [_, y, _, w] = self.turn;
        2.0 * w * w - 1.0 + 2.0 * y * y
    }

    /// Where the body's forward points, x and z.
    fn forward(&self) -> [f64; 2] {
        let [x, y, z, w] = self.turn;
        [2.0 * w * w - 1.0 + 2.0 * x * x, 2.0 * (x * z - w * y)]
    }

    fn heading(&self) -> f64 {
        let forward = self.forward();
        forward[0] * self.target[0] + forward[1] * self.target[1]
    }

    /// Adds gradients: of the velocity, of uprightness and of the heading.
    fn pull_back(&self, velocity: [f64; 3], up: f64, heading: f64, state: &mut [f64]) {
        let (place_bar, spin_bar) = (cross(velocity, self.spin), cross(self.place, velocity));
        for i in 0..3 {
            state[i] += place_bar[i];
            state[15 + i] += spin_bar[i];
            state[18 + i] += velocity[i];
        }
        let [x, y, z, w] = self.turn;
        let [a, b] = self.target.map(|t| t * heading);
        let turn_bar =
            [4.0 * x * a + 2.0 * z * b, 4.0 * y * up - 2.0 * w * b, 2.0 * x * b, 4.0 * w * (up + a) - 2.0 * y * b];
        let [cx, cy, cz, cw] = FROM_START;
        let own = times(turn_bar, [-cx, -cy, -cz, cw]);
        (0..4).for_each(|i| state[3 + i] += own[i]);
        // The direction to the target turns as the body moves past it.
        let (forward, along) = (self.forward(), self.heading());
        state[0] -= heading * (forward[0] - along * self.target[0]) / self.distance;
        state[2] -= heading * (forward[1] - along * self.target[1]) / self.distance;
    }
}

impl Creature for Ant {
    const ID: &'static str = "Ant-v0";
    const ALIAS: &'static str = "ant";
    const ABOUT: &'static str = "a four-legged body runs forwards; reward: speed, uprightness, heading and height";
    const OBSERVATIONS: usize = 37;
    const MAX_STEPS: u32 = 1000;
    type Config = AntConfig;

    fn limits(config: &AntConfig) -> Vec<Limit> {
        vec![Limit::real("termination_height", config.termination_height, 0.0..=1.0)]
    }

    fn new(config: &AntConfig) -> Self {
        Self(*config)
    }

    fn physics(config: &AntConfig) -> &Physics {
        &config.physics
    }

    fn model(&self) -> Model {
        let every = self.0.physics.mass_matrix_every.unwrap_or(ant::SUBSTEPS);
        ant::model(self.0.physics.inertia, every)
    }

    fn portrait(&self, state: &[f64]) -> Portrait {
        ant::portrait(&self.model(), state)
    }

    fn start(&self, rng: Option<&mut Rng>) -> Vec<f64> {
        let mut state = vec![0.0; 29];
        state[..15].copy_from_slice(&ant::START);
        let Some(rng) = rng else { return state };
        state[..3].iter_mut().for_each(|x| *x += rng.random_range(-0.1..=0.1));
        let angle: f64 = rng.random_range(-PI / 24.0..=PI / 24.0);
        let axis: [f64; 3] = std::array::from_fn(|_| rng.random_range(-0.5..=0.5));
        let norm = axis.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-9);
        let (sin, cos) = libm::sincos(angle / 2.0);
        let turn = [axis[0] / norm * sin, axis[1] / norm * sin, axis[2] / norm * sin, cos];
        let turned = times([state[3], state[4], state[5], state[6]], turn);
        state[3..7].copy_from_slice(&turned);
        state[7..15].iter_mut().for_each(|x| *x += rng.random_range(-0.2..=0.2));
        state[15..].iter_mut().for_each(|x| *x = rng.random_range(-0.25..=0.25));
        state
    }

    fn observe(&self, seen: &Seen<'_>, obs: &mut [f64]) {
        let torso = Torso::of(seen);
        obs[0] = torso.place[1];
        obs[1..5].copy_from_slice(&seen.state[3..7]);
        obs[5..8].copy_from_slice(&torso.velocity);
        obs[8..11].copy_from_slice(&torso.spin);
        obs[11..19].copy_from_slice(&seen.state[7..15]);
        obs[19..27].iter_mut().zip(&seen.state[21..]).for_each(|(out, rate)| *out = RATE * rate);
        obs[27] = torso.up();
        obs[28] = torso.heading();
        let shown = f64::from(u8::from(self.0.observe_last_action));
        obs[29..].iter_mut().zip(seen.action).for_each(|(out, action)| *out = shown * action);
    }

    fn observe_bar(&self, seen: &Seen<'_>, obs_bar: &[f64], bar: &mut SeenBar<'_>) {
        let torso = Torso::of(seen);
        bar.state[1] += obs_bar[0];
        (0..4).for_each(|i| bar.state[3 + i] += obs_bar[1 + i]);
        (0..3).for_each(|i| bar.state[15 + i] += obs_bar[8 + i]);
        (0..8).for_each(|i| bar.state[7 + i] += obs_bar[11 + i]);
        (0..8).for_each(|i| bar.state[21 + i] += RATE * obs_bar[19 + i]);
        torso.pull_back(three(&obs_bar[5..]), obs_bar[27], obs_bar[28], bar.state);
        if self.0.observe_last_action {
            (0..8).for_each(|i| bar.action[i] += obs_bar[29 + i]);
        }
    }

    fn reward(&self, seen: &Seen<'_>) -> f64 {
        let torso = Torso::of(seen);
        torso.velocity[0] + UP * torso.up() + torso.heading() + (torso.place[1] - self.0.termination_height)
    }

    fn reward_bar(&self, seen: &Seen<'_>, reward_bar: f64, bar: &mut SeenBar<'_>) {
        bar.state[1] += reward_bar;
        Torso::of(seen).pull_back([reward_bar, 0.0, 0.0], UP * reward_bar, reward_bar, bar.state);
    }

    fn terminated(&self, obs: &[f64]) -> bool {
        self.0.early_termination && obs[0] < self.0.termination_height
    }
}
