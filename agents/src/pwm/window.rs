//! A window of steps: played in the envs and, with the same actions, imagined; and the way back through what was imagined.

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::env::EnvError;
use envs::vector::BatchEnv;
use tch::{Kind, Tensor};
use world_models::latent::Ready;
use world_models::latent::dynamics::Step;

use crate::actor::{Actor, ActorTape};
use crate::columns::{broken_rows, courses, floats_of};
use crate::returns::Course;

/// What was imagined. Columns are `[T, N]`, time-major.
pub(super) struct Window {
    rows: i64,
    detach: bool,
    tapes: Vec<ActorTape>,
    steps: Vec<Step>,
    /// `[N, A]` of each step.
    actions: Vec<Tensor>,
    /// `[N, L]`, where each step began.
    begins: Vec<Tensor>,
    /// `[N, L]`, what each step led to, before any reset.
    ends: Vec<Tensor>,
    /// How the real episodes went on.
    pub courses: Vec<Course>,
}

/// The gradient of some number with respect to what was imagined.
pub(super) struct Bars<'a> {
    /// `[T * N, L + A]`, with respect to where steps began and their actions.
    pub inputs: &'a Tensor,
    /// `[T * N, L]`, with respect to what steps led to.
    pub ends: &'a Tensor,
}

impl Window {
    pub fn new(rows: usize, detach: bool) -> Self {
        let (tapes, steps, actions) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            rows: rows as i64,
            detach,
            tapes,
            steps,
            actions,
            begins: Vec::new(),
            ends: Vec::new(),
            courses: Vec::new(),
        }
    }

    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    /// A step from `latents` `[N, L]`: the actions of the policy as it explores, and what they lead to.
    pub fn imagine(&mut self, ready: &Ready, actor: &Actor, latents: &Tensor, noise: Tensor) -> (Tensor, Tensor) {
        let (actions, tape) = actor.explore(latents, noise);
        let (next, step) = ready.dynamics.step(latents, &actions);
        self.begins.push(latents.shallow_clone());
        self.ends.push(next.shallow_clone());
        self.actions.push(actions.shallow_clone());
        self.tapes.push(tape);
        self.steps.push(step);
        (actions, next)
    }

    /// Takes the same step in the envs, and notes how episodes went on. Returns in how many rows a number was not finite: their
    /// step counts as the end of the world.
    pub fn play(&mut self, envs: &mut dyn BatchEnv, actions: &Tensor, out: &mut StepBatch) -> Result<usize, EnvError> {
        let broken = broken_rows(envs.step(&Buffer::F32(floats_of(actions)), out))?;
        self.courses.extend(courses(out));
        Ok(broken)
    }

    /// Where steps began, `[T * N, L]`.
    pub fn begins(&self) -> Tensor {
        Tensor::cat(&self.begins, 0)
    }

    /// What steps led to, before any reset, `[T * N, L]`.
    pub fn ends(&self) -> Tensor {
        Tensor::cat(&self.ends, 0)
    }

    /// What was done there, `[T * N, A]`.
    pub fn actions(&self) -> Tensor {
        Tensor::cat(&self.actions, 0)
    }

    /// Adds the gradients of a number to those of the actor's parameters: through each step of the dynamics, latest first. A row
    /// whose episode ended after a step began the next one elsewhere, so nothing comes back from there. Returns how episodes
    /// went on.
    pub fn pull_back(mut self, actor: &Actor, bars: &Bars<'_>) -> Vec<Course> {
        let [rows, latent] = [self.rows, self.begins[0].size()[1]];
        let actions = self.actions[0].size()[1];
        let mut onward = Tensor::zeros([rows, latent], (Kind::Float, tch::Device::Cpu));
        for t in (0..self.steps.len()).rev() {
            let courses = &self.courses[t * rows as usize..(t + 1) * rows as usize];
            let goes_on: Vec<f32> = courses.iter().map(|&course| f32::from(u8::from(course == Course::On))).collect();
            let begin = t as i64 * rows;
            let bar = onward * Tensor::from_slice(&goes_on).unsqueeze(1) + bars.ends.narrow(0, begin, rows);
            let (of_latents, of_actions) = self.steps[t].pull_back(&bar);
            let of_inputs = bars.inputs.narrow(0, begin, rows);
            let of_actions = of_actions + of_inputs.narrow(1, latent, actions);
            onward = of_latents + of_inputs.narrow(1, 0, latent);
            if let Some(bar) = actor.pull_back(&mut self.tapes[t], &of_actions, !self.detach) {
                onward += bar;
            }
        }
        actor.gather(self.tapes);
        self.courses
    }
}
