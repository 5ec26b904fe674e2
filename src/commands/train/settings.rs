//! What a training run is asked to be: its configuration from all layers, checked against the dataset, the machine, and the
//! run that it goes on with, before anything is created.

use std::path::Path;

use anyhow::{Error, Result};
use envs::dataset::{ColumnSpec, Dataset, Dtype};
use toml::{Table, Value};
use world_models::checkpoint::{Checkpoint, CheckpointError};
use world_models::clips::Actions;
use world_models::libtorch::{CUDA_ADVICE, Device, DeviceError};
use world_models::registry::WorldModelConfig;
use world_models::train::{Loaded, RunConfig};

use crate::cli::TrainArgs;
use crate::failure::{Difference, Usage};
use crate::run_config::{self, DREAM, FLOWM, FLOWM3D, Fault, LINEAR_RNN, Layered, PWM, Preset, SHAC};
use crate::run_dir::{RunDir, differences};
use crate::terminal::bytes;

/// Fields that a resumed run may change: they decide nothing of what is learned.
const MAY_CHANGE: [&str; 5] =
    ["train.log_every", "train.checkpoint_every", "train.keep_checkpoints", "train.nonfinite_limit", "train.device"];
/// The models, and the presets of each.
const MODELS: [(&str, &[Preset]); 3] = [("flowm", FLOWM), ("flowm3d", FLOWM3D), ("linear_rnn", LINEAR_RNN)];
/// Ways to train a policy, and the presets of each.
pub const TRAINERS: [(&str, &[Preset]); 3] = [("shac", SHAC), ("pwm", PWM), ("dream", DREAM)];

/// A configuration, and where each of its fields was given.
pub struct Asked {
    config: RunConfig,
    layered: Layered,
}

/// That nothing trainable has this name.
pub fn no_model(name: &str) -> Error {
    let known: Vec<&str> = MODELS.iter().chain(&TRAINERS).map(|(name, _)| *name).collect();
    let refusal = Usage::worded(format!("no model is called `{name}`")).field("MODEL").value(name);
    let nearest = run_config::nearest(name, known.iter().copied());
    refusal.allowed(known.join(", ")).suggest(nearest).into()
}

/// Whether a world model has this name.
pub fn is_model(name: &str) -> bool {
    MODELS.iter().any(|(known, _)| *known == name)
}

impl Asked {
    /// Defaults and what the dataset says of its frames, or the configuration of the run to go on with; then the layers.
    ///
    /// # Errors
    /// A configuration that is refused, alone.
    pub fn new(args: &TrainArgs, dataset: &Dataset, begun: Option<&RunConfig>) -> Result<Self> {
        let model = args.model.as_str();
        let Some((_, presets)) = MODELS.iter().find(|(name, _)| *name == model) else {
            return Err(no_model(model));
        };
        // A run of another model has no fields to go on with; `check_run` says so.
        let begun =
            begun.map(Table::try_from).transpose()?.filter(|begun| begun["model"]["kind"].as_str() == Some(model));
        let going_on = begun.is_some();
        let base = begun.unwrap_or_else(|| {
            let mut base = Table::new();
            base.insert("seed".into(), Value::Integer(0));
            base.insert("model".into(), Value::Table(model_base(model, dataset)));
            base.insert("train".into(), Value::Table(Table::new()));
            base
        });
        let mut layered = run_config::merged(base, &args.layers, presets)?;
        let from = if going_on { args.out.join("config.json") } else { dataset.dir().join("dataset.json") };
        for field in ["model.window", "model.world", "model.input_channels"] {
            layered.comes_from(field, &from.display().to_string());
        }
        if let Some(kind) = layered.get("model.kind").filter(|kind| kind.as_str() != Some(model)) {
            let problem = format!("the command line asks for {model}");
            let advice = kind.as_str().map(|kind| format!("say `mindseye train {kind}`"));
            return Err(layered.refusal("model.kind", &problem).allowed(format!("\"{model}\"")).suggest(advice).into());
        }
        set_seed(&mut layered, args)?;
        let config = layered.resolve(Fault::of, RunConfig::limits)?;
        Ok(Self { config, layered })
    }

