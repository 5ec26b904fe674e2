//! Looking into a shard file that is not what it should be: which of its episodes are whole, beyond doubt, and the shards of
//! just those.
//!
//! The header, the lengths and the checks follow from what is known otherwise, so their damage costs nothing. Rows count as
//! whole when all of a column's have the checks that the manifest's hash is of; or when the shard's own checks have that
//! hash, and the rows fit theirs. Where there is no line in the manifest, the shard's own checks are all there is, and a
//! header that is exactly as it should be says whose they are.
//!
//! Packed rows that are whole are kept in the blocks that they lie in. Where such a block, or what the table says of it, is not
//! as it was written, its rows are packed again, which gives the same bytes.

use std::borrow::Cow;
use std::ops::Range;

use super::codec::{Blocks, Codec, Found, Packer, Walk};
use super::column::{ColumnSpec, Follows};
use super::manifest::{Entry, runs, shard_name};
use super::record::write_table;
use super::shard::{Extent, PREFIX, Places, Schema, column_digests};

/// A shard file with what is known of it.
pub(super) struct Wreck<'a> {
    file: &'a [u8],
    schema: Schema<'a>,
    /// Number of its first episode.
    first: u64,
    lengths: Vec<u64>,
    /// Steps before each episode, `[E + 1]`.
    steps_before: Vec<usize>,
    places: Places,
    /// Bytes of the header.
    header: usize,
    /// Checks of the rows as they are, `[E, columns]`.
    checks: Vec<i64>,
    /// Of each packed column the frames of its blocks, as they were written; empty ones where they are lost.
    frames: Vec<Vec<Cow<'a, [u8]>>>,
    /// Which episodes are whole.
    whole: Vec<bool>,
}

impl<'a> Wreck<'a> {
    /// Looks into `file`, which the manifest speaks of in `entry`.
    pub fn committed(file: &'a [u8], entry: &Entry, schema: Schema<'a>) -> Self {
        let has_room = has_room(file, entry.count(), schema.columns);
        let lengths = if has_room { entry.steps_of_each().collect() } else { Vec::new() };
        let mut wreck =
            Self::of(file, schema, entry.episodes[0], lengths).unwrap_or_else(|| Self::nothing(file, schema));
        wreck.judge(Some(entry));
        let all = 0..wreck.lengths.len();
        if wreck.runs() == [all.clone()] && wreck.hash(all) != entry.blake3 {
            wreck.whole.fill(false); // rows and checks were changed alike, and nothing tells where
        }
        wreck
    }

    /// Looks into `file`, which no line speaks of and whose name says that it has `episodes`.
    pub fn orphan(file: &'a [u8], episodes: [u64; 2], schema: Schema<'a>) -> Option<Self> {
        let count = Some(episodes[1] - episodes[0]).filter(|&count| has_room(file, count, schema.columns))? as usize;
        let header = usize::try_from(u64::from_le_bytes(*file.first_chunk::<PREFIX>()?)).ok()?.checked_add(PREFIX)?;
        let lengths = file.get(header..)?.get(..count.checked_mul(8)?)?;
        let lengths: Option<Vec<u64>> = words(lengths).map(|steps| u64::try_from(steps).ok()).collect();
        let mut wreck = Self::of(file, schema, episodes[0], lengths?)?;
        if !file.starts_with(&wreck.places.header(schema, episodes[0])) {
            return None;
        }
        wreck.judge(None);
        Some(wreck)
    }

    fn of(file: &'a [u8], schema: Schema<'a>, first: u64, lengths: Vec<u64>) -> Option<Self> {
        let mut steps_before = vec![0usize];
        for &steps in &lengths {
            steps_before.push(steps_before.last()?.checked_add(usize::try_from(steps).ok()?)?);
        }
        let extent = Extent::new(schema, runs(lengths.iter().copied()))?;
        let (places, header) = Places::expected(file, schema, &extent, first)?;
        let (checks, whole) = (vec![0; lengths.len() * schema.columns.len()], vec![true; lengths.len()]);
        let frames = vec![Vec::new(); schema.columns.len()];
        Some(Self { file, schema, first, lengths, steps_before, places, header, checks, frames, whole })
    }

