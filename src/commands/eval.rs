//! `mindseye eval`: a model's memory, what its belief says, what plans in it come to, a policy's returns.

mod plan;
mod probe;
mod vectors;

use std::path::Path;
use std::sync::Arc;

use agents::{EvaluationError, evaluate};
use anyhow::{Context, Result};
use envs::dataset::{Clips, Dataset, Window};
use envs::env::EnvError;
use envs::registry::find;
use envs::vector::MAX_ENVS;
use simulators::rng::Seed;
use world_models::clips::ClipLoader;
use world_models::evaluate::{Questions, evaluate_memory};
use world_models::libtorch;
use world_models::memory::baselines::MeanFrame;
use world_models::memory::html::write_html;
use world_models::memory::report::{MemoryReport, Saved as _};
use world_models::memory::table::table;
use world_models::memory::{FrameShape, MemoryEvaluation, MemorySettings, Origin};
use world_models::train::{Loaded, RunConfig};

use crate::cli::{EvalArgs, EvalCommand, MemoryArgs, PolicyArgs};
use crate::commands::collect::played_in;
use crate::commands::train::check_columns;
use crate::failure::{Usage, dataset_refused, usage};
use crate::memory::memory;
use crate::policies;
use crate::run_config;
use crate::run_dir::RunDir;
use crate::terminal::{Progress, bytes};

/// Clips to watch in a report.
const EXAMPLES: usize = 3;
/// Clips at a time.
const BATCH: usize = 16;

/// Measures memory, plans or returns.
pub fn run(args: &EvalArgs, threads: usize, json: bool) -> Result<()> {
    match &args.command {
        EvalCommand::Memory(args) => measure(args, threads, json),
        EvalCommand::Probe(args) => probe::measure(args, threads, json),
        EvalCommand::Plan(args) => plan::run(args, threads, json),
        EvalCommand::Policy(args) => policy(args, json),
    }
}

