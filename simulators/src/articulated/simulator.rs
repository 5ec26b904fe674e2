//! Bodies of one kind, each in a world of its own: one a SIMD lane, up to [`Scalar::WIDTH`] at a time.
//!
//! A floating body's state is kept relative to a place of its own on the ground, which follows it: so that single
//! precision serves a body that has run 140 m as well as one that has not.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::adjoint::Reverse;
use super::model::{Model, Plan};
use super::real::{Lanes, Real as _, Scalar};
use super::rooms::Rooms;
use super::step::Workspace;

/// The most lanes that any precision has.
const MOST: usize = 16;

/// Steps bodies of one model, in the precision `T`.
pub struct Simulator<T> {
    plan: Plan<T>,
    rooms: Rooms,
}

/// The state of one body.
#[derive(Clone, Debug, PartialEq)]
pub struct Body<T> {
    /// Coordinates, then velocities, relative to `origin` where the body floats.
    state: Vec<T>,
    /// Place on the ground, x and z, m.
    origin: [f64; 2],
}

impl<T: Scalar> Body<T> {
    /// Coordinates, then velocities, in the frame that has [`Body::origin`] as its origin. A floating body is above it, at
    /// `(0, height, 0)`, after a step.
    #[must_use]
    pub fn centred(&self) -> &[T] {
        &self.state
    }

    /// The place on the ground that [`Body::centred`] is relative to, x and z, m.
    #[must_use]
    pub fn origin(&self) -> [f64; 2] {
        self.origin
    }
}

impl<T: Scalar> Simulator<T> {
    /// For bodies of this model.
    ///
    /// # Panics
    /// If the model is no tree in order (see [`Model`]).
    #[must_use]
    pub fn new(model: &Model) -> Self {
        Self { plan: Plan::new(model), rooms: Rooms::default() }
    }

