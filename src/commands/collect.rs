//! `mindseye collect`: episodes into a dataset.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use agents::Manner;
use anyhow::{Error, Result};
use envs::collect::{CollectConfig, CollectError, PlayedSource, Truth};
use envs::coverage::CoverageError;
use envs::dataset::{
    Bounds, Codec, ColumnSpec, Control, Description, EpisodeSource, Manifest, Outcome, Request, ShardOf, Zstd,
    collect_part,
};
use envs::env::EnvError;
use envs::registry::{Entry, find};
use envs::storage;
use serde_json::{Value, json};
use simulators::rng::Seed;
use toml::Table;
use world_models::libtorch;

use crate::cli::{CodecArg, CollectArgs, Layers, TruthArg};
use crate::failure::{Stopped, Usage};
use crate::memory::memory;
use crate::policies;
use crate::run_config::{self, BLOCK_WORLD, Fault, Layered, MNIST_WORLD, Preset};
use crate::terminal::{self, Progress, bytes};

/// Shards that are recorded, written and checked at a time.
const SHARDS_IN_MEMORY: u64 = 3;

/// Records what the dataset lacks.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &CollectArgs, json: bool) -> Result<()> {
    let entry = find(&args.env)?;
    let players = args
        .policy
        .iter()
        .map(|name| policies::player(name, Manner { stochastic: args.stochastic, ..Manner::default() }, entry));
    let (players, configs): (Vec<_>, Vec<_>) = players.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let trained_in = one_of(&args.policy, configs)?;
    let (config, layered) = env_config(entry, args, trained_in)?;
    if args.layers.print_config {
        println!("{}", run_config::as_toml(&config)?);
        return Ok(());
    }
    let truth = match args.truth {
        TruthArg::None => Truth::None,
        TruthArg::State => Truth::State,
        TruthArg::Full => Truth::Full,
    };
    let codec = args.codec.map(codec_of);
    let request = Request { episodes: args.episodes, episodes_per_shard: args.episodes_per_shard, codec };
    let bounds = Bounds { part: args.shard, min_free: args.min_free.map(|size| size.0) };
    let begin = Instant::now();
    let collect_config = CollectConfig { seed: Seed(args.seed), truth };
    let source = if players.is_empty() {
        entry.source(&config, &collect_config)
    } else {
        // Policies compute on the thread that records their episode.
        libtorch::set_threads(1);
        PlayedSource::new(entry, &config, collect_config.seed, players).map(|source| Box::new(source) as Box<_>)
    };
    let source: Box<dyn EpisodeSource> = source.map_err(|error| source_refused(error, &layered))?;
    if let Some(memory) = memory() {
        check_memory(source.as_ref(), request, &layered, memory.free)?;
    }
    let outcome = record("collect", source.as_ref(), &args.out, (request, bounds), json)?;
    let seconds = begin.elapsed().as_secs_f64();
    let new_frames = outcome.now.frames.saturating_sub(outcome.before.frames);
    if json {
        let digest = Manifest::read(&args.out, &Description::read(&args.out)?)?.digest();
        println!(
            "{}",
            json!({ "shard": args.shard.to_string(), "episodes": outcome.now.episodes, "requested": args.episodes,
                    "frames": outcome.now.frames, "bytes": outcome.now.bytes,
                    "frames_per_second": new_frames as f64 / seconds, "digest": digest })
        );
    } else {
        let speed = match new_frames {
            0 => "nothing to do".to_owned(),
            _ => format!("{} frames/s", terminal::count((new_frames as f64 / seconds) as u64)),
        };
        println!(
            "{}: {}{} episodes, {} frames, {} ({speed})",
            args.out.display(),
            part_of(args.shard, args.episodes),
            terminal::count(outcome.now.episodes),
            terminal::count(outcome.now.frames),
            terminal::bytes(outcome.now.bytes),
        );
    }
    Ok(())
}

/// The codec that was asked for.
pub fn codec_of(codec: CodecArg) -> Codec {
    match codec {
        CodecArg::Raw => Codec::Raw,
        CodecArg::Zstd => Codec::Zstd(Zstd::default()),
    }
}