    fn nothing(file: &'a [u8], schema: Schema<'a>) -> Self {
        let none = vec![0..0; schema.columns.len()];
        let places = Places { lengths: 0..0, checks: 0..0, tables: none.clone(), columns: none, bytes: 0 };
        let (lengths, checks, frames, whole) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { file, schema, first: 0, lengths, steps_before: vec![0], places, header: 0, checks, frames, whole }
    }

    /// Finds out which episodes are whole.
    fn judge(&mut self, entry: Option<&Entry>) {
        let columns = self.schema.columns;
        let width = columns.len();
        let at = |place: Range<usize>| self.header + place.start..self.header + place.end;
        let stored: Option<Vec<i64>> =
            self.file.get(at(self.places.checks.clone())).map(|bytes| words(bytes).collect());
        let mut there = vec![true; self.checks.len()];
        for column in 0..width {
            let found = self.checks_of(column);
            for (episode, check) in found.into_iter().enumerate() {
                there[episode * width + column] = check.is_some();
                self.checks[episode * width + column] = check.unwrap_or(0);
            }
        }
        let digests = |checks: &[i64]| column_digests(columns, checks);
        let (of_rows, of_stored) = (digests(&self.checks), stored.as_deref().map(digests));
        for (column, spec) in columns.iter().enumerate() {
            let committed = entry.map(|entry| &entry.columns[&spec.name]);
            let all_whole = committed == Some(&of_rows[&spec.name]);
            let trusted = committed.is_none() || committed == of_stored.as_ref().map(|digests| &digests[&spec.name]);
            for (episode, whole) in self.whole.iter_mut().enumerate() {
                let index = episode * width + column;
                let fits = stored.as_ref().is_some_and(|stored| stored[index] == self.checks[index]);
                *whole &= there[index] && (all_whole || trusted && fits);
            }
        }
    }

