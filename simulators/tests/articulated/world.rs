//! A batch of bodies of one model, the Ant at its start, and how to look at them.

use simulators::articulated::{Body, InertiaMode, Model, Scalar, Simulator, ant};

/// Bodies of one model.
pub struct Batch<T> {
    pub simulator: Simulator<T>,
    pub bodies: Vec<Body<T>>,
}

impl<T: Scalar> Batch<T> {
    pub fn new(model: &Model, count: usize) -> Self {
        let simulator = Simulator::new(model);
        let mut state = vec![0.0; simulator.rows()];
        if state.len() > 6 {
            state[6] = 1.0;
        }
        Self { bodies: vec![simulator.body(&state); count], simulator }
    }

    pub fn set_state(&mut self, body: usize, state: &[f64]) {
        self.bodies[body] = self.simulator.body(state);
    }

    pub fn state(&self, body: usize, state: &mut [f64]) {
        self.simulator.state(&self.bodies[body], state);
    }

    pub fn step(&mut self, actions: &[T]) {
        self.simulator.step_all(&mut self.bodies, actions);
    }
}

pub fn ant_at_start<T: Scalar>(mode: InertiaMode, count: usize) -> Batch<T> {
    let mut batch = Batch::new(&ant::model(mode, 16), count);
    let mut state = [0.0; 29];
    state[..15].copy_from_slice(&ant::START);
    for body in 0..count {
        batch.set_state(body, &state);
    }
    batch
}

pub fn state<T: Scalar>(batch: &Batch<T>, body: usize) -> Vec<f64> {
    let mut state = vec![0.0; 29];
    batch.state(body, &mut state);
    state
}

/// Velocity of the root: `v + w x p`.
pub fn root_velocity(s: &[f64]) -> [f64; 3] {
    let ([x, y, z], [wx, wy, wz]) = ([s[0], s[1], s[2]], [s[15], s[16], s[17]]);
    [s[18] + wy * z - wz * y, s[19] + wz * x - wx * z, s[20] + wx * y - wy * x]
}

/// The action of the golden runs: `0.5 sin(0.3 t + j)`.
pub fn scripted<T: Scalar>(t: usize) -> Vec<T> {
    (0..8).map(|j| T::of(0.5 * libm::sin(0.3 * t as f64 + j as f64))).collect()
}

#[track_caller]
pub fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} instead of {expected} ± {tolerance}");
}
