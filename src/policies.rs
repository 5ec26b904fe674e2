//! Policies by name: what `eval policy`, `record` and `collect` let act.

use std::path::Path;

use agents::config::PolicyConfig;
use agents::learner::TakeInError;
use agents::train::TrainError;
use agents::{Learned, Manner};
use anyhow::Result;
use envs::collect::{MakePlayer, Player};
use envs::policy::{BlockWorldWalk, Policy, RandomWalk, TrackOracle, Zero};
use envs::registry::Entry;
use serde_json::{Value, json};

use crate::cli::MannerArgs;
use crate::failure::Usage;
use crate::run_dir::RunDir;

impl From<MannerArgs> for Manner {
    fn from(MannerArgs { stochastic, look_every, look_first }: MannerArgs) -> Self {
        Self { stochastic, look_first, look_every }
    }
}

/// A policy by name or by the folder of its run, and the env's configuration that it acts in: that of its training, or the
/// default.
///
/// # Errors
/// No such policy, or one of another env.
pub fn named(name: &str, manner: Manner, entry: &Entry) -> Result<(Box<dyn Policy>, Value)> {
    let policy: Box<dyn Policy> = match name {
        "random" => Box::new(RandomWalk::default()),
        "zero" => Box::new(Zero),
        "oracle" => Box::new(TrackOracle),
        "walk" => Box::new(BlockWorldWalk::default()),
        run if Path::new(run).is_dir() => return learned(run, manner, entry),
        other => {
            let allowed =
                "random, zero, oracle, walk, or the folder of a run of `mindseye train shac`, `pwm` or `dream`";
            return Err(Usage::argument("--policy", other, "there is no such policy").allowed(allowed).into());
        }
    };
    Ok((policy, json!({})))
}

fn learned(run: &str, manner: Manner, entry: &Entry) -> Result<(Box<dyn Policy>, Value)> {
    let policy = Learned::open(&RunDir::at(Path::new(run)).checkpoint()?, manner).map_err(|error| match error {
        TrainError::TakeIn(error @ TakeInError::NoModel { .. }) => {
            let refusal = Usage::argument("--look-every", manner.look_every, error.to_string());
            anyhow::Error::from(refusal.allowed("1: it must see every observation"))
        }
        other => other.into(),
    })?;
    let task = &policy.config().env;
    if task.id != entry.id {
        let problem = format!("it acts in {}, not in {}", task.id, entry.id);
        let advice = format!("say `{}` instead of `{}`", task.id, entry.alias);
        return Err(Usage::argument("--policy", run, problem).suggest(Some(advice)).into());
    }
    let config = task.config.clone();
    Ok((Box::new(policy), config))
}

/// A policy by name, to play episodes for a dataset; and the env's configuration that it acts in, if it has one of its own.
///
/// # Errors
/// As [`named`].
pub fn player(name: &str, manner: Manner, entry: &'static Entry) -> Result<(Player, Option<Value>)> {
    let (_, config) = named(name, manner, entry)?;
    if !Path::new(name).is_dir() {
        let who = name.to_owned();
        let make: MakePlayer =
            Box::new(move || named(&who, manner, entry).map(|(policy, _)| policy).map_err(|error| error.to_string()));
        return Ok((Player { about: json!(name), make }, None));
    }
    let checkpoint = RunDir::at(Path::new(name)).checkpoint()?;
    let trained: PolicyConfig = checkpoint.config()?;
    let about =
        json!({ "run": trained, "weights_sha256": checkpoint.sha256_of_weights(), "stochastic": manner.stochastic });
    let make: MakePlayer = Box::new(move || {
        let policy = Learned::open(&checkpoint, manner).map_err(|error| error.to_string())?;
        Ok(Box::new(policy) as Box<dyn Policy>)
    });
    Ok((Player { about, make }, Some(config)))
}
