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

pub mod contents;
mod open;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use envs::storage::{self, At, Failed, Storage};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

pub use open::Checkpoint;

/// What can be wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] Failed),
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
    /// A file that is as it was listed, but not what it should be.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A tensor that no checkpoint may hold.
    #[error(
        "{path}: after {update} updates tensor `{name}` is not finite, so nothing was saved and earlier checkpoints are \
         intact; begin another run from one of them with --start-from and a lower train.learning_rate"
    )]
    NotFinite {
        /// The folder of checkpoints.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Updates done.
        update: u64,
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

/// Whether no number of a tensor is a NaN or an infinity. One read-back from the device.
pub(crate) fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) == 1
}

/// What a run needs beside weights and moments to go on exactly where it stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Updates done; also the number of the checkpoint.
    pub update: u64,
    /// Training draws consumed from the dataset.
    pub draws: u64,
    /// Updates skipped because a number was not finite.
    pub skipped: u64,
    /// What the log has not said yet.
    #[serde(default)]
    pub unlogged: Unlogged,
}

/// Sums over the updates since the last line of the log, of which the next line says the means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlogged {
    /// Updates, without those skipped.
    pub updates: u64,
    /// Their losses.
    pub loss: f64,
    /// The norms of their gradients.
    pub gradient_norm: f64,
}

#[derive(Debug, Serialize)]
struct Manifest {
    format: u32,
    files: BTreeMap<String, FileCheck>,
}

#[derive(Debug, Serialize)]
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

/// What a checkpoint is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a, C, S> {
    /// Updates done; also the number of the checkpoint.
    pub update: u64,
    /// What the model is built from.
    pub config: &'a C,
    /// What a run needs beside weights and moments to go on exactly where it stopped.
    pub state: &'a S,
    /// Weights.
    pub model: &'a Named,
    /// Moments.
    pub optimizer: &'a Named,
}

/// Saves a checkpoint in the folder `checkpoints`, makes `last` point to it, and removes earlier ones but the newest `keep`,
/// itself included.
///
/// # Errors
/// If the disk refuses, or a tensor is not finite, so that nothing could load it; what was there before is intact.
pub fn save(
    storage: &dyn Storage,
    checkpoints: &Path,
    parts: &Parts<'_, impl Serialize, impl Serialize>,
    keep: usize,
) -> Result<PathBuf, CheckpointError> {
    let &Parts { update, config, state, model, optimizer } = parts;
    if let Some((name, _)) = model.iter().chain(optimizer).find(|(_, tensor)| !is_finite(tensor)) {
        let (path, name) = (checkpoints.to_owned(), name.clone());
        return Err(CheckpointError::NotFinite { path, name, update });
    }
    let files: [(&str, Vec<u8>); 4] = [
        (CONFIG, json(config)),
        (MODEL, tensors_to_bytes(model)),
        (OPTIMIZER, tensors_to_bytes(optimizer)),
        (STEP, json(state)),
    ];
    let name = format!("{update:06}");
    let (place, temporary) = (checkpoints.join(&name), checkpoints.join(format!(".{name}.tmp")));
    sweep(storage, checkpoints)?;
    if let Err(error) = write_files(storage, &temporary, &files) {
        // It leaves its space to others; what cannot be removed now is swept by the next save.
        let _ = storage.remove_folder(&temporary);
        return Err(error.into());
    }
    if place.exists() {
        // A damaged one that was passed over. It leaves by one rename, so that no half of it is ever taken for a whole.
        put_aside(storage, checkpoints, &name)?;
    }
    storage.rename(&temporary, &place).at("rename into place", &temporary)?;
    storage.sync_folder(checkpoints).at("sync", checkpoints)?;
    point_last(storage, checkpoints, Path::new(&name))?;
    // Later ones were passed over as damaged; they must not push out what is whole.
    let so_far = complete(checkpoints)?.into_iter().filter(|&number| number <= update);
    for old in so_far.rev().skip(keep.max(1)) {
        put_aside(storage, checkpoints, &format!("{old:06}"))?;
    }
    sweep(storage, checkpoints)?;
    Ok(place)
}