/// Scores the run's newest checkpoint and writes its report.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn measure(args: &MemoryArgs, threads: usize, json: bool) -> Result<()> {
    let run = RunDir::at(&args.run);
    let checkpoint = run.checkpoint()?;
    if let Some(policy) = vectors::policy_of(&checkpoint)? {
        return vectors::measure(args, &run, &checkpoint, &policy, threads, json);
    }
    let config: RunConfig = checkpoint.config()?;
    let dataset = Arc::new(Dataset::open(&args.data).map_err(|error| dataset_refused("--data", &args.data, error))?);
    let (context, horizon) = frames_to_ask(args, &config, &dataset)?;
    let beside = args.beside.iter().map(|path| MemoryReport::read_json(path)).collect::<Result<Vec<_>, _>>()?;
    let device = config.train.device.resolve()?;
    libtorch::set_threads(threads);
    let (loaded, _) = Loaded::from_checkpoint(&checkpoint, device)?;
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
    let (observations, mut seen) = (dataset.column_index("observations")?, vec![0; context as usize * shape.values()]);
    for window in &windows {
        let episode = dataset.episode(window.episode).context("a window of this dataset")?;
        episode.read(observations, 0..context as usize, &mut seen)?;
        mean.add(&seen);
    }
    let settings = MemorySettings::default();
    let mut evaluation =
        MemoryEvaluation::new(&settings, shape, context as usize, horizon as usize, Some(mean.mean()))?;
    let bar = Progress::new("remember", windows.len() as u64, json);
    let examples = evaluate_memory(
        loaded.model.as_ref(),
        &mut loader,
        Questions {
            windows: &windows,
            context: context as usize,
            batch: args.batch_size.unwrap_or(BATCH),
            examples: EXAMPLES,
        },
        &mut evaluation,
        &mut |done| bar.at(done as u64, String::new),
    )
    .with_context(|| checkpoint.path().display().to_string())?;
    bar.finish();
    let name = args.name.clone().unwrap_or_else(|| run.name());
    let mut report = evaluation.report(&name, origin)?;
    for other in &beside {
        report = report.with_models_of(other)?;
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

/// How many frames the model sees and how many it imagines, once the dataset is known to be of its kind.
fn frames_to_ask(args: &MemoryArgs, config: &RunConfig, dataset: &Dataset) -> Result<(i64, i64)> {
    check_dataset(&args.run, &args.data, config, dataset)?;
    let data = args.data.display();
    let longest = dataset.info().longest as i64 + 1;
    let context = args.context.unwrap_or(config.train.context);
    let horizon = args.horizon.unwrap_or(longest - context);
    if horizon < 1 || context + horizon > longest {
        let problem = format!(
            "--context {context} --horizon {horizon}: {} frames in all, but the longest episode of {data} has {longest}",
            context + horizon.max(1)
        );
        let (field, value) = if args.horizon.is_some() { ("--horizon", horizon) } else { ("--context", context) };
        let given = format!("{field} {value}");
        let refusal = Usage::worded(problem).field(field).value(value.to_string()).given_in(Some(given));
        return Err(refusal.allowed(format!("{longest} frames together")).into());
    }
    Ok((context, horizon))
}

/// Refuses a dataset of other frames or actions than the run was trained on.
fn check_dataset(run: &Path, data: &Path, config: &RunConfig, dataset: &Dataset) -> Result<()> {
    let (data, run) = (data.display(), run.display());
    let given = format!("--data {data}");
    check_columns(&config.model, dataset, |observations| {
        let [side, channels] = config.model.frame();
        let problem = format!(
            "the observations of {data} are {:?}, but {run} was trained on [{side}, {side}, {channels}] (model.window = \
             {side}, model.input_channels = {channels})",
            observations.shape
        );
        let advice = Some("give a dataset of the kind it was trained on");
        Usage::worded(problem).field("--data").value(data.to_string()).given_in(Some(given.clone())).suggest(advice)
    })
}

/// Plays a policy.
#[expect(clippy::print_stdout, reason = "the result of the command")]
fn policy(args: &PolicyArgs, json: bool) -> Result<()> {
    let entry = find(&args.env)?;
    let (mut policy, trained_in) = policies::named(&args.policy, args.manner.into(), entry)?;
    let config = played_in(entry, trained_in, &args.layers)?;
    if args.layers.print_config {
        println!("{}", run_config::as_toml(&config)?);
        return Ok(());
    }
    let episodes = args.episodes as usize;
    let each = agents::bytes(entry.id, &config, 1).map_err(refused)?;
    check_envs(args.envs, each, memory().map(|memory| memory.free))?;
    let found = evaluate(entry.id, &config, policy.as_mut(), episodes, Seed(args.seed), args.envs).map_err(refused)?;
    if json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!(
            "{} with {}: return {:.2} ± {:.2} (standard error) over {} episodes; spread {:.2}, from {:.2} to {:.2}; {:.1} steps \
             each, {:.0} % to the time limit",
            found.env_id,
            args.policy,
            found.mean,
            found.stderr,
            found.episodes,
            found.std,
            found.min,
            found.max,
            found.mean_length,
            100.0 * found.full_length
        );
    }
    Ok(())
}

fn refused(error: EvaluationError) -> anyhow::Error {
    match error {
        // Numbers that went wrong in the env are not a mistake of whoever asked.
        EvaluationError::Env(EnvError::NonFinite { .. }) => error.into(),
        EvaluationError::Env(error) => error.into(),
        other => usage(other.to_string()),
    }
}

/// Refuses more envs, of `each` bytes, than there may be or than `free` bytes of memory hold.
fn check_envs(envs: usize, each: u64, free: Option<u64>) -> Result<()> {
    let fit = free.map_or(MAX_ENVS as u64, |free| (free / each).clamp(1, MAX_ENVS as u64));
    if (1..=fit).contains(&(envs as u64)) {
        return Ok(());
    }
    let needed = bytes(each.saturating_mul(envs as u64));
    let problem = match free {
        _ if envs == 0 => "out of range".to_owned(),
        Some(free) => format!("they need about {needed} of memory, {} are free", bytes(free)),
        None => format!("they need about {needed} of memory"),
    };
    let advice = "try 64 (the default); more at a time changes no number";
    Err(Usage::argument("--envs", envs, problem).allowed(format!("1..={fit}")).suggest(Some(advice)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envs_are_refused_beyond_the_memory_and_beyond_the_limit() {
        check_envs(100, 1_000, Some(100_000)).unwrap();
        let said = check_envs(100, 1_000, Some(50_000)).unwrap_err().to_string();
        let problem = "--envs 100: they need about 100.0 kB of memory, 50.0 kB are free; allowed: 1..=50";
        assert!(said.starts_with(problem), "{said}");
        for envs in [0, MAX_ENVS + 1] {
            let said = check_envs(envs, 1, None).unwrap_err().to_string();
            assert!(said.contains("allowed: 1..=1048576"), "{said}");
        }
    }
}
