//! `mindseye train`: a world model on a dataset.

use std::sync::Arc;

use anyhow::Result;
use envs::dataset::{Clips, ColumnSpec, Dataset};
use serde_json::json;
use simulators::rng::Seed;
use toml::{Table, Value};
use world_models::clips::ClipLoader;
use world_models::registry::WorldModelConfig;
use world_models::train::{Event, Outcome, RunConfig, train};
use world_models::{libtorch, train as training};

use crate::cli::{Layers, TrainArgs};
use crate::failure::{Stopped, usage};
use crate::run_config::{self, FLOWM, LINEAR_RNN, Preset};
use crate::run_dir::{RunDir, differences};
use crate::terminal::{self, Progress};

/// Trains, or continues a run.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &TrainArgs, threads: usize, json: bool) -> Result<()> {
    let dataset = Arc::new(Dataset::open(&args.data)?);
    let run = RunDir::at(&args.out);
    let config = if args.resume && run.exists() && args.layers.is_empty() && args.seed.is_none() {
        run.config()?
    } else {
        resolve(&args.model, &dataset, &args.layers, args.seed)?
    };
    if args.layers.print_config {
        println!("{}", toml::to_string_pretty(&config)?);
        return Ok(());
    }
    check(&config, &dataset)?;
    let about = json!({ "digest": dataset.digest(), "episodes": dataset.len() });
    let outcome = run_training(&run, &config, Arc::clone(&dataset), &about, args, threads, json)?;
    let Some(outcome) = outcome else { return Ok(()) };
    if outcome.stopped {
        let done = format!("{} of {} updates are saved; add --resume to go on", outcome.update, config.train.updates);
        return Err(Stopped(done).into());
    }
    if json {
        println!("{}", json!({ "run": run.path(), "updates": outcome.update, "loss": outcome.loss }));
    } else {
        println!("{}: {} updates, loss {:.5}", run.path().display(), outcome.update, outcome.loss);
        println!("next: mindseye eval memory {} --data DATASET", run.path().display());
    }
    Ok(())
}

fn run_training(
    run: &RunDir,
    config: &RunConfig,
    dataset: Arc<Dataset>,
    about: &serde_json::Value,
    args: &TrainArgs,
    threads: usize,
    json: bool,
) -> Result<Option<Outcome>> {
    let resume = match (run.exists(), args.resume) {
        (true, false) => {
            return Err(usage(format!(
                "{}: there is a run already; add --resume to go on with it, or choose another --out",
                run.path().display()
            )));
        }
        (true, true) => {
            let changed: Vec<String> = differences(&run.config()?, config)
                .into_iter()
                .filter(|line| !MAY_CHANGE.iter().any(|field| line.starts_with(field)))
                .collect();
            if !changed.is_empty() {
                return Err(usage(format!(
                    "--resume: {} was begun with another configuration:\n  {}",
                    run.path().display(),
                    changed.join("\n  ")
                )));
            }
            // Killed before its first checkpoint, a run goes on from its beginning.
            run.has_checkpoint().then(|| run.checkpoint()).transpose()?
        }
        (false, _) => None,
    };
    let start_from = args.start_from.as_ref().map(|path| RunDir::at(path).checkpoint()).transpose()?;
    let device = config.train.device.resolve()?;
    libtorch::set_threads(threads);
    let frames = (config.train.context + config.train.horizon) as usize;
    let mut loader = ClipLoader::new(Clips::new(dataset, frames, config.seed)?, device)?;
    let bar = Progress::new("train", config.train.updates, json);
    if args.dry_run {
        let cost = training::cost(config, &mut loader, device);
        show(&bar, &Event::Cost(cost));
        return Ok(None);
    }
    if resume.is_none() {
        run.begin(config, about)?;
    }
    let stop = terminal::stop_flag()?;
    let from = training::From { resume: resume.as_ref(), weights: start_from.as_ref() };
    let outcome = train(run.path(), config, &mut loader, device, from, &stop, &mut |event| show(&bar, &event))?;
    bar.finish();
    Ok(Some(outcome))
}

/// Fields that a resumed run may change.
const MAY_CHANGE: &[&str] =
    &["train.log_every", "train.checkpoint_every", "train.keep_checkpoints", "train.nonfinite_limit", "train.device"];

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
        Event::Saved { .. } => {}
        Event::Skipped { update, what } => bar.say(&format!("update {update} left out: {what} is not finite")),
    }
}

/// The configuration of a run: defaults, what the dataset says of its frames, then the layers.
pub fn resolve(model: &str, dataset: &Dataset, layers: &Layers, seed: Option<u64>) -> Result<RunConfig> {
    let presets: &[Preset] = match model {
        "flowm" => FLOWM,
        "linear_rnn" => LINEAR_RNN,
        other => return Err(usage(format!("no model is called `{other}`; there are: flowm, linear_rnn"))),
    };
    let mut base = Table::new();
    base.insert("seed".into(), Value::Integer(0));
    base.insert("model".into(), Value::Table(model_base(model, dataset)));
    base.insert("train".into(), Value::Table(Table::new()));
    let mut table = run_config::merged(base, layers, presets)?;
    if let Some(seed) = seed {
        let seed = Seed::try_from(seed).map_err(|e| usage(format!("--seed: {e}")))?;
        table.insert("seed".into(), Value::Integer(seed.0 as i64));
    }
    let config: RunConfig = run_config::resolve(table, layers)?;
    config.model.validate().map_err(usage)?;
    config.train.validate().map_err(usage)?;
    Ok(config)
}

/// What the dataset says about the model: the frames' size and colours, and the size of the world.
fn model_base(model: &str, dataset: &Dataset) -> Table {
    let mut base = Table::new();
    base.insert("kind".into(), Value::String(model.to_owned()));
    let observations = dataset.columns().iter().find(|column| column.name == "observations");
    if let Some([height, _, channels]) = observations.map(|column| column.shape.as_slice()) {
        base.insert("window".into(), Value::Integer(*height as i64));
        base.insert("input_channels".into(), Value::Integer(*channels as i64));
    }
    let world = dataset.description().source.config.pointer("/env/world/world").and_then(serde_json::Value::as_i64);
    if let (Some(world), "flowm") = (world, model) {
        base.insert("world".into(), Value::Integer(world));
    }
    base
}

/// What model and dataset must agree on.
fn check(config: &RunConfig, dataset: &Dataset) -> Result<()> {
    let path = dataset.dir().display();
    let Some(observations) = dataset.columns().iter().find(|column| column.name == "observations") else {
        return Err(usage(format!("{path}: no column `observations`")));
    };
    let [side, channels] = config.model.frame();
    let expected = [side as usize, side as usize, channels as usize];
    if observations.shape != expected {
        return Err(usage(format!(
            "model.window = {side}, model.input_channels = {channels}: frames of {expected:?}, but the observations of \
             {path} are {:?}",
            observations.shape
        )));
    }
    let actions = dataset.columns().iter().find(|column| column.name == "actions").map_or(0, ColumnSpec::row_len);
    if matches!(config.model, WorldModelConfig::Flowm(_) | WorldModelConfig::LinearRnn(_)) && actions != 2 {
        return Err(usage(format!("the model takes actions (dx, dy), those of {path} have {actions} numbers")));
    }
    let world = dataset.description().source.config.pointer("/env/world/world").and_then(serde_json::Value::as_i64);
    if let (WorldModelConfig::Flowm(model), Some(world)) = (&config.model, world)
        && model.world != world
    {
        tracing::warn!("model.world = {}, but the torus of {path} has {world}: wrapping is not exact", model.world);
    }
    Ok(())
}
