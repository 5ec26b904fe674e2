//! Collecting: what a directory lacks of a dataset is found out, recorded and committed.
//!
//! Whatever ends the process, at whatever point, the committed episodes stay, and collecting again records only what is
//! missing. The bytes of a finished dataset depend on the source alone.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::commit::{Journal, record_and_commit};
use super::error::{At, DatasetError};
use super::layout::{
    Codec, Description, FORMAT, MOST_EPISODES, check_columns, description_path, manifest_path, replace, shards_path,
};
use super::lock::Lock;
use super::manifest::{Entry, Manifest, Tail};
use super::record::Plan;
use super::shard::Places;
use super::source::EpisodeSource;

/// A shard is about this large unless a request says how many episodes it has.
pub const SHARD_BYTES: u64 = 32 << 20;

/// What to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Episodes that the dataset shall have, those already committed included.
    pub episodes: u64,
    /// Episodes of a shard; by default as many as make [`SHARD_BYTES`], or as the dataset already has.
    pub episodes_per_shard: Option<u64>,
}

impl Request {
    /// `episodes` episodes in shards of the default size.
    #[must_use]
    pub fn episodes(episodes: u64) -> Self {
        Self { episodes, episodes_per_shard: None }
    }
}

/// What is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Committed episodes.
    pub episodes: u64,
    /// Episodes asked for.
    pub requested: u64,
    /// Observations of the committed episodes.
    pub frames: u64,
    /// Bytes of their shard files.
    pub bytes: u64,
}

/// How a collection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What was committed when it began.
    pub before: Progress,
    /// What is committed now.
    pub now: Progress,
    /// Whether it was stopped before all was recorded.
    pub stopped: bool,
}

/// How the caller steers a collection and watches it.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Once true, no further episode is begun. Committed shards stay, the unfinished one is dropped.
    pub stop: &'a AtomicBool,
    /// Called with what is committed: at the start, and after every commit, then from another thread.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// Records what the dataset in `dir` lacks of `request`, in the current rayon pool. The directory is made where it is
/// missing; what is there already must come from an equal source, and may be extended.
///
/// # Errors
/// When the request or the columns are impossible, the directory holds something else or is being written by another
/// process, a committed file is damaged, the source fails, or the system does. What is committed stays.
pub fn collect(
    source: &dyn EpisodeSource,
    dir: &Path,
    request: Request,
    control: Control<'_>,
) -> Result<Outcome, DatasetError> {
    let asked = describe(source, request)?;
    refuse_foreign(dir)?;
    let shards = shards_path(dir);
    fs::create_dir_all(&shards).at("create", &shards)?;
    let _lock = Lock::take(dir)?;
    let description = settle(dir, asked, request)?;
    let manifest = recover(dir, &description)?;
    let mut progress = Progress { requested: description.episodes, ..Progress::default() };
    manifest.entries.iter().for_each(|entry| progress.add(entry));
    (control.progress)(progress);
    let before = progress;

    let missing = missing(&description, &manifest);
    let mut journal = Journal::open(dir, &description, progress, control)?;
    let plan = Plan { source, columns: &description.columns, length: source.length() };
    let stopped = record_and_commit(&plan, &missing, &mut journal)?;
    let now = journal.progress();
    if !stopped {
        finish(dir, &description)?;
    }
    Ok(Outcome { before, now, stopped })
}

impl Progress {
    pub(super) fn add(&mut self, entry: &Entry) {
        self.episodes += entry.count();
        self.frames += entry.steps + entry.count();
        self.bytes += entry.bytes;
    }
}

/// The description that a fresh dataset would get.
fn describe(source: &dyn EpisodeSource, request: Request) -> Result<Description, DatasetError> {
    let columns = source.columns();
    check_columns(&columns)?;
    let refuse = |field: &'static str, value: u64, allowed: String| {
        Err(DatasetError::Request { field, value: value.to_string(), allowed })
    };
    if request.episodes == 0 || request.episodes > MOST_EPISODES {
        return refuse("episodes", request.episodes, format!("1 to {MOST_EPISODES} allowed"));
    }
    if let Some(0) = request.episodes_per_shard {
        return refuse("episodes_per_shard", 0, "1 or more allowed".to_owned());
    }
    let episode = Places::new(&columns, 1, source.length().longest()).map_or(u64::MAX, |places| places.bytes as u64);
    let per_shard = request.episodes_per_shard.unwrap_or((SHARD_BYTES / episode).max(1));
    Ok(Description {
        format: FORMAT,
        package: env!("CARGO_PKG_VERSION").to_owned(),
        codec: Codec::Raw,
        episodes: request.episodes,
        episodes_per_shard: per_shard,
        source: source.header(),
        columns,
    })
}

