//! A checkpoint from disk, where anybody may have put it: every file is checked before it is believed.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use envs::storage::At;
use envs::untrusted;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};

use super::contents::{self, JSON_BUDGET, Listing, Refusal, STATE_BUDGET};
use super::{CONFIG, CheckpointError, MANIFEST, MODEL, Named, OPTIMIZER, Progress, STEP, complete, hex};

/// A checkpoint on disk whose files are as they were written.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    listing: Listing,
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
    /// Naming the file that is missing, changed, or a link.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let root = fs::canonicalize(path).at("read", path)?;
        let manifest = path.join(MANIFEST);
        not_a_link(&root, MANIFEST, &manifest)?;
        let text = untrusted::read(&manifest, JSON_BUDGET).at("read", &manifest)?;
        let listing =
            Listing::parse(&text).map_err(|reason| CheckpointError::Content { path: manifest.clone(), reason })?;
        for (file, listed) in &listing.files {
            let place = path.join(file);
            not_a_link(&root, file, &place)?;
            let mut content = untrusted::open(&place).at("open", &place)?;
            let changed = |found, expected| CheckpointError::Changed { path: place.clone(), found, expected };
            let bytes = content.metadata().at("read", &place)?.len();
            if bytes != listed.bytes {
                return Err(changed(format!("{bytes} bytes"), format!("{} bytes", listed.bytes)));
            }
            let mut sha256 = Sha256::new();
            std::io::copy(&mut content, &mut sha256).at("read", &place)?;
            let sha256 = hex(&sha256.finalize());
            if sha256 != listed.sha256 {
                return Err(changed(format!("sha256 {sha256}"), listed.sha256.clone()));
            }
        }
        Ok(Self { path: path.to_owned(), listing })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The sha256 of the file of weights, in hex.
    #[must_use]
    pub fn sha256_of_weights(&self) -> &str {
        self.listing.files.iter().find(|(file, _)| *file == MODEL).map_or("", |(_, listed)| &listed.sha256)
    }

    /// The configuration saved with the model.
    ///
    /// # Errors
    /// If the file is not of that form.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        let path = self.path.join(CONFIG);
        let text = untrusted::read(&path, JSON_BUDGET).at("read", &path)?;
        serde_json::from_slice(&text).map_err(|error| CheckpointError::Content { path, reason: error.to_string() })
    }

    /// Refuses a model of `parameters` numbers that the file of weights is too small for, before anyone builds it.
    ///
    /// # Errors
    /// Naming the file and both sizes.
    pub fn expect_parameters(&self, parameters: u64) -> Result<(), CheckpointError> {
        let bytes = self.listing.bytes_of(MODEL);
        if parameters > bytes / 4 {
            let reason = format!("{bytes} bytes, but the model of {CONFIG} has {parameters} numbers of 4 bytes");
            return Err(CheckpointError::Content { path: self.path.join(MODEL), reason });
        }
        Ok(())
    }

    /// Says that the configuration is not one that can be built.
    #[must_use]
    pub fn refuse_config(&self, reason: &impl ToString) -> CheckpointError {
        CheckpointError::Content { path: self.path.join(CONFIG), reason: reason.to_string() }
    }

    /// Says that what it has of the run is not of a run that can be gone on with.
    #[must_use]
    pub fn refuse_state(&self, reason: &impl ToString) -> CheckpointError {
        CheckpointError::Content { path: self.path.join(STEP), reason: reason.to_string() }
    }

    /// Where the run stood.
    ///
    /// # Errors
    /// If the file is not of that form, or says what cannot be.
    pub fn progress(&self) -> Result<Progress, CheckpointError> {
        let path = self.path.join(STEP);
        let text = untrusted::read(&path, JSON_BUDGET).at("read", &path)?;
        contents::progress(&text).map_err(|reason| CheckpointError::Content { path, reason })
    }

    /// What the run needs to go on, as its own kind of training keeps it.
    ///
    /// # Errors
    /// If the file is not of that form.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        let path = self.path.join(STEP);
        let text = untrusted::read(&path, STATE_BUDGET).at("read", &path)?;
        serde_json::from_slice(&text).map_err(|error| CheckpointError::Content { path, reason: error.to_string() })
    }

    /// Copies the weights into `model`, name by name.
    ///
    /// # Errors
    /// Naming the first tensor that is missing, left over, of another shape, or not finite.
    pub fn load_model(&self, model: &Named) -> Result<(), CheckpointError> {
        load_into(&self.path.join(MODEL), model)
    }

    /// Copies those weights into `model` that there are, name by name, and gives the names of the others, which stay as they are.
    ///
    /// # Errors
    /// Naming the first tensor that is left over, of another shape, or not finite.
    pub fn load_model_in_part(&self, model: &Named) -> Result<Vec<String>, CheckpointError> {
        let path = self.path.join(MODEL);
        let (_, header, _) = open(&path)?;
        let there =
            contents::names(&header).map_err(|reason| CheckpointError::Content { path: path.clone(), reason })?;
        let known = model.iter().filter(|(name, _)| there.contains(*name));
        load_into(&path, &known.map(|(name, weight)| (name.clone(), weight.shallow_clone())).collect())?;
        Ok(model.keys().filter(|name| !there.contains(*name)).cloned().collect())
    }

    /// Copies the moments into `optimizer`, name by name.
    ///
    /// # Errors
    /// As [`Checkpoint::load_model`].
    pub fn load_optimizer(&self, optimizer: &Named) -> Result<(), CheckpointError> {
        load_into(&self.path.join(OPTIMIZER), optimizer)
    }
}

