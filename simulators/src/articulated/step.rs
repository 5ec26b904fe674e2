//! A control step: some substeps under the same actuation, in the lanes of one register.

use super::dynamics::{Factor, LinkState, factorise, forces, integrate, kinematics, solve};
use super::model::Plan;
use super::real::{Lanes, Scalar};
use super::spatial::Inertia;

/// Room for a control step.
pub(super) struct Workspace<L: Lanes> {
    pub q: Vec<L::Real>,
    pub v: Vec<L::Real>,
    /// Actuation of each degree of freedom.
    pub act: Vec<L::Real>,
    pub links: Vec<LinkState<L::Real>>,
    pub composite: Vec<Inertia<L::Real>>,
    pub factor: Factor<L::Real>,
    /// Forces, then accelerations.
    pub tau: Vec<L::Real>,
}

impl<L: Lanes> Workspace<L> {
    pub fn new(lanes: L, plan: &Plan<L::Scalar>) -> Self {
        let zero = lanes.splat(L::Scalar::of(0.0));
        let state = LinkState::zero(zero);
        Self {
            q: vec![zero; plan.coordinates],
            v: vec![zero; plan.freedoms],
            act: vec![zero; plan.freedoms],
            links: vec![state; plan.links.len()],
            composite: vec![state.inertia; plan.links.len()],
            factor: Factor { l: vec![zero; plan.freedoms * plan.freedoms], inverse: vec![zero; plan.freedoms] },
            tau: vec![zero; plan.freedoms],
        }
    }

    /// Advances `q` and `v` by one control step under `act`.
    #[inline(always)]
    pub fn control_step(&mut self, lanes: L, plan: &Plan<L::Scalar>) {
        for substep in 0..plan.substeps {
            self.accelerate(lanes, plan, substep);
            integrate(lanes, plan, &self.tau, &mut self.q, &mut self.v);
        }
    }

    /// Finds the accelerations of substep number `substep`, into `tau`.
    #[inline(always)]
    pub fn accelerate(&mut self, lanes: L, plan: &Plan<L::Scalar>, substep: usize) {
        kinematics(lanes, plan, &self.q, &self.v, &mut self.links);
        if substep.is_multiple_of(plan.mass_matrix_every) {
            factorise(lanes, plan, &self.links, &mut self.composite, &mut self.factor);
        }
        forces(lanes, plan, &self.q, &self.v, &self.act, &mut self.links, &mut self.tau);
        solve(&plan.up, &self.factor, &mut self.tau);
    }
}