/// Nothing is ever written into a directory that holds other things.
fn refuse_foreign(dir: &Path) -> Result<(), DatasetError> {
    let own = ["shards", "manifest.jsonl", "dataset.json.tmp", ".lock"];
    let listing = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
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
fn settle(dir: &Path, mut asked: Description, request: Request) -> Result<Description, DatasetError> {
    if !description_path(dir).try_exists().at("look at", &description_path(dir))? {
        if !Manifest::read(dir, &asked)?.is_blank() {
            let reason = "it has a manifest and no dataset.json, which says what its episodes are".to_owned();
            return Err(DatasetError::NotADataset { path: dir.to_owned(), reason });
        }
        asked.write(dir)?;
        return Ok(asked);
    }
    let mut on_disk = Description::read(dir)?;
    if request.episodes_per_shard.is_none() {
        asked.episodes_per_shard = on_disk.episodes_per_shard;
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
        on_disk.write(dir)?;
    }
    Ok(on_disk)
}

/// Brings the directory to what its manifest says: cuts off a torn line, removes what was never committed.
fn recover(dir: &Path, description: &Description) -> Result<Manifest, DatasetError> {
    let manifest = Manifest::read(dir, description)?.undamaged(dir)?;
    if manifest.tail != Tail::Clean {
        let path = manifest_path(dir);
        tracing::warn!(path = %path.display(), "cutting off the last line, which was not written in full");
        let file = OpenOptions::new().write(true).open(&path).at("open", &path)?;
        file.set_len(manifest.whole_bytes as u64).at("truncate", &path)?;
        file.sync_all().at("sync", &path)?;
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
    remove_orphans(&shards, &manifest)?;
    Ok(manifest)
}

/// Removes shard files without a line, and temporary files. Files of other names are not ours and stay.
fn remove_orphans(shards: &Path, manifest: &Manifest) -> Result<(), DatasetError> {
    let committed: BTreeSet<&str> = manifest.entries.iter().map(|entry| entry.shard.as_str()).collect();
    for item in fs::read_dir(shards).at("list", shards)? {
        let item = item.at("list", shards)?;
        let name = item.file_name();
        let Some(name) = name.to_str().filter(|name| is_shard_name(name) && !committed.contains(name)) else {
            continue;
        };
        tracing::info!(shard = name, "removing a shard that was never committed, or has been replaced");
        fs::remove_file(item.path()).at("remove", &item.path())?;
    }
    Ok(())
}

fn is_shard_name(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_suffix(".safetensors").is_some_and(|stem| stem.split('-').all(digits))
}

/// Ranges of the shards that are not committed, or not in full.
fn missing(description: &Description, manifest: &Manifest) -> Vec<(u64, u64)> {
    let committed: BTreeSet<[u64; 2]> = manifest.entries.iter().map(|entry| entry.episodes).collect();
    let shards = description.episodes.div_ceil(description.episodes_per_shard);
    (0..shards)
        .map(|shard| description.range(shard))
        .filter(|&(first, end)| !committed.contains(&[first, end]))
        .collect()
}

/// Removes what longer shards replaced and brings the manifest into canonical order, so that the bytes of a finished
/// dataset tell nothing of its history.
fn finish(dir: &Path, description: &Description) -> Result<(), DatasetError> {
    let manifest = Manifest::read(dir, description)?.undamaged(dir)?;
    remove_orphans(&shards_path(dir), &manifest)?;
    let path = manifest_path(dir);
    let canonical = manifest.canonical();
    if fs::read(&path).at("read", &path)? == canonical { Ok(()) } else { replace(&path, &canonical) }
}