/// A checkpoint holds its files itself: a link could make it say what any other file of the machine says.
fn not_a_link(root: &Path, file: &str, place: &Path) -> Result<(), CheckpointError> {
    if fs::canonicalize(place).at("read", place)? == root.join(file) {
        return Ok(());
    }
    Err(CheckpointError::Content { path: place.to_owned(), reason: "reached through a link".to_owned() })
}

/// A tensor file, its header and its size in bytes.
fn open(path: &Path) -> Result<(File, Vec<u8>, u64), CheckpointError> {
    let mut file = untrusted::open(path).at("open", path)?;
    let file_bytes = file.metadata().at("read", path)?.len();
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).at("read", path)?;
    let bytes = contents::header_bytes(prefix, file_bytes)
        .map_err(|reason| CheckpointError::Content { path: path.to_owned(), reason })?;
    let mut header = vec![0; bytes as usize];
    file.read_exact(&mut header).at("read", path)?;
    Ok((file, header, file_bytes))
}

/// Reads the header, checks it, then reads tensor by tensor: there is never more in memory than the largest of them.
fn load_into(path: &Path, tensors: &Named) -> Result<(), CheckpointError> {
    let broken = |reason: String| CheckpointError::Content { path: path.to_owned(), reason };
    let mismatch = |name: String, found: String, expected: String| {
        let path = path.to_owned();
        CheckpointError::Mismatch { path, name, found, expected }
    };
    let (mut file, header, file_bytes) = open(path)?;
    let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
    let places = contents::places(&header, file_bytes, &shapes).map_err(|refusal| match refusal {
        Refusal::File(reason) => broken(reason),
        Refusal::Tensor { name, found, expected } => mismatch(name, found, expected),
    })?;
    for place in places {
        let bytes = read_place(&mut file, place.begin, place.bytes).at("read", path)?;
        if let Some((index, number)) = contents::not_finite(&bytes) {
            let (found, expected) = (format!("{number} at index {index}"), "only finite numbers".to_owned());
            return Err(mismatch(place.name, found, expected));
        }
        let tensor = &tensors[&place.name];
        let loaded = Tensor::from_data_size(&bytes, &tensor.size(), Kind::Float);
        tch::no_grad(|| tensor.shallow_clone().copy_(&loaded));
    }
    Ok(())
}

fn read_place(file: &mut File, begin: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(begin))?;
    let mut content = vec![0; bytes as usize];
    file.read_exact(&mut content)?;
    Ok(content)
}
