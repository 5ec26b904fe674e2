//! `mindseye train shac`, `pwm` and `dream`: a policy in an environment.

use std::path::Path;

use agents::config::{PolicyConfig, Schedule};
use agents::dreamer::{DreamConfig, Mind};
use agents::learner::TakeInError;
use agents::pwm::PwmConfig;
use agents::shac::ShacConfig;
use agents::train::{Event, From, Outcome, TrainError, train};
use anyhow::{Error, Result};
use envs::dataset::Dataset;
use envs::env::EnvError;
use envs::registry::{Entry, find};
use envs::storage::{self, Lock};
use envs::vector::VectorConfig;
use serde_json::json;
use toml::{Table, Value};
use world_models::checkpoint::Checkpoint;
use world_models::libtorch;
use world_models::train::Folder;

use super::check_place;
use super::settings::set_seed;
use crate::cli::TrainArgs;
use crate::failure::{Difference, Stopped, Usage, dataset_refused};
use crate::memory::memory;
use crate::run_config::{self, Fault, Layered, Preset, without_nulls};
use crate::run_dir::{RunDir, differences};
use crate::terminal::{self, Progress, bytes};

/// Fields that a resumed run may change: they decide nothing of what is learned.
const MAY_CHANGE: [&str; 4] = ["log_every", "checkpoint_every", "keep_checkpoints", "nonfinite_limit"];

/// Trains, or continues a run.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &TrainArgs, trainer: (&str, &[Preset]), threads: usize, json: bool) -> Result<()> {
    let Some(env) = &args.env else {
        let problem = format!("{} learns in an environment, not from a dataset", trainer.0);
        let refusal =
            Usage::worded(problem).field("--env").suggest(Some("say --env ant, or another of `mindseye envs`"));
        return Err(refusal.into());
    };
    let entry = find(env)?;
    let run = RunDir::at(&args.out);
    let begun = (args.resume && run.exists()).then(|| run.policy_config()).transpose()?;
    let data = args.data.as_ref().map(|data| dataset_of(data, entry)).transpose()?;
    let (config, layered) = resolved(args, trainer, entry, begun.as_ref())?;
    if args.layers.print_config {
        println!("{}", run_config::as_toml(&config)?);
        return Ok(());
    }
    may_begin(&run, args, &config, &layered, threads)?;
    if pretraining(&config) > 0 && data.is_none() && !run.exists() {
        let refusal = layered.refusal("pwm.model_training.pretraining_updates", "there is nothing to learn from");
        return Err(refusal.suggest(Some("name a dataset with --data, or set it to 0")).into());
    }
    if matches!(&config.dream, Some(DreamConfig { mind: Mind::Learned { .. }, .. }))
        && args.start_from.is_none()
        && !run.exists()
    {
        let refusal = layered.refusal("dream.mind.kind", "there is no world model to live in");
        return Err(refusal.suggest(Some("name the run of one with --start-from")).into());
    }
    libtorch::set_threads(config.trainer().libtorch_threads(threads));
    if let Some(memory) = memory() {
        check_memory(entry, &config, &layered, memory.free)?;
    }
    // An env that is not one to train in is refused before anything is written.
    let mut fresh = agents::train::fresh(&config).map_err(refused)?;
    let start_from = args.start_from.as_ref().map(|path| RunDir::at(path).checkpoint()).transpose()?;
    if !run.exists() {
        data.as_ref().map_or(Ok(()), |dataset| fresh.take_in(dataset)).map_err(|error| refused(error.into()))?;
        if let Some(other) = &start_from {
            fresh.start_from(other).map_err(start_refused)?;
        }
    }
    if args.dry_run {
        drop(fresh);
        println!("{}", cost(&config));
        return Ok(());
    }
    drop(fresh);
    let outcome = train_in(&run, args, (&config, &layered), (data.as_ref(), start_from.as_ref()), threads, json)?;
    if outcome.stopped {
        let epochs = config.trainer().schedule().epochs;
        let done = format!("{} of {epochs} epochs are saved; add --resume to go on", outcome.epoch);
        return Err(Stopped(done).into());
    }
    let path = run.path().display().to_string();
    if json {
        let Outcome { epoch, env_steps, mean_return, .. } = outcome;
        println!("{}", json!({ "run": path, "epochs": epoch, "env_steps": env_steps, "return": mean_return }));
    } else {
        let found = outcome.mean_return.map_or_else(String::new, |mean| format!(", return {mean:.1} while exploring"));
        println!("{path}: {} epochs, {} steps{found}", outcome.epoch, terminal::count(outcome.env_steps));
        println!("next: mindseye eval policy {} --policy {path}", entry.alias);
    }
    Ok(())
}

