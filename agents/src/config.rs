//! What a policy's run is asked to be: the env, the trainer and its settings, and the schedule that all trainers have.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulators::limits::{self, Limit, OutOfRange};
use simulators::rng::Seed;

use crate::dreamer::DreamConfig;
use crate::networks::{MANY, positive};
use crate::pwm::PwmConfig;
use crate::shac::ShacConfig;

/// Where a policy acts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Id of the env, with version.
    pub id: String,
    /// Its configuration; what is left out is the default.
    pub config: Value,
}

/// Everything that defines a run, as its folder keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Seed of weights, episodes and noise.
    pub seed: Seed,
    /// Where the policy acts.
    pub env: Task,
    /// How it is trained, if by the gradient of its return through the simulator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shac: Option<ShacConfig>,
    /// How it is trained, if inside a learned model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pwm: Option<PwmConfig>,
    /// How it is trained, if it lives in the belief of a world model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dream: Option<DreamConfig>,
}

/// How a policy is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trainer<'a> {
    /// By the gradient of its return through the simulator.
    Shac(&'a ShacConfig),
    /// Inside a learned model.
    Pwm(&'a PwmConfig),
    /// In the belief of a world model.
    Dream(&'a DreamConfig),
}

/// What the loop needs to know of a trainer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Envs side by side.
    pub num_envs: usize,
    /// Steps of a window.
    pub horizon: usize,
    /// Epochs in all.
    pub epochs: u64,
    /// Epochs between two lines of the log.
    pub log_every: u64,
    /// Epochs between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Epochs in a row that may be left out because a number is not finite.
    pub nonfinite_limit: u64,
    /// Learning rate of the actor at first.
    pub learning_rate: f64,
    /// That of the end.
    pub final_learning_rate: f64,
}

impl Schedule {
    /// What every field may hold, the actor's learning rate apart.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        vec![
            // Their states are in every checkpoint.
            Limit::whole("num_envs", self.num_envs as i128, 1..=4096),
            Limit::whole("horizon", self.horizon as i128, 1..=1024),
            Limit::whole("epochs", self.epochs.into(), 1..=MANY),
            positive("final_learning_rate", self.final_learning_rate),
            Limit::whole("log_every", self.log_every.into(), 1..=MANY),
            Limit::whole("checkpoint_every", self.checkpoint_every.into(), 1..=MANY),
            Limit::whole("keep_checkpoints", self.keep_checkpoints as i128, 1..=10_000),
            Limit::whole("nonfinite_limit", self.nonfinite_limit.into(), 1..=1_000),
        ]
    }

    /// A learning rate that begins at `first`, in epoch `epoch` of all.
    #[must_use]
    pub fn rate(&self, first: f64, epoch: u64) -> f64 {
        first + (self.final_learning_rate - first) * epoch as f64 / self.epochs as f64
    }

    /// Steps of the env in each epoch.
    #[must_use]
    pub fn steps(&self) -> u64 {
        (self.num_envs * self.horizon) as u64
    }
}

impl Trainer<'_> {
    /// Its name, on the command line and in configurations.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shac(_) => "shac",
            Self::Pwm(_) => "pwm",
            Self::Dream(_) => "dream",
        }
    }

    /// Threads that libtorch should have for each operation, of so many: one where rows are shared among threads before libtorch is
    /// asked, since its own wait for each other in a loop, on the cores that the others need.
    #[must_use]
    pub fn libtorch_threads(&self, threads: usize) -> usize {
        match self {
            Self::Shac(_) | Self::Pwm(_) => 1,
            Self::Dream(_) => threads,
        }
    }

    /// What the loop needs to know of it.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        match self {
            Self::Shac(config) => config.schedule(),
            Self::Pwm(config) => config.schedule(),
            Self::Dream(config) => config.schedule(),
        }
    }

    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        match self {
            Self::Shac(config) => config.limits(),
            Self::Pwm(config) => config.limits(),
            Self::Dream(config) => config.limits(),
        }
    }

    /// Trainable numbers, for `inputs` observed numbers and `actions`.
    #[must_use]
    pub fn parameters(&self, sizes: [i64; 2]) -> u64 {
        match self {
            Self::Shac(config) => config.parameters(sizes),
            Self::Pwm(config) => config.parameters(sizes),
            Self::Dream(config) => config.parameters(sizes),
        }
    }

    /// About how many bytes a run takes, for `inputs` observed numbers and `actions`.
    #[must_use]
    pub fn bytes(&self, sizes: [i64; 2]) -> u64 {
        match self {
            Self::Shac(config) => config.bytes(sizes),
            Self::Pwm(config) => config.bytes(sizes),
            Self::Dream(config) => config.bytes(sizes),
        }
    }
}

impl PolicyConfig {
    /// How the policy is trained.
    ///
    /// # Panics
    /// If the configuration is not valid.
    #[must_use]
    pub fn trainer(&self) -> Trainer<'_> {
        match (&self.shac, &self.pwm, &self.dream) {
            (Some(config), None, None) => Trainer::Shac(config),
            (None, Some(config), None) => Trainer::Pwm(config),
            (None, None, Some(config)) => Trainer::Dream(config),
            _ => panic!("a valid configuration has one trainer"),
        }
    }

    /// What every field may hold, those of the env apart.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let trainers = [self.shac.is_some(), self.pwm.is_some(), self.dream.is_some()];
        let trainers = trainers.into_iter().filter(|&is| is).count();
        if trainers != 1 {
            return vec![
                Limit::whole("shac, pwm and dream", trainers as i128, 1..=1).because("a policy has one trainer"),
            ];
        }
        let trainer = self.trainer();
        let limits = trainer.limits().into_iter().map(|limit| limit.within(trainer.name()));
        [self.seed.limit("seed")].into_iter().chain(limits).collect()
    }

    /// Checks every field, those of the env apart.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        limits::check(&self.limits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rates_fall_along_a_line() {
        for schedule in [ShacConfig::default().schedule(), PwmConfig::default().schedule()] {
            let rate = |epoch| schedule.rate(schedule.learning_rate, epoch);
            assert!((rate(0) - schedule.learning_rate).abs() < 1e-15 && (rate(schedule.epochs) - 1e-5).abs() < 1e-15);
            assert!((rate(schedule.epochs / 2) - f64::midpoint(schedule.learning_rate, 1e-5)).abs() < 1e-15);
        }
    }

    #[test]
    fn a_policy_has_one_trainer() {
        let config = |more: &str| {
            let text = format!(r#"{{"seed": 0, "env": {{"id": "Ant-v0", "config": {{}}}}{more}}}"#);
            serde_json::from_str::<PolicyConfig>(&text).expect("a configuration")
        };
        for wrong in [config(""), config(r#", "shac": {}, "pwm": {}"#)] {
            let said = wrong.validate().expect_err("no trainer, or two").to_string();
            assert!(said.contains("a policy has one trainer"), "{said}");
        }
        assert_eq!(config(r#", "pwm": {}"#).trainer().name(), "pwm");
    }
}
