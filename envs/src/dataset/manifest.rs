//! `manifest.jsonl`: one line per committed shard, appended after the shard is safe; the only source of truth.
//!
//! A line is a JSON object whose last field, `check`, is the CRC-32 of all bytes before it. A last line that is torn
//! was never committed. A later line about the same shard replaces an earlier one that covers fewer episodes: that is
//! how the short last shard of a dataset grows when more episodes are asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{At, DatasetError};
use super::layout::{Description, MOST_EPISODES, manifest_path};

/// A line beyond this is refused before it is parsed.
const LINE_BUDGET: usize = 64 << 20;
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
        if first >= end || end > MOST_EPISODES || self.steps > MOST_EPISODES {
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
        if !first.is_multiple_of(per_shard) || end - first > per_shard || end > description.episodes {
            return Err(format!("episodes {first} to {end} are no shard of {per_shard} of {}", description.episodes));
        }
        let name = shard_name(first / per_shard, end - first, per_shard);
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
    let fits = line.len() <= LINE_BUDGET && digits == format!("{:08x}", crc32fast::hash(fields)).as_bytes();
    fits.then_some(fields)
}

/// File name of shard number `shard` with `count` episodes. A short one says so, since it may be replaced later by a
/// longer one, and the two must be able to lie side by side.
pub(super) fn shard_name(shard: u64, count: u64, per_shard: u64) -> String {
    if count == per_shard { format!("{shard:06}.safetensors") } else { format!("{shard:06}-{count}.safetensors") }
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
    /// When the file cannot be read.
    pub fn read(dir: &Path, description: &Description) -> Result<Self, DatasetError> {
        let path = manifest_path(dir);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => file.read_to_end(&mut bytes).at("read", &path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error).at("open", &path),
        };
        Ok(Self::parse(&bytes, description))
    }

    /// Reads the content of a manifest. Never fails: damage is listed.
    #[must_use]
    pub fn parse(bytes: &[u8], description: &Description) -> Self {
        let mut manifest = Self::default();
        let mut at = 0;
        let mut by_shard: BTreeMap<u64, Entry> = BTreeMap::new();
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
                    match by_shard.remove(&entry.episodes[0]) {
                        None => {
                            by_shard.insert(entry.episodes[0], entry);
                        }
                        Some(old) if old.count() < entry.count() => {
                            manifest.replaced.push(old);
                            by_shard.insert(entry.episodes[0], entry);
                        }
                        Some(old) => {
                            by_shard.insert(old.episodes[0], old);
                            manifest.damaged.push((number, format!("says again what {} is", entry.shard)));
                        }
                    }
                }
                // Only the last line can be torn by a crash: whatever follows a line was appended after it was synced.
                Err(LineError::Check) if at == bytes.len() => {
                    manifest.tail = if line.ends_with(b"\n") { Tail::Damaged(number) } else { Tail::Torn };
                }
                Err(reason) => manifest.damaged.push((number, reason.to_string())),
            }
        }
        manifest.entries = by_shard.into_values().collect();
        manifest
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
