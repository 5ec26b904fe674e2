//! Everything about a latent model that can be set. The defaults are PWM's for one task.

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;

use crate::mlp::GROUP;

/// Sizes, and what the dynamics are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatentConfig {
    /// `L`, numbers of a latent: a multiple of 8.
    pub latent: i64,
    /// Widths of the hidden layers of dynamics and reward.
    pub units: Vec<i64>,
    /// Widths of the hidden layers of the encoder.
    pub encoder_units: Vec<i64>,
    /// How a latent becomes the next.
    pub dynamics: Dynamics,
}

impl Default for LatentConfig {
    fn default() -> Self {
        Self { latent: 512, units: vec![512, 512], encoder_units: vec![256], dynamics: Dynamics::Mlp }
    }
}

/// How a latent becomes the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Dynamics {
    /// A network gives it.
    Mlp,
    /// A network gives a velocity, which is followed from time 0 to 1.
    Flow(FlowConfig),
}

/// Dynamics that follow a velocity (flow matching: Lipman et al. 2023).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowConfig {
    /// How velocities are followed.
    pub solver: Solver,
    /// In how many substeps.
    pub substeps: u32,
    /// At which times velocities are matched in training.
    pub times: Times,
    /// Where from.
    pub starts: Starts,
    /// Whether velocities end in SimNorm, as in the published settings: they then sum to one in each group of eight, where
    /// those that are asked for sum to zero, and no weights fit them.
    pub simnorm_velocity: bool,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            solver: Solver::Heun,
            substeps: 2,
            times: Times::Uniform,
            starts: Starts::Rollout,
            simnorm_velocity: false,
        }
    }
}

/// A method for ordinary differential equations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Solver {
    /// First order: one velocity a substep.
    Euler,
    /// Second order: the mean of the velocities at both ends of Euler's substep.
    Heun,
}

/// Times in 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// Drawn anew for each row and step.
    Uniform,
    /// 0.5.
    Midpoint,
}

/// Where the velocity that is matched starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Starts {
    /// Where the model's own rollout is, with gradient.
    Rollout,
    /// At the latent of what was observed there, without gradient but for the first.
    TeacherForced,
}

impl LatentConfig {
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let groups = self.latent - self.latent % GROUP;
        let own = [
            Limit::whole("latent", self.latent.into(), GROUP.into()..=16_384),
            Limit::whole("latent", self.latent.into(), groups.into()..=groups.into()).because("groups of 8"),
        ];
        let flow = match self.dynamics {
            Dynamics::Mlp => None,
            Dynamics::Flow(flow) => Some(Limit::whole("dynamics.substeps", flow.substeps.into(), 1..=64)),
        };
        own.into_iter()
            .chain(widths("units", &self.units))
            .chain(widths("encoder_units", &self.encoder_units))
            .chain(flow)
            .collect()
    }
}

/// Limits of the widths of hidden layers.
#[must_use]
pub fn widths(field: &str, hidden: &[i64]) -> Vec<Limit> {
    let layers = Limit::whole(field, hidden.len() as i128, 1..=16).because("that many layers");
    let width = |&width: &i64| Limit::whole(field, width.into(), 1..=16_384);
    [layers].into_iter().chain(hidden.iter().map(width)).collect()
}
