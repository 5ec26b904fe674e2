//! Checkpoints: a directory renamed into place, its manifest written last. Tensors as safetensors, the rest JSON.
//!
//! ```text
//! checkpoints/000500/model/{config.json, model.safetensors}
//! checkpoints/000500/training_state/{optimizer.safetensors, step.json}
//! checkpoints/000500/manifest.json      every file with its size and sha256; without it there is no checkpoint
//! checkpoints/last -> 000500
//! ```
//!
//! Nothing here is code, and nothing is unpickled: a hostile file can at worst be refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

/// What can be wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no checkpoint.
    #[error("{path}: no complete checkpoint in this run")]
    None {
        /// The folder of checkpoints.
        path: PathBuf,
    },
    /// A file is not what the manifest says.
    #[error("{path}: {found}, the manifest says {expected}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was written.
        expected: String,
    },
    /// A JSON file that cannot be understood.
    #[error("{path} is not a checkpoint's JSON")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A tensor file that cannot be understood.
    #[error("{path} is not a safetensors file")]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Why.
        source: safetensors::SafeTensorError,
    },
    /// Tensors that do not fit the model.
    #[error("{path}: tensor `{name}` is {found}, the model has {expected}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What the file has.
        found: String,
        /// What the model has.
        expected: String,
    },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { verb, path, source }
}

/// What a run needs beside weights and moments to go on exactly where it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Updates done; also the number of the checkpoint.
    pub update: u64,
    /// Training draws consumed from the dataset.
    pub draws: u64,
    /// Updates skipped because a number was not finite.
    pub skipped: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    files: BTreeMap<String, FileCheck>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCheck {
    bytes: u64,
    sha256: String,
}

const FORMAT: u32 = 1;
const MODEL: &str = "model/model.safetensors";
const CONFIG: &str = "model/config.json";
const OPTIMIZER: &str = "training_state/optimizer.safetensors";
const STEP: &str = "training_state/step.json";
const MANIFEST: &str = "manifest.json";
/// No file of ours is larger; one that claims to be is refused before it is read.
const LARGEST: u64 = 16 << 30;

/// Named tensors.
pub type Named = BTreeMap<String, Tensor>;

fn tensors_to_bytes(tensors: &Named) -> Vec<u8> {
    let owned: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
            assert_eq!(tensor.kind(), Kind::Float, "checkpoints hold f32 tensors");
            let mut bytes = vec![0; tensor.numel() * 4];
            tensor.copy_data_u8(&mut bytes, tensor.numel());
            (name.clone(), tensor.size().iter().map(|&d| d as usize).collect(), bytes)
        })
        .collect();
    let views = owned.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the bytes are those of the shape"))
    });
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).expect("names are unique and views valid")
}

/// Saves a checkpoint under `runs/.../checkpoints`, makes `last` point to it, and removes all but the newest `keep`.
///
/// # Errors
/// If the disk refuses; what was there before is intact.
pub fn save(
    checkpoints: &Path,
    progress: Progress,
    config: &impl Serialize,
    model: &Named,
    optimizer: &Named,
    keep: usize,
) -> Result<PathBuf, CheckpointError> {
    let files: [(&str, Vec<u8>); 4] = [
        (CONFIG, json(config)),
        (MODEL, tensors_to_bytes(model)),
        (OPTIMIZER, tensors_to_bytes(optimizer)),
        (STEP, json(&progress)),
    ];
    let name = format!("{:06}", progress.update);
    let (place, temporary) = (checkpoints.join(&name), checkpoints.join(format!(".{name}.tmp")));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(failed("remove", &temporary))?;
    }
    for folder in ["model", "training_state"] {
        let path = temporary.join(folder);
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
    }
    let mut manifest = Manifest { format: FORMAT, files: BTreeMap::new() };
    for (file, bytes) in &files {
        write_synced(&temporary.join(file), bytes)?;
        let sha256 = hex(&Sha256::digest(bytes));
        manifest.files.insert((*file).to_owned(), FileCheck { bytes: bytes.len() as u64, sha256 });
    }
    sync_folder(&temporary.join("model"))?;
    sync_folder(&temporary.join("training_state"))?;
    write_synced(&temporary.join(MANIFEST), &json(&manifest))?;
    sync_folder(&temporary)?;
    if place.exists() {
        fs::remove_dir_all(&place).map_err(failed("remove", &place))?;
    }
    fs::rename(&temporary, &place).map_err(failed("rename", &temporary))?;
    sync_folder(checkpoints)?;
    point_last(checkpoints, &name)?;
    for old in complete(checkpoints)?.into_iter().rev().skip(keep.max(1)) {
        let path = checkpoints.join(format!("{old:06}"));
        fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
    }
    Ok(place)
}

