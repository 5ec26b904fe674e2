//! Batches of envs whose steps gradients can be pulled back through: what a policy is trained on by first-order gradients.
//!
//! The envs of a [`DifferentiableEnv`] play episodes as those of any [`BatchEnv`](crate::vector::BatchEnv) do, with the
//! auto-reset in the same step. They remember a window of steps, and [`DifferentiableEnv::pull_back`] goes through it from its
//! end: reverse mode, in which nothing of a step is kept but the state before it. Steps of a policy alternate with those of
//! the envs, so whoever trains it goes back in the same turn: the gradient of the actions into the policy, what comes out of
//! it at its inputs into the step before.

use crate::batch::StepBatch;
use crate::buffer::Buffer;
use crate::env::{EnvError, EnvSpec};
use crate::vector::{Reset, VectorSnapshot};

/// The gradient of some number with respect to what a step gave.
#[derive(Clone, Copy, Debug)]
pub struct StepBars<'a> {
    /// `[N, O]`, with respect to [`StepBatch::obs`]. A row whose episode stopped is cut: its new episode depends on nothing.
    pub obs: &'a [f32],
    /// `[N, O]`, with respect to [`StepBatch::final_obs`].
    pub final_obs: &'a [f32],
    /// `[N]`, with respect to [`StepBatch::reward`].
    pub reward: &'a [f32],
}

/// `N` envs of one kind, stepped as one, that remember their steps.
///
/// Observations and actions are 32-bit floats.
pub trait DifferentiableEnv: Send {
    /// Spaces, time limit and configuration of each row.
    fn spec(&self) -> &EnvSpec;

    /// Number of rows `N`.
    fn num_envs(&self) -> usize;

    /// As [`BatchEnv::reset`](crate::vector::BatchEnv::reset). Forgets all steps.
    ///
    /// # Errors
    /// As there.
    fn reset(&mut self, which: Reset<'_>, obs: &mut Buffer) -> Result<(), EnvError>;

    /// As [`BatchEnv::step`](crate::vector::BatchEnv::step), and remembers the step.
    ///
    /// # Errors
    /// As there. After [`EnvError::NonFinite`] the step is remembered too; the rows where it happened are over, are reset by
    /// the next step, and give no gradient in either.
    fn step(&mut self, actions: &Buffer, out: &mut StepBatch) -> Result<(), EnvError>;

    /// Steps remembered.
    fn remembered(&self) -> usize;

    /// Forgets all steps: a window begins here. Episodes go on.
    fn forget(&mut self);

    /// Pulls gradients back through the latest step that is remembered, and forgets it. Beside `bars`, the gradient that the
    /// step after it has left for the states goes in. Writes the gradient with respect to the actions, `[N, A]`.
    ///
    /// # Panics
    /// If no step is remembered, or a length does not fit.
    fn pull_back(&mut self, bars: StepBars<'_>, actions_bar: &mut [f32]);

    /// As [`BatchEnv::snapshot`](crate::vector::BatchEnv::snapshot); remembered steps are not in it.
    fn snapshot(&self) -> VectorSnapshot;

    /// As [`BatchEnv::restore`](crate::vector::BatchEnv::restore). Forgets all steps.
    ///
    /// # Errors
    /// As there.
    fn restore(&mut self, snapshot: &VectorSnapshot) -> Result<(), EnvError>;
}
