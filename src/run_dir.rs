//! A run's folder: its configuration and origin are in it before the first update.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use agents::config::PolicyConfig;
use anyhow::Result;
use envs::dataset::Dataset;
use envs::registry::find;
use envs::storage::{self, At, Storage};
use envs::untrusted;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use simulators::limits::OutOfRange;
use world_models::checkpoint::{Checkpoint, complete};
use world_models::train::RunConfig;

use crate::failure::{Difference, Usage, usage};

/// The most bytes of `config.json` and `run.json`; the second has the command line, which may be long.
const BUDGET: u64 = 4 << 20;

/// A run on disk.
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The run at `path`, which may not exist yet.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its last path component.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned())
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Whether it has been begun.
    pub fn exists(&self) -> bool {
        self.path.join("config.json").exists()
    }

    /// Whether any update of it was ever saved.
    pub fn has_checkpoint(&self) -> bool {
        complete(&self.checkpoints()).is_ok_and(|numbers| !numbers.is_empty())
    }

    /// The newest whole checkpoint.
    ///
    /// # Errors
    /// If there is no run, or it has none.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        if !self.exists() {
            return Err(usage(format!("{}: no run here (no config.json)", self.path.display())));
        }
        Ok(Checkpoint::newest(&self.checkpoints())?)
    }

    /// The configuration it was begun with, if that is one of a world model's training.
    ///
    /// # Errors
    /// If the file is missing, not one, or of a run that cannot be.
    pub fn config(&self) -> Result<RunConfig> {
        self.config_as(RunConfig::validate)
    }

    /// The configuration it was begun with, if that is one of a policy's training.
    ///
    /// # Errors
    /// As [`RunDir::config`].
    pub fn policy_config(&self) -> Result<PolicyConfig> {
        self.config_as(PolicyConfig::validate)
    }

    fn config_as<T: DeserializeOwned>(&self, validate: fn(&T) -> Result<(), OutOfRange>) -> Result<T> {
        let path = self.path.join("config.json");
        let text = untrusted::read(&path, BUDGET).at("read", &path)?;
        let config: T = serde_json::from_slice(&text).map_err(|e| usage(format!("{}: {e}", path.display())))?;
        validate(&config).map_err(|e| usage(format!("{}: {e}", path.display())))?;
        Ok(config)
    }

    /// Creates the folder and writes what defines the run.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn begin(
        &self,
        storage: &dyn Storage,
        config: &(impl Serialize + ?Sized),
        dataset: &Value,
        start_from: Option<&Path>,
    ) -> Result<()> {
        storage::create_folders(storage, &self.checkpoints())?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let about = json!({
            "version": VERSION,
            "git_revision": git_revision(),
            "argv": std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>(),
            "seed": serde_json::to_value(config)?["seed"],
            "threads": rayon::current_num_threads(),
            "dataset": dataset,
            "start_from": start_from,
            "started_unix": seconds,
        });
        self.write(storage, "run.json", &about)?;
        // It comes last: with it there is a run.
        self.write_config(storage, config)
    }

    /// Writes the configuration with which the run goes on.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write_config(&self, storage: &dyn Storage, config: &(impl Serialize + ?Sized)) -> Result<()> {
        self.write(storage, "config.json", config)
    }

    fn write(&self, storage: &dyn Storage, file: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let text = serde_json::to_string_pretty(value)? + "\n";
        Ok(storage::replace(storage, &self.path.join(file), text.as_bytes())?)
    }

    fn origin(&self) -> Result<Origin> {
        let path = self.path.join("run.json");
        let text = untrusted::read(&path, BUDGET).at("read", &path)?;
        serde_json::from_slice(&text).map_err(|e| usage(format!("{}: {e}", path.display())))
    }

    /// The world of the dataset that it was trained on, where it says so.
    ///
    /// # Errors
    /// If `run.json` is damaged.
    pub fn world(&self) -> Result<Option<World>> {
        if !self.path.join("run.json").exists() {
            return Ok(None);
        }
        Ok(self.origin()?.dataset.and_then(|dataset| dataset.world))
    }

    /// Refuses to begin once more a run without any checkpoint that has begun with the weights of another.
    ///
    /// # Errors
    /// If it has, or `run.json` is missing or damaged.
    pub fn check_beginning(&self) -> Result<()> {
        let Some(start_from) = self.origin()?.start_from else { return Ok(()) };
        let path = self.path.display();
        let problem = format!(
            "--resume: {path} was begun with the weights of {}, and ended before they were saved",
            start_from.display()
        );
        let advice = format!("remove {path} and begin anew with --start-from {}", start_from.display());
        Err(Usage::worded(problem).field("--resume").suggest(Some(advice)).into())
    }

    /// Holds what a run goes on with against what it began with: another dataset is refused; what may change the last bits
    /// of its weights is returned, a line each.
    ///
    /// # Errors
    /// If `run.json` is missing or damaged, or the run began with another dataset.
    pub fn check_origin(&self, dataset: &Dataset, threads: usize) -> Result<Vec<String>> {
        let begun = self.origin()?;
        let digest = dataset.digest();
        let Some(of) = &begun.dataset else {
            return Err(usage(format!("--resume: {} was begun without a dataset", self.path.display())));
        };
        if of.digest != digest {
            let data = dataset.dir().display().to_string();
            let refusal = Usage::worded(format!("--resume: {} was begun with another dataset", self.path.display()));
            let difference = |field: &str, old: String, new: String| Difference { field: field.to_owned(), old, new };
            let differences = vec![
                difference("dataset.digest", of.digest.clone(), digest),
                difference("dataset.episodes", of.episodes.to_string(), dataset.len().to_string()),
            ];
            return Err(refusal.field("--data").value(data).differing(differences).into());
        }
        Ok(begun.changed(threads))
    }

    /// As [`RunDir::check_origin`], of a run that learns from no dataset.
    ///
    /// # Errors
    /// If `run.json` is missing or damaged.
    pub fn check_machine(&self, threads: usize) -> Result<Vec<String>> {
        Ok(self.origin()?.changed(threads))
    }
}

