//! One writer at work on a directory: it is locked, of the dataset asked for, and as its manifest says; in the end it is
//! brought into the form that tells nothing of its history.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::error::DatasetError;
use super::layout::{Description, description_path, manifest_path, shards_path};
use super::manifest::{Manifest, Tail};
use crate::storage::{At, Lock, Storage, create_folders, replace};

/// A dataset that this process writes to.
pub(super) struct Session<'a> {
    pub storage: &'a dyn Storage,
    pub dir: &'a Path,
    /// What `dataset.json` says from now on.
    pub description: Description,
    /// What was committed when it began.
    pub manifest: Manifest,
    _lock: Lock,
}

/// What nobody asked for, so that a dataset that is there already keeps it.
#[derive(Clone, Copy, Default)]
pub(super) struct Unsaid {
    pub episodes_per_shard: bool,
    pub codec: bool,
}

impl<'a> Session<'a> {
    /// Takes `dir`, made where it is missing, for a dataset that is `asked`. A torn line is cut off.
    pub fn begin(
        storage: &'a dyn Storage,
        dir: &'a Path,
        asked: Description,
        unsaid: Unsaid,
    ) -> Result<Self, DatasetError> {
        refuse_foreign(dir)?;
        create_folders(storage, &shards_path(dir))?;
        let lock = Lock::take(dir)?;
        let description = settle(storage, dir, asked, unsaid)?;
        let manifest = recover(storage, dir, &description)?;
        Ok(Self { storage, dir, description, manifest, _lock: lock })
    }

    /// Removes what was never committed, or has been replaced. The manifest must be safe by then: as long as the line that
    /// replaces a short shard may be lost, that shard may not.
    pub fn sweep(&self) -> Result<(), DatasetError> {
        remove_orphans(self.storage, &shards_path(self.dir), &self.manifest)
    }

    /// Removes what longer shards replaced and brings the manifest into canonical order, so that the bytes of a finished
    /// dataset tell nothing of its history.
    pub fn finish(&self) -> Result<(), DatasetError> {
        let manifest = Manifest::read(self.dir, &self.description)?.undamaged(self.dir)?;
        remove_orphans(self.storage, &shards_path(self.dir), &manifest)?;
        write_canonical(self.storage, self.dir, &manifest)
    }
}

/// Replaces the manifest, where it has anything but the lines that count, in order.
pub(super) fn write_canonical(storage: &dyn Storage, dir: &Path, manifest: &Manifest) -> Result<(), DatasetError> {
    let path = manifest_path(dir);
    let canonical = manifest.canonical();
    let found = match Manifest::bytes(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.at("read", &path)?),
    };
    if found.as_ref() != Some(&canonical) {
        replace(storage, &path, &canonical)?;
    }
    Ok(())
}

/// Nothing is ever written into a directory that holds other things.
fn refuse_foreign(dir: &Path) -> Result<(), DatasetError> {
    let own = ["shards", "manifest.jsonl", "dataset.json.tmp", ".lock"];
    let listing = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let reason = "it is a file, a dataset is a directory".to_owned();
            return Err(DatasetError::NotADataset { path: dir.to_owned(), reason });
        }
        listing => listing.at("list", dir)?,
    };
    if description_path(dir).exists() {
        return Ok(());
    }
    for item in listing {
        let name = item.at("list", dir)?.file_name();
        if !own.iter().any(|own| name == *own) {
            let reason = format!("it holds {} and no dataset.json; give an empty or new directory", name.display());
            return Err(DatasetError::NotADataset { path: dir.to_owned(), reason });
        }
    }
    Ok(())
}