    /// The configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// What model, training and dataset must agree on.
    ///
    /// # Errors
    /// Frames of another size or kind, actions of another size, episodes that are too short.
    pub fn check_dataset(&self, dataset: &Dataset) -> Result<()> {
        let path = dataset.dir().display();
        check_columns(&self.config.model, dataset, |observations| {
            let [side, channels] = self.config.model.frame();
            let sides = observations.shape.first() == Some(&(side as usize));
            let (field, fits) = if sides {
                ("model.input_channels", observations.shape.last())
            } else {
                ("model.window", observations.shape.first())
            };
            let problem = format!(
                "the model takes frames of [{side}, {side}, {channels}], the observations of {path} are {:?}",
                observations.shape
            );
            let refusal = self.layered.refusal(field, &problem);
            match fits {
                Some(fits) => refusal.allowed(fits.to_string()).suggest(Some(format!("leave it out, or try {fits}"))),
                None => refusal,
            }
        })?;
        let (context, horizon) = (self.config.train.context, self.config.train.horizon);
        let longest = dataset.info().longest as i64 + 1;
        if context + horizon > longest {
            let problem = format!(
                "train.context + train.horizon = {context} + {horizon} = {} frames, but the longest episode of {path} has \
                 {longest}",
                context + horizon
            );
            let field = ["train.context", "train.horizon"]
                .into_iter()
                .max_by_key(|field| self.layered.given_in(field).is_some());
            let field = field.unwrap_or("train.horizon");
            let advice = match longest - context {
                left @ 1.. => format!("try --set train.horizon={left}"),
                _ => format!("try --set train.context={} --set train.horizon={}", longest - longest / 3, longest / 3),
            };
            let refusal = Usage::worded(problem).field(field).allowed(format!("{longest} frames together"));
            let value = if field == "train.horizon" { horizon } else { context };
            let refusal = refusal.value(value.to_string()).given_in(self.layered.given_in(field));
            return Err(refusal.suggest(Some(advice).filter(|_| longest >= 3)).into());
        }
        Ok(())
    }

    /// Warns of what is allowed, but hardly meant.
    pub fn warn(&self, dataset: &Dataset) {
        if let (WorldModelConfig::Flowm(model), Some(world)) = (&self.config.model, world_of(dataset))
            && model.world != world
        {
            let path = dataset.dir().display();
            tracing::warn!("model.world = {}, but the torus of {path} has {world}: wrapping is not exact", model.world);
        }
    }

    /// What is changed of a run by going on with it.
    ///
    /// # Errors
    /// Every field that differs and may not.
    pub fn check_run(&self, begun: &RunConfig, run: &Path) -> Result<Vec<Difference>> {
        let (harmless, changed): (Vec<_>, Vec<_>) = differences(begun, &self.config)
            .into_iter()
            .partition(|difference| MAY_CHANGE.contains(&difference.field.as_str()));
        if changed.is_empty() {
            return Ok(harmless);
        }
        let refusal = Usage::worded(format!("--resume: {} was begun with another configuration", run.display()));
        let first = changed.iter().find(|difference| difference.field == "model.kind").unwrap_or(&changed[0]);
        let refusal = refusal.field(&first.field).value(&first.new).given_in(self.layered.given_in(&first.field));
        let refusal = refusal.allowed(format!("changes of {}", MAY_CHANGE.join(", ")));
        let advice = "leave out what differs, or begin another run with `--start-from` and another --out";
        Err(refusal.suggest(Some(advice)).differing(changed).into())
    }

    /// Refuses a training that `free` bytes of memory cannot hold.
    ///
    /// # Errors
    /// The field to reduce, and how far.
    pub fn check_memory(&self, free: u64) -> Result<()> {
        let needed = self.config.bytes();
        if needed <= free {
            return Ok(());
        }
        let one = RunConfig {
            train: world_models::train::TrainConfig { batch_size: 1, ..self.config.train.clone() },
            ..self.config.clone()
        };
        let problem = format!("training needs about {} of memory, {} are free", bytes(needed), bytes(free));
        let clip = (needed - one.bytes()).checked_div(self.config.train.batch_size as u64 - 1).unwrap_or(0);
        let most = free.checked_sub(one.bytes()).and_then(|rest| rest.checked_div(clip)).map(|more| more + 1);
        Err(match most {
            Some(most) => self
                .layered
                .refusal("train.batch_size", &problem)
                .allowed(format!("1..={most} with this model and these clips"))
                .suggest(Some(format!("try {most}"))),
            None => self
                .layered
                .refusal("model.hidden", &problem)
                .allowed(format!("less: a single clip at a time would need {}", bytes(one.bytes())))
                .suggest(Some("take a smaller model, or shorter clips")),
        }
        .into())
    }

