//! Floating-point operations of a control step, counted by running it on numbers that count.

use std::cell::Cell;
use std::ops::{Add, Mul, Neg, Sub};

use super::adjoint::Reverse;
use super::model::{InertiaMode, Model, Plan};
use super::real::{Lanes, Real, SinCos};
use super::step::Workspace;
use super::{ant, cartpole, hopper};

/// Operations by kind. What only moves or chooses numbers is apart.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct Operations {
    add: u64,
    mul: u64,
    fma: u64,
    div: u64,
    sqrt: u64,
    /// Negations, minima, comparisons with their choices.
    other: u64,
}

impl Operations {
    /// A fused multiply-add is two; signs and choices are none.
    fn flops(self) -> u64 {
        self.add + self.mul + 2 * self.fma + self.div + self.sqrt
    }
}

thread_local! {
    static DONE: Cell<Operations> = Cell::default();
}

/// The operations of `work`.
fn operations(work: impl FnOnce()) -> Operations {
    DONE.take();
    work();
    DONE.take()
}

#[derive(Clone, Copy)]
struct Counted(f32);

impl Counted {
    /// `value`, which took one more operation of this kind.
    fn done(value: f32, kind: fn(&mut Operations) -> &mut u64) -> Self {
        let mut operations = DONE.get();
        *kind(&mut operations) += 1;
        DONE.set(operations);
        Self(value)
    }
}

impl Add for Counted {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        Self::done(self.0 + b.0, |done| &mut done.add)
    }
}

impl Sub for Counted {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        Self::done(self.0 - b.0, |done| &mut done.add)
    }
}

impl Mul for Counted {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        Self::done(self.0 * b.0, |done| &mut done.mul)
    }
}

impl Neg for Counted {
    type Output = Self;
    fn neg(self) -> Self {
        Self::done(-self.0, |done| &mut done.other)
    }
}

impl Real for Counted {
    type Scalar = f32;
    type Lanes = Counting;

    fn splat(self, x: f32) -> Self {
        Self(x)
    }
    fn mul_add(self, b: Self, c: Self) -> Self {
        Self::done(self.0.mul_add(b.0, c.0), |done| &mut done.fma)
    }
    fn neg_mul_add(self, b: Self, c: Self) -> Self {
        Self::done((-self.0).mul_add(b.0, c.0), |done| &mut done.fma)
    }
    fn div(self, b: Self) -> Self {
        Self::done(self.0 / b.0, |done| &mut done.div)
    }
    fn sqrt(self) -> Self {
        Self::done(self.0.sqrt(), |done| &mut done.sqrt)
    }
    fn min(self, b: Self) -> Self {
        Self::done(self.0.min(b.0), |done| &mut done.other)
    }
    fn if_less(self, b: Self, yes: Self, no: Self) -> Self {
        Self::done(if self.0 < b.0 { yes.0 } else { no.0 }, |done| &mut done.other)
    }
    fn sin_cos(self) -> (Self, Self) {
        <f32 as SinCos>::sin_cos(self)
    }
    fn map_lanes(self, f: impl Fn(f32) -> (f32, f32)) -> (Self, Self) {
        let (first, second) = f(self.0);
        (Self(first), Self(second))
    }
}

/// One lane.
#[derive(Clone, Copy)]
struct Counting;

impl Lanes for Counting {
    type Scalar = f32;
    type Real = Counted;

    fn count(self) -> usize {
        1
    }
    fn splat(self, x: f32) -> Counted {
        Counted(x)
    }
    fn load(self, from: &[f32]) -> Counted {
        Counted(from[0])
    }
    fn store(self, x: Counted, into: &mut [f32]) {
        into[0] = x.0;
    }
}

/// Operations of one control step from the coordinates `q`, at rest, and of pulling a gradient back through it.
fn of_a_step(model: &Model, q: &[f64]) -> [Operations; 2] {
    let plan = Plan::<f32>::new(model);
    let mut forward = Workspace::new(Counting, &plan);
    let mut reverse = Reverse::new(Counting, &plan);
    for room in [&mut forward, &mut reverse.forward] {
        for (x, &value) in room.q.iter_mut().zip(q) {
            *x = Counted(value as f32);
        }
    }
    reverse.q_bar.fill(Counted(1.0));
    let step = operations(|| forward.control_step(Counting, &plan));
    let back = operations(|| reverse.control_step(Counting, &plan));
    assert!(forward.q.iter().chain(&reverse.q_bar).all(|x| x.0.is_finite()));
    [step, back]
}

#[test]
fn a_step_does_the_same_operations_wherever_the_body_is() {
    let ant = ant::model(InertiaMode::Dflex, ant::SUBSTEPS);
    let mut fallen = ant::START;
    fallen[1] = 0.2;
    let bodies = [
        ("ant", &ant, [&ant::START[..], &fallen[..]]),
        ("hopper", &hopper::hopper(), [&[0.0; 6], &[0.0, -0.5, 0.0, -0.3, -0.3, 0.0]]),
        ("cartpole", &cartpole::cartpole(), [&[0.0; 2], &[5.0, 1.0]]),
    ];
    for (name, model, [one, other]) in bodies {
        let [step, back] = of_a_step(model, one);
        assert_eq!([step, back], of_a_step(model, other), "{name}");
        assert!(back.flops() > step.flops(), "{name}: the step is done again before it is pulled back through");
        for (what, done) in [("step", step), ("pulled back", back)] {
            eprintln!("{name}, {what}: {} flops, {done:?}", done.flops());
        }
    }
}