fn train_in(
    run: &RunDir,
    args: &TrainArgs,
    (config, layered): (&PolicyConfig, &Layered),
    (data, start_from): (Option<&Dataset>, Option<&Checkpoint>),
    threads: usize,
    json: bool,
) -> Result<Outcome> {
    let stop = terminal::stop_flag()?;
    let storage = storage::of_process()?;
    storage::create_folders(storage, run.path())?;
    let _lock = Lock::take(run.path())?;
    // Until now another process may have begun the run, or gone on with it.
    let changed = may_begin(run, args, config, layered, threads)?;
    let resume = (run.exists() && run.has_checkpoint()).then(|| run.checkpoint()).transpose()?;
    if run.exists() && resume.is_none() {
        run.check_beginning()?;
    }
    let mut bars = Bars { config, json, shown: None };
    for line in &changed {
        bars.first().say(&format!("going on with another {line}"));
    }
    if resume.is_none() {
        let about = data.map(|dataset| json!({ "digest": dataset.digest(), "episodes": dataset.len() }));
        run.begin(storage, config, &about.unwrap_or_default(), args.start_from.as_deref())?;
    } else if !changed.is_empty() {
        run.write_config(storage, config)?;
    }
    let folder = Folder { run: run.path(), storage };
    let from = From { resume: resume.as_ref(), data, start_from };
    let outcome = train(folder, config, from, &stop, &mut |event| show(&mut bars, &event));
    let outcome = outcome.map_err(refused)?;
    bars.finish();
    Ok(outcome)
}

fn refused(error: TrainError) -> Error {
    match error {
        TrainError::Env(
            error @ (EnvError::NoGradients { .. } | EnvError::NoVectors { .. } | EnvError::NoPictures { .. }),
        ) => Usage::worded(error.to_string()).field("--env").into(),
        TrainError::Env(error) => error.into(),
        TrainError::TakeIn(
            error @ (TakeInError::NoUse { .. } | TakeInError::Width { .. } | TakeInError::Short { .. }),
        ) => Usage::worded(error.to_string()).field("--data").into(),
        other => other.into(),
    }
}

fn start_refused(error: TakeInError) -> Error {
    match error {
        TakeInError::Checkpoint(error) => error.into(),
        error => Usage::worded(error.to_string()).field("--start-from").into(),
    }
}

/// A dataset of this env.
fn dataset_of(path: &Path, entry: &Entry) -> Result<Dataset> {
    let dataset = Dataset::open(path).map_err(|error| dataset_refused("--data", path, error))?;
    let env = &dataset.description().source.env_id;
    if env != entry.id {
        let problem = format!("its episodes are of {env}, the policy is to act in {}", entry.id);
        return Err(Usage::argument("--data", path.display(), problem).into());
    }
    Ok(dataset)
}