    /// The refusal of a device that cannot be had.
    pub fn device_refused(&self, error: &DeviceError) -> Error {
        let problem = format!("no GPU can be used here: {}", error.reason);
        let refusal = self.layered.refusal("train.device", &problem).allowed("\"cpu\", \"auto\"");
        refusal.suggest(Some(CUDA_ADVICE)).into()
    }
}

/// Puts `--seed` above all layers.
///
/// # Errors
/// If a single value says something of it too.
pub fn set_seed(layered: &mut Layered, args: &TrainArgs) -> Result<()> {
    let Some(seed) = args.seed else { return Ok(()) };
    let place = format!("--seed {seed}");
    if let Some(other) = layered.given_in("seed").filter(|place| place.starts_with("--set")) {
        let problem = format!("{place} cannot be used with {other}");
        return Err(Usage::worded(problem).field("seed").suggest(Some("give one of them")).into());
    }
    layered.set("seed", Value::Integer(seed as i64), &place)
}

/// The checkpoint whose weights a run begins with, once they are known to fit its model.
///
/// # Errors
/// No run, or one of another model, with every field of the model that differs.
pub fn weights_of(run: &Path, config: &RunConfig, device: Device) -> Result<Checkpoint> {
    let checkpoint = RunDir::at(run).checkpoint()?;
    let fresh = match checkpoint.load_model_in_part(&Loaded::fresh(config, device).weights()) {
        Ok(fresh) => fresh,
        Err(error) => return Err(misfit(run, config, &checkpoint, &error)?.into()),
    };
    if !fresh.is_empty() {
        tracing::warn!("--start-from {}: what it lacks begins as new: {}", run.display(), fresh.join(", "));
    }
    Ok(checkpoint)
}

/// Weights of another model, with every field of it that differs.
fn misfit(run: &Path, config: &RunConfig, checkpoint: &Checkpoint, error: &CheckpointError) -> Result<Usage> {
    let begun: RunConfig = checkpoint.config()?;
    let model = differences(&begun, config).into_iter().filter(|difference| difference.field.starts_with("model."));
    let problem = format!("--start-from {}: its weights do not fit this model: {error}", run.display());
    let refusal = Usage::worded(problem).field("--start-from").value(run.display().to_string());
    let given = format!("--start-from {}", run.display());
    let advice = "give the model the settings of that run";
    Ok(refusal.given_in(Some(given)).suggest(Some(advice)).differing(model.collect()))
}

/// Refuses a dataset whose frames or actions are not what `model` takes; `frames` words the refusal of its frames' shape.
///
/// # Errors
/// Both shapes and where they come from.
pub fn check_columns(model: &WorldModelConfig, dataset: &Dataset, frames: impl Fn(&ColumnSpec) -> Usage) -> Result<()> {
    let path = dataset.dir().display().to_string();
    let [side, channels] = model.frame().map(|side| side as usize);
    let refused = |problem: String| {
        let advice = "record one of a kind that the model takes, with `mindseye collect`";
        let given = format!("--data {path}");
        Usage::worded(problem).field("--data").value(&path).given_in(Some(given)).suggest(Some(advice))
    };
    let column = |name: &str| {
        let found = dataset.columns().iter().find(|column| column.name == name);
        found.ok_or_else(|| Error::from(refused(format!("{path}: no column `{name}`"))))
    };
    let (observations, actions) = (column("observations")?, column("actions")?);
    if observations.dtype != Dtype::U8 {
        let found = observations.dtype.name();
        return Err(refused(format!("the observations of {path} are {found}, a world model takes U8")).into());
    }
    if observations.shape != [side, side, channels] {
        return Err(frames(observations).into());
    }
    let (taken, recorded) = (model.actions(), Actions::of(dataset));
    if recorded != Some(taken) {
        let found = match recorded {
            Some(Actions::Choice(n)) => format!("one of {n}"),
            _ => format!("{} (shape {:?})", actions.row_len(), actions.shape),
        };
        let (takes, allowed) = match taken {
            Actions::Vector(n) => (format!("actions of {n} numbers (dx, dy)"), n),
            Actions::Choice(n) => (format!("actions that are one of {n} choices"), n),
        };
        let problem = format!("the model takes {takes}, those of {path} have {found}");
        return Err(refused(problem).allowed(allowed.to_string()).into());
    }
    Ok(())
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
    if let (Some(world), "flowm") = (world_of(dataset), model) {
        base.insert("world".into(), Value::Integer(world));
    }
    base
}

/// Side of the torus that the dataset shows, if it shows one.
fn world_of(dataset: &Dataset) -> Option<i64> {
    dataset.description().source.config.pointer("/env/world/world").and_then(serde_json::Value::as_i64)
}
