//! Committing shards: recorded, written and made safe by three threads, one shard behind the other.
//!
//! A shard is committed by: temporary name, fsync, rename, fsync of the directory, manifest line, fsync. While the disk is
//! busy with one shard, the next is hashed and handed to the system, and the one after it is being recorded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::ScopedJoinHandle;

use super::error::DatasetError;
use super::layout::{Description, manifest_path, shards_path};
use super::manifest::{Entry, runs, shard_name};
use super::record::{Plan, ShardData};
use super::room;
use super::session::Session;
use super::shard::column_digests;
use super::writer::{Control, Progress};
use crate::storage::{At, Sink, Storage, temporary};

/// Shards in memory: one being recorded, one being written, one waiting so that neither waits for the other.
const BUFFERS: usize = 3;
/// Hashed and written at a time, so that what is written is still in cache.
pub(super) const CHUNK: usize = 1 << 18;

/// The manifest of a dataset that is being written, and what is committed.
pub(super) struct Journal<'a> {
    storage: &'a dyn Storage,
    dir: &'a Path,
    description: &'a Description,
    file: Box<dyn Sink>,
    /// By first episode; those that are replaced go.
    committed: BTreeMap<u64, Entry>,
    progress: Progress,
    min_free: u64,
    /// Bytes of rows that are still to be recorded, until it is known what they will take on the disk.
    ahead: Option<u64>,
    control: Control<'a>,
}

/// A recorded shard: first episode, one past the last, data.
struct Recorded(u64, u64, ShardData);

/// A shard file under its temporary name, which the system has and the disk may not have.
pub(super) struct Stored<'a> {
    file: Box<dyn Sink>,
    unnamed: Unnamed<'a>,
    pub entry: Entry,
}

/// A temporary file that goes when it is not renamed, so that a failed run leaves its space to others.
struct Unnamed<'a>(&'a dyn Storage, PathBuf);

impl Drop for Unnamed<'_> {
    fn drop(&mut self) {
        let _ = self.0.remove_file(&self.1); // after a rename there is none
    }
}

/// Records the shards `missing`, given by first episode and one past the last, and commits them in that order. Returns
/// whether it was stopped before the last.
pub(super) fn record_and_commit(
    plan: &Plan<'_>,
    missing: &[(u64, u64)],
    journal: &mut Journal<'_>,
) -> Result<bool, DatasetError> {
    let (storage, dir, description, stop) = (journal.storage, journal.dir, journal.description, journal.control.stop);
    let min_free = journal.min_free;
    let (recorded_in, recorded): (SyncSender<Recorded>, Receiver<Recorded>) = sync_channel(BUFFERS);
    let (empty_in, empty): (Sender<ShardData>, Receiver<ShardData>) = channel();
    let (stored_in, stored): (SyncSender<Stored<'_>>, Receiver<Stored<'_>>) = sync_channel(1);
    for _ in 0..BUFFERS {
        empty_in.send(ShardData::default()).unwrap_or_default();
    }
    std::thread::scope(|scope| {
        let storing = scope.spawn(move || -> Result<(), DatasetError> {
            for shard in recorded {
                let file = store(storage, dir, description, &shard, min_free)?;
                if stored_in.send(file).is_err() {
                    break;
                }
                empty_in.send(shard.2).unwrap_or_default(); // nobody takes it after the last shard
            }
            Ok(())
        });
        let committing = scope.spawn(move || stored.into_iter().try_for_each(|shard| journal.commit(shard)));
        let recording = record(plan, missing, stop, &recorded_in, &empty);
        drop(recorded_in);
        let (storing, committing) = (outcome(storing), outcome(committing));
        committing.and(storing).and(recording)
    })
}

fn outcome<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Feeds the other threads. A closed channel means that one of them has failed, and will say why.
fn record(
    plan: &Plan<'_>,
    missing: &[(u64, u64)],
    stop: &AtomicBool,
    recorded: &SyncSender<Recorded>,
    empty: &Receiver<ShardData>,
) -> Result<bool, DatasetError> {
    for &(first, end) in missing {
        let Ok(mut data) = empty.recv() else { return Ok(false) };
        if stop.load(Ordering::Relaxed) || !data.record(plan, first, end, stop)? {
            return Ok(true);
        }
        if recorded.send(Recorded(first, end, data)).is_err() {
            return Ok(false);
        }
    }
    Ok(false)
}

/// Hashes and writes a shard under its temporary name.
fn store<'a>(
    storage: &'a dyn Storage,
    dir: &Path,
    description: &Description,
    shard: &Recorded,
    min_free: u64,
) -> Result<Stored<'a>, DatasetError> {
    let Recorded(first, end, data) = shard;
    let schema = description.schema();
    let header = data.header(schema, *first);
    let lengths = data.lengths().iter().map(|&steps| steps as u64);
    let entry = Entry {
        shard: shard_name([*first, *end], description.episodes_per_shard),
        bytes: (header.len() + data.bytes()) as u64,
        episodes: [*first, *end],
        steps: lengths.clone().sum(),
        lengths: runs(lengths),
        blake3: String::new(),
        columns: column_digests(schema.columns, data.checks()),
    };
    room::leave(storage, dir, entry.bytes, min_free)?;
    Stored::write(storage, dir, entry, std::iter::once(&header[..]).chain(data.pieces()))
}