/// The configuration from all layers, above that of the run to go on with.
fn resolved(
    args: &TrainArgs,
    (trainer, presets): (&str, &[Preset]),
    entry: &Entry,
    begun: Option<&PolicyConfig>,
) -> Result<(PolicyConfig, Layered)> {
    // A run of another trainer has no fields to go on with.
    let begun = begun.filter(|begun| begun.trainer().name() == trainer);
    let base = if let Some(begun) = begun {
        Table::try_from(without_nulls(serde_json::to_value(begun)?))?
    } else {
        let mut env = Table::new();
        env.insert("id".into(), Value::String(entry.id.to_owned()));
        env.insert("config".into(), Value::Table(Table::new()));
        let mut base = Table::new();
        base.insert("seed".into(), Value::Integer(0));
        base.insert("env".into(), Value::Table(env));
        // All fields: what is given of a group leaves the rest of it as it is here.
        let defaults = match trainer {
            "pwm" => Table::try_from(PwmConfig::default())?,
            "dream" => Table::try_from(DreamConfig { mind: mind(args)?, ..DreamConfig::default() })?,
            _ => Table::try_from(ShacConfig::default())?,
        };
        base.insert(trainer.into(), Value::Table(defaults));
        base
    };
    let mut layered = run_config::merged(base, &args.layers, presets)?;
    if let Some(id) = layered.get("env.id").filter(|id| id.as_str() != Some(entry.id)) {
        let problem = format!("the command line asks for {}", entry.id);
        let advice = id.as_str().map(|id| format!("say --env {id}"));
        return Err(layered.refusal("env.id", &problem).allowed(format!("\"{}\"", entry.id)).suggest(advice).into());
    }
    set_seed(&mut layered, args)?;
    let parse = |table: Table| {
        let mut config: PolicyConfig = Fault::of(table)?;
        config.env.config = entry.resolve(&config.env.config).map_err(|error| match &error {
            EnvError::Parse { source, .. } => Fault::from(source).within("env.config"),
            other => Fault::whole(other.to_string()),
        })?;
        Ok(config)
    };
    let limits = |config: &PolicyConfig| {
        let env = entry.limits(&config.env.config).unwrap_or_default();
        config.limits().into_iter().chain(env.into_iter().map(|limit| limit.within("env.config"))).collect()
    };
    let config = layered.resolve(parse, limits)?;
    Ok((config, layered))
}

/// The world model of the run that is named, or no memory.
fn mind(args: &TrainArgs) -> Result<Mind> {
    let Some(path) = &args.start_from else { return Ok(Mind::LastFrame) };
    let run = RunDir::at(path);
    if !run.exists() {
        return Err(Usage::argument("--start-from", path.display(), "no run here (no config.json)").into());
    }
    Ok(Mind::Learned { model: run.config()?.model })
}

/// Whether the run can be begun, or gone on with; then what has changed since it was begun, a line each.
///
/// # Errors
/// Another run is there, or what is there may not go on like this.
fn may_begin(
    run: &RunDir,
    args: &TrainArgs,
    config: &PolicyConfig,
    layered: &Layered,
    threads: usize,
) -> Result<Vec<String>> {
    if !check_place(run, args)? {
        return Ok(Vec::new());
    }
    let may_change = MAY_CHANGE.map(|field| format!("{}.{field}", config.trainer().name()));
    let (harmless, changed): (Vec<Difference>, Vec<_>) = differences(&run.policy_config()?, config)
        .into_iter()
        .partition(|difference| may_change.contains(&difference.field));
    if let Some(first) = changed.first() {
        let refusal = Usage::worded(format!("--resume: {} was begun with another configuration", run.path().display()));
        let refusal = refusal.field(&first.field).value(&first.new).given_in(layered.given_in(&first.field));
        let refusal = refusal.allowed(format!("changes of {}", may_change.join(", ")));
        let advice = "leave out what differs, or begin another run with another --out";
        return Err(refusal.suggest(Some(advice)).differing(changed).into());
    }
    let mut lines: Vec<String> = harmless.iter().map(ToString::to_string).collect();
    lines.extend(run.check_machine(threads)?);
    Ok(lines)
}

