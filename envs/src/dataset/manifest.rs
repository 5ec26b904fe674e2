//! `manifest.jsonl`: one line per committed shard, appended after the shard is safe; the only source of truth.
//!
//! A line is a JSON object whose last field, `check`, is the CRC-32 of all bytes before it. A last line that is torn
//! was never committed. A later line replaces earlier ones whose episodes it has all, and more: that is how the short last
//! shard of a dataset grows when more episodes are asked for, and how what was saved of a damaged shard is made whole.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::DatasetError;
use super::gaps::gaps;
use super::layout::{Description, MOST_EPISODES, manifest_path};
use crate::storage::Failed;
use crate::untrusted;

/// A manifest beyond this is refused before it is read; one of a dataset of a terabyte has about 20 MB.
const MANIFEST_BUDGET: u64 = 64 << 20;
/// The most steps of one shard, so that no sum over a manifest overflows.
const MOST_STEPS: u64 = 1 << 40;
/// The most bytes of one shard, for the same reason.
const MOST_BYTES: u64 = 1 << 44;
/// Damaged lines that are named; a file of nothing but line feeds would fill the memory with names.
const MOST_NAMED: usize = 1000;
/// Between the fields of a line and its check.
const CHECK: &[u8] = b",\"check\":\"";
/// What `CHECK`, eight digits and the end of the object take.
const CHECK_BYTES: usize = CHECK.len() + 8 + 2;

/// What one line says about one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name of the file in `shards/`.
    pub shard: String,
    /// Its size.
    pub bytes: u64,
    /// Its episodes: first, and one past the last.
    pub episodes: [u64; 2],
    /// Steps of all its episodes together.
    pub steps: u64,
    /// Steps of each episode, as runs: `[steps, episodes in a row that have them]`.
    pub lengths: Vec<[u64; 2]>,
    /// blake3 of the file, in hex.
    pub blake3: String,
    /// Per column the first 16 bytes, in hex, of the blake3 of its per-episode checks (tensor `checks` of the shard).
    pub columns: BTreeMap<String, String>,
}

impl Entry {
    /// How many episodes it has.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.episodes[1] - self.episodes[0]
    }

    /// Steps of every episode, in order.
    pub fn steps_of_each(&self) -> impl Iterator<Item = u64> + '_ {
        self.lengths.iter().flat_map(|&[steps, count]| (0..count).map(move |_| steps))
    }

    /// The line, with its check and its line feed.
    ///
    /// # Panics
    /// Never: an entry has no key or value that JSON could not hold.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("an entry has string keys and plain values");
        line.pop(); // The brace that closes the object comes after the check.
        let check = crc32fast::hash(&line);
        line.extend_from_slice(CHECK);
        line.extend_from_slice(format!("{check:08x}\"}}\n").as_bytes());
        line
    }

    /// Reads one line, without its line feed.
    ///
    /// # Errors
    /// When the check does not fit, and when it does but the content cannot be.
    pub fn parse(line: &[u8]) -> Result<Self, LineError> {
        let mut object = checked(line).ok_or(LineError::Check)?.to_vec();
        object.push(b'}');
        let entry: Self = serde_json::from_slice(&object).map_err(|error| LineError::Content(error.to_string()))?;
        entry.consistent().map_err(LineError::Content)?;
        Ok(entry)
    }

    fn consistent(&self) -> Result<(), String> {
        let [first, end] = self.episodes;
        if first >= end || end > MOST_EPISODES || self.steps > MOST_STEPS {
            return Err(format!("episodes {first} to {end} of {} steps make no shard", self.steps));
        }
        let sum = |mut terms: Box<dyn Iterator<Item = Option<u64>> + '_>| {
            terms.try_fold(0u64, |total, term| total.checked_add(term?))
        };
        let count = sum(Box::new(self.lengths.iter().map(|run| Some(run[1]))));
        let steps = sum(Box::new(self.lengths.iter().map(|run| run[0].checked_mul(run[1]))));
        if count != Some(end - first) || steps != Some(self.steps) {
            return Err("its lengths do not add up to its episodes and steps".to_owned());
        }
        if self.bytes > MOST_BYTES {
            return Err(format!("{} bytes are no shard: at most {MOST_BYTES}", self.bytes));
        }
        // An episode leaves its length and a check, eight bytes each, so the count is bounded by the size of the file.
        if (end - first).checked_mul(16).is_none_or(|least| least > self.bytes) {
            return Err(format!("{} bytes cannot hold {} episodes", self.bytes, end - first));
        }
        let hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !hex(&self.blake3, 64) || !self.columns.values().all(|digest| hex(digest, 32)) {
            return Err("a hash is not lower-case hex of the right length".to_owned());
        }
        Ok(())
    }

    /// Whether it can be a shard of `description`: its range, its name, its columns.
    pub(super) fn fits(&self, description: &Description) -> Result<(), String> {
        let [first, end] = self.episodes;
        let per_shard = description.episodes_per_shard;
        if first / per_shard != (end - 1) / per_shard || end > description.episodes {
            return Err(format!("episodes {first} to {end} are no shard of {per_shard} of {}", description.episodes));
        }
        let name = shard_name(self.episodes, per_shard);
        if self.shard != name {
            return Err(format!("the shard is called {:?}, its episodes make it {name:?}", self.shard));
        }
        let known = |name: &String| description.columns.iter().any(|column| column.name == *name);
        if self.columns.len() != description.columns.len() || !self.columns.keys().all(known) {
            return Err("its columns are not those of dataset.json".to_owned());
        }
        Ok(())
    }
}

