//! `mindseye train`: a world model on a dataset, or a policy in an environment.

mod policy;
mod settings;

use std::sync::Arc;

use anyhow::Result;
use envs::dataset::{Clips, Dataset};
use envs::storage::{self, Lock};
use serde_json::json;
use settings::{Asked, TRAINERS};
use world_models::clips::ClipLoader;
use world_models::libtorch::{self, Device};
use world_models::train::{self as training, Event, Outcome, train};

pub use settings::check_columns;

use crate::cli::TrainArgs;
use crate::failure::{Stopped, Usage, dataset_refused};
use crate::memory::memory;
use crate::run_dir::{RunDir, World};
use crate::terminal::{self, Progress};

/// Trains, or continues a run.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &TrainArgs, threads: usize, json: bool) -> Result<()> {
    if let Some((trainer, presets)) = TRAINERS.iter().find(|(name, _)| *name == args.model) {
        return policy::run(args, (trainer, presets), threads, json);
    }
    if !settings::is_model(&args.model) {
        return Err(settings::no_model(&args.model));
    }
    let (Some(data), None) = (&args.data, &args.env) else {
        let problem = format!("{} learns from a dataset", args.model);
        let advice = "give it one with --data alone; policies learn in an environment: `mindseye train shac --env ...`";
        let env = args.env.as_deref().unwrap_or_default();
        return Err(Usage::argument("--env", env, problem).suggest(Some(advice)).into());
    };
    let dataset = Arc::new(Dataset::open(data).map_err(|error| dataset_refused("--data", data, error))?);
    let run = RunDir::at(&args.out);
    let begun = (args.resume && run.exists()).then(|| run.config()).transpose()?;
    let asked = Asked::new(args, &dataset, begun.as_ref())?;
    if args.layers.print_config {
        println!("{}", toml::to_string_pretty(asked.config())?);
        return Ok(());
    }
    may_begin(&run, &asked, &dataset, args, threads)?;
    asked.check_dataset(&dataset)?;
    let config = asked.config();
    let device = config.train.device.resolve().map_err(|error| asked.device_refused(&error))?;
    if let (Device::Cpu, Some(memory)) = (device, memory()) {
        asked.check_memory(memory.free)?;
    }
    asked.warn(&dataset);
    let Some(outcome) = run_training(&run, &asked, &dataset, args, device, threads, json)? else { return Ok(()) };
    if outcome.stopped {
        let done = format!("{} of {} updates are saved; add --resume to go on", outcome.update, config.train.updates);
        return Err(Stopped(done).into());
    }
    if json {
        println!(
            "{}",
            json!({ "run": run.path().display().to_string(), "updates": outcome.update, "loss": outcome.loss })
        );
    } else {
        println!("{}: {} updates, loss {:.5}", run.path().display(), outcome.update, outcome.loss);
        println!("next: mindseye eval memory {} --data DATASET", run.path().display());
    }
    Ok(())
}

fn run_training(
    run: &RunDir,
    asked: &Asked,
    dataset: &Arc<Dataset>,
    args: &TrainArgs,
    device: Device,
    threads: usize,
    json: bool,
) -> Result<Option<Outcome>> {
    let stop = terminal::stop_flag()?;
    let config = asked.config();
    let start_from = args.start_from.as_ref().map(|path| settings::weights_of(path, config, device)).transpose()?;
    libtorch::set_threads(threads);
    let frames = (config.train.context + config.train.horizon) as usize;
    let mut loader = ClipLoader::new(Clips::new(Arc::clone(dataset), frames, config.seed)?, device)?;
    let bar = Progress::new("train", config.train.updates, json);
    if args.dry_run {
        let cost = training::cost(config, &mut loader, device)?;
        show(&bar, &Event::Cost(cost));
        return Ok(None);
    }
    let storage = storage::of_process()?;
    storage::create_folders(storage, run.path())?;
    let _lock = Lock::take(run.path())?;
    // Until now another process may have begun the run, or gone on with it.
    let changed = may_begin(run, asked, dataset, args, threads)?;
    // Killed before its first checkpoint, a run goes on from its beginning.
    let resume = (run.exists() && run.has_checkpoint()).then(|| run.checkpoint()).transpose()?;
    if run.exists() && resume.is_none() {
        run.check_beginning()?;
    }
    for line in &changed {
        bar.say(&format!("going on with another {line}"));
    }
    match &resume {
        None => {
            let World { env, config: world } = World::of(dataset);
            let about = json!({ "digest": dataset.digest(), "episodes": dataset.len(), "env": env, "config": world });
            run.begin(storage, config, &about, args.start_from.as_deref())?;
        }
        Some(_) if !changed.is_empty() => run.write_config(storage, config)?,
        Some(_) => {}
    }
    let folder = training::Folder { run: run.path(), storage };
    let from = training::From { resume: resume.as_ref(), weights: start_from.as_ref() };
    let outcome = train(folder, config, &mut loader, device, from, &stop, &mut |event| show(&bar, &event))?;
    bar.finish();
    Ok(Some(outcome))
}

/// Whether the run can be begun, or gone on with; then what has changed since it was begun, a line each.
///
/// # Errors
/// Another run is there, or what is there may not go on like this.
fn may_begin(run: &RunDir, asked: &Asked, dataset: &Dataset, args: &TrainArgs, threads: usize) -> Result<Vec<String>> {
    if !check_place(run, args)? {
        return Ok(Vec::new());
    }
    let changed = asked.check_run(&run.config()?, run.path())?;
    let mut lines: Vec<String> = changed.iter().map(ToString::to_string).collect();
    lines.extend(run.check_origin(dataset, threads)?);
    Ok(lines)
}

/// Whether a run is there that this command may go on with.
///
/// # Errors
/// Another run is there, or something else.
fn check_place(run: &RunDir, args: &TrainArgs) -> Result<bool> {
    let path = run.path().display();
    let refused = |problem: &str, advice: Option<&str>| {
        Usage::worded(format!("{path}: {problem}")).field("--out").value(path.to_string()).suggest(advice)
    };
    if run.path().is_file() {
        return Err(refused("it is a file; a run is a folder", None).into());
    }
    if run.exists() && !args.resume {
        let advice = "add --resume to go on with it, or choose another --out";
        return Err(refused("there is a run already", Some(advice)).into());
    }
    Ok(run.exists())
}

/// Shows what the training loop tells.
pub fn show(bar: &Progress, event: &Event<'_>) {
    match event {
        Event::Cost(cost) => bar.say(&format!(
            "{} parameters, {} of buffers, {:.2} s an update: about {} for {} updates",
            terminal::count(cost.parameters as u64),
            terminal::bytes(cost.bytes as u64),
            cost.update_seconds,
            terminal::duration(cost.update_seconds * cost.updates as f64),
            terminal::count(cost.updates),
        )),
        Event::Updated { update, loss } => bar.at(*update, || format!("loss {loss:.5}")),
        // What was left out has been warned of.
        Event::Saved { .. } | Event::Skipped(_) => {}
    }
}
