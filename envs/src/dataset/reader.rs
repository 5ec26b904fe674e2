//! Reading: a dataset is opened once, its committed shards are mapped into memory, and rows are borrowed from there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::Serialize;

use super::column::{ColumnSpec, Element, Follows};
use super::error::DatasetError;
use super::gaps::part;
use super::layout::{Description, shards_path};
use super::manifest::{Entry, Manifest, Tail};
use super::shard::{Places, read_header};
use crate::storage::At;
use crate::untrusted;

/// The committed episodes of a dataset, as they were when it was opened; a writer at work does not disturb it.
///
/// Episodes are addressed by position, `0..len()`, in the order of their numbers. In a dataset without gaps, as
/// [`collect`](super::collect) writes it, position and number are the same.
pub struct Dataset {
    dir: PathBuf,
    description: Description,
    manifest: Manifest,
    shards: Vec<Shard>,
}

struct Shard {
    map: Mmap,
    places: Places,
    /// Position of its first episode.
    position: usize,
    /// Number of its first episode.
    first: u64,
    episodes: usize,
    /// As the manifest has them: a shard may claim more episodes than there is memory for.
    runs: Vec<Run>,
}

/// Episodes in a row that are equally long.
struct Run {
    /// Episodes of the shard before them.
    slot: usize,
    /// Steps of the shard before them.
    steps_before: usize,
    /// Steps of each.
    steps: usize,
}

/// One episode of T steps.
#[derive(Clone, Copy)]
pub struct Episode<'a> {
    dataset: &'a Dataset,
    shard: &'a Shard,
    slot: usize,
    /// Steps of the shard before it.
    steps_before: usize,
    steps: usize,
}

impl Dataset {
    /// Opens the dataset in `dir` and maps its shards.
    ///
    /// # Errors
    /// Different ones for a path that is missing, empty, not a dataset, of a newer format or without committed
    /// episodes; and for a damaged line or shard, which it names.
    pub fn open(dir: &Path) -> Result<Self, DatasetError> {
        while_written(dir, || Self::open_now(dir), Result::is_err)
    }

    fn open_now(dir: &Path) -> Result<Self, DatasetError> {
        let description = Description::read(dir)?;
        let manifest = Manifest::read(dir, &description)?.undamaged(dir)?;
        if manifest.tail != Tail::Clean {
            tracing::warn!(dataset = %dir.display(), "ignoring the manifest's last line: it was not written in full");
        }
        if manifest.entries.is_empty() {
            return Err(DatasetError::NothingCommitted { path: dir.to_owned(), requested: description.episodes });
        }
        let mut position = 0;
        let mut shards = Vec::with_capacity(manifest.entries.len());
        for entry in &manifest.entries {
            let shard = Shard::open(dir, entry, &description.columns, position)?;
            position += shard.episodes;
            shards.push(shard);
        }
        Ok(Self { dir: dir.to_owned(), description, manifest, shards })
    }

    /// The directory it was opened from.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `dataset.json` says.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The columns, in the source's order.
    #[must_use]
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.description.columns
    }

    /// Number of committed episodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.last().map_or(0, |shard| shard.position + shard.episodes)
    }

    /// Never true: a dataset without committed episodes does not open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Steps of all episodes.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.manifest.entries.iter().map(|entry| entry.steps).sum()
    }

    /// blake3 over the hashes of the shards, in order: equal digests mean equal episodes.
    #[must_use]
    pub fn digest(&self) -> String {
        self.manifest.digest()
    }

    /// Index of the column called `name`.
    ///
    /// # Errors
    /// When there is none; the error lists those that there are.
    pub fn column_index(&self, name: &str) -> Result<usize, DatasetError> {
        let columns = self.columns();
        columns.iter().position(|column| column.name == name).ok_or_else(|| DatasetError::NoSuchColumn {
            path: self.dir.clone(),
            column: name.to_owned(),
            known: columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The episode at `position`, if there is one.
    #[must_use]
    pub fn episode(&self, position: usize) -> Option<Episode<'_>> {
        let after = self.shards.partition_point(|shard| shard.position <= position);
        let shard = self.shards.get(after.checked_sub(1)?)?;
        let slot = position - shard.position;
        (slot < shard.episodes).then(|| Episode::of(self, shard, slot))
    }

    /// All episodes, in order.
    pub fn episodes(&self) -> impl Iterator<Item = Episode<'_>> {
        self.shards.iter().flat_map(move |shard| (0..shard.episodes).map(move |slot| Episode::of(self, shard, slot)))
    }

    /// What there is to tell about the dataset without reading its rows.
    #[must_use]
    pub fn info(&self) -> Info {
        let lengths = || self.manifest.entries.iter().flat_map(|entry| &entry.lengths).map(|run| run[0]);
        let description = self.description.clone();
        Info {
            path: self.dir.clone(),
            digest: self.digest(),
            episodes: self.len() as u64,
            shards: self.shards.len(),
            steps: self.steps(),
            frames: self.steps() + self.len() as u64,
            bytes: self.manifest.entries.iter().map(|entry| entry.bytes).sum(),
            shortest: lengths().min().unwrap_or(0),
            longest: lengths().max().unwrap_or(0),
            missing: self.manifest.missing(&description),
            part: part(&self.manifest.entries, &description).map(|part| part.to_string()),
            description,
        }
    }
}

