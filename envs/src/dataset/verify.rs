//! Verification: every damaged byte of a dataset is found, and named by file, episode and column where that can be known.
//!
//! The quick way compares files and headers with the manifest. The full way reads every byte. A shard whose hash does not
//! fit is looked into: the manifest has a hash of each column's checks, the shard has the checks of each episode, and the
//! rows themselves tell which of them does not fit. Packed rows are unpacked for that, and their blocks have checks, too,
//! since a damaged block can unpack to the rows that it had.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::codec::{Blocks, Found, Walk};
use super::error::DatasetError;
use super::layout::{Description, manifest_path, shards_path};
use super::manifest::{Entry, Manifest, Tail};
use super::reader::{map, while_written};
use super::session::shard_files;
use super::shard::{ColumnDigests, Extent, Places, Schema, read_header};
use crate::storage::At;

/// Episodes of one shard and column that are named: of a file that claims a billion, nobody reads more.
const MOST_NAMED: usize = 10_000;

/// Stands for the check of rows that cannot be unpacked; no CRC-32 is negative.
const LOST: i64 = -1;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The directory.
    pub path: PathBuf,
    /// Whether every byte was read.
    pub full: bool,
    /// Committed shards.
    pub shards: usize,
    /// Committed episodes.
    pub episodes: u64,
    /// Episodes asked for.
    pub requested: u64,
    /// Those of them that are not committed: first, and one past the last, of each range.
    pub missing: Vec<[u64; 2]>,
    /// Bytes that were committed.
    pub bytes: u64,
    /// All damage, in the order of the manifest and of the shards.
    pub damage: Vec<Damage>,
    /// What is no damage, but worth knowing: leftovers that collecting again removes.
    pub leftovers: Vec<String>,
}

