//! PWM: updates of the world model and of the policy inside it, and PyTorch's beside them.

use std::path::Path;

use agents::pwm::Rehearsal;
use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use world_models::latent::{Dynamics, FlowConfig};
use world_models::mlp::Numbers;

use super::median_seconds;
use super::models::rival;

/// The same in plain PyTorch, carried along so that the program needs no source tree.
const RIVAL: &str = include_str!("../../../benches/pwm_updates_pytorch.py");
const ROWS: usize = 256;
const HORIZON: usize = 16;

/// What is measured of each kind of dynamics, by the names that the script in Python has for it.
const WHAT: [&str; 4] = ["model_update", "actor_update", "policy_update", "rollout"];

/// PWM at its published sizes, with 256 rows and windows of 16.
#[derive(Clone, Copy)]
pub struct Latents {
    flow: bool,
    numbers: Numbers,
    what: &'static str,
}

/// Each of both dynamics, in bf16 and in single precision.
pub fn benches() -> impl Iterator<Item = Latents> {
    [false, true].into_iter().flat_map(|flow| {
        [Numbers::Bf16, Numbers::F32]
            .into_iter()
            .flat_map(move |numbers| WHAT.into_iter().map(move |what| Latents { flow, numbers, what }))
    })
}

/// PyTorch's seconds, by dynamics, once they are known.
#[derive(Default)]
pub struct Rivals([Option<Value>; 2]);

impl Rivals {
    /// Seconds of the same in plain PyTorch under `python`; the first question for each kind of dynamics takes a while.
    pub fn seconds(&mut self, of: Latents, python: &Path, threads: usize) -> Result<f64> {
        let known = &mut self.0[usize::from(of.flow)];
        if known.is_none() {
            let dynamics = if of.flow { "flow" } else { "mlp" };
            let arguments = [format!("--dynamics={dynamics}"), format!("--threads={threads}")];
            *known = Some(rival(python, RIVAL, &arguments)?);
        }
        known.as_ref().and_then(|found| found[of.what].as_f64()).context("PyTorch says no time")
    }
}

impl Latents {
    /// `pwm/flow_model_update_f32`: dynamics, what, numbers.
    pub fn name(&self) -> String {
        let dynamics = if self.flow { "flow_" } else { "" };
        let numbers = if self.numbers == Numbers::F32 { "_f32" } else { "" };
        format!("pwm/{dynamics}{}{numbers}", self.what)
    }

    /// Seconds of it.
    pub fn seconds(&self) -> Result<f64> {
        let dynamics = if self.flow { Dynamics::Flow(FlowConfig::default()) } else { Dynamics::Mlp };
        let mut rehearsal = Rehearsal::new(dynamics, self.numbers, ROWS, HORIZON)?;
        let mut wrong = None;
        let seconds = median_seconds(|| match self.what {
            "model_update" => rehearsal.model_update(),
            "rollout" => drop(rehearsal.rollout()),
            what => wrong = rehearsal.policy_update(what == "policy_update").err(),
        });
        wrong.map_or(Ok(seconds), |wrong| Err(anyhow!("{}: {} is {}", self.name(), wrong.what, wrong.value)))
    }
}