    /// Numbers of a state: coordinates and velocities.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.plan.coordinates + self.plan.freedoms
    }

    /// Numbers of an action.
    #[must_use]
    pub fn motors(&self) -> usize {
        self.plan.motors.len()
    }

    /// A body in the state `state`: coordinates, then velocities (see [`super::Joint`]), in the world's frame.
    ///
    /// # Panics
    /// If the state has another length.
    #[must_use]
    pub fn body(&self, state: &[f64]) -> Body<T> {
        assert_eq!(state.len(), self.rows(), "coordinates and velocities");
        let mut state = state.to_vec();
        let mut origin = [0.0; 2];
        if self.plan.floating {
            origin = [state[0], state[2]];
            (state[0], state[2]) = (0.0, 0.0);
            shift_twist(&mut state[self.plan.coordinates..], origin);
        }
        Body { state: state.into_iter().map(T::of).collect(), origin }
    }

    /// A body from what [`Body::centred`] and [`Body::origin`] said of it.
    ///
    /// # Panics
    /// If the state has another length.
    #[must_use]
    pub fn centred_body(&self, centred: &[f64], origin: [f64; 2]) -> Body<T> {
        assert_eq!(centred.len(), self.rows(), "coordinates and velocities");
        Body { state: centred.iter().map(|&x| T::of(x)).collect(), origin }
    }

    /// The state of a body, in the world's frame.
    ///
    /// # Panics
    /// If `state` has another length.
    pub fn state(&self, body: &Body<T>, state: &mut [f64]) {
        assert_eq!(state.len(), self.rows(), "coordinates and velocities");
        for (x, own) in state.iter_mut().zip(&body.state) {
            *x = own.to_f64();
        }
        if self.plan.floating {
            let [x, z] = body.origin;
            state[0] += x;
            state[2] += z;
            shift_twist(&mut state[self.plan.coordinates..], [-x, -z]);
        }
    }

    /// One control step of up to [`Scalar::WIDTH`] bodies. `actions` is `[bodies, motors]`; nothing is clipped.
    ///
    /// # Panics
    /// If there are more bodies than lanes, or `actions` has another length.
    pub fn step(&self, bodies: &mut [&mut Body<T>], actions: &[T]) {
        assert!(bodies.len() <= T::WIDTH, "{} bodies, {} lanes", bodies.len(), T::WIDTH);
        assert_eq!(actions.len(), bodies.len() * self.motors(), "one action for each motor of each body");
        Arch::new().dispatch(Step { simulator: self, bodies, actions });
    }

    /// Reverse mode through one control step of up to [`Scalar::WIDTH`] bodies. `bars`, `[bodies, rows]`, is the gradient of
    /// some number with respect to the states after the step, as [`Body::centred`] has them, and becomes that with respect
    /// to the states `before` it; `actions_bar`, `[bodies, motors]`, that with respect to the actions.
    ///
    /// # Panics
    /// As [`Simulator::step`].
    pub fn pull_back(&self, before: &[&Body<T>], actions: &[T], bars: &mut [T], actions_bar: &mut [T]) {
        let count = before.len();
        assert!(count <= T::WIDTH, "{count} bodies, {} lanes", T::WIDTH);
        assert_eq!((actions.len(), actions_bar.len()), (count * self.motors(), count * self.motors()), "actions");
        assert_eq!(bars.len(), count * self.rows(), "one gradient for each number of each state");
        Arch::new().dispatch(PullBack { simulator: self, before, actions, bars, actions_bar });
    }

    /// [`Simulator::step`] of any number of bodies, shared out over threads.
    ///
    /// # Panics
    /// If `actions` has another length.
    pub fn step_all(&self, bodies: &mut [Body<T>], actions: &[T]) {
        assert_eq!(actions.len(), bodies.len() * self.motors(), "one action for each motor of each body");
        bodies.par_chunks_mut(T::WIDTH).enumerate().for_each(|(block, bodies)| {
            let begin = block * T::WIDTH * self.motors();
            let actions = &actions[begin..begin + bodies.len() * self.motors()];
            let mut bodies: Vec<&mut Body<T>> = bodies.iter_mut().collect();
            self.step(&mut bodies, actions);
        });
    }

    /// [`Simulator::pull_back`] of any number of bodies, shared out over threads.
    ///
    /// # Panics
    /// If a length does not fit.
    pub fn pull_back_all(&self, before: &[Body<T>], actions: &[T], bars: &mut [T], actions_bar: &mut [T]) {
        let (rows, motors) = (self.rows(), self.motors());
        assert_eq!((bars.len(), actions_bar.len()), (before.len() * rows, before.len() * motors), "gradients");
        let states = before.par_chunks(T::WIDTH).zip(bars.par_chunks_mut(T::WIDTH * rows));
        let bars = actions_bar.par_chunks_mut((T::WIDTH * motors).max(1));
        states.zip(bars).enumerate().for_each(|(block, ((before, bars), actions_bar))| {
            let begin = block * T::WIDTH * motors;
            let before: Vec<&Body<T>> = before.iter().collect();
            self.pull_back(&before, &actions[begin..begin + before.len() * motors], bars, actions_bar);
        });
    }
}

/// The linear part of a twist about a point that is `[x, z]` further: `v + ω × (x, 0, z)`.
fn shift_twist(twist: &mut [f64], [x, z]: [f64; 2]) {
    let [wx, wy, wz] = [twist[0], twist[1], twist[2]];
    twist[3] += wy * z;
    twist[4] += wz * x - wx * z;
    twist[5] -= wy * x;
}

struct Step<'a, 'b, T> {
    simulator: &'a Simulator<T>,
    bodies: &'a mut [&'b mut Body<T>],
    actions: &'a [T],
}

impl<T: Scalar> WithSimd for Step<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = T::lanes(simd);
        let Simulator { plan, rooms } = self.simulator;
        rooms.with(
            || Workspace::new(lanes, plan),
            #[inline(always)]
            |room| self.run(lanes, room),
        );
    }
}

impl<T: Scalar> Step<'_, '_, T> {
    #[inline(always)]
    fn run<L: Lanes<Scalar = T>>(self, lanes: L, room: &mut Workspace<L>) {
        let Self { simulator: Simulator { plan, .. }, bodies, actions } = self;
        let motors = plan.motors.len();
        for (bodies, first) in bodies.chunks_mut(lanes.count()).zip((0..).step_by(lanes.count())) {
            let actions = &actions[first * motors..(first + bodies.len()) * motors];
            for (row, x) in room.q.iter_mut().chain(&mut room.v).enumerate() {
                *x = gather(lanes, bodies.len(), |lane| bodies[lane].state[row]);
            }
            load_actions(lanes, plan, bodies.len(), actions, &mut room.act);
            room.control_step(lanes, plan);
            if plan.floating {
                let (x, z) = recentre(lanes, room);
                scatter(lanes, x, bodies.len(), |lane, x| bodies[lane].origin[0] += x.to_f64());
                scatter(lanes, z, bodies.len(), |lane, z| bodies[lane].origin[1] += z.to_f64());
            }
            for (row, &x) in room.q.iter().chain(&room.v).enumerate() {
                scatter(lanes, x, bodies.len(), |lane, x| bodies[lane].state[row] = x);
            }
        }
    }
}

