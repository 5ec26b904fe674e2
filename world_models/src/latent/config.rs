//! Everything about a latent model that can be set. The defaults are PWM's for one task.

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;

use super::reward::RewardHead;
use crate::flow::{Path, Solver};
use crate::mlp::GROUP;

/// Sizes, and what the dynamics are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatentConfig {
    /// Whether the encoder is given each observed number less its mean, over its deviation.
    pub normalise_observations: bool,
    /// Whether a policy is given latents less their mean, over one deviation for all their numbers. What they tell apart is small beside
    /// what they have in common, so that networks that see them as they are learn slowly; a deviation for each number would raise those
    /// that say least.
    pub normalise_latents: bool,
    /// `L`, numbers of a latent: a multiple of 8.
    pub latent: i64,
    /// Widths of the hidden layers of dynamics and reward.
    pub units: Vec<i64>,
    /// Widths of the hidden layers of the encoder.
    pub encoder_units: Vec<i64>,
    /// How a latent becomes the next.
    pub dynamics: Dynamics,
    /// How rewards are given.
    pub reward: RewardHead,
    /// What a policy is given.
    pub shown: Shown,
}

/// What a policy is given of latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// All of their numbers.
    Latents,
    /// The observations that are read from them, normalised if those that the encoder is given are: by one linear layer, learned with the
    /// model, whose errors shape latents as well. Slopes of values across the surface where latents lie then count for nothing.
    Observations,
    /// The latents that the encoder makes of such observations: all of their numbers, and slopes along the surface alone.
    Projected,
}

impl Default for LatentConfig {
    fn default() -> Self {
        Self {
            normalise_observations: false,
            normalise_latents: false,
            latent: 512,
            units: vec![512, 512],
            encoder_units: vec![256],
            dynamics: Dynamics::Mlp,
            reward: RewardHead::Scalar,
            shown: Shown::Latents,
        }
    }
}

/// How a latent becomes the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Dynamics {
    /// A network gives it.
    Mlp,
    /// So many networks one after another: what each but the last gives is added to the latent, the last gives the next. It
    /// costs what a flow does that takes as many velocities, and has as many times the weights.
    Residual {
        /// How many.
        blocks: u32,
    },
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

impl FlowConfig {
    /// How velocities are followed.
    #[must_use]
    pub fn path(self) -> Path {
        Path { solver: self.solver, substeps: self.substeps }
    }
}

impl LatentConfig {
    /// Numbers that a policy is given, where `inputs` are observed.
    #[must_use]
    pub fn features(&self, inputs: i64) -> i64 {
        match self.shown {
            Shown::Latents | Shown::Projected => self.latent,
            Shown::Observations => inputs,
        }
    }

    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let groups = self.latent - self.latent % GROUP;
        let own = [
            Limit::whole("latent", self.latent.into(), GROUP.into()..=16_384),
            Limit::whole("latent", self.latent.into(), groups.into()..=groups.into()).because("groups of 8"),
        ];
        let dynamics = match self.dynamics {
            Dynamics::Mlp => Vec::new(),
            Dynamics::Residual { blocks } => vec![Limit::whole("blocks", blocks.into(), 1..=64)],
            Dynamics::Flow(flow) => flow.path().limits(),
        };
        own.into_iter()
            .chain(widths("units", &self.units))
            .chain(widths("encoder_units", &self.encoder_units))
            .chain(dynamics.into_iter().map(|limit| limit.within("dynamics")))
            .chain(self.reward.limits().into_iter().map(|limit| limit.within("reward")))
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