/// One damaged thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file, relative to the dataset.
    pub file: String,
    /// Line of the manifest, from 1.
    pub line: Option<usize>,
    /// Number of the episode.
    pub episode: Option<u64>,
    /// The column; `lengths` and `checks` are the format's own.
    pub column: Option<String>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(episode) = self.episode {
            write!(f, ", episode {episode}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Damage {
    pub(super) fn of_line(line: usize, problem: &str) -> Self {
        let (file, problem) = ("manifest.jsonl".to_owned(), problem.to_owned());
        Self { file, line: Some(line), episode: None, column: None, problem }
    }

    fn of_shard(entry: &Entry, episode: Option<u64>, column: Option<&str>, problem: impl Into<String>) -> Self {
        let file = format!("shards/{}", entry.shard);
        Self { file, line: None, episode, column: column.map(str::to_owned), problem: problem.into() }
    }
}

/// Looks for damage in the dataset in `dir`; with `full`, in every byte of it, in the current rayon pool.
///
/// # Errors
/// When there is no dataset, `dataset.json` is not understood, or the system refuses to read. Damage is no error.
pub fn verify(dir: &Path, full: bool) -> Result<Report, DatasetError> {
    while_written(dir, || verify_now(dir, full), |found| found.as_ref().is_ok_and(|report| !report.damage.is_empty()))
}

fn verify_now(dir: &Path, full: bool) -> Result<Report, DatasetError> {
    let description = Description::read(dir)?;
    let manifest = Manifest::read(dir, &description)?;
    let mut damage: Vec<Damage> =
        manifest.damaged.iter().map(|(line, reason)| Damage::of_line(*line, reason)).collect();
    if !manifest_path(dir).exists() && !shard_files(dir)?.is_empty() {
        let problem = "missing, though there are shards".to_owned();
        damage.push(Damage { file: "manifest.jsonl".to_owned(), line: None, episode: None, column: None, problem });
    }
    let mut leftovers = Vec::new();
    match manifest.tail {
        Tail::Clean => {}
        Tail::Torn => leftovers.push("manifest.jsonl: a torn last line, whose shard was never committed".to_owned()),
        Tail::Damaged(line) => damage.push(Damage::of_line(line, "its check does not fit; its shard does not count")),
    }
    let found: Result<Vec<Vec<Damage>>, DatasetError> =
        manifest.entries.par_iter().map(|entry| look_at(dir, entry, &description, full)).collect();
    damage.extend(found?.into_iter().flatten());
    leftovers.extend(orphans(dir, &manifest)?);
    Ok(Report {
        path: dir.to_owned(),
        full,
        shards: manifest.entries.len(),
        episodes: manifest.entries.iter().map(Entry::count).sum(),
        requested: description.episodes,
        missing: manifest.missing(&description),
        bytes: manifest.entries.iter().map(|entry| entry.bytes).sum(),
        damage,
        leftovers,
    })
}

fn orphans(dir: &Path, manifest: &Manifest) -> Result<Vec<String>, DatasetError> {
    let shards = shards_path(dir);
    if !shards.try_exists().at("look at", &shards)? {
        return Ok(Vec::new());
    }
    let known: BTreeSet<&OsStr> = manifest.entries.iter().map(|entry| OsStr::new(&entry.shard)).collect();
    let mut found = Vec::new();
    for item in fs::read_dir(&shards).at("list", &shards)? {
        let name = item.at("list", &shards)?.file_name();
        if !known.contains(name.as_os_str()) {
            found.push(format!("shards/{}: no line of the manifest speaks of it", name.display()));
        }
    }
    found.sort();
    Ok(found)
}

fn look_at(dir: &Path, entry: &Entry, description: &Description, full: bool) -> Result<Vec<Damage>, DatasetError> {
    let path = shards_path(dir).join(&entry.shard);
    let file = match map(&path, entry.bytes)? {
        Ok(file) => file,
        Err(problem) => return Ok(vec![Damage::of_shard(entry, None, None, problem)]),
    };
    Ok(damage_of_shard(&file, entry, description, full))
}

/// The damage in `file`, the bytes of the shard of the dataset `description` that `entry` speaks of; with `full` every byte
/// counts, else the header.
///
/// # Panics
/// When `entry` has other columns than `description`; none that a [`Manifest`] lists has.
#[must_use]
pub fn damage_of_shard(file: &[u8], entry: &Entry, description: &Description, full: bool) -> Vec<Damage> {
    let schema = description.schema();
    let Some(extent) = Extent::new(schema, entry.lengths.iter().copied()) else {
        return vec![Damage::of_shard(entry, None, None, "its sizes overflow")];
    };
    let header = read_header(file, schema, &extent);
    if full && blake3::hash(file).to_hex().as_str() != entry.blake3 {
        return locate(file, entry, schema, &extent);
    }
    header.err().map(|problem| Damage::of_shard(entry, None, None, problem)).into_iter().collect()
}

/// Names what is damaged in a shard file of the right size and the wrong hash.
fn locate(file: &[u8], entry: &Entry, schema: Schema<'_>, extent: &Extent) -> Vec<Damage> {
    let unknown = || vec![Damage::of_shard(entry, None, None, "its hash is not the committed one")];
    // The places come from the manifest, not from the header, which may be what is damaged.
    let Some((mut places, header)) = Places::expected(file, schema, extent, entry.episodes[0]) else {
        return unknown();
    };
    if header + places.bytes != file.len() {
        // Nothing is left that says where frames lie: they count as lost, and all else is looked at.
        let Some(front) = Places::new(schema, extent, &vec![0; schema.columns.len()]) else { return unknown() };
        if schema.packed().next().is_none() || header + front.bytes > file.len() {
            return unknown();
        }
        places = front;
    }
    let header = places.header(schema, entry.episodes[0]);
    let (found_header, data) = file.split_at(header.len());
    let mut damage = Vec::new();
    if found_header != header {
        damage.push(Damage::of_shard(entry, None, None, "the header is damaged"));
    }
    let stored = words(&data[places.lengths.clone()]);
    let mut wrong = (entry.episodes[0]..)
        .zip(entry.steps_of_each())
        .zip(stored)
        .filter(|((_, steps), stored)| *stored != *steps as i64);
    damage.extend(wrong.by_ref().take(MOST_NAMED).map(|((k, steps), stored)| {
        Damage::of_shard(entry, Some(k), Some("lengths"), format!("{stored} stored, {steps} committed"))
    }));
    damage.extend(more(entry, "lengths", wrong.count()));
    damage.extend(damaged_rows(data, &places, entry, schema));
    if damage.is_empty() { unknown() } else { damage }
}

/// Compares the checks stored in a shard with those that its rows have, and both with the manifest.
fn damaged_rows(data: &[u8], places: &Places, entry: &Entry, schema: Schema<'_>) -> Vec<Damage> {
    let columns = schema.columns;
    let mut starts: Vec<usize> = places.columns.iter().map(|place| place.start).collect();
    let mut walks: Vec<Option<Walk<'_>>> = (0..columns.len())
        .map(|column| {
            let (table, frames) = (&data[places.tables[column].clone()], &data[places.columns[column].clone()]);
            schema.block_rows(column).map(|rows| Walk::new(Blocks { table, frames }, &columns[column], rows))
        })
        .collect();
    let mut digests = ColumnDigests::new(columns);
    let mut differing = vec![Named::default(); columns.len()];
    // Episodes with blocks that unpack, and are not as they were written: those whose rows fit the stored check, and others.
    let mut doubtful = vec![[Named::default(), Named::default()]; columns.len()];
    let mut stored = words(&data[places.checks.clone()]);
    for (k, steps) in (entry.episodes[0]..).zip(entry.steps_of_each()) {
        for (index, column) in columns.iter().enumerate() {
            let rows = column.follows.rows(steps as usize);
            let (check, whole) = if let Some(walk) = &mut walks[index] {
                let mut whole = true;
                let check = walk.episode(rows, |found, _| whole &= matches!(found, Found::Whole(_)));
                (check.unwrap_or(LOST), whole)
            } else {
                let bytes = rows * column.row_bytes();
                let check = i64::from(crc32fast::hash(&data[starts[index]..starts[index] + bytes]));
                starts[index] += bytes;
                (check, true)
            };
            digests.add(index, check);
            let fits = stored.next() == Some(check);
            if !fits {
                differing[index].add(k);
            }
            if !whole && check != LOST {
                doubtful[index][usize::from(!fits)].add(k);
            }
        }
    }
    let digests = digests.finish(columns);
    let mut damage = Vec::new();
    for ((column, episodes), [fitting, other]) in columns.iter().zip(differing).zip(doubtful) {
        let blocks = "its blocks or their table are damaged, its rows are whole";
        damage.extend(fitting.damage(entry, &column.name, blocks));
        if digests[&column.name] == entry.columns[&column.name] {
            let problem = format!("the check of column `{}` is damaged, its rows are whole", column.name);
            damage.extend(episodes.damage(entry, "checks", &problem));
            damage.extend(other.damage(entry, &column.name, blocks));
        } else if episodes.count == 0 {
            damage.push(Damage::of_shard(entry, None, Some(&column.name), "rows and checks are damaged alike"));
        } else {
            damage.extend(episodes.damage(entry, &column.name, "its rows do not fit their check"));
        }
    }
    damage
}

/// Episodes with the same problem: the first of them by number, all of them counted.
#[derive(Clone, Default)]
struct Named {
    first: Vec<u64>,
    count: usize,
}

impl Named {
    fn add(&mut self, episode: u64) {
        self.count += 1;
        if self.first.len() < MOST_NAMED {
            self.first.push(episode);
        }
    }

    fn damage(&self, entry: &Entry, column: &str, problem: &str) -> impl Iterator<Item = Damage> {
        let named = self.first.iter().map(move |&k| Damage::of_shard(entry, Some(k), Some(column), problem));
        named.chain(more(entry, column, self.count - self.first.len()))
    }
}

/// Stands for the episodes that are not named.
fn more(entry: &Entry, column: &str, episodes: usize) -> Option<Damage> {
    (episodes > 0).then(|| Damage::of_shard(entry, None, Some(column), format!("and {episodes} more episodes")))
}

/// Little-endian words; the header may be damaged, so nothing is assumed of their alignment.
fn words(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word))
}
