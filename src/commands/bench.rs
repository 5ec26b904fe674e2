//! `mindseye bench`: how fast this machine does what users wait for. Every number is taken warm, over a second or more.

mod bodies;
mod latents;
mod models;
mod peers;
mod worlds;

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use world_models::libtorch;

use crate::cli::BenchArgs;
use crate::failure::usage;
use crate::terminal;

/// What is measured, in this order; an update is followed by PyTorch's where a Python is given.
enum Bench {
    /// A rate or a time: name, unit, and how to take it.
    One(&'static str, &'static str, fn() -> Result<f64>),
    /// One training update of FloWM, in seconds.
    Update(models::Update),
    /// PWM, in seconds.
    Latents(latents::Latents),
}

/// Name, unit, and how to take it.
type Rate = (&'static str, &'static str, fn() -> Result<f64>);

fn benches() -> Vec<Bench> {
    let updates = models::UPDATES.into_iter().map(Bench::Update);
    let rates = worlds::BENCHES.into_iter().chain(bodies::BENCHES);
    let rates = rates.map(|(name, unit, take)| Bench::One(name, unit, take));
    let imagine = Bench::One("flowm/imagine", "frames/s", models::imagine);
    rates.chain(updates).chain([imagine]).chain(latents::benches().map(Bench::Latents)).collect()
}

impl Bench {
    fn name(&self) -> String {
        match self {
            Self::One(name, ..) => (*name).to_owned(),
            Self::Update(update) => update.name(),
            Self::Latents(latents) => latents.name(),
        }
    }
}

/// Measures what the name selects; a row as soon as it is known.
pub fn run(args: &BenchArgs, threads: usize, json: bool) -> Result<()> {
    libtorch::set_threads(threads);
    let all = benches();
    let asked = args.name.as_deref().unwrap_or("");
    if !all.iter().any(|bench| bench.name().contains(asked)) {
        let names: Vec<String> = all.iter().map(Bench::name).collect();
        return Err(usage(format!("no benchmark has `{asked}` in its name; there are:\n  {}", names.join("\n  "))));
    }
    let (mut env_step, mut with_gradient, mut rivals) = (None, None, latents::Rivals::default());
    for bench in all.iter().filter(|bench| bench.name().contains(asked)) {
        let name = bench.name();
        match bench {
            Bench::One(_, unit, take) => {
                let value = take()?;
                row(&name, value, unit, json);
                match name.as_str() {
                    "ant/env_step" => env_step = Some(value),
                    "ant/step_and_gradient" => with_gradient = Some(value),
                    _ => {}
                }
            }
            Bench::Update(update) => {
                let seconds = update.seconds()?;
                row(&name, seconds, "s", json);
                if let (Some(python), true) = (&args.python, update.has_rival()) {
                    compare(&name, seconds, update.pytorch_seconds(python, threads)?, json);
                }
            }
            Bench::Latents(latents) => {
                // As `mindseye train pwm` has it.
                libtorch::set_threads(1);
                let seconds = latents.seconds()?;
                libtorch::set_threads(threads);
                row(&name, seconds, "s", json);
                if let Some(python) = &args.python {
                    compare(&name, seconds, rivals.seconds(*latents, python, threads)?, json);
                }
            }
        }
    }
    if env_step.or(with_gradient).is_some() {
        peers::print(env_step, with_gradient, json);
    }
    Ok(())
}

/// PyTorch's seconds beside ours.
fn compare(name: &str, ours: f64, theirs: f64, json: bool) {
    row(&format!("{name}_pytorch"), theirs, "s", json);
    row(&format!("{name}_speedup"), theirs / ours, "times", json);
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn row(name: &str, value: f64, unit: &str, json: bool) {
    if json {
        println!("{}", json!({ "name": name, "value": value, "unit": unit }));
    } else {
        let value = if value < 1000.0 { format!("{value:.4}") } else { terminal::count(value.round() as u64) };
        println!("{name:<44} {value:>14} {unit}");
    }
}

/// Long enough for caches to fill and processors to wake up.
const WARM: Duration = Duration::from_millis(200);
/// Long enough to trust.
const ENOUGH: Duration = Duration::from_secs(1);

/// Seconds that one call of `work` takes, on average, once it is warm.
fn seconds_per_call(work: impl FnMut()) -> f64 {
    let calls = warm_calls(2, work);
    calls.iter().sum::<f64>() / calls.len() as f64
}

/// Seconds that a call of `work` takes once it is warm: the median, as of the scripts that it is compared with.
fn median_seconds(work: impl FnMut()) -> f64 {
    let mut calls = warm_calls(5, work);
    calls.sort_by(f64::total_cmp);
    calls[calls.len() / 2]
}

/// Seconds of each call of `work`, so many at least, once it is warm.
fn warm_calls(least: usize, mut work: impl FnMut()) -> Vec<f64> {
    let mut repeated = |least: usize, time: Duration| {
        let (begin, mut calls) = (Instant::now(), Vec::new());
        while calls.len() < least || begin.elapsed() < time {
            let call = Instant::now();
            work();
            calls.push(call.elapsed().as_secs_f64());
        }
        calls
    };
    repeated(1, WARM);
    repeated(least, ENOUGH)
}
