//! Committing shards: recorded, written and made safe by three threads, one shard behind the other.
//!
//! A shard is committed by: temporary name, fsync, rename, fsync of the directory, manifest line, fsync. While the disk is
//! busy with one shard, the next is hashed and handed to the system, and the one after it is being recorded.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::ScopedJoinHandle;

use super::error::{At, DatasetError};
use super::layout::{Description, manifest_path, shards_path, sync_directory, temporary};
use super::manifest::{Entry, runs, shard_name};
use super::record::{Plan, ShardData};
use super::shard::column_digests;
use super::writer::{Control, Progress};

/// Shards in memory: one being recorded, one being written, one waiting so that neither waits for the other.
const BUFFERS: usize = 3;
/// Hashed and written at a time, so that what is written is still in cache.
const CHUNK: usize = 1 << 18;

/// The manifest of a dataset that is being written, and what is committed.
pub(super) struct Journal<'a> {
    dir: &'a Path,
    description: &'a Description,
    file: File,
    progress: Progress,
    control: Control<'a>,
}

/// A recorded shard: first episode, one past the last, data.
struct Recorded(u64, u64, ShardData);

/// A shard file under its temporary name, which the system has and the disk may not have.
struct Stored {
    file: File,
    unnamed: Unnamed,
    entry: Entry,
}

/// A temporary file that goes when it is not renamed, so that a failed run leaves its space to others.
struct Unnamed(PathBuf);

impl Drop for Unnamed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // after a rename there is none
    }
}

/// Records the shards `missing`, given by first episode and one past the last, and commits them in that order. Returns
/// whether it was stopped before the last.
pub(super) fn record_and_commit(
    plan: &Plan<'_>,
    missing: &[(u64, u64)],
    journal: &mut Journal<'_>,
) -> Result<bool, DatasetError> {
    let (dir, description, stop) = (journal.dir, journal.description, journal.control.stop);
    let (recorded_in, recorded): (SyncSender<Recorded>, Receiver<Recorded>) = sync_channel(BUFFERS);
    let (empty_in, empty): (Sender<ShardData>, Receiver<ShardData>) = channel();
    let (stored_in, stored): (SyncSender<Stored>, Receiver<Stored>) = sync_channel(1);
    for _ in 0..BUFFERS {
        empty_in.send(ShardData::default()).unwrap_or_default();
    }
    std::thread::scope(|scope| {
        let storing = scope.spawn(move || -> Result<(), DatasetError> {
            for shard in recorded {
                let file = store(dir, description, &shard)?;
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
fn store(dir: &Path, description: &Description, shard: &Recorded) -> Result<Stored, DatasetError> {
    let Recorded(first, end, data) = shard;
    let columns = &description.columns;
    let per_shard = description.episodes_per_shard;
    let name = shard_name(first / per_shard, end - first, per_shard);
    let path = temporary(&shards_path(dir).join(&name));
    let header = data.header(columns, *first);
    let bytes = header.len() + data.bytes().len();

    let mut file = File::create(&path).at("create", &path)?;
    let unnamed = Unnamed(path);
    let mut hasher = blake3::Hasher::new();
    for chunk in std::iter::once(&header[..]).chain(data.bytes().chunks(CHUNK)) {
        hasher.update(chunk);
        file.write_all(chunk).at(&format!("write {bytes} bytes to"), &unnamed.0)?;
    }
    let lengths = data.lengths().iter().map(|&steps| steps as u64);
    let entry = Entry {
        shard: name,
        bytes: bytes as u64,
        episodes: [*first, *end],
        steps: lengths.clone().sum(),
        lengths: runs(lengths),
        blake3: hasher.finalize().to_hex().to_string(),
        columns: column_digests(columns, data.checks()),
    };
    Ok(Stored { file, unnamed, entry })
}

impl<'a> Journal<'a> {
    /// Opens the manifest of `dir` to append to it. `progress` is what it says.
    pub fn open(
        dir: &'a Path,
        description: &'a Description,
        progress: Progress,
        control: Control<'a>,
    ) -> Result<Self, DatasetError> {
        let path = manifest_path(dir);
        let file = OpenOptions::new().append(true).create(true).open(&path).at("open", &path)?;
        sync_directory(dir)?;
        Ok(Self { dir, description, file, progress, control })
    }

    /// What is committed.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    fn commit(&mut self, shard: Stored) -> Result<(), DatasetError> {
        let Stored { file, unnamed, entry } = shard;
        let shards = shards_path(self.dir);
        file.sync_all().at(&format!("write {} bytes to", entry.bytes), &unnamed.0)?;
        fs::rename(&unnamed.0, shards.join(&entry.shard)).at("rename into place", &unnamed.0)?;
        sync_directory(&shards)?;
        self.append(&entry.to_line())?;
        self.progress.add(&entry);
        (self.control.progress)(self.progress);
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> Result<(), DatasetError> {
        let path = manifest_path(self.dir);
        let before = self.file.metadata().at("look at", &path)?.len();
        let written = self.file.write_all(line).and_then(|()| self.file.sync_all());
        if written.is_err() {
            let _ = self.file.set_len(before); // else the next run cuts it off as torn
        }
        written.at(&format!("append {} bytes to", line.len()), &path)
    }
}
