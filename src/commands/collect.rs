//! `mindseye collect`: episodes into a dataset.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use envs::collect::{CollectConfig, Truth};
use envs::dataset::{Control, Outcome, Request, collect};
use envs::registry::{Entry, find};
use serde_json::json;
use simulators::rng::Seed;
use toml::Table;

use crate::cli::{CollectArgs, Layers, TruthArg};
use crate::failure::{Stopped, usage};
use crate::run_config::{self, MNIST_WORLD, Preset};
use crate::terminal::{self, Progress};

/// Records what the dataset lacks.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &CollectArgs, json: bool) -> Result<()> {
    let entry = find(&args.env)?;
    let mut base = Table::new();
    if let Some(folder) = &args.mnist {
        base.insert("digits".into(), toml::Value::Table(mnist_files(folder, &args.split)?));
    }
    let config = env_config(entry, base, &args.layers)?;
    if args.layers.print_config {
        println!("{}", toml::to_string_pretty(&config)?);
        return Ok(());
    }
    let truth = match args.truth {
        TruthArg::None => Truth::None,
        TruthArg::State => Truth::State,
        TruthArg::Full => Truth::Full,
    };
    let seed = Seed::try_from(args.seed).map_err(|e| usage(format!("--seed: {e}")))?;
    let request = Request { episodes: args.episodes, episodes_per_shard: args.episodes_per_shard };
    let begin = Instant::now();
    let outcome = record(entry, &config, &CollectConfig { seed, truth }, &args.out, request, json)?;
    let seconds = begin.elapsed().as_secs_f64();
    let new_frames = outcome.now.frames - outcome.before.frames;
    if json {
        let digest = envs::dataset::Dataset::open(&args.out)?.digest();
        println!(
            "{}",
            json!({ "episodes": outcome.now.episodes, "frames": outcome.now.frames, "bytes": outcome.now.bytes,
                    "frames_per_second": new_frames as f64 / seconds, "digest": digest })
        );
    } else {
        let speed = match new_frames {
            0 => "nothing to do".to_owned(),
            _ => format!("{} frames/s", terminal::count((new_frames as f64 / seconds) as u64)),
        };
        println!(
            "{}: {} episodes, {} frames, {} ({speed})",
            args.out.display(),
            terminal::count(outcome.now.episodes),
            terminal::count(outcome.now.frames),
            terminal::bytes(outcome.now.bytes),
        );
    }
    Ok(())
}

/// The environment's whole configuration from the layers above `base`.
pub fn env_config(entry: &Entry, base: Table, layers: &Layers) -> Result<serde_json::Value> {
    let presets: &[Preset] = if entry.alias == "mnist-world" { MNIST_WORLD } else { &[] };
    let table = run_config::merged(base, layers, presets)?;
    let value: serde_json::Value = run_config::resolve(table, layers)?;
    entry.resolve(&value).map_err(|error| match error.source() {
        Some(cause) => {
            let cause = cause.to_string();
            usage(format!("{}: {cause}{}", entry.id, run_config::advice(&cause, layers)))
        }
        None => error.into(),
    })
}

/// Collects with a bar, stopping between shards when asked to.
pub fn record(
    entry: &Entry,
    config: &serde_json::Value,
    collect_config: &CollectConfig,
    out: &Path,
    request: Request,
    json: bool,
) -> Result<Outcome> {
    let source = entry.source(config, collect_config)?;
    let stop = terminal::stop_flag()?;
    let bar = std::sync::Mutex::new(Progress::new("collect", request.episodes, json));
    let show = |progress: envs::dataset::Progress| {
        let bar = bar.lock().expect("the bar does not panic");
        bar.at(progress.episodes, || terminal::bytes(progress.bytes));
    };
    let outcome = collect(source.as_ref(), out, request, Control { stop: &stop, progress: &show })?;
    bar.lock().expect("the bar does not panic").finish();
    if outcome.stopped {
        let done = format!(
            "{} of {} episodes are committed; run the same command to go on",
            outcome.now.episodes, request.episodes
        );
        return Err(Stopped(done).into());
    }
    Ok(outcome)
}

/// The digits setting for a folder of MNIST files, zipped or not, of either half.
fn mnist_files(folder: &Path, split: &str) -> Result<Table> {
    let names: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read --mnist {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let find = |kind: &str| {
        let mut fitting: Vec<&PathBuf> =
            names.iter().filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().contains(kind))).collect();
        // The larger training file where both are there.
        fitting.sort_by_key(|path| !path.to_string_lossy().contains("train-"));
        fitting
            .first()
            .map(|path| path.to_string_lossy().into_owned())
            .ok_or_else(|| usage(format!("--mnist {}: no file named like *{kind}* (gzip or not)", folder.display())))
    };
    let mut table = Table::new();
    table.insert("kind".into(), "idx".into());
    table.insert("images".into(), find("images-idx3-ubyte")?.into());
    table.insert("labels".into(), find("labels-idx1-ubyte")?.into());
    table.insert("split".into(), split.into());
    Ok(table)
}