    /// The checks that each episode's rows of a column have, where they are there. Keeps the frames of a packed column.
    fn checks_of(&mut self, column: usize) -> Vec<Option<i64>> {
        let spec = &self.schema.columns[column];
        let place = self.header + self.places.columns[column].start;
        let (Some(block_rows), Codec::Zstd(zstd)) = (self.schema.block_rows(column), self.schema.codec) else {
            let rows = |episode| rows(self.file, place, spec, &self.steps_before, episode..episode + 1);
            return (0..self.lengths.len()).map(|k| rows(k).map(|rows| i64::from(crc32fast::hash(rows)))).collect();
        };
        let table = self.header + self.places.tables[column].start..self.header + self.places.tables[column].end;
        // Without its whole table there are no frames either, which lie behind it.
        let Some(table) = self.file.get(table) else { return vec![None; self.lengths.len()] };
        let end = (place + self.places.columns[column].len()).min(self.file.len());
        let blocks = Blocks { table, frames: self.file.get(place..end).unwrap_or(&[]) };
        let (mut walk, mut packer) = (Walk::new(blocks, spec, block_rows), Packer::new(zstd).ok());
        let frames = &mut self.frames[column];
        let mut keep = |found: Found<'a>, rows: &[u8]| {
            frames.push(match found {
                Found::Whole(frame) => Cow::Borrowed(frame),
                Found::Doubtful(frame) => {
                    let again = packer.as_mut().and_then(|packer| Some(packer.frame(rows).ok()?.to_vec()));
                    again.map_or(Cow::Borrowed(frame), Cow::Owned)
                }
                Found::Lost => Cow::Borrowed(&[]),
            });
        };
        self.lengths.iter().map(|&steps| walk.episode(spec.follows.rows(steps as usize), &mut keep)).collect()
    }

    /// The line of the file, where it is exactly the shard of all its episodes.
    pub fn exact(&self, per_shard: u64) -> Option<Entry> {
        let all = 0..self.lengths.len();
        if self.runs() != [all.clone()] || self.file.len() != self.header + self.places.bytes {
            return None;
        }
        let blake3 = blake3::hash(self.file).to_hex().to_string();
        (blake3 == self.hash(all.clone())).then(|| Entry { blake3, ..self.shard(all, per_shard).0 })
    }

    /// The runs of whole episodes, from 0.
    pub fn runs(&self) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for episode in (0..self.whole.len()).filter(|&episode| self.whole[episode]) {
            match runs.last_mut() {
                Some(run) if run.end == episode => run.end += 1,
                _ => runs.push(episode..episode + 1),
            }
        }
        runs
    }

    /// The shard of the whole episodes `run`: its line, and the bytes of its file in pieces.
    pub fn shard(&self, run: Range<usize>, per_shard: u64) -> (Entry, Vec<Cow<'_, [u8]>>) {
        let columns = self.schema.columns;
        let lengths = &self.lengths[run.clone()];
        let smaller = "a part is smaller than the whole";
        let extent = Extent::new(self.schema, runs(lengths.iter().copied())).expect(smaller);
        let frames: Vec<&[Cow<'_, [u8]>]> = (0..columns.len()).map(|column| self.frames_of(column, &run)).collect();
        let packed: Vec<usize> = frames.iter().map(|frames| frames.iter().map(|frame| frame.len()).sum()).collect();
        let places = Places::new(self.schema, &extent, &packed).expect(smaller);
        let episodes = [self.first + run.start as u64, self.first + run.end as u64];
        let checks = &self.checks[run.start * columns.len()..run.end * columns.len()];
        let header = places.header(self.schema, episodes[0]);
        let entry = Entry {
            shard: shard_name(episodes, per_shard),
            bytes: (header.len() + places.bytes) as u64,
            episodes,
            steps: extent.steps as u64,
            lengths: runs(lengths.iter().copied()),
            blake3: String::new(),
            columns: column_digests(columns, checks),
        };
        let mut pieces: Vec<Cow<'_, [u8]>> = vec![header.into()];
        pieces.extend([bytemuck::cast_slice(lengths), bytemuck::cast_slice(checks)].map(Cow::Borrowed));
        for column in self.schema.packed() {
            let sizes: Vec<_> = frames[column].iter().map(|frame| (frame.len(), crc32fast::hash(frame))).collect();
            let mut table = vec![0; places.tables[column].len()];
            write_table(&sizes, &mut table);
            pieces.push(table.into());
        }
        for column in self.schema.raw() {
            let place = self.header + self.places.columns[column].start;
            let rows = rows(self.file, place, &columns[column], &self.steps_before, run.clone());
            pieces.push(rows.expect("whole episodes have all their rows").into());
        }
        pieces.extend(frames.into_iter().flatten().map(|frame| Cow::Borrowed(&**frame)));
        (entry, pieces)
    }

    /// The frames of the episodes `run` in a column; none where it is not packed.
    fn frames_of(&self, column: usize, run: &Range<usize>) -> &[Cow<'a, [u8]>] {
        let blocks = |lengths: &[u64]| -> usize {
            lengths.iter().filter_map(|&steps| self.schema.blocks(column, steps as usize)).sum()
        };
        let before = blocks(&self.lengths[..run.start]);
        &self.frames[column][before..before + blocks(&self.lengths[run.clone()])]
    }

    /// The hash that the shard of `run` has.
    fn hash(&self, run: Range<usize>) -> String {
        let (_, pieces) = self.shard(run, u64::MAX);
        let mut hasher = blake3::Hasher::new();
        for piece in &pieces {
            hasher.update(piece);
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Whether a file can have so many episodes: lengths and checks alone take so much, and without them there is no row either.
fn has_room(file: &[u8], episodes: u64, columns: &[ColumnSpec]) -> bool {
    episodes.saturating_mul(8 * (1 + columns.len() as u64)) <= file.len() as u64
}

/// The rows of `episodes` of a column that begins at `place`, if the file has them.
fn rows<'a>(
    file: &'a [u8],
    place: usize,
    column: &ColumnSpec,
    steps_before: &[usize],
    episodes: Range<usize>,
) -> Option<&'a [u8]> {
    // An earlier episode leaves as many rows of any column as it leaves steps, observations or episodes.
    let before = |episode: usize| match column.follows {
        Follows::Observations => steps_before[episode] + episode,
        Follows::Steps => steps_before[episode],
        Follows::Episode => episode,
    };
    let at = |episode| place + before(episode) * column.row_bytes();
    let rows = at(episodes.start)..at(episodes.end);
    if rows.is_empty() { Some(&[]) } else { file.get(rows) }
}

/// Little-endian words; the header may be damaged, so nothing is assumed of their alignment.
fn words(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word))
}