/// Why a line is not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is not as it was written.
    #[error("its check does not fit: the line is damaged")]
    Check,
    /// It is as it was written, but makes no sense here.
    #[error("{0}")]
    Content(String),
}

/// The part of a line before its check, if the check fits it.
fn checked(line: &[u8]) -> Option<&[u8]> {
    let (fields, tail) = line.split_at_checked(line.len().checked_sub(CHECK_BYTES)?)?;
    let digits = tail.strip_prefix(CHECK)?.strip_suffix(b"\"}")?;
    (digits == format!("{:08x}", crc32fast::hash(fields)).as_bytes()).then_some(fields)
}

/// File name of the shard that has `episodes`: `000012.safetensors`. One that is not whole says which of its episodes it has,
/// `-40` the first forty and `-20+7` seven from the twentieth on, since a whole one, of another name, may replace it later.
pub(super) fn shard_name(episodes: [u64; 2], per_shard: u64) -> String {
    let [first, end] = episodes;
    let (shard, offset, count) = (first / per_shard, first % per_shard, end - first);
    match offset {
        0 if count == per_shard => format!("{shard:06}.safetensors"),
        0 => format!("{shard:06}-{count}.safetensors"),
        _ => format!("{shard:06}-{offset}+{count}.safetensors"),
    }
}

/// The episodes of the shard file called `name`, if that is what a shard file is called.
pub(super) fn shard_range(name: &str, per_shard: u64) -> Option<[u64; 2]> {
    let stem = name.strip_suffix(".safetensors")?;
    let (shard, part) = stem.split_once('-').map_or((stem, None), |(shard, part)| (shard, Some(part)));
    let (offset, count) = match part {
        None => (0, per_shard),
        Some(part) => {
            let (offset, count) = part.split_once('+').unwrap_or(("0", part));
            (offset.parse::<u64>().ok()?, count.parse::<u64>().ok()?)
        }
    };
    if count == 0 || offset.checked_add(count)? > per_shard {
        return None;
    }
    let first = shard.parse::<u64>().ok()?.checked_mul(per_shard)?.checked_add(offset)?;
    let episodes = [first, first.checked_add(count)?];
    (shard_name(episodes, per_shard) == name).then_some(episodes)
}

/// Runs of equal lengths.
pub(super) fn runs(lengths: impl IntoIterator<Item = u64>) -> Vec<[u64; 2]> {
    let mut runs: Vec<[u64; 2]> = Vec::new();
    for steps in lengths {
        match runs.last_mut() {
            Some(run) if run[0] == steps => run[1] += 1,
            _ => runs.push([steps, 1]),
        }
    }
    runs
}

/// What follows the last whole line of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    #[default]
    Clean,
    /// A part of a line: the process died while it was being appended.
    Torn,
    /// A line, of this number, whose check does not fit. Either the machine died while it was being appended, and its
    /// parts reached the disk out of order, or it was damaged later. Its shard does not count, and can be recorded again.
    Damaged(usize),
}

/// A manifest as read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The shards that count, by their first episode.
    pub entries: Vec<Entry>,
    /// Entries that a longer shard has replaced.
    pub replaced: Vec<Entry>,
    /// Bytes of all whole lines; what follows them is torn.
    pub whole_bytes: usize,
    /// What follows them.
    pub tail: Tail,
    /// Lines, from 1, that cannot have been torn and yet make no sense, each with its reason.
    pub damaged: Vec<(usize, String)>,
}

