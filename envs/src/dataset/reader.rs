//! Reading: a dataset is opened once, and its committed shards are mapped into memory. Rows are borrowed from there, or, where
//! they are packed, unpacked block by block into the memory of whoever asks.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::Serialize;

use super::codec::{Blocks, EPISODE_BUDGET, Unpacker};
use super::column::{ColumnSpec, Element, Follows};
use super::error::DatasetError;
use super::gaps::part;
use super::layout::{Description, shards_path};
use super::manifest::{Entry, Manifest, Tail};
use super::shard::{Extent, Places, Schema, read_header};
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
    /// Blocks of the shard before them, of every column; nothing where none is packed.
    blocks_before: Box<[usize]>,
    /// Steps of each.
    steps: usize,
}

/// One episode of T steps.
#[derive(Clone, Copy)]
pub struct Episode<'a> {
    dataset: &'a Dataset,
    shard: &'a Shard,
    run: &'a Run,
    slot: usize,
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
            let shard = Shard::open(dir, entry, description.schema(), position)?;
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
            row_bytes: description.schema().row_bytes(self.len() as u64, self.steps()).unwrap_or(u64::MAX),
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
    /// Bytes of all rows, unpacked.
    pub row_bytes: u64,
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
    fn open(dir: &Path, entry: &Entry, schema: Schema<'_>, position: usize) -> Result<Self, DatasetError> {
        let path = shards_path(dir).join(&entry.shard);
        let wrong = |reason: String| DatasetError::Shard { path: path.clone(), reason };
        let map = map(&path, entry.bytes)?.map_err(wrong)?;
        let overflow = || wrong("its sizes overflow".to_owned());
        let extent = Extent::new(schema, entry.lengths.iter().copied()).ok_or_else(overflow)?;
        let places = read_header(&map, schema, &extent).map_err(wrong)?;
        let packed = schema.packed().next().is_some();
        let (mut slot, mut steps_before, mut blocks) = (0, 0, vec![0; extent.blocks.len()]);
        let runs = entry.lengths.iter().map(|&[steps, count]| {
            let (steps, count) = (steps as usize, count as usize);
            let blocks_before = if packed { blocks.clone().into_boxed_slice() } else { Box::default() };
            let run = Run { slot, steps_before, blocks_before, steps };
            slot += count;
            steps_before += steps * count;
            for (column, before) in blocks.iter_mut().enumerate() {
                *before += schema.blocks(column, steps).unwrap_or(0) * count; // `Extent` has seen to overflow
            }
            run
        });
        let runs = runs.collect();
        Ok(Self { map, places, position, first: entry.episodes[0], episodes: extent.episodes, runs })
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
        Self { dataset, shard, run, slot }
    }

    /// Its number k in the source.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.shard.first + self.slot as u64
    }

    /// T.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.run.steps
    }

    /// Its observations, T + 1.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.steps() + 1
    }

    /// The bytes of all its rows of column number `column`: borrowed, or unpacked where the column is packed.
    ///
    /// # Errors
    /// When packed rows are damaged, or are more than there should ever be.
    ///
    /// # Panics
    /// When there is no such column.
    pub fn bytes(&self, column: usize) -> Result<Cow<'a, [u8]>, DatasetError> {
        self.all_rows(column)
    }

    /// All its rows of the column called `name`, `[rows * row_len]`: borrowed, or unpacked where the column is packed.
    ///
    /// # Errors
    /// When there is no such column, `T` is not its type, or packed rows are damaged or more than there should ever be.
    pub fn column<T: Element>(&self, name: &str) -> Result<Cow<'a, [T]>, DatasetError> {
        let column = self.dataset.column_index(name)?;
        let holds = self.dataset.description.columns[column].dtype;
        if !T::reads(holds) {
            let (column, holds, asked) = (name.to_owned(), holds.name(), T::DTYPE.name());
            return Err(DatasetError::WrongType { column, holds, asked });
        }
        self.all_rows(column)
    }

    /// Reads `rows` of column number `column` into `out`, of which they must be all. Where the column is packed, only the
    /// blocks that have them are unpacked.
    ///
    /// # Errors
    /// When packed rows are damaged.
    ///
    /// # Panics
    /// When there is no such column, it has no such rows, or `out` is not as long as they are.
    pub fn read(&self, column: usize, rows: Range<usize>, out: &mut [u8]) -> Result<(), DatasetError> {
        self.read_with(&mut Unpacker::default(), column, rows, out)
    }

    /// The same by an unpacker that is used again.
    pub(super) fn read_with(
        &self,
        unpacker: &mut Unpacker,
        column: usize,
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), DatasetError> {
        let row_bytes = self.dataset.description.columns[column].row_bytes();
        match self.dataset.description.schema().block_rows(column) {
            None => out.copy_from_slice(&self.raw(column)[rows.start * row_bytes..rows.end * row_bytes]),
            Some(block_rows) => {
                self.unpack(unpacker, column, block_rows, rows, out).map_err(|reason| self.damaged(column, reason))?;
            }
        }
        Ok(())
    }

    fn all_rows<T: Element>(&self, column: usize) -> Result<Cow<'a, [T]>, DatasetError> {
        let Description { columns, .. } = &self.dataset.description;
        if self.dataset.description.schema().block_rows(column).is_none() {
            // `read_header` has seen to the alignment.
            return Ok(Cow::Borrowed(bytemuck::cast_slice(self.raw(column))));
        }
        let rows = columns[column].follows.rows(self.steps());
        let bytes = rows.checked_mul(columns[column].row_bytes()).filter(|&bytes| bytes <= EPISODE_BUDGET);
        let bytes = bytes.ok_or_else(|| {
            self.damaged(
                column,
                format!("{rows} rows are more than the {EPISODE_BUDGET} bytes that an episode may have"),
            )
        })?;
        let mut all = vec![T::zeroed(); bytes / size_of::<T>()];
        self.read(column, 0..rows, bytemuck::cast_slice_mut(&mut all))?;
        Ok(Cow::Owned(all))
    }

    /// The bytes of all its rows of a column that lies as it is.
    fn raw(&self, column: usize) -> &'a [u8] {
        let spec = &self.dataset.description.columns[column];
        let steps_before = self.run.steps_before + (self.slot - self.run.slot) * self.run.steps;
        // An earlier episode leaves as many rows of any column as it leaves steps, observations or episodes.
        let rows_before = match spec.follows {
            Follows::Observations => steps_before + self.slot,
            Follows::Steps => steps_before,
            Follows::Episode => self.slot,
        };
        let begin = self.shard.places.columns[column].start + rows_before * spec.row_bytes();
        &self.shard.map[begin..begin + spec.follows.rows(self.steps()) * spec.row_bytes()]
    }

    /// Reads rows of a packed column. Blocks that are wanted whole go straight to `out`.
    fn unpack(
        &self,
        unpacker: &mut Unpacker,
        column: usize,
        block_rows: usize,
        rows: Range<usize>,
        mut out: &mut [u8],
    ) -> Result<(), String> {
        let spec = &self.dataset.description.columns[column];
        let (row_bytes, all) = (spec.row_bytes(), spec.follows.rows(self.steps()));
        assert!(rows.end <= all && out.len() == rows.len() * row_bytes, "{rows:?} of {all} rows into {}", out.len());
        let places = &self.shard.places;
        let (table, frames) = (places.tables[column].clone(), places.columns[column].clone());
        let blocks = Blocks { table: &self.shard.map[table], frames: &self.shard.map[frames] };
        let first = self.run.blocks_before[column] + (self.slot - self.run.slot) * all.div_ceil(block_rows);
        if rows.is_empty() {
            return Ok(());
        }
        for block in rows.start / block_rows..rows.end.div_ceil(block_rows) {
            let has = block * block_rows..((block + 1) * block_rows).min(all);
            let wanted = has.start.max(rows.start)..has.end.min(rows.end);
            let (piece, rest) = out.split_at_mut(wanted.len() * row_bytes);
            out = rest;
            let unpacked = blocks.frame(first + block).and_then(|frame| {
                if wanted == has {
                    return unpacker.unpack(frame, piece);
                }
                let mut spare = std::mem::take(&mut unpacker.spare);
                spare.resize(has.len() * row_bytes, 0);
                let unpacked = unpacker.unpack(frame, &mut spare);
                let begin = (wanted.start - has.start) * row_bytes;
                piece.copy_from_slice(&spare[begin..begin + piece.len()]);
                unpacker.spare = spare;
                unpacked
            });
            unpacked.map_err(|reason| format!("block {block}: {reason}"))?;
        }
        Ok(())
    }

    fn damaged(&self, column: usize, reason: String) -> DatasetError {
        let Dataset { dir, manifest, description, .. } = self.dataset;
        let entry = manifest.entries.iter().find(|entry| entry.episodes[0] == self.shard.first);
        let path = entry.map_or_else(|| shards_path(dir), |entry| shards_path(dir).join(&entry.shard));
        DatasetError::Rows { path, episode: self.number(), column: description.columns[column].name.clone(), reason }
    }
}