impl Origin {
    /// What may change the last bits of the weights, a line each.
    fn changed(&self, threads: usize) -> Vec<String> {
        let mut changed = Vec::new();
        if self.threads != threads {
            changed.push(format!("threads: {} -> {threads}", self.threads));
        }
        if self.version != VERSION {
            changed.push(format!("version: {} -> {VERSION}", self.version));
        }
        changed
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What of `run.json` a run depends on when it goes on.
#[derive(Deserialize)]
struct Origin {
    version: String,
    threads: usize,
    dataset: Option<DatasetOrigin>,
    #[serde(default)]
    start_from: Option<PathBuf>,
}

#[derive(Deserialize)]
struct DatasetOrigin {
    digest: String,
    episodes: u64,
    /// Runs of before it was written down have none.
    #[serde(flatten)]
    world: Option<World>,
}

/// The world that a run's dataset was recorded in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// Id of the env, with its version.
    pub env: String,
    /// The env's whole configuration; null where no env of this version has it.
    pub config: Value,
}

impl World {
    /// That of a dataset.
    pub fn of(dataset: &Dataset) -> Self {
        let source = &dataset.description().source;
        // What is written is closed and small: anything can stand in the description of a dataset that others made.
        let resolved = |config| find(&source.env_id).ok()?.resolve(config).ok();
        let config = source.config.get("env").and_then(resolved).unwrap_or_default();
        Self { env: source.env_id.clone(), config }
    }
}

/// The revision of the working tree, where git knows one.
fn git_revision() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The fields in which two configurations differ.
pub fn differences<T: Serialize>(old: &T, new: &T) -> Vec<Difference> {
    let mut found = Vec::new();
    let value = |config: &T| serde_json::to_value(config).expect("a configuration is plain data");
    compare("", &value(old), &value(new), &mut found);
    found
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<Difference>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let get = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                compare(&path, &get(old), &get(new), found);
            }
        }
        (old, new) if old != new => {
            let show = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
            found.push(Difference { field: path.to_owned(), old: show(old), new: show(new) });
        }
        _ => {}
    }
}
