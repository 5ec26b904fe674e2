//! What mechanics says of a state: mass, momentum, energy, the mass matrix. For tests and for people; nothing steps by it.

use pulp::Scalar as OneLane;

use super::dynamics::mass_matrix;
use super::model::{Model, Plan};
use super::real::{F64, F64Lanes, Lanes as _, Real as _, Scalar as _};
use super::step::Workspace;

/// Of a whole body, about the world's origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Mechanics {
    /// kg.
    pub mass: f64,
    /// Centre of mass, m.
    pub com: [f64; 3],
    /// Angular momentum, kg m²/s, then linear momentum, kg m/s.
    pub momentum: [f64; 6],
    /// J.
    pub kinetic_energy: f64,
    /// `[n, n]`, without armature.
    pub mass_matrix: Vec<f64>,
    /// Joint-space force of each degree of freedom: all but inertia, at the actuation given; N m or N.
    pub forces: Vec<f64>,
    /// Acceleration of each degree of freedom.
    pub accelerations: Vec<f64>,
}

impl Model {
    /// Mechanics of the state `state`, coordinates then velocities, under `actions`, one for each motor.
    ///
    /// # Panics
    /// If a length is not the model's.
    #[must_use]
    pub fn mechanics(&self, state: &[f64], actions: &[f64]) -> Mechanics {
        let plan = Plan::<f64>::new(self);
        assert_eq!((state.len(), actions.len()), (plan.coordinates + plan.freedoms, plan.motors.len()));
        let lanes = F64Lanes(OneLane);
        let get = |x: F64<OneLane>| {
            let mut out = [0.0];
            lanes.store(x, &mut out);
            out[0]
        };
        let mut room = Workspace::new(lanes, &plan);
        for (x, &value) in room.q.iter_mut().chain(&mut room.v).zip(state) {
            *x = lanes.splat(value);
        }
        for (&(freedom, gain), &action) in plan.motors.iter().zip(actions) {
            room.act[freedom] = lanes.splat(gain * action);
        }
        room.accelerate(lanes, &plan, 0);
        let accelerations = room.tau.iter().map(|&a| get(a)).collect();
        let mut forces = room.tau.clone();
        super::dynamics::forces(lanes, &plan, &room.q, &room.v, &room.act, &mut room.links, &mut forces);
        let zero = lanes.splat(f64::of(0.0));
        let mut all = super::spatial::Wrench::zero(zero);
        let (mut energy, mut mass, mut first) = (zero, zero, super::spatial::V3::zero(zero));
        for state in &room.links {
            let momentum = state.inertia.apply(state.twist);
            all = all.add(momentum);
            energy = energy + state.twist.dot(momentum).scale(0.5);
            (mass, first) = (mass + state.inertia.m, first + state.inertia.h);
        }
        let n = plan.freedoms;
        let mut h = vec![zero; n * n];
        mass_matrix(lanes, &plan, &room.links, &mut room.composite, &mut h);
        for i in 0..n {
            for j in 0..i {
                h[j * n + i] = h[i * n + j];
            }
        }
        let mass = get(mass);
        Mechanics {
            mass,
            com: [first.0, first.1, first.2].map(|x| get(x) / mass),
            momentum: [all.t.0, all.t.1, all.t.2, all.f.0, all.f.1, all.f.2].map(get),
            kinetic_energy: get(energy),
            mass_matrix: h.into_iter().map(get).collect(),
            forces: forces.into_iter().map(get).collect(),
            accelerations,
        }
    }
}