/// What results begin with where they are of a part of `episodes`.
pub fn part_of(shard: ShardOf, episodes: u64) -> String {
    match shard {
        ShardOf::WHOLE => String::new(),
        part => format!("part {part} of {} episodes: ", terminal::count(episodes)),
    }
}

/// The configuration that the policies were trained in, which must be one.
fn one_of(names: &[String], configs: Vec<Option<Value>>) -> Result<Option<Value>> {
    let mut trained = names.iter().zip(configs).filter_map(|(name, config)| Some((name, config?)));
    let Some((first, config)) = trained.next() else { return Ok(None) };
    if let Some((other, _)) = trained.find(|(_, other)| *other != config) {
        let problem = format!("it was trained in another configuration of the environment than {first}");
        return Err(Usage::argument("--policy", other, problem).into());
    }
    Ok(Some(config))
}

/// The environment's whole configuration from all layers, above that in which its policies were trained.
fn env_config(entry: &Entry, args: &CollectArgs, trained_in: Option<Value>) -> Result<(serde_json::Value, Layered)> {
    let mut base = match trained_in {
        Some(config) => Table::try_from(run_config::without_nulls(config))?,
        None => Table::new(),
    };
    if let Some(folder) = &args.mnist {
        base.insert("digits".into(), toml::Value::Table(mnist_files(folder, &args.split)?));
    }
    let mut layered = run_config::merged(base, &args.layers, presets(entry))?;
    if let Some(folder) = &args.mnist {
        layered.comes_from("digits.split", &format!("--split {}", args.split));
        layered.comes_from("digits", &format!("--mnist {}", folder.display()));
    }
    env_settings(entry, layered)
}

/// Its shipped configurations.
fn presets(entry: &Entry) -> &'static [Preset] {
    match entry.alias {
        "mnist-world" => MNIST_WORLD,
        "block-world" => BLOCK_WORLD,
        _ => &[],
    }
}

/// The environment's whole configuration.
///
/// # Errors
/// A field that it does not have, or a value that is not allowed, with where it was given.
pub fn env_settings(entry: &Entry, layered: Layered) -> Result<(serde_json::Value, Layered)> {
    let parse = |table: Table| {
        let value = Fault::of::<serde_json::Value>(table)?;
        entry.resolve(&value).map_err(|error| match &error {
            EnvError::Parse { source, .. } => Fault::from(source),
            other => Fault::whole(other.to_string()),
        })
    };
    let config = layered.resolve(parse, |config| entry.limits(config).unwrap_or_default())?;
    Ok((config, layered))
}

/// The environment's configuration that a policy is played in: that of its training, if any, below what was asked for.
///
/// # Errors
/// As [`env_settings`].
pub fn played_in(entry: &Entry, trained_in: Value, layers: &Layers) -> Result<Value> {
    let base = Table::try_from(run_config::without_nulls(trained_in))?;
    Ok(env_settings(entry, run_config::merged(base, layers, presets(entry))?)?.0)
}

/// A world that its collector cannot work in, with where its context was given.
fn source_refused(error: CollectError, layered: &Layered) -> Error {
    match &error {
        CollectError::Coverage { source: CoverageError::Infeasible { .. }, .. } => {
            let problem = error.source().map_or_else(String::new, ToString::to_string);
            layered.refusal("context", &problem).into()
        }
        CollectError::Env(EnvError::Digits { source, .. }) => {
            let cause = source.source().map_or_else(String::new, |cause| format!(": {cause}"));
            layered.refusal("digits", &format!("{source}{cause}")).into()
        }
        _ => error.into(),
    }
}