impl Manifest {
    /// Reads the manifest of the dataset in `dir`; a missing file is an empty manifest.
    ///
    /// # Errors
    /// When the file cannot be read, or is larger than any manifest.
    pub fn read(dir: &Path, description: &Description) -> Result<Self, DatasetError> {
        let path = manifest_path(dir);
        match Self::bytes(dir) {
            Ok(bytes) => Ok(Self::parse(&bytes, description)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Failed::new("read", &path, source).into()),
        }
    }

    /// The bytes of the manifest of the dataset in `dir`, if they are no more than a manifest can have.
    pub(super) fn bytes(dir: &Path) -> io::Result<Vec<u8>> {
        untrusted::read(&manifest_path(dir), MANIFEST_BUDGET)
    }

    /// Reads the content of a manifest. Never fails: damage is listed.
    #[must_use]
    pub fn parse(bytes: &[u8], description: &Description) -> Self {
        let mut manifest = Self::default();
        let mut at = 0;
        let mut by_shard: BTreeMap<u64, Entry> = BTreeMap::new();
        let mut damaged: Vec<(usize, String)> = Vec::new();
        let (mut unnamed, mut last_unnamed) = (0, 0);
        let mut note = |line: usize, reason: &dyn Display| {
            if damaged.len() < MOST_NAMED {
                damaged.push((line, reason.to_string()));
            } else {
                (unnamed, last_unnamed) = (unnamed + 1, line);
            }
        };
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            at += line.len();
            let parsed = line.strip_suffix(b"\n").ok_or(LineError::Check).and_then(|line| {
                let entry = Entry::parse(line)?;
                entry.fits(description).map_err(LineError::Content)?;
                Ok(entry)
            });
            let number = index + 1;
            match parsed {
                Ok(entry) => {
                    manifest.whole_bytes = at;
                    let [first, end] = entry.episodes;
                    // Those that count have no episode in common, so of the ones that share some with this line, only the
                    // first can begin before it, and only the last can end after it. A look at those two keeps a manifest of
                    // many overlapping lines from taking the square of its length.
                    let before = by_shard.range(..first).next_back().map(|(_, old)| old.episodes[1]);
                    let last = by_shard.range(first..end).next_back().map(|(_, old)| old.episodes);
                    let beyond = |[from, to]: [u64; 2]| to > end || [from, to] == [first, end];
                    if before.is_some_and(|to| to > first) || last.is_some_and(beyond) {
                        note(number, &format_args!("says again what {} is", entry.shard));
                    } else {
                        let within: Vec<u64> = by_shard.range(first..end).map(|(&first, _)| first).collect();
                        manifest.replaced.extend(within.iter().filter_map(|old| by_shard.remove(old)));
                        by_shard.insert(first, entry);
                    }
                }
                // Only the last line can be torn by a crash: whatever follows a line was appended after it was synced.
                Err(LineError::Check) if at == bytes.len() => {
                    manifest.tail = if line.ends_with(b"\n") { Tail::Damaged(number) } else { Tail::Torn };
                }
                Err(reason) => note(number, &reason),
            }
        }
        if unnamed > 0 {
            damaged.push((last_unnamed, format!("the last of {unnamed} more damaged lines")));
        }
        manifest.damaged = damaged;
        manifest.entries = by_shard.into_values().collect();
        manifest
    }

    /// Episodes that `description` asks for and no shard has: first, and one past the last, of each range.
    #[must_use]
    pub fn missing(&self, description: &Description) -> Vec<[u64; 2]> {
        gaps(self.entries.iter().map(|entry| entry.episodes), description.episodes)
    }

    /// Whether it has no line at all, be it whole or not.
    pub(super) fn is_blank(&self) -> bool {
        self.entries.is_empty() && self.damaged.is_empty() && self.tail == Tail::Clean
    }

    /// Refuses a manifest with damaged lines.
    pub(super) fn undamaged(self, dir: &Path) -> Result<Self, DatasetError> {
        match self.damaged.first() {
            None => Ok(self),
            Some((line, reason)) => {
                Err(DatasetError::Line { path: manifest_path(dir), line: *line, reason: reason.clone() })
            }
        }
    }

    /// The bytes of a manifest that has only the lines that count, in order.
    pub(super) fn canonical(&self) -> Vec<u8> {
        self.entries.iter().flat_map(Entry::to_line).collect()
    }

    /// blake3 over the hashes of the shards, in order: the identity of the recorded episodes.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for entry in &self.entries {
            hasher.update(entry.blake3.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}
