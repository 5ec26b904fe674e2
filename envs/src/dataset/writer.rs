//! Collecting: what a directory lacks of a dataset is found out, recorded and committed.
//!
//! Whatever ends the process, at whatever point, the committed episodes stay, and collecting again records only what is
//! missing. The bytes of a finished dataset depend on the source alone.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::codec::{Codec, EPISODE_BUDGET};
use super::commit::{Journal, record_and_commit};
use super::error::DatasetError;
use super::layout::{Description, FORMAT, MOST_EPISODES, check_columns};
use super::manifest::{Entry, Manifest};
use super::record::Plan;
use super::room;
use super::session::{Session, Unsaid};
use super::shard::{Extent, Places, Schema};
use super::shard_of::ShardOf;
use super::source::EpisodeSource;
use crate::storage::{Disk, Storage};

/// A shard is about this large unless a request says how many episodes it has.
pub const SHARD_BYTES: u64 = 32 << 20;
/// The same before packing, where pictures are packed: they become a fraction of it, and so do the buffers of shards. Fewer and
/// larger files, with enough long episodes in each that all threads have one to record.
pub const PACKED_SHARD_BYTES: u64 = 256 << 20;

/// What to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Episodes that the dataset shall have, those already committed included.
    pub episodes: u64,
    /// Episodes of a shard; by default as many as make [`SHARD_BYTES`], or of packed rows 256 MiB before they are packed, or as the dataset already has.
    pub episodes_per_shard: Option<u64>,
    /// How it is encoded; by default as the dataset already is, or as [`EpisodeSource::codec`] says. A dataset that is packed
    /// goes on with the settings it was begun with.
    pub codec: Option<Codec>,
}

impl Request {
    /// `episodes` episodes in shards of the default size, encoded as their source says.
    #[must_use]
    pub fn episodes(episodes: u64) -> Self {
        Self { episodes, episodes_per_shard: None, codec: None }
    }
}

/// What of a request to record here, and when to leave off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The part to record. Parts have directories of their own, with the `dataset.json` of the whole; `merge` joins them.
    pub part: ShardOf,
    /// Bytes that stay free on the disk; by default a gigabyte, or a hundredth of a disk of less than a hundred.
    pub min_free: Option<u64>,
}

/// What is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Committed episodes.
    pub episodes: u64,
    /// Episodes asked for: of the whole dataset, or of the part and what else the directory has.
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
    collect_into(&Disk, source, dir, request, control)
}

/// [`collect`] on a storage of the caller's choice.
///
/// # Errors
/// As [`collect`].
pub fn collect_into(
    storage: &dyn Storage,
    source: &dyn EpisodeSource,
    dir: &Path,
    request: Request,
    control: Control<'_>,
) -> Result<Outcome, DatasetError> {
    collect_part(storage, source, dir, request, Bounds::default(), control)
}

/// [`collect_into`], within `bounds`.
///
/// # Errors
/// As [`collect`]; an error of the storage also where fewer bytes would stay free than are to.
pub fn collect_part(
    storage: &dyn Storage,
    source: &dyn EpisodeSource,
    dir: &Path,
    request: Request,
    bounds: Bounds,
    control: Control<'_>,
) -> Result<Outcome, DatasetError> {
    let asked = describe(source, request)?;
    let unsaid = Unsaid { episodes_per_shard: request.episodes_per_shard.is_none(), codec: request.codec.is_none() };
    let session = Session::begin(storage, dir, asked, unsaid)?;
    let description = &session.description;
    check_lengths(source, description.schema())?;
    let missing = missing(description, &session.manifest, bounds.part);
    let min_free = bounds.min_free.unwrap_or_else(|| room::kept_by_default(storage, dir));
    let plan = Plan::new(source, description.schema());
    let mut journal = Journal::open(&session, requested(&session.manifest, &missing), min_free, control)?;
    journal.expect_rows(needed(&plan, &missing));
    let before = journal.progress();
    let stopped = record_and_commit(&plan, &missing, &mut journal)?;
    let now = journal.progress();
    if !stopped {
        session.finish()?;
    }
    Ok(Outcome { before, now, stopped })
}

