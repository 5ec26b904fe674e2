//! `Hopper-v0`: hop forwards on one leg. Observation, reward and ends as in dflex's Hopper.

use std::f64::consts::PI;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use simulators::articulated::{Model, Portrait, hopper};
use simulators::limits::Limit;
use simulators::rng::Rng;

use super::{Creature, Physics, Seen, SeenBar};

/// Settings of the Hopper.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HopperConfig {
    /// What all bodies have.
    pub physics: Physics,
    /// Whether an episode ends when the torso has sunk below `termination_height`.
    pub early_termination: bool,
    /// m above the height at rest.
    pub termination_height: f64,
}

impl Default for HopperConfig {
    fn default() -> Self {
        Self { physics: Physics::default(), early_termination: true, termination_height: -0.45 }
    }
}

/// See [`HopperConfig`].
#[derive(Clone)]
pub struct Hopper(HopperConfig);

/// Height above that of termination below which height costs, m.
const TOLERANCE: f64 = 0.15;
/// Height above it that pays, at most.
const MOST: f64 = 0.3;
/// What depth below it costs, per m².
const SLOPE: f64 = 200.0;
/// Pitch at which uprightness pays nothing, rad.
const ANGLE: f64 = PI / 6.0;
/// What an action costs.
const EFFORT: f64 = 0.1;

/// Coordinates of the state; velocities follow.
const Q: usize = 6;

impl Hopper {
    /// The reward for height, and its slope.
    fn height(&self, risen: f64) -> (f64, f64) {
        let above = risen - self.0.termination_height - TOLERANCE;
        let slope = if (-1.0..=MOST).contains(&above) { 1.0 } else { 0.0 };
        let above = above.clamp(-1.0, MOST);
        if above < 0.0 { (-SLOPE * above * above, -2.0 * SLOPE * above * slope) } else { (above, slope) }
    }
}

impl Creature for Hopper {
    const ID: &'static str = "Hopper-v0";
    const ALIAS: &'static str = "hopper";
    const ABOUT: &'static str = "a one-legged body hops forwards in a plane; reward: speed, height and uprightness";
    const OBSERVATIONS: usize = 11;
    const MAX_STEPS: u32 = 1000;
    type Config = HopperConfig;

    fn limits(config: &HopperConfig) -> Vec<Limit> {
        vec![Limit::real("termination_height", config.termination_height, -1.25..=0.0)]
    }

    fn new(config: &HopperConfig) -> Self {
        Self(*config)
    }

    fn physics(config: &HopperConfig) -> &Physics {
        &config.physics
    }

    fn model(&self) -> Model {
        let mut model = hopper::hopper();
        model.inertia = self.0.physics.inertia;
        model.mass_matrix_every = self.0.physics.mass_matrix_every.unwrap_or(model.mass_matrix_every);
        model
    }

    fn portrait(&self, state: &[f64]) -> Portrait {
        hopper::portrait(&self.model(), state)
    }

    fn start(&self, rng: Option<&mut Rng>) -> Vec<f64> {
        let mut state = vec![0.0; 2 * Q];
        if let Some(rng) = rng {
            for x in &mut state {
                *x = rng.random_range(-0.05..=0.05);
            }
        }
        state
    }

    fn observe(&self, seen: &Seen<'_>, obs: &mut [f64]) {
        // All but how far it has come.
        obs.copy_from_slice(&seen.state[1..]);
    }

    fn observe_bar(&self, _: &Seen<'_>, obs_bar: &[f64], bar: &mut SeenBar<'_>) {
        bar.state[1..].iter_mut().zip(obs_bar).for_each(|(state, bar)| *state += bar);
    }

    fn reward(&self, seen: &Seen<'_>) -> f64 {
        let (height, _) = self.height(seen.state[1]);
        let upright = 1.0 - (seen.state[2] / ANGLE).powi(2);
        seen.state[Q] + height + upright - EFFORT * seen.action.iter().map(|a| a * a).sum::<f64>()
    }

    fn reward_bar(&self, seen: &Seen<'_>, reward_bar: f64, bar: &mut SeenBar<'_>) {
        bar.state[Q] += reward_bar;
        bar.state[1] += reward_bar * self.height(seen.state[1]).1;
        bar.state[2] -= reward_bar * 2.0 * seen.state[2] / (ANGLE * ANGLE);
        bar.action.iter_mut().zip(seen.action).for_each(|(bar, a)| *bar -= reward_bar * 2.0 * EFFORT * a);
    }

    fn terminated(&self, obs: &[f64]) -> bool {
        self.0.early_termination && obs[0] < self.0.termination_height
    }
}