/// The description that holds from now on: the one on disk, if it is of the same source, extended where more is asked.
fn settle(
    storage: &dyn Storage,
    dir: &Path,
    mut asked: Description,
    unsaid: Unsaid,
) -> Result<Description, DatasetError> {
    if !description_path(dir).try_exists().at("look at", &description_path(dir))? {
        if !Manifest::read(dir, &asked)?.is_blank() {
            let reason = "it has a manifest and no dataset.json, which says what its episodes are".to_owned();
            return Err(DatasetError::NotADataset { path: dir.to_owned(), reason });
        }
        asked.write(storage, dir)?;
        return Ok(asked);
    }
    let mut on_disk = Description::read(dir)?;
    if unsaid.episodes_per_shard {
        asked.episodes_per_shard = on_disk.episodes_per_shard;
    }
    if unsaid.codec || asked.codec.name() == on_disk.codec.name() {
        asked.codec = on_disk.codec;
    }
    let differences = on_disk.differences(&asked);
    if !differences.is_empty() {
        return Err(DatasetError::Mismatch { path: dir.to_owned(), differences });
    }
    if asked.episodes < on_disk.episodes {
        let allowed = format!("{} has {} episodes, and can be given more, not fewer", dir.display(), on_disk.episodes);
        return Err(DatasetError::Request { field: "episodes", value: asked.episodes.to_string(), allowed });
    }
    if on_disk.package != asked.package {
        tracing::warn!(begun_with = %on_disk.package, now = %asked.package, "continuing a dataset of another version");
    }
    if asked.episodes > on_disk.episodes {
        on_disk.episodes = asked.episodes;
        on_disk.write(storage, dir)?;
    }
    Ok(on_disk)
}

/// What is committed, with every file in its place; a torn line is cut off.
fn recover(storage: &dyn Storage, dir: &Path, description: &Description) -> Result<Manifest, DatasetError> {
    let manifest = Manifest::read(dir, description)?.undamaged(dir)?;
    refuse_lost(dir)?;
    if manifest.tail != Tail::Clean {
        let path = manifest_path(dir);
        tracing::warn!(path = %path.display(), "cutting off the last line, which was not written in full");
        storage.truncate(&path, manifest.whole_bytes as u64).at("truncate", &path)?;
    }
    let shards = shards_path(dir);
    for entry in &manifest.entries {
        let path = shards.join(&entry.shard);
        let wrong = |reason: String| Err(DatasetError::Shard { path: path.clone(), reason });
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return wrong("committed, but missing".to_owned()),
            other => {
                let bytes = other.at("look at", &path)?.len();
                if bytes != entry.bytes {
                    return wrong(format!("{bytes} bytes, {} were committed", entry.bytes));
                }
            }
        }
    }
    Ok(manifest)
}

/// Shard files without any manifest are not swept: it is there before the first of them.
fn refuse_lost(dir: &Path) -> Result<(), DatasetError> {
    let path = manifest_path(dir);
    if path.try_exists().at("look at", &path)? || shard_files(dir)?.is_empty() {
        return Ok(());
    }
    let reason = "it has shards and no manifest.jsonl; `data repair` makes it anew".to_owned();
    Err(DatasetError::NotADataset { path: dir.to_owned(), reason })
}

/// The files in `shards/` that are called as shards are, by name; temporary ones are none. The folder may be missing.
pub(super) fn shard_files(dir: &Path) -> Result<Vec<String>, DatasetError> {
    let shards = shards_path(dir);
    let mut names = Vec::new();
    if shards.try_exists().at("look at", &shards)? {
        for item in fs::read_dir(&shards).at("list", &shards)? {
            let name = item.at("list", &shards)?.file_name();
            names.extend(
                name.to_str()
                    .filter(|name| is_shard_name(name) && name.strip_suffix(".tmp").is_none())
                    .map(str::to_owned),
            );
        }
    }
    names.sort();
    Ok(names)
}

/// Removes shard files without a line, and temporary files. Files of other names are not ours and stay.
fn remove_orphans(storage: &dyn Storage, shards: &Path, manifest: &Manifest) -> Result<(), DatasetError> {
    let committed: BTreeSet<&str> = manifest.entries.iter().map(|entry| entry.shard.as_str()).collect();
    for item in fs::read_dir(shards).at("list", shards)? {
        let item = item.at("list", shards)?;
        let name = item.file_name();
        let Some(name) = name.to_str().filter(|name| is_shard_name(name) && !committed.contains(name)) else {
            continue;
        };
        tracing::info!(shard = name, "removing a shard that was never committed, or has been replaced");
        storage.remove_file(&item.path()).at("remove", &item.path())?;
    }
    Ok(())
}

fn is_shard_name(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_suffix(".safetensors").is_some_and(|stem| stem.split(['-', '+']).all(digits))
}