/// What [`Dataset::info`] tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Info {
    /// The directory.
    pub path: PathBuf,
    /// See [`Dataset::digest`].
    pub digest: String,
    /// Committed episodes.
    pub episodes: u64,
    /// Committed shards.
    pub shards: usize,
    /// Steps of all episodes.
    pub steps: u64,
    /// Observations of all episodes.
    pub frames: u64,
    /// Bytes of all shard files.
    pub bytes: u64,
    /// Steps of the shortest episode.
    pub shortest: u64,
    /// Steps of the longest episode.
    pub longest: u64,
    /// Episodes asked for and not committed: first, and one past the last, of each range.
    pub missing: Vec<[u64; 2]>,
    /// The part that has exactly these shards, where they are a part and more than one.
    pub part: Option<String>,
    /// Env, configuration, spaces, seed, columns, episodes asked for.
    pub description: Description,
}

impl Shard {
    fn open(dir: &Path, entry: &Entry, columns: &[ColumnSpec], position: usize) -> Result<Self, DatasetError> {
        let path = shards_path(dir).join(&entry.shard);
        let wrong = |reason: String| DatasetError::Shard { path: path.clone(), reason };
        let map = map(&path, entry.bytes)?.map_err(wrong)?;
        let (episodes, steps) = (entry.count() as usize, entry.steps as usize);
        let places = read_header(&map, columns, episodes, steps).map_err(wrong)?;
        let (mut slot, mut steps_before) = (0, 0);
        let runs = entry.lengths.iter().map(|&[steps, count]| {
            let run = Run { slot, steps_before, steps: steps as usize };
            slot += count as usize;
            steps_before += (steps * count) as usize;
            run
        });
        let runs = runs.collect();
        Ok(Self { map, places, position, first: entry.episodes[0], episodes, runs })
    }
}

/// Looks at a dataset that may be written meanwhile. A shard that a longer one has replaced is removed, so whoever read the
/// manifest before that and looks for the shard after it finds it missing: then, `wrong`, it is looked at anew.
pub(super) fn while_written<T>(dir: &Path, look: impl Fn() -> T, wrong: impl Fn(&T) -> bool) -> T {
    let manifest = || Manifest::bytes(dir).ok();
    loop {
        let before = manifest();
        let found = look();
        if !wrong(&found) || manifest() == before {
            return found;
        }
    }
}

/// Maps a committed shard file of `bytes` bytes. The inner error says what is wrong with the file.
pub(super) fn map(path: &Path, bytes: u64) -> Result<Result<Mmap, String>, DatasetError> {
    Ok(map_any(path)?.and_then(|map| match map.len() as u64 {
        found if found == bytes => Ok(map),
        found => Err(format!("{found} bytes, {bytes} were committed")),
    }))
}

/// Maps a shard file of any size.
pub(super) fn map_any(path: &Path) -> Result<Result<Mmap, String>, DatasetError> {
    let file = match untrusted::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err("committed, but missing".to_owned())),
        file => file.at("open", path)?,
    };
    #[expect(unsafe_code, reason = "a map is sound while nobody changes the file; committed shards are never changed")]
    let map = unsafe { Mmap::map(&file) }.at("map", path)?;
    Ok(Ok(map))
}

impl<'a> Episode<'a> {
    /// Episode number `slot` of a shard that has it.
    fn of(dataset: &'a Dataset, shard: &'a Shard, slot: usize) -> Self {
        let run = &shard.runs[shard.runs.partition_point(|run| run.slot <= slot) - 1];
        let steps_before = run.steps_before + (slot - run.slot) * run.steps;
        Self { dataset, shard, slot, steps_before, steps: run.steps }
    }

    /// Its number k in the source.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.shard.first + self.slot as u64
    }

    /// T.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Its observations, T + 1.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.steps() + 1
    }

    /// The bytes of all its rows of column number `column`.
    ///
    /// # Panics
    /// When there is no such column.
    #[must_use]
    pub fn bytes(&self, column: usize) -> &'a [u8] {
        let spec = &self.dataset.description.columns[column];
        // An earlier episode leaves as many rows of any column as it leaves steps, observations or episodes.
        let rows_before = match spec.follows {
            Follows::Observations => self.steps_before + self.slot,
            Follows::Steps => self.steps_before,
            Follows::Episode => self.slot,
        };
        let begin = self.shard.places.columns[column].start + rows_before * spec.row_bytes();
        &self.shard.map[begin..begin + spec.follows.rows(self.steps()) * spec.row_bytes()]
    }

    /// All its rows of the column called `name`, `[rows * row_len]`.
    ///
    /// # Errors
    /// When there is no such column, or `T` is not its type.
    pub fn column<T: Element>(&self, name: &str) -> Result<&'a [T], DatasetError> {
        let column = self.dataset.column_index(name)?;
        let holds = self.dataset.description.columns[column].dtype;
        if !T::reads(holds) {
            let (column, holds, asked) = (name.to_owned(), holds.name(), T::DTYPE.name());
            return Err(DatasetError::WrongType { column, holds, asked });
        }
        // `read_header` has seen to the alignment.
        Ok(bytemuck::cast_slice(self.bytes(column)))
    }
}