/// Pretty JSON with a final newline.
fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("plain data has a JSON form");
    text.push(b'\n');
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|half| char::from(b"0123456789abcdef"[usize::from(half)])).collect()
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let mut file = File::create(path).map_err(failed("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

/// Swaps the link `last` by a rename, so that it never dangles.
fn point_last(checkpoints: &Path, name: &str) -> Result<(), CheckpointError> {
    let (link, temporary) = (checkpoints.join("last"), checkpoints.join(".last.tmp"));
    let _ = fs::remove_file(&temporary);
    std::os::unix::fs::symlink(name, &temporary).map_err(failed("link", &temporary))?;
    fs::rename(&temporary, &link).map_err(failed("rename", &temporary))
}

/// Numbers of the checkpoints that have a manifest, in order.
///
/// # Errors
/// If the folder cannot be read.
pub fn complete(checkpoints: &Path) -> Result<Vec<u64>, CheckpointError> {
    let mut found: Vec<u64> = fs::read_dir(checkpoints)
        .map_err(failed("read", checkpoints))?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            entry.path().join(MANIFEST).exists().then_some(number)
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// A checkpoint on disk whose files are as they were written.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    /// The newest checkpoint that is whole. One that is damaged is passed over, with a warning naming it and the one taken.
    ///
    /// # Errors
    /// If there is none.
    pub fn newest(checkpoints: &Path) -> Result<Self, CheckpointError> {
        let mut damaged: Vec<CheckpointError> = Vec::new();
        for number in complete(checkpoints)?.into_iter().rev() {
            match Self::open(&checkpoints.join(format!("{number:06}"))) {
                Ok(checkpoint) => {
                    for damage in &damaged {
                        tracing::warn!("{damage}; falling back to {}", checkpoint.path.display());
                    }
                    return Ok(checkpoint);
                }
                Err(error) => damaged.push(error),
            }
        }
        Err(damaged.pop().unwrap_or_else(|| CheckpointError::None { path: checkpoints.to_owned() }))
    }

    /// Opens one checkpoint and checks every file against the manifest.
    ///
    /// # Errors
    /// Naming the file that is missing or changed.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let manifest: Manifest = read_json(&path.join(MANIFEST))?;
        if manifest.format != FORMAT {
            return Err(CheckpointError::Changed {
                path: path.join(MANIFEST),
                found: format!("format {}", manifest.format),
                expected: format!("format {FORMAT} for this version"),
            });
        }
        for file in [CONFIG, MODEL, OPTIMIZER, STEP] {
            let place = path.join(file);
            let Some(check) = manifest.files.get(file) else {
                let (found, expected) = ("not listed".to_owned(), "every file of a checkpoint".to_owned());
                return Err(CheckpointError::Changed { path: place, found, expected });
            };
            let bytes = fs::metadata(&place).map_err(failed("read", &place))?.len();
            if bytes != check.bytes {
                let (found, expected) = (format!("{bytes} bytes"), format!("{} bytes", check.bytes));
                return Err(CheckpointError::Changed { path: place, found, expected });
            }
            let found = hex(&Sha256::digest(read_bounded(&place)?));
            if found != check.sha256 {
                return Err(CheckpointError::Changed { path: place, found, expected: check.sha256.clone() });
            }
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration saved with the model.
    ///
    /// # Errors
    /// If the file is not of that form.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        read_json(&self.path.join(CONFIG))
    }

    /// Where the run stood.
    ///
    /// # Errors
    /// If the file is not of that form.
    pub fn progress(&self) -> Result<Progress, CheckpointError> {
        read_json(&self.path.join(STEP))
    }

    /// Copies the weights into `model`, name by name.
    ///
    /// # Errors
    /// Naming the first tensor that is missing, left over, or of another shape.
    pub fn load_model(&self, model: &Named) -> Result<(), CheckpointError> {
        load_into(&self.path.join(MODEL), model)
    }

    /// Copies the moments into `optimizer`, name by name.
    ///
    /// # Errors
    /// As [`Checkpoint::load_model`].
    pub fn load_optimizer(&self, optimizer: &Named) -> Result<(), CheckpointError> {
        load_into(&self.path.join(OPTIMIZER), optimizer)
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let bytes = fs::metadata(path).map_err(failed("read", path))?.len();
    if bytes > LARGEST {
        let (found, expected) = (format!("{bytes} bytes"), format!("at most {LARGEST}"));
        return Err(CheckpointError::Changed { path: path.to_owned(), found, expected });
    }
    fs::read(path).map_err(failed("read", path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let bytes = read_bounded(path)?;
    serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Json { path: path.to_owned(), source })
}

fn load_into(path: &Path, tensors: &Named) -> Result<(), CheckpointError> {
    let bytes = read_bounded(path)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|source| CheckpointError::Tensors { path: path.to_owned(), source })?;
    let mismatch = |name: &str, found: String, expected: String| CheckpointError::Mismatch {
        path: path.to_owned(),
        name: name.to_owned(),
        found,
        expected,
    };
    if let Some(extra) = file.names().into_iter().find(|name| !tensors.contains_key(*name)) {
        return Err(mismatch(extra, "in the file".into(), "no such tensor".into()));
    }
    for (name, tensor) in tensors {
        let expected = format!("F32 {:?}", tensor.size());
        let Ok(view) = file.tensor(name) else { return Err(mismatch(name, "not in the file".into(), expected)) };
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        if view.dtype() != Dtype::F32 || shape != tensor.size() {
            return Err(mismatch(name, format!("{:?} {shape:?}", view.dtype()), expected));
        }
        let loaded = Tensor::from_data_size(view.data(), &shape, Kind::Float);
        if loaded.isfinite().all().int64_value(&[]) == 0 {
            return Err(mismatch(name, "not finite everywhere".into(), "only finite numbers".into()));
        }
        tch::no_grad(|| tensor.shallow_clone().copy_(&loaded));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(values: &[f32]) -> Named {
        BTreeMap::from([("w".to_owned(), Tensor::from_slice(values))])
    }

    fn saved(dir: &Path, update: u64, values: &[f32]) -> PathBuf {
        let progress = Progress { update, draws: 8 * update, skipped: 0 };
        save(dir, progress, &"config", &named(values), &named(&[0.0]), 2).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path(), 3, &[1.0, 2.5]);
        let checkpoint = Checkpoint::newest(dir.path()).unwrap();
        let into = named(&[0.0, 0.0]);
        checkpoint.load_model(&into).unwrap();
        assert_eq!(into["w"], Tensor::from_slice(&[1.0f32, 2.5]));
        assert_eq!(checkpoint.progress().unwrap(), Progress { update: 3, draws: 24, skipped: 0 });
        assert_eq!(checkpoint.config::<String>().unwrap(), "config");
        assert_eq!(fs::read_link(dir.path().join("last")).unwrap(), Path::new("000003"));
    }

    #[test]
    fn only_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for update in [1, 2, 3] {
            saved(dir.path(), update, &[1.0]);
        }
        assert_eq!(complete(dir.path()).unwrap(), [2, 3]);
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path(), 1, &[1.0]);
        let newest = saved(dir.path(), 2, &[2.0]).join(MODEL);
        let mut bytes = fs::read(&newest).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&newest, bytes).unwrap();
        let checkpoint = Checkpoint::newest(dir.path()).unwrap();
        assert!(checkpoint.path().ends_with("000001"));
    }

    #[test]
    fn weights_of_another_shape_or_not_finite_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint { path: saved(dir.path(), 1, &[1.0, f32::NAN]) };
        let message = checkpoint.load_model(&named(&[0.0])).unwrap_err().to_string();
        assert!(message.contains("`w`") && message.contains("[2]") && message.contains("[1]"), "{message}");
        let message = checkpoint.load_model(&named(&[0.0, 0.0])).unwrap_err().to_string();
        assert!(message.contains("`w`") && message.contains("finite"), "{message}");
    }
}