impl Progress {
    pub(super) fn add(&mut self, entry: &Entry) {
        self.episodes += entry.count();
        self.frames += entry.steps + entry.count();
        self.bytes += entry.bytes;
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        self.episodes -= entry.count();
        self.frames -= entry.steps + entry.count();
        self.bytes -= entry.bytes;
    }
}

/// The description that a fresh dataset would get.
fn describe(source: &dyn EpisodeSource, request: Request) -> Result<Description, DatasetError> {
    let (columns, codec) = (source.columns(), request.codec.unwrap_or_else(|| source.codec()));
    check_columns(&columns, codec)?;
    let refuse = |field: &'static str, value: u64, allowed: String| {
        Err(DatasetError::Request { field, value: value.to_string(), allowed })
    };
    if request.episodes == 0 || request.episodes > MOST_EPISODES {
        return refuse("episodes", request.episodes, format!("1 to {MOST_EPISODES} allowed"));
    }
    if let Some(0) = request.episodes_per_shard {
        return refuse("episodes_per_shard", 0, "1 or more allowed".to_owned());
    }
    codec.check().map_err(|allowed| DatasetError::Request {
        field: "codec",
        value: codec.name().to_owned(),
        allowed,
    })?;
    // As it would lie unpacked: what packing makes of it, nobody knows yet.
    let unpacked = Schema { columns: &columns, codec: Codec::Raw };
    let extent = Extent::new(unpacked, [[source.length().longest() as u64, 1]]);
    let episode = extent.and_then(|extent| Places::new(unpacked, &extent, &vec![0; columns.len()]));
    let episode = episode.map_or(u64::MAX, |places| places.bytes as u64);
    let shard = if columns.iter().any(|column| codec.packs(column)) { PACKED_SHARD_BYTES } else { SHARD_BYTES };
    let per_shard = request.episodes_per_shard.unwrap_or((shard / episode).max(1));
    Ok(Description {
        format: FORMAT,
        package: env!("CARGO_PKG_VERSION").to_owned(),
        codec,
        episodes: request.episodes,
        episodes_per_shard: per_shard,
        source: source.header(),
        columns,
    })
}

/// Ranges of the shards of `part` that are not committed, or not in full.
fn missing(description: &Description, manifest: &Manifest, part: ShardOf) -> Vec<(u64, u64)> {
    let committed: BTreeSet<[u64; 2]> = manifest.entries.iter().map(|entry| entry.episodes).collect();
    let shards = description.episodes.div_ceil(description.episodes_per_shard);
    (part.index()..shards)
        .step_by(usize::try_from(part.count()).unwrap_or(usize::MAX))
        .map(|shard| description.range(shard))
        .filter(|&(first, end)| !committed.contains(&[first, end]))
        .collect()
}

/// Episodes that are committed when all of `missing` are.
fn requested(manifest: &Manifest, missing: &[(u64, u64)]) -> u64 {
    let replaced = |entry: &&Entry| {
        let after = missing.partition_point(|&(first, _)| first <= entry.episodes[0]);
        after > 0 && entry.episodes[0] < missing[after - 1].1
    };
    let stay = manifest.entries.iter().filter(|entry| !replaced(entry)).map(Entry::count).sum::<u64>();
    stay + missing.iter().map(|(first, end)| end - first).sum::<u64>()
}

/// Refuses episodes that nobody could read again.
fn check_lengths(source: &dyn EpisodeSource, schema: Schema<'_>) -> Result<(), DatasetError> {
    for column in schema.packed().map(|column| &schema.columns[column]) {
        let bytes = column.follows.rows(source.length().longest()).saturating_mul(column.row_bytes());
        if bytes > EPISODE_BUDGET {
            let reason = format!("an episode may have {bytes} bytes of it; zstd packs at most {EPISODE_BUDGET}");
            return Err(DatasetError::Column { column: column.name.clone(), reason });
        }
    }
    Ok(())
}

/// Bytes that the rows of the shards `missing` have at most.
fn needed(plan: &Plan<'_>, missing: &[(u64, u64)]) -> u64 {
    let longest = plan.length.longest() as u64;
    let bytes = |&(first, end): &(u64, u64)| plan.schema.row_bytes(end - first, longest.checked_mul(end - first)?);
    missing.iter().fold(0, |sum: u64, range| sum.saturating_add(bytes(range).unwrap_or(u64::MAX)))
}
