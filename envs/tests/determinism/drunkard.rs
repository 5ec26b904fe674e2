//! An env that does what the registered ones do not: it draws in every step, dies at odd times, and its state is a float
//! whose every bit matters.

use envs::buffer::Dtype;
use envs::env::{Env, EnvSpec, Outcome, StateError};
use envs::space::Space;
use rand::RngExt;
use serde_json::{Value, json};
use simulators::rng::Rng;

/// Walks along a line, pushed by its action and by chance, through a chaotic map; falls off at either end.
#[derive(Clone)]
pub struct Drunkard {
    spec: EnvSpec,
    state: State,
}

#[derive(Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct State {
    at: f64,
    /// In 0 to 1, under the logistic map: a last bit that is lost is a first bit fifty steps later.
    mood: f64,
}

/// How far from the middle the line ends.
const END: f64 = 3.0;
const MAX_STEPS: u32 = 40;

impl Drunkard {
    pub fn new() -> Self {
        let observation = Space::Box { dtype: Dtype::Float32, shape: vec![2], low: -2.0 * END, high: 2.0 * END };
        let action = Space::Discrete { n: 3 };
        // A configuration holds numbers that are not short in decimal, as single precision ones are not.
        let config = json!({ "push": f64::from(0.3f32), "third": 1.0 / 3.0 });
        let spec = EnvSpec {
            id: "Drunkard-v0".into(),
            observation,
            action,
            max_steps: Some(MAX_STEPS),
            fps: 60_000.0 / 1_001.0,
            config,
        };
        Self { spec, state: State::default() }
    }

    fn show(&self, obs: &mut [f32]) {
        obs.copy_from_slice(&[self.state.at as f32, self.state.mood as f32]);
    }
}

impl Env for Drunkard {
    type Obs = f32;
    type Action = i64;

    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = State { at: rng.random_range(-1.0..1.0), mood: rng.random_range(0.1..0.9) };
        self.show(obs);
    }

    fn step(&mut self, action: &[i64], rng: &mut Rng, obs: &mut [f32]) -> Outcome {
        let State { at, mood } = &mut self.state;
        *mood *= 3.99 * (1.0 - *mood);
        *at += 0.3 * (action[0] - 1) as f64 + (*mood - 0.5) * rng.random_range(0.0..1.5);
        self.show(obs);
        Outcome { reward: self.state.at as f32, terminated: self.state.at.abs() > END }
    }

    fn save(&self) -> Value {
        serde_json::to_value(self.state).unwrap()
    }

    fn load(&mut self, state: &Value) -> Result<(), StateError> {
        let fail = |error: serde_json::Error| StateError { env: self.spec.id.clone(), source: error.into() };
        self.state = serde_json::from_value(state.clone()).map_err(fail)?;
        Ok(())
    }
}