/// Ends what a save that was cut off has begun: `last` points to `newest`, and nothing is left over.
///
/// # Errors
/// If the disk refuses.
pub fn settle(storage: &dyn Storage, newest: &Checkpoint) -> Result<(), CheckpointError> {
    let (Some(checkpoints), Some(name)) = (newest.path().parent(), newest.path().file_name()) else { return Ok(()) };
    if fs::read_link(checkpoints.join("last")).is_ok_and(|target| target == name) {
        return sweep(storage, checkpoints);
    }
    point_last(storage, checkpoints, Path::new(name))?;
    storage.sync_folder(checkpoints).at("sync", checkpoints)?;
    sweep(storage, checkpoints)
}

/// Writes the files of a checkpoint, and its manifest last, into a new folder, and makes all of them safe but its name.
fn write_files(storage: &dyn Storage, temporary: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), Failed> {
    for folder in [temporary, &temporary.join("model"), &temporary.join("training_state")] {
        storage.create_folder(folder).at("create", folder)?;
    }
    let mut manifest = Manifest { format: FORMAT, files: BTreeMap::new() };
    for (file, bytes) in files {
        storage::write(storage, &temporary.join(file), bytes)?;
        let sha256 = hex(&Sha256::digest(bytes));
        manifest.files.insert((*file).to_owned(), FileCheck { bytes: bytes.len() as u64, sha256 });
    }
    for folder in ["model", "training_state"] {
        let path = temporary.join(folder);
        storage.sync_folder(&path).at("sync", &path)?;
    }
    storage::write(storage, &temporary.join(MANIFEST), &json(&manifest))?;
    storage.sync_folder(temporary).at("sync", temporary)
}

/// Gives a checkpoint a name under which nobody looks for it, and which is swept.
fn put_aside(storage: &dyn Storage, checkpoints: &Path, name: &str) -> Result<(), Failed> {
    let place = checkpoints.join(name);
    storage.rename(&place, &checkpoints.join(format!(".{name}.old.tmp"))).at("rename", &place)
}

