//! `mindseye quickstart`: the whole journey in minutes: record, train, measure, report. Every stage is another command, so
//! what was interrupted goes on where it stopped, and what is done is used.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use envs::dataset::ShardOf;
use serde_json::Value;

use crate::cli::{CollectArgs, Layers, MemoryArgs, QuickstartArgs, TrainArgs, TruthArg};
use crate::commands::{collect, eval, train};
use crate::failure::Stopped;
use crate::run_dir::RunDir;
use crate::terminal::duration;

/// Episodes to learn from: about as many as the `tiny` preset draws clips, so that few are seen often.
const TRAINING: u64 = 4_000;
/// Episodes to be measured on: other moves, other digits, and four times as long a future as in training.
const MEASURING: u64 = 256;

/// Goes through all stages.
///
/// # Errors
/// Those of the stages; being stopped is said in terms of this command.
pub fn run(args: &QuickstartArgs, threads: usize, json: bool) -> Result<()> {
    let begin = Instant::now();
    match stages(&args.out, threads, json) {
        Err(error) if error.is::<Stopped>() => {
            Err(Stopped("what is done is saved; run the same command to go on".into()).into())
        }
        Err(error) => Err(error),
        Ok(()) if json => Ok(()),
        Ok(()) => farewell(&args.out, begin.elapsed().as_secs_f64()),
    }
}

fn stages(out: &Path, threads: usize, json: bool) -> Result<()> {
    let run = RunDir::at(&out.join("flowm"));
    say(json, "1/4  Recording episodes to learn from: three digits drift on a torus, a window wanders over it");
    collect::run(&recording(&out.join("data/train"), TRAINING, 0, &["horizon=10"]), json)?;
    say(json, "2/4  Recording episodes to be measured on: digits never seen in training, and a longer future");
    let other_digits = ["digits.kind=drawn", "digits.seed=1"];
    collect::run(&recording(&out.join("data/eval"), MEASURING, 1, &other_digits), json)?;
    if is_trained(&run)? {
        say(json, "3/4  Training FloWM: done already");
    } else {
        let how = if run.has_checkpoint() { ": going on where it stopped" } else { "" };
        say(json, &format!("3/4  Training FloWM, a world model that keeps a map of what it has seen{how}"));
        train::run(&training(&run, out), threads, json)?;
    }
    say(json, "4/4  Measuring what it remembers of what it cannot see");
    eval::measure(&measuring(&run, out), threads, json)
}

#[expect(clippy::print_stdout, reason = "the story of the command")]
fn say(json: bool, line: &str) {
    if !json {
        println!("\n{line}");
    }
}

fn layers(set: &[&str]) -> Layers {
    let set = set.iter().map(ToString::to_string).collect();
    Layers { preset: Some("tiny".into()), config: None, set, print_config: false }
}

fn recording(out: &Path, episodes: u64, seed: u64, set: &[&str]) -> CollectArgs {
    CollectArgs {
        env: "mnist-world".into(),
        episodes,
        out: out.to_owned(),
        policy: Vec::new(),
        stochastic: false,
        seed,
        truth: TruthArg::Full,
        codec: None,
        episodes_per_shard: None,
        shard: ShardOf::WHOLE,
        min_free: None,
        mnist: None,
        split: "train".into(),
        layers: layers(set),
    }
}

fn training(run: &RunDir, out: &Path) -> TrainArgs {
    TrainArgs {
        model: "flowm".into(),
        data: Some(out.join("data/train")),
        env: None,
        out: run.path().to_owned(),
        resume: run.exists(),
        start_from: None,
        seed: None,
        dry_run: false,
        layers: layers(&[]),
    }
}

fn measuring(run: &RunDir, out: &Path) -> MemoryArgs {
    MemoryArgs {
        run: run.path().to_owned(),
        data: out.join("data/eval"),
        context: None,
        horizon: None,
        clips: None,
        batch_size: None,
        out: None,
        name: None,
        beside: Vec::new(),
    }
}

/// Whether the run has all its updates behind it.
fn is_trained(run: &RunDir) -> Result<bool> {
    Ok(run.has_checkpoint() && run.checkpoint()?.progress()?.update >= run.config()?.train.updates)
}

/// How the loss fell, where the report is, what to try next.
#[expect(clippy::print_stdout, reason = "the result of the command")]
fn farewell(out: &Path, seconds: f64) -> Result<()> {
    let program = std::env::args().next().unwrap_or_else(|| "mindseye".into());
    let (shown, losses) = (out.display(), losses(&out.join("flowm/metrics.jsonl"))?);
    if let [first, .., last] = losses[..] {
        println!("Loss in training   {}   {first:.4} -> {last:.4}", curve(&losses, 40));
    }
    println!("Report to look at  {shown}/flowm/memory/report.html");
    println!("All this took      {}; to start anew: rm -r {shown}", duration(seconds));
    println!(
        "
Next, for example:
  the same model without velocity channels, which loses what moves
    {program} train flowm --data {shown}/data/train --preset tiny --set model.v_range=0 --out {shown}/no_vc
  its memory beside that of the first
    {program} eval memory {shown}/no_vc --data {shown}/data/eval --beside {shown}/flowm/memory/report.json
  the world as a task with a reward, played by one who knows where everything is
    {program} eval policy mnist-world-track --policy oracle"
    );
    Ok(())
}

/// The loss of each line of a run's metrics.
fn losses(path: &Path) -> Result<Vec<f64>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let loss = |line: &str| serde_json::from_str::<Value>(line).ok()?["train/loss"].as_f64();
    Ok(text.lines().filter_map(loss).collect())
}

/// A line of bars, `width` at most, as high as the logarithm of the (positive) values.
fn curve(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let logs: Vec<f64> = values.iter().map(|value| value.max(f64::MIN_POSITIVE).ln()).collect();
    let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
    let range = (logs.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low).max(f64::MIN_POSITIVE);
    let per_bar = logs.len().div_ceil(width).max(1);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    logs.chunks(per_bar).map(|part| BARS[((mean(part) - low) / range * 7.0).round() as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_logarithmic_and_no_wider_than_asked() {
        assert_eq!(curve(&[1.0, 0.1, 0.01], 40), "█▅▁");
        assert_eq!(curve(&[0.5; 3], 40), "▁▁▁");
        assert_eq!(curve(&vec![1.0; 100], 40).chars().count(), 34);
        assert_eq!(curve(&[], 40), "");
    }
}
