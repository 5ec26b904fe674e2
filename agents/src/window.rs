//! A window of steps of a policy in a dream: how it goes, and the way back through it to the actor.

use tch::{Kind, Tensor};
use world_models::dream::Dream;

use crate::actor::{Actor, ActorTape};
use crate::returns::Course;

/// What was dreamt. Columns are `[T, N]`, time-major.
pub(crate) struct Window<D> {
    pub dream: D,
    detach: bool,
    tapes: Vec<ActorTape>,
    /// `[N, F]`, what was seen before each step.
    begins: Vec<Tensor>,
    /// `[N, F]`, what each step led to, before any reset.
    ends: Vec<Tensor>,
    /// How episodes went on.
    pub courses: Vec<Course>,
}

/// What came back through a window.
pub(crate) struct Back {
    /// How episodes went on.
    pub courses: Vec<Course>,
    /// Length of the gradient of the objective with respect to each step's actions, earliest first: how far credit reaches.
    pub lengths: Vec<f64>,
}

impl<D: Dream> Window<D> {
    /// Where `detach` is, the actor sees features without gradient.
    pub fn new(dream: D, detach: bool) -> Self {
        let (tapes, begins, ends, courses) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { dream, detach, tapes, begins, ends, courses }
    }

    /// A step: the actions `[N, A]` of the policy as it explores.
    pub fn step(&mut self, actor: &Actor, noise: Tensor) -> Tensor {
        let seen = self.dream.seen();
        let (actions, tape) = actor.explore(&seen, noise);
        self.dream.act(&actions);
        self.begins.push(seen);
        self.ends.push(self.dream.seen());
        self.tapes.push(tape);
        actions
    }

    /// The latest step has led elsewhere than was foreseen.
    pub fn correct(&mut self, led_to: impl FnOnce(&mut D)) {
        led_to(&mut self.dream);
        if let Some(end) = self.ends.last_mut() {
            *end = self.dream.seen();
        }
    }

    /// A window in which no episode ends.
    pub fn dreamt(mut self, actor: &Actor, noises: impl Iterator<Item = Tensor>) -> Self {
        for noise in noises {
            let _ = self.step(actor, noise);
        }
        self.courses = vec![Course::On; self.rows() * self.begins.len()];
        self
    }

    pub fn rows(&self) -> usize {
        self.begins[0].size()[0] as usize
    }

    /// What was seen before each step, `[T * N, F]`.
    pub fn begins(&self) -> Tensor {
        Tensor::cat(&self.begins, 0)
    }

    /// What steps led to, before any reset, `[T * N, F]`.
    pub fn ends(&self) -> Tensor {
        Tensor::cat(&self.ends, 0)
    }

    /// Adds the gradients of a number to those of the actor's parameters, given that with respect to what steps led to, `[T * N, F]`;
    /// the dream has been given that with respect to rewards. A row whose episode ended after a step began the next one elsewhere, so
    /// nothing comes back from there.
    pub fn pull_back(mut self, actor: &Actor, ends: &Tensor) -> Back {
        let rows = self.rows() as i64;
        // With respect to what the actor saw before the step after.
        let mut of_seen: Option<Tensor> = None;
        let mut lengths = Vec::new();
        for t in (0..self.tapes.len()).rev() {
            let courses = &self.courses[t * rows as usize..(t + 1) * rows as usize];
            let goes_on: Vec<f32> = courses.iter().map(|&course| f32::from(u8::from(course == Course::On))).collect();
            let on = Tensor::from_slice(&goes_on).unsqueeze(1);
            let of_end = ends.narrow(0, t as i64 * rows, rows);
            let bar = of_seen.take().map_or_else(|| of_end.shallow_clone(), |of_seen| of_seen * &on + &of_end);
            let of_actions = self.dream.pull_back(&bar, &on);
            lengths.push(of_actions.square().sum(Kind::Double).double_value(&[]).sqrt());
            of_seen = actor.pull_back(&mut self.tapes[t], &of_actions, !self.detach);
        }
        actor.gather(self.tapes);
        lengths.reverse();
        Back { courses: self.courses, lengths }
    }
}