/// Removes what was put aside, and what a save that did not come to its end has left.
fn sweep(storage: &dyn Storage, checkpoints: &Path) -> Result<(), CheckpointError> {
    let mut leftovers = Vec::new();
    for item in fs::read_dir(checkpoints).at("list", checkpoints)? {
        let path = item.at("list", checkpoints)?.path();
        let name = path.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
        if name.starts_with('.') && name.ends_with(".tmp") && !path.is_symlink() {
            leftovers.push(path);
        }
    }
    if !leftovers.is_empty() {
        // Not before their names are safe: nothing may point to, or be taken for, what is being removed.
        storage.sync_folder(checkpoints).at("sync", checkpoints)?;
    }
    for path in leftovers {
        storage.remove_folder(&path).at("remove", &path)?;
    }
    Ok(())
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

/// Swaps the link `last` by a rename, so that it never dangles.
fn point_last(storage: &dyn Storage, checkpoints: &Path, name: &Path) -> Result<(), CheckpointError> {
    let (link, temporary) = (checkpoints.join("last"), checkpoints.join(".last.tmp"));
    if temporary.symlink_metadata().is_ok() {
        storage.remove_file(&temporary).at("remove", &temporary)?;
    }
    storage.link(name, &temporary).at("link", &temporary)?;
    Ok(storage.rename(&temporary, &link).at("rename into place", &temporary)?)
}

/// Numbers of the checkpoints that have a manifest, in order.
///
/// # Errors
/// If the folder cannot be read.
pub fn complete(checkpoints: &Path) -> Result<Vec<u64>, CheckpointError> {
    let mut found: Vec<u64> = fs::read_dir(checkpoints)
        .at("read", checkpoints)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            entry.path().join(MANIFEST).exists().then_some(number)
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use envs::storage::Disk;

    use super::*;

    fn named(values: &[f32]) -> Named {
        BTreeMap::from([("w".to_owned(), Tensor::from_slice(values))])
    }

    fn saved(dir: &Path, update: u64, values: &[f32]) -> PathBuf {
        let progress = Progress { update, draws: 8 * update, ..Progress::default() };
        let (model, optimizer) = (&named(values), &named(&[0.0]));
        save(&Disk, dir, &Parts { update, config: &"config", state: &progress, model, optimizer }, 2).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path(), 3, &[1.0, 2.5]);
        let checkpoint = Checkpoint::newest(dir.path()).unwrap();
        let into = named(&[0.0, 0.0]);
        checkpoint.load_model(&into).unwrap();
        assert_eq!(into["w"], Tensor::from_slice(&[1.0f32, 2.5]));
        assert_eq!(checkpoint.progress().unwrap(), Progress { update: 3, draws: 24, ..Progress::default() });
        assert_eq!(checkpoint.config::<String>().unwrap(), "config");
        assert_eq!(fs::read_link(dir.path().join("last")).unwrap(), Path::new("000003"));
    }

    #[test]
    fn a_model_with_more_than_was_saved_takes_what_there_is_and_names_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(&saved(dir.path(), 3, &[1.0, 2.5])).unwrap();
        let mut into = named(&[0.0, 0.0]);
        into.insert("more".to_owned(), Tensor::from_slice(&[7.0f32]));
        assert_eq!(checkpoint.load_model_in_part(&into).unwrap(), ["more"]);
        assert_eq!(into["w"], Tensor::from_slice(&[1.0f32, 2.5]));
        assert_eq!(into["more"], Tensor::from_slice(&[7.0f32]));
        let fewer = into.into_iter().filter(|(name, _)| name == "more").collect();
        let message = checkpoint.load_model_in_part(&fewer).unwrap_err().to_string();
        assert!(message.contains("`w`"), "{message}");
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
    fn a_damaged_later_one_does_not_push_out_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        for update in [1, 8, 9] {
            saved(dir.path(), update, &[1.0]);
        }
        for update in [8, 9] {
            fs::write(dir.path().join(format!("{update:06}")).join(MODEL), "damaged").unwrap();
        }
        saved(dir.path(), 2, &[2.0]);
        assert_eq!(Checkpoint::newest(dir.path()).unwrap().path(), dir.path().join("000002"));
        saved(dir.path(), 3, &[3.0]);
        saved(dir.path(), 8, &[8.0]);
        assert_eq!(Checkpoint::newest(dir.path()).unwrap().path(), dir.path().join("000008"));
        assert_eq!(complete(dir.path()).unwrap(), [3, 8, 9]);
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
        let checkpoint = Checkpoint::open(&saved(dir.path(), 1, &[1.0, 2.0])).unwrap();
        fs::write(checkpoint.path().join(MODEL), tensors_to_bytes(&named(&[1.0, f32::NAN]))).unwrap();
        let message = checkpoint.load_model(&named(&[0.0])).unwrap_err().to_string();
        assert!(message.contains("`w`") && message.contains("[2]") && message.contains("[1]"), "{message}");
        let message = checkpoint.load_model(&named(&[0.0, 0.0])).unwrap_err().to_string();
        assert!(message.contains("`w` is NaN at index 1") && message.contains("finite"), "{message}");
    }

    #[test]
    fn what_could_not_be_loaded_is_not_saved() {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path(), 1, &[1.0]);
        for (model, moments) in [([f32::NAN], [0.0]), ([1.0], [f32::INFINITY])] {
            let (model, optimizer) = (&named(&model), &named(&moments));
            let parts = Parts { update: 2, config: &"config", state: &Progress::default(), model, optimizer };
            let error = save(&Disk, dir.path(), &parts, 1).unwrap_err();
            assert!(error.to_string().contains("after 2 updates tensor `w` is not finite"), "{error}");
            assert_eq!(complete(dir.path()).unwrap(), [1], "the one before it is kept");
        }
    }
}
