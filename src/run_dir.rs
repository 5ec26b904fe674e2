//! A run's folder: its configuration and origin are in it before the first update.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use world_models::checkpoint::{Checkpoint, complete};
use world_models::train::RunConfig;

use crate::failure::usage;

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

    /// The configuration it was begun with.
    ///
    /// # Errors
    /// If the file is missing or not one.
    pub fn config(&self) -> Result<RunConfig> {
        let path = self.path.join("config.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| usage(format!("{}: {e}", path.display())))
    }

    /// Creates the folder and writes what defines the run.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn begin(&self, config: &RunConfig, dataset: &Value) -> Result<()> {
        let checkpoints = self.checkpoints();
        fs::create_dir_all(&checkpoints).with_context(|| format!("cannot create {}", checkpoints.display()))?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "git_revision": git_revision(),
            "argv": std::env::args().collect::<Vec<_>>(),
            "seed": config.seed,
            "threads": rayon::current_num_threads(),
            "dataset": dataset,
            "started_unix": seconds,
        });
        for (file, value) in [("run.json", about), ("config.json", serde_json::to_value(config)?)] {
            let path = self.path.join(file);
            let text = serde_json::to_string_pretty(&value)? + "\n";
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// The revision of the working tree, where git knows one.
fn git_revision() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The fields in which two configurations differ, one a line: `train.updates: 400 -> 500`.
pub fn differences(old: &RunConfig, new: &RunConfig) -> Vec<String> {
    let mut found = Vec::new();
    let value = |config: &RunConfig| serde_json::to_value(config).expect("a configuration is plain data");
    compare("", &value(old), &value(new), &mut found);
    found
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let get = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                compare(&path, &get(old), &get(new), found);
            }
        }
        (old, new) if old != new => found.push(format!("{path}: {old} -> {new}")),
        _ => {}
    }
}
