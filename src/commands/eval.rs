//! `mindseye eval`: a model's memory, a policy's returns.

use std::sync::Arc;

use agents::evaluate;
use anyhow::{Context, Result};
use envs::dataset::{Clips, Dataset, Window};
use envs::policy::{Policy, RandomWalk, TrackOracle};
use envs::registry::find;
use serde_json::json;
use simulators::rng::Seed;
use world_models::clips::ClipLoader;
use world_models::evaluate::{Questions, evaluate_memory};
use world_models::libtorch;
use world_models::memory::baselines::MeanFrame;
use world_models::memory::html::write_html;
use world_models::memory::report::MemoryReport;
use world_models::memory::table::table;
use world_models::memory::{FrameShape, MemoryEvaluation, MemorySettings, Origin};
use world_models::train::Loaded;

use crate::cli::{EvalArgs, EvalCommand, MemoryArgs, PolicyArgs};
use crate::failure::usage;
use crate::run_dir::RunDir;
use crate::terminal::Progress;

/// Clips to watch in a report.
const EXAMPLES: usize = 3;

/// Measures memory or returns.
pub fn run(args: &EvalArgs, threads: usize, json: bool) -> Result<()> {
    match &args.command {
        EvalCommand::Memory(args) => memory(args, threads, json),
        EvalCommand::Policy(args) => policy(args, json),
    }
}

/// Scores the run's newest checkpoint and writes its report.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn memory(args: &MemoryArgs, threads: usize, json: bool) -> Result<()> {
    let run = RunDir::at(&args.run);
    let checkpoint = run.checkpoint()?;
    let device = run.config()?.train.device.resolve()?;
    libtorch::set_threads(threads);
    let (loaded, config) = Loaded::from_checkpoint(&checkpoint, device)?;
    let dataset = Arc::new(Dataset::open(&args.data)?);
    let longest = dataset.info().longest as i64 + 1;
    let context = args.context.unwrap_or(config.train.context);
    let horizon = args.horizon.unwrap_or(longest - context);
    if context < 1 || horizon < 1 || context + horizon > longest {
        return Err(usage(format!(
            "--context {context} --horizon {horizon}: both at least 1, and {} frames in all; the longest episode of {} has {longest}",
            context + horizon,
            args.data.display()
        )));
    }
    if args.batch_size == 0 || args.clips == Some(0) {
        return Err(usage("--batch-size and --clips: allowed is 1 or more"));
    }
    let origin = Origin {
        env: dataset.description().source.env_id.clone(),
        dataset: dataset.digest(),
        seed: dataset.description().source.seed.0,
    };
    let clips = Clips::new(Arc::clone(&dataset), (context + horizon) as usize, Seed(0))?;
    let windows: Vec<Window> = clips.in_order().take(args.clips.unwrap_or(usize::MAX)).collect();
    let mut loader = ClipLoader::new(clips, device)?;
    let shape = FrameShape::new(loader.frame().map(|side| side as usize));
    let mut mean = MeanFrame::new(shape.values());
    for window in &windows {
        let episode = dataset.episode(window.episode).context("a window of this dataset")?;
        mean.add(&episode.column::<u8>("observations")?[..context as usize * shape.values()]);
    }
    let settings = MemorySettings::default();
    let mut evaluation =
        MemoryEvaluation::new(&settings, shape, context as usize, horizon as usize, Some(mean.mean()))?;
    let bar = Progress::new("remember", windows.len() as u64, json);
    let examples = evaluate_memory(
        loaded.model.as_ref(),
        &mut loader,
        Questions { windows: &windows, context: context as usize, batch: args.batch_size, examples: EXAMPLES },
        &mut evaluation,
        &mut |done| bar.at(done as u64, String::new),
    )?;
    bar.finish();
    let name = args.name.clone().unwrap_or_else(|| run.name());
    let mut report = evaluation.report(&name, origin)?;
    for path in &args.beside {
        report = report.with_models_of(&MemoryReport::read_json(path)?)?;
    }
    let out = args.out.clone().unwrap_or_else(|| run.path().join("memory"));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    report.write_json(&out.join("report.json"))?;
    write_html(&report, &examples, &out.join("report.html"))?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", table(&report));
        println!("report: {}", out.join("report.html").display());
    }
    Ok(())
}

/// Plays a policy that needs no training.
#[expect(clippy::print_stdout, reason = "the result of the command")]
fn policy(args: &PolicyArgs, json: bool) -> Result<()> {
    let entry = find(&args.env)?;
    let mut policy: Box<dyn Policy> = match args.policy.as_str() {
        "random" => Box::new(RandomWalk::default()),
        "oracle" => Box::new(TrackOracle),
        other => return Err(usage(format!("--policy {other}: there are random and oracle"))),
    };
    let seed = Seed::try_from(args.seed).map_err(|e| usage(format!("--seed: {e}")))?;
    let found = evaluate(entry.id, &json!({}), policy.as_mut(), args.episodes as usize, seed)
        .map_err(|error| usage(error.to_string()))?;
    if json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!(
            "{} with {}: return {:.2} ± {:.2} (standard error) over {} episodes; spread {:.2}, from {:.2} to {:.2}",
            found.env_id, args.policy, found.mean, found.stderr, found.episodes, found.std, found.min, found.max
        );
    }
    Ok(())
}
