//! A step of latent dynamics, and the way back through it.

use tch::Tensor;

use super::config::{Dynamics, FlowConfig, Solver};
use crate::mlp::passes::{self, Gradients, Passes, Run};

/// The network of the dynamics, ready to be run.
pub struct Ready {
    dynamics: Dynamics,
    passes: Passes,
}

/// What the way back through a step needs, and what it leaves.
pub struct Step {
    dynamics: Dynamics,
    latent: i64,
    actions: i64,
    /// In the order in which they were made: two for each substep of Heun, one otherwise.
    runs: Vec<Run>,
}

impl Ready {
    pub(super) fn new(dynamics: Dynamics, passes: Passes) -> Self {
        Self { dynamics, passes }
    }

    pub(super) fn passes(&self) -> &Passes {
        &self.passes
    }

    /// The latents `[B, L]` that `actions` `[B, A]` lead to from `latents` `[B, L]`.
    pub fn step(&self, latents: &Tensor, actions: &Tensor) -> (Tensor, Step) {
        let mut runs = Vec::new();
        let mut at = |latents: &Tensor, time: Option<f64>| {
            let time = time.map(|time| latents.narrow(1, 0, 1).full_like(time));
            let inputs = [latents, actions].into_iter().chain(&time).collect::<Vec<_>>();
            let (result, run) = self.passes.run(&Tensor::cat(&inputs, 1).unsqueeze(0));
            runs.push(run);
            result.squeeze_dim(0)
        };
        let next = match self.dynamics {
            Dynamics::Mlp => at(latents, None),
            Dynamics::Flow(FlowConfig { solver, substeps, .. }) => {
                let width = 1.0 / f64::from(substeps);
                let mut z = latents.shallow_clone();
                for k in 0..substeps {
                    let time = f64::from(k) * width;
                    let first = at(&z, Some(time));
                    z = match solver {
                        Solver::Euler => z + first * width,
                        Solver::Heun => {
                            let second = at(&(&z + &first * width), Some(time + width));
                            z + (first + second) * (width / 2.0)
                        }
                    };
                }
                z
            }
        };
        let (latent, actions) = (latents.size()[1], actions.size()[1]);
        (next, Step { dynamics: self.dynamics, latent, actions, runs })
    }
}

impl Step {
    /// Gradients with respect to latents and actions, given that with respect to what they led to, `[B, L]`.
    ///
    /// # Panics
    /// If the way back was gone already.
    pub fn pull_back(&mut self, bar: &Tensor) -> (Tensor, Tensor) {
        let (latent, actions) = (self.latent, self.actions);
        let back = |run: &mut Run, bar: &Tensor| {
            let bar = run.pull_back(&bar.unsqueeze(0), true).expect("it was wanted").squeeze_dim(0);
            (bar.narrow(1, 0, latent), bar.narrow(1, latent, actions))
        };
        let Dynamics::Flow(FlowConfig { solver, substeps, .. }) = self.dynamics else {
            let (of_latents, of_actions) = back(&mut self.runs[0], bar);
            return (of_latents.contiguous(), of_actions);
        };
        let width = 1.0 / f64::from(substeps);
        let mut bar = bar.copy();
        let mut of_actions = Tensor::zeros([bar.size()[0], actions], (bar.kind(), bar.device()));
        for runs in self.runs.chunks_exact_mut(if solver == Solver::Heun { 2 } else { 1 }).rev() {
            match runs {
                [first, second] => {
                    let (of_end, of_action) = back(second, &(&bar * (width / 2.0)));
                    let _ = of_actions.g_add_(&of_action);
                    let (of_start, of_action) = back(first, &(&bar * (width / 2.0) + &of_end * width));
                    let _ = of_actions.g_add_(&of_action);
                    bar += of_end + of_start;
                }
                runs => {
                    let (of_start, of_action) = back(&mut runs[0], &(&bar * width));
                    let _ = of_actions.g_add_(&of_action);
                    bar += of_start;
                }
            }
        }
        (bar, of_actions)
    }
}

/// Gradients of the parameters after the ways back through all `steps`.
pub(super) fn gradients(steps: Vec<Step>) -> Gradients {
    passes::gradients(steps.into_iter().flat_map(|step| step.runs).collect())
}
