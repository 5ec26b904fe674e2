//! Verification: every damaged byte of a dataset is found, and named by file, episode and column where that can be known.
//!
//! The quick way compares files and headers with the manifest. The full way reads every byte. A shard whose hash does not
//! fit is looked into: the manifest has a hash of each column's checks, the shard has the checks of each episode, and the
//! rows themselves tell which of them does not fit.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::column::ColumnSpec;
use super::error::{At, DatasetError};
use super::layout::{Description, shards_path};
use super::manifest::{Entry, Manifest, Tail};
use super::reader::map;
use super::shard::{Places, column_digests, read_header};

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
    fn of_line(line: usize, problem: &str) -> Self {
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
    let description = Description::read(dir)?;
    let manifest = Manifest::read(dir, &description)?;
    let mut damage: Vec<Damage> =
        manifest.damaged.iter().map(|(line, reason)| Damage::of_line(*line, reason)).collect();
    let mut leftovers = Vec::new();
    match manifest.tail {
        Tail::Clean => {}
        Tail::Torn => leftovers.push("manifest.jsonl: a torn last line, whose shard was never committed".to_owned()),
        Tail::Damaged(line) => damage.push(Damage::of_line(line, "its check does not fit; its shard does not count")),
    }
    let found: Result<Vec<Vec<Damage>>, DatasetError> =
        manifest.entries.par_iter().map(|entry| look_at(dir, entry, &description.columns, full)).collect();
    damage.extend(found?.into_iter().flatten());
    leftovers.extend(orphans(dir, &manifest)?);
    Ok(Report {
        path: dir.to_owned(),
        full,
        shards: manifest.entries.len(),
        episodes: manifest.entries.iter().map(Entry::count).sum(),
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
    let mut found = Vec::new();
    for item in fs::read_dir(&shards).at("list", &shards)? {
        let name = item.at("list", &shards)?.file_name();
        if !manifest.entries.iter().any(|entry| name == *entry.shard) {
            found.push(format!("shards/{}: no line of the manifest speaks of it", name.display()));
        }
    }
    found.sort();
    Ok(found)
}

fn look_at(dir: &Path, entry: &Entry, columns: &[ColumnSpec], full: bool) -> Result<Vec<Damage>, DatasetError> {
    let path = shards_path(dir).join(&entry.shard);
    let file = match map(&path, entry.bytes)? {
        Ok(file) => file,
        Err(problem) => return Ok(vec![Damage::of_shard(entry, None, None, problem)]),
    };
    let (episodes, steps) = (entry.count() as usize, entry.steps as usize);
    let header = read_header(&file, columns, episodes, steps);
    if full && blake3::hash(&file).to_hex().as_str() != entry.blake3 {
        return Ok(locate(&file, entry, columns));
    }
    Ok(header.err().map(|problem| Damage::of_shard(entry, None, None, problem)).into_iter().collect())
}

/// Names what is damaged in a shard file of the right size and the wrong hash.
fn locate(file: &[u8], entry: &Entry, columns: &[ColumnSpec]) -> Vec<Damage> {
    let unknown = || vec![Damage::of_shard(entry, None, None, "its hash is not the committed one")];
    // The places come from the manifest, not from the header, which may be what is damaged.
    let Some(places) = Places::new(columns, entry.count() as usize, entry.steps as usize) else { return unknown() };
    let header = places.header(columns, entry.episodes[0]);
    if header.len() + places.bytes != file.len() {
        return unknown();
    }
    let (found_header, data) = file.split_at(header.len());
    let mut damage = Vec::new();
    if found_header != header {
        damage.push(Damage::of_shard(entry, None, None, "the header is damaged"));
    }
    let numbers: Vec<u64> = (entry.episodes[0]..entry.episodes[1]).collect();
    for ((&k, steps), stored) in numbers.iter().zip(entry.steps_of_each()).zip(words(&data[places.lengths.clone()])) {
        if stored != steps as i64 {
            let problem = format!("{stored} stored, {steps} committed");
            damage.push(Damage::of_shard(entry, Some(k), Some("lengths"), problem));
        }
    }
    let stored: Vec<i64> = words(&data[places.checks.clone()]).collect();
    let actual = checks(data, &places, entry, columns);
    damage.extend(differing(entry, columns, &stored, &actual));
    if damage.is_empty() { unknown() } else { damage }
}

/// Compares the checks stored in a shard with those that its rows have, both `[E, columns]`.
fn differing(entry: &Entry, columns: &[ColumnSpec], stored: &[i64], actual: &[i64]) -> Vec<Damage> {
    let digests: BTreeMap<String, String> = column_digests(columns, actual);
    let mut damage = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let rows_are_whole = digests[&column.name] == entry.columns[&column.name];
        let of_column =
            |checks: &[i64]| -> Vec<i64> { checks.iter().skip(index).step_by(columns.len()).copied().collect() };
        let pairs = of_column(stored).into_iter().zip(of_column(actual)).zip(entry.episodes[0]..);
        let episodes: Vec<u64> = pairs.filter(|((stored, actual), _)| stored != actual).map(|(_, k)| k).collect();
        if rows_are_whole {
            let problem = format!("the check of column `{}` is damaged, its rows are whole", column.name);
            damage.extend(episodes.iter().map(|&k| Damage::of_shard(entry, Some(k), Some("checks"), problem.as_str())));
        } else if episodes.is_empty() {
            damage.push(Damage::of_shard(entry, None, Some(&column.name), "rows and checks are damaged alike"));
        } else {
            let problem = "its rows do not fit their check";
            damage.extend(episodes.iter().map(|&k| Damage::of_shard(entry, Some(k), Some(&column.name), problem)));
        }
    }
    damage
}

/// The checks that the rows of a shard have, `[E, columns]`.
fn checks(data: &[u8], places: &Places, entry: &Entry, columns: &[ColumnSpec]) -> Vec<i64> {
    let mut starts: Vec<usize> = places.columns.iter().map(|place| place.start).collect();
    let mut checks = Vec::with_capacity(entry.count() as usize * columns.len());
    for steps in entry.steps_of_each() {
        for (column, start) in columns.iter().zip(&mut starts) {
            let bytes = column.follows.rows(steps as usize) * column.row_bytes();
            checks.push(i64::from(crc32fast::hash(&data[*start..*start + bytes])));
            *start += bytes;
        }
    }
    checks
}

/// Little-endian words; the header may be damaged, so nothing is assumed of their alignment.
fn words(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word))
}