impl<'a> Stored<'a> {
    /// Writes `pieces` as the shard of `entry`, which gets their hash.
    pub fn write<'b>(
        storage: &'a dyn Storage,
        dir: &Path,
        mut entry: Entry,
        pieces: impl IntoIterator<Item = &'b [u8]>,
    ) -> Result<Self, DatasetError> {
        let path = temporary(&shards_path(dir).join(&entry.shard));
        let mut file = storage.create(&path).at("create", &path)?;
        let unnamed = Unnamed(storage, path);
        let mut hasher = blake3::Hasher::new();
        for chunk in pieces.into_iter().flat_map(|piece| piece.chunks(CHUNK)) {
            hasher.update(chunk);
            file.write_all(chunk).at_writing(entry.bytes, &unnamed.1)?;
        }
        entry.blake3 = hasher.finalize().to_hex().to_string();
        Ok(Self { file, unnamed, entry })
    }

    /// Makes the file safe and gives it its name.
    pub fn name(mut self, dir: &Path) -> Result<Entry, DatasetError> {
        let (storage, path) = (self.unnamed.0, &self.unnamed.1);
        let shards = shards_path(dir);
        self.file.sync().at_writing(self.entry.bytes, path)?;
        storage.rename(path, &shards.join(&self.entry.shard)).at("rename into place", path)?;
        storage.sync_folder(&shards).at("sync", &shards)?;
        Ok(self.entry)
    }
}

impl<'a> Journal<'a> {
    /// Opens the manifest to append to it; `requested` episodes are to be committed in the end, and `min_free` bytes stay free
    /// on the disk. A writer that was killed may have left lines and names that only the system has: they are made safe
    /// before anybody is told of them.
    pub fn open(
        session: &'a Session<'_>,
        requested: u64,
        min_free: u64,
        control: Control<'a>,
    ) -> Result<Self, DatasetError> {
        let Session { storage, dir, description, manifest, .. } = session;
        let path = manifest_path(dir);
        let mut file = storage.append(&path).at("open", &path)?;
        file.sync().at("sync", &path)?;
        storage.sync_folder(dir).at("sync", dir)?;
        session.sweep()?;
        let mut progress = Progress { requested, ..Progress::default() };
        manifest.entries.iter().for_each(|entry| progress.add(entry));
        (control.progress)(progress);
        let committed = manifest.entries.iter().map(|entry| (entry.episodes[0], entry.clone())).collect();
        Ok(Self { storage: *storage, dir, description, file, committed, progress, min_free, ahead: None, control })
    }

    /// Warns where there will be no room for shards whose rows have `bytes` bytes: at once, or, where pictures are packed, as
    /// soon as something is committed that shows how small they become.
    pub fn expect_rows(&mut self, bytes: u64) {
        self.ahead = Some(bytes);
        self.warn_if_short();
    }

    fn warn_if_short(&mut self) {
        let (schema, Progress { episodes, frames, bytes, .. }) = (self.description.schema(), self.progress);
        let Some(ahead) = self.ahead else { return };
        let takes = if schema.packed().next().is_none() {
            ahead
        } else {
            match schema.row_bytes(episodes, frames - episodes) {
                None | Some(0) => return,
                Some(rows) => (u128::from(ahead) * u128::from(bytes) / u128::from(rows)) as u64,
            }
        };
        self.ahead = None;
        room::warn_if_short(self.storage, self.dir, takes, self.min_free);
    }

    /// What is committed.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    pub fn commit(&mut self, shard: Stored<'_>) -> Result<(), DatasetError> {
        let entry = shard.name(self.dir)?;
        self.append(&entry.to_line())?;
        let [first, end] = entry.episodes;
        let replaced: Vec<u64> = self.committed.range(first..end).map(|(&first, _)| first).collect();
        replaced.iter().filter_map(|old| self.committed.remove(old)).for_each(|old| self.progress.remove(&old));
        self.progress.add(&entry);
        let rows = self.description.schema().row_bytes(entry.count(), entry.steps).unwrap_or(0);
        self.ahead = self.ahead.map(|ahead| ahead.saturating_sub(rows));
        self.warn_if_short();
        self.committed.insert(first, entry);
        (self.control.progress)(self.progress);
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> Result<(), DatasetError> {
        let path = manifest_path(self.dir);
        let before = fs::metadata(&path).at("look at", &path)?.len();
        let written = self.file.write_all(line).and_then(|()| self.file.sync());
        if written.is_err() {
            let _ = self.storage.truncate(&path, before); // else the next run cuts it off as torn
        }
        Ok(written.at_writing(line.len() as u64, &path)?)
    }
}