struct PullBack<'a, 'b, T> {
    simulator: &'a Simulator<T>,
    before: &'a [&'b Body<T>],
    actions: &'a [T],
    bars: &'a mut [T],
    actions_bar: &'a mut [T],
}

impl<T: Scalar> WithSimd for PullBack<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = T::lanes(simd);
        let Simulator { plan, rooms } = self.simulator;
        rooms.with(
            || Reverse::new(lanes, plan),
            #[inline(always)]
            |room| self.run(lanes, room),
        );
    }
}

impl<T: Scalar> PullBack<'_, '_, T> {
    #[inline(always)]
    fn run<L: Lanes<Scalar = T>>(self, lanes: L, room: &mut Reverse<L>) {
        let Self { simulator: Simulator { plan, .. }, before, actions, bars, actions_bar } = self;
        let (rows, motors) = (plan.coordinates + plan.freedoms, plan.motors.len());
        for (before, first) in before.chunks(lanes.count()).zip((0..).step_by(lanes.count())) {
            let count = before.len();
            for (row, x) in room.forward.q.iter_mut().chain(&mut room.forward.v).enumerate() {
                *x = gather(lanes, count, |lane| before[lane].state[row]);
            }
            load_actions(lanes, plan, count, &actions[first * motors..(first + count) * motors], &mut room.forward.act);
            let bars = &mut bars[first * rows..(first + count) * rows];
            for (row, x) in room.q_bar.iter_mut().chain(&mut room.v_bar).enumerate() {
                *x = gather(lanes, count, |lane| bars[lane * rows + row]);
            }
            room.control_step(lanes, plan);
            for (row, &x) in room.q_bar.iter().chain(&room.v_bar).enumerate() {
                scatter(lanes, x, count, |lane, x| bars[lane * rows + row] = x);
            }
            let actions_bar = &mut actions_bar[first * motors..(first + count) * motors];
            for (motor, &(freedom, gain)) in plan.motors.iter().enumerate() {
                let bar = room.act_bar[freedom] * lanes.splat(gain);
                scatter(lanes, bar, count, |lane, x| actions_bar[lane * motors + motor] = x);
            }
        }
    }
}

/// A register of the first `count` lanes; the others repeat the first, so that nothing in them is out of the ordinary.
#[inline(always)]
fn gather<L: Lanes>(lanes: L, count: usize, of: impl Fn(usize) -> L::Scalar) -> L::Real {
    let mut column = [of(0); MOST];
    for (lane, x) in column[..count].iter_mut().enumerate() {
        *x = of(lane);
    }
    lanes.load(&column)
}

#[inline(always)]
fn scatter<L: Lanes>(lanes: L, x: L::Real, count: usize, mut into: impl FnMut(usize, L::Scalar)) {
    let mut column = [L::Scalar::default(); MOST];
    lanes.store(x, &mut column);
    for (lane, &x) in column[..count].iter().enumerate() {
        into(lane, x);
    }
}

#[inline(always)]
fn load_actions<L: Lanes>(lanes: L, plan: &Plan<L::Scalar>, count: usize, actions: &[L::Scalar], act: &mut [L::Real]) {
    let motors = plan.motors.len();
    for (motor, &(freedom, gain)) in plan.motors.iter().enumerate() {
        act[freedom] = gather(lanes, count, |lane| actions[lane * motors + motor]) * lanes.splat(gain);
    }
}

/// Moves the origins to where the bodies are now; returns by how much.
#[inline(always)]
fn recentre<L: Lanes>(lanes: L, room: &mut Workspace<L>) -> (L::Real, L::Real) {
    let (x, z) = (room.q[0], room.q[2]);
    let v = &mut room.v;
    v[3] = v[1].mul_add(z, v[3]);
    v[4] = v[2].mul_add(x, v[0].neg_mul_add(z, v[4]));
    v[5] = v[1].neg_mul_add(x, v[5]);
    let zero = lanes.splat(L::Scalar::of(0.0));
    (room.q[0], room.q[2]) = (zero, zero);
    (x, z)
}
