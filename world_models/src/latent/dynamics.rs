//! A step of latent dynamics, and the way back through it.

use tch::Tensor;

use super::config::Dynamics;
use crate::mlp::passes::{self, Gradients, Passes, Run};

/// The networks of the dynamics, ready to be run.
pub struct Ready {
    dynamics: Dynamics,
    /// One, but for residual dynamics.
    passes: Vec<Passes>,
}

/// What the way back through a step needs, and what it leaves.
pub struct Step {
    dynamics: Dynamics,
    latent: i64,
    actions: i64,
    /// In the order in which they were made.
    runs: Vec<Run>,
}

impl Ready {
    pub(super) fn new(dynamics: Dynamics, passes: Vec<Passes>) -> Self {
        Self { dynamics, passes }
    }

    /// With what `change` makes of all passes.
    pub(super) fn with(&self, change: impl Fn(&Passes) -> Passes) -> Self {
        Self { dynamics: self.dynamics, passes: self.passes.iter().map(change).collect() }
    }

    /// The network of a flow.
    pub(super) fn velocities(&self) -> &Passes {
        &self.passes[0]
    }

    /// The latents `[B, L]` that `actions` `[B, A]` lead to from `latents` `[B, L]`.
    pub fn step(&self, latents: &Tensor, actions: &Tensor) -> (Tensor, Step) {
        let mut runs = Vec::new();
        let mut at = |network: &Passes, latents: &Tensor, time: Option<f64>| {
            let time = time.map(|time| latents.narrow(1, 0, 1).full_like(time));
            let parts: Vec<Tensor> = [latents, actions].into_iter().chain(&time).map(|x| x.unsqueeze(0)).collect();
            let (result, run) = network.run_on(&parts.iter().collect::<Vec<_>>());
            runs.push(run);
            result.squeeze_dim(0)
        };
        let [before @ .., last] = self.passes.as_slice() else { unreachable!("dynamics have a network") };
        let next = match self.dynamics {
            Dynamics::Mlp | Dynamics::Residual { .. } => {
                let z = before.iter().fold(latents.shallow_clone(), |z, network| &z + at(network, &z, None));
                at(last, &z, None)
            }
            Dynamics::Flow(flow) => flow.path().follow(latents, |z, time| at(last, z, Some(time))),
        };
        let (latent, actions) = (latents.size()[1], actions.size()[1]);
        (next, Step { dynamics: self.dynamics, latent, actions, runs })
    }
}

impl Step {
    /// The latents and actions that it began with, `[1, B, L + A]`, in the numbers of the networks.
    pub(super) fn inputs(&self) -> Tensor {
        self.runs[0].input().narrow(2, 0, self.latent + self.actions)
    }

    /// Gradients with respect to latents and actions, given that with respect to what they led to, `[B, L]`.
    ///
    /// # Panics
    /// If the way back was gone already.
    pub fn pull_back(&mut self, bar: &Tensor) -> (Tensor, Tensor) {
        let (latent, actions) = (self.latent, self.actions);
        let mut of_actions = Tensor::zeros([bar.size()[0], actions], (bar.kind(), bar.device()));
        let mut runs = self.runs.iter_mut().rev();
        let mut back = |bar: &Tensor| {
            let run = runs.next().expect("a run for each time a network was asked");
            let bar = run.pull_back(&bar.unsqueeze(0), true).expect("it was wanted").squeeze_dim(0);
            let _ = of_actions.g_add_(&bar.narrow(1, latent, actions));
            bar.narrow(1, 0, latent)
        };
        let of_latents = match self.dynamics {
            Dynamics::Mlp => back(bar).contiguous(),
            Dynamics::Residual { blocks } => {
                let last = back(bar).contiguous();
                (1..blocks).fold(last, |bar, _| &bar + back(&bar))
            }
            Dynamics::Flow(flow) => flow.path().pull_back(bar, back),
        };
        (of_latents, of_actions)
    }
}

/// Gradients of the parameters of each network after the ways back through all `steps`.
pub(super) fn gradients(steps: Vec<Step>) -> Vec<Gradients> {
    let networks = match steps[0].dynamics {
        Dynamics::Residual { blocks } => blocks as usize,
        Dynamics::Mlp | Dynamics::Flow(_) => 1,
    };
    let mut runs: Vec<Vec<Run>> = (0..networks).map(|_| Vec::new()).collect();
    for (number, run) in steps.into_iter().flat_map(|step| step.runs.into_iter().enumerate()) {
        runs[number % networks].push(run);
    }
    runs.into_iter().map(passes::gradients).collect()
}