/// Refuses a dataset whose shards `free` bytes of memory cannot hold while they are recorded.
fn check_memory(source: &dyn EpisodeSource, request: Request, layered: &Layered, free: u64) -> Result<()> {
    let (steps, codec) = (source.length().longest(), request.codec.unwrap_or_else(|| source.codec()));
    let rows = |column: &ColumnSpec| (column.row_bytes() as u64).saturating_mul(column.follows.rows(steps) as u64);
    let (columns, sum) = (source.columns(), |sum: u64, rows: u64| sum.saturating_add(rows));
    let episode = columns.iter().map(rows).fold(0, sum).max(1);
    // Before they are packed, pictures lie beside the shard, an episode for each thread. Noise does not become smaller.
    let beside = columns.iter().filter(|column| codec.packs(column)).map(rows).fold(0, sum);
    let beside = beside.saturating_mul(rayon::current_num_threads() as u64);
    let per_shard = request.episodes_per_shard.map_or(1, |asked| asked.min(request.episodes));
    let needed = episode.saturating_mul(per_shard).saturating_mul(SHARDS_IN_MEMORY).saturating_add(beside);
    if needed <= free {
        return Ok(());
    }
    let problem = format!("recording needs about {} of memory, {} are free", bytes(needed), bytes(free));
    let most = free.saturating_sub(beside) / SHARDS_IN_MEMORY / episode;
    Err(match request.episodes_per_shard {
        Some(asked) if most > 0 => {
            Usage::argument("--episodes-per-shard", asked, problem).allowed(format!("1..={most}")).into()
        }
        _ => {
            // What makes episodes long is called otherwise in other tasks.
            let field = ["horizon", "steps"].into_iter().find(|field| layered.get(field).is_some()).unwrap_or("world");
            let problem = format!("episodes of {steps} steps: {problem}");
            layered.refusal(field, &problem).suggest(Some("take shorter episodes, or a smaller window")).into()
        }
    })
}

/// Records what the dataset lacks with a bar that is called `what`, stopping between shards when asked to.
pub fn record(
    what: &'static str,
    source: &dyn EpisodeSource,
    out: &Path,
    (request, bounds): (Request, Bounds),
    json: bool,
) -> Result<Outcome> {
    let storage = storage::of_process()?;
    let outcome = watched(what, json, |control| collect_part(storage, source, out, request, bounds, control))?;
    if outcome.stopped {
        let done = format!(
            "{} of {} episodes are committed; run the same command to go on",
            outcome.now.episodes, outcome.now.requested
        );
        return Err(Stopped(done).into());
    }
    Ok(outcome)
}

/// Does `work`, which commits episodes, with a bar, and with a flag that signals raise.
pub fn watched<T, E: Into<anyhow::Error>>(
    what: &'static str,
    json: bool,
    work: impl FnOnce(Control<'_>) -> Result<T, E>,
) -> Result<T> {
    let stop = terminal::stop_flag()?;
    let bar: Mutex<Option<Progress>> = Mutex::new(None);
    let show = |progress: envs::dataset::Progress| {
        let mut bar = bar.lock().expect("the bar does not panic");
        let bar = bar.get_or_insert_with(|| Progress::new(what, progress.requested, json));
        bar.at(progress.episodes, || terminal::bytes(progress.bytes));
    };
    let done = work(Control { stop: &stop, progress: &show }).map_err(Into::into)?;
    if let Some(bar) = &*bar.lock().expect("the bar does not panic") {
        bar.finish();
    }
    Ok(done)
}

/// The digits setting for a folder of MNIST files, zipped or not, of either half.
fn mnist_files(folder: &Path, split: &str) -> Result<Table> {
    let names: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|error| {
            let folder = folder.display().to_string();
            Usage::argument("--mnist", &folder, format!("cannot be read: {error}")).allowed("a folder of MNIST files")
        })?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let find = |kind: &str| -> Result<String> {
        let mut fitting: Vec<&PathBuf> =
            names.iter().filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().contains(kind))).collect();
        // The larger training file where both are there.
        fitting.sort_by_key(|path| !path.to_string_lossy().contains("train-"));
        fitting.first().map(|path| path.to_string_lossy().into_owned()).ok_or_else(|| {
            let problem = format!("no file named like *{kind}* (gzip or not)");
            Usage::argument("--mnist", folder.display(), problem).into()
        })
    };
    let mut table = Table::new();
    table.insert("kind".into(), "idx".into());
    table.insert("images".into(), find("images-idx3-ubyte")?.into());
    table.insert("labels".into(), find("labels-idx1-ubyte")?.into());
    table.insert("split".into(), split.into());
    Ok(table)
}