/// Refuses a training that `free` bytes of memory cannot hold.
fn check_memory(entry: &Entry, config: &PolicyConfig, layered: &Layered, free: u64) -> Result<()> {
    let env = entry.make(&config.env.config, &VectorConfig::default())?;
    let sizes = [env.spec().observation.size() as i64, env.spec().action.size() as i64];
    let trainer = config.trainer();
    let needed = trainer.bytes(sizes);
    if needed <= free {
        return Ok(());
    }
    let problem = format!("training needs about {} of memory, {} are free", bytes(needed), bytes(free));
    let (name, Schedule { num_envs, .. }) = (trainer.name(), trainer.schedule());
    let field = format!("{name}.{}", if num_envs > 1 { "num_envs" } else { "horizon" });
    let most = (num_envs as u64).saturating_mul(free) / needed;
    let refusal = layered.refusal(&field, &problem).value(num_envs.to_string());
    Err(refusal.suggest((most > 0).then(|| format!("try {most}, or a smaller {name}.horizon"))).into())
}

/// What a run will take.
fn cost(config: &PolicyConfig) -> String {
    let (trainer, schedule) = (config.trainer(), config.trainer().schedule());
    format!(
        "{} in {}: {} epochs of {} steps ({} envs, {} steps each): {} steps in all",
        trainer.name(),
        config.env.id,
        terminal::count(schedule.epochs),
        terminal::count(schedule.steps()),
        schedule.num_envs,
        schedule.horizon,
        terminal::count(schedule.epochs * schedule.steps()),
    )
}

/// One bar at a time: for the updates of a model before the first epoch, then for epochs.
struct Bars<'a> {
    config: &'a PolicyConfig,
    json: bool,
    shown: Option<(&'static str, Progress)>,
}

impl Bars<'_> {
    fn of(&mut self, what: &'static str) -> &Progress {
        if self.shown.as_ref().is_none_or(|(shown, _)| *shown != what) {
            self.finish();
            let total = match what {
                "model" => pretraining(self.config),
                _ => self.config.trainer().schedule().epochs,
            };
            self.shown = Some((what, Progress::new(what, total, self.json)));
        }
        &self.shown.as_ref().expect("it was just made").1
    }

    /// The first that there is something to show of.
    fn first(&mut self) -> &Progress {
        self.of(if pretraining(self.config) > 0 { "model" } else { "train" })
    }

    fn finish(&self) {
        if let Some((_, bar)) = &self.shown {
            bar.finish();
        }
    }
}

/// Updates of a model before the first epoch.
fn pretraining(config: &PolicyConfig) -> u64 {
    config.pwm.as_ref().map_or(0, |pwm| pwm.model_training.pretraining_updates)
}

/// Shows what the training loop tells.
fn show(bars: &mut Bars<'_>, event: &Event<'_>) {
    match event {
        Event::Begin { parameters, .. } => {
            let config = bars.config;
            bars.first().say(&format!("{}; {} parameters", cost(config), terminal::count(*parameters as u64)));
        }
        Event::Pretrained { updates, report, .. } => {
            let model = bars.of("model");
            let dynamics = report.dynamics_loss.unwrap_or_default();
            let observations =
                report.decoding_loss.map_or_else(String::new, |loss| format!(", {loss:.5} of observations"));
            model.at(*updates, || format!("loss {dynamics:.5}, {:.5} of rewards{observations}", report.reward_loss));
        }
        Event::Epoch { epoch, env_steps, report } => bars.of("train").at(*epoch, || {
            let steps = terminal::count(*env_steps);
            match report.episodes {
                Some((mean, length)) => format!("{steps} steps, return {mean:.1} over {length:.0} steps"),
                None => format!("{steps} steps, reward {:.3}", report.reward),
            }
        }),
        Event::Skipped { epoch, wrong } => {
            tracing::warn!("nothing was learned in epoch {epoch}: {} is {}", wrong.what, wrong.value);
        }
        Event::Saved { .. } => {}
    }
}
