//! Recording one shard in memory: episodes in parallel, each straight into the place that the file will have it at. Pictures
//! that are to be packed are recorded beside it, one episode for each thread at a time, and only their blocks are kept.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::codec::{Codec, LINE, Packed, Packer};
use super::column::{ColumnSpec, Element};
use super::error::DatasetError;
use super::manifest::runs;
use super::shard::{Extent, Places, Schema};
use super::source::{EpisodeBuffer, EpisodeSource, Length};

/// The data of one shard, as it will be in the file after the header.
#[derive(Default)]
pub(super) struct ShardData {
    /// All but the frames, in words, so that every element type is aligned. May be longer than the data.
    words: Vec<u64>,
    /// Of each episode its packed columns, in order.
    packed: Vec<Vec<Packed>>,
    /// Where the tensors lie.
    places: Option<Places>,
    /// Bytes of `words` that count.
    front: usize,
}

/// What is to be recorded, and how.
pub(super) struct Plan<'a> {
    pub source: &'a dyn EpisodeSource,
    pub schema: Schema<'a>,
    pub length: Length,
    /// As many as there are threads that record, in the end.
    benches: Mutex<Vec<Bench>>,
}

/// Where the packed columns of one episode are recorded.
struct Bench {
    packer: Packer,
    /// Per packed column.
    rows: Vec<Vec<u8>>,
}

/// One episode's share of the shard.
struct Slot<'a> {
    k: u64,
    /// Of the columns that lie as they are, in the source's order.
    rows: Vec<&'a mut [u8]>,
    steps: &'a mut i64,
    checks: &'a mut [i64],
    packed: &'a mut Vec<Packed>,
}

impl<'a> Plan<'a> {
    pub fn new(source: &'a dyn EpisodeSource, schema: Schema<'a>) -> Self {
        Self { source, schema, length: source.length(), benches: Mutex::default() }
    }

    /// A bench, where any column is packed, with room for the longest episode in every packed one.
    fn bench(&self) -> Result<Option<Bench>, String> {
        let Codec::Zstd(zstd) = self.schema.codec else { return Ok(None) };
        let free = self.benches.lock().ok().and_then(|mut benches| benches.pop());
        if free.is_some() {
            return Ok(free);
        }
        let room = |column: usize| {
            let column = &self.schema.columns[column];
            let bytes = column.follows.rows(self.length.longest()) * column.row_bytes();
            let mut rows = Vec::new();
            rows.try_reserve_exact(bytes).map_err(|_| format!("no memory for {bytes} bytes of `{}`", column.name))?;
            rows.resize(bytes, 0);
            Ok(rows)
        };
        let packer = Packer::new(zstd).map_err(|error| format!("zstd does not begin: {error}"))?;
        Ok(Some(Bench { packer, rows: self.schema.packed().map(room).collect::<Result<_, String>>()? }))
    }

    fn put_back(&self, bench: Bench) {
        if let Ok(mut benches) = self.benches.lock() {
            benches.push(bench);
        }
    }
}

impl ShardData {
    /// How many bytes follow the header.
    pub fn bytes(&self) -> usize {
        self.places.as_ref().map_or(0, |places| places.bytes)
    }

    /// Those bytes, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let columns = self.packed.first().map_or(0, Vec::len);
        let frames = (0..columns).flat_map(|column| self.packed.iter().map(move |packed| &packed[column].frames[..]));
        std::iter::once(self.front()).chain(frames)
    }

    /// All tensors but the frames.
    fn front(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.front]
    }

    /// The header of its file, when its first episode is `first`.
    pub fn header(&self, schema: Schema<'_>, first: u64) -> Vec<u8> {
        self.places.as_ref().map_or_else(Vec::new, |places| places.header(schema, first))
    }

    /// Tensor `lengths`.
    pub fn lengths(&self) -> &[i64] {
        self.places.as_ref().map_or(&[], |places| bytemuck::cast_slice(&self.front()[places.lengths.clone()]))
    }

    /// Tensor `checks`, `[E, columns]`.
    pub fn checks(&self) -> &[i64] {
        self.places.as_ref().map_or(&[], |places| bytemuck::cast_slice(&self.front()[places.checks.clone()]))
    }

    /// Records episodes `first..end`. Returns false, with the buffer in no particular state, when `stop` was raised.
    pub fn record(&mut self, plan: &Plan<'_>, first: u64, end: u64, stop: &AtomicBool) -> Result<bool, DatasetError> {
        let episodes = (end - first) as usize;
        let longest = plan.length.longest();
        let too_large = || DatasetError::Request {
            field: "episodes_per_shard",
            value: episodes.to_string(),
            allowed: format!("episodes of {longest} steps make a shard too large for this machine; ask for fewer"),
        };
        let none_packed = vec![0; plan.schema.columns.len()];
        let extent = Extent::new(plan.schema, [[longest as u64, end - first]]);
        let room = extent.and_then(|extent| Places::new(plan.schema, &extent, &none_packed));
        let room = room.ok_or_else(too_large)?;
        let words = room.bytes.div_ceil(8);
        // Room of a known length is used again, and each episode clears its own part while that is in cache. Room for
        // "at most" comes as fresh zero pages, of which those that short episodes never touch cost nothing.
        let clear = plan.length == Length::Fixed(longest) && self.words.len() >= words;
        if !clear {
            self.words = Vec::new();
            self.words.try_reserve_exact(words).map_err(|_| too_large())?; // `vec!` would abort instead
            self.words = vec![0; words];
        }
        self.packed.resize_with(episodes, Vec::new);
        let bytes = bytemuck::cast_slice_mut(&mut self.words);
        let slots = slots(bytes, &mut self.packed, &room, plan, first);
        let done = slots.into_par_iter().try_for_each(|slot| {
            if stop.load(Ordering::Relaxed) {
                return Err(None);
            }
            slot.record(plan, clear).map_err(Some)
        });
        match done {
            Ok(()) => {}
            Err(None) => return Ok(false),
            Err(Some(error)) => return Err(error),
        }
        let recorded: &[i64] =
            bytemuck::cast_slice(&bytemuck::cast_slice::<u64, u8>(&self.words)[room.lengths.clone()]);
        let lengths: Vec<u64> = recorded.iter().map(|&steps| steps as u64).collect();
        let extent = Extent::new(plan.schema, runs(lengths.iter().copied()));
        let places = extent.and_then(|extent| Places::new(plan.schema, &extent, &self.packed_bytes(plan.schema)));
        let places = places.ok_or_else(too_large)?;
        self.close_gaps(plan, &lengths, &room, &places);
        self.write_tables(plan.schema, &places);
        self.front = places.front(plan.schema);
        self.places = Some(places);
        Ok(true)
    }

    /// Bytes of the frames of every column.
    fn packed_bytes(&self, schema: Schema<'_>) -> Vec<usize> {
        let mut bytes = vec![0; schema.columns.len()];
        for (index, column) in schema.packed().enumerate() {
            bytes[column] = self.packed.iter().map(|packed| packed[index].frames.len()).sum();
        }
        bytes
    }

    /// Moves the rows together where episodes are shorter than the room they had, from their places in `room` to those in
    /// `places`. Everything moves towards the start, in order, so nothing is overwritten before it has moved.
    fn close_gaps(&mut self, plan: &Plan<'_>, lengths: &[u64], room: &Places, places: &Places) {
        let longest = plan.length.longest();
        if lengths.iter().all(|&steps| steps == longest as u64) {
            return;
        }
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        for column in plan.schema.raw() {
            let spec = &plan.schema.columns[column];
            let stride = spec.follows.rows(longest) * spec.row_bytes();
            let mut to = places.columns[column].start;
            for (episode, &steps) in lengths.iter().enumerate() {
                let from = room.columns[column].start + episode * stride;
                let len = spec.follows.rows(steps as usize) * spec.row_bytes();
                bytes.copy_within(from..from + len, to);
                to += len;
            }
        }
    }

    fn write_tables(&mut self, schema: Schema<'_>, places: &Places) {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        for (index, column) in schema.packed().enumerate() {
            let sizes = self.packed.iter().flat_map(|packed| &packed[index].sizes);
            write_table(sizes, &mut bytes[places.tables[column].clone()]);
        }
    }
}

/// Makes a table of the sizes and checks of frames that follow each other.
pub(super) fn write_table<'a>(sizes: impl IntoIterator<Item = &'a (usize, u32)>, table: &mut [u8]) {
    let mut end = 0;
    for (&(bytes, check), line) in sizes.into_iter().zip(table.chunks_exact_mut(LINE)) {
        end += bytes as i64;
        line[..8].copy_from_slice(&end.to_le_bytes());
        line[8..].copy_from_slice(&i64::from(check).to_le_bytes());
    }
}

/// Cuts the buffer into one slot an episode.
fn slots<'a>(
    mut rest: &'a mut [u8],
    packed: &'a mut [Vec<Packed>],
    room: &Places,
    plan: &Plan<'_>,
    first: u64,
) -> Vec<Slot<'a>> {
    let mut cut = |bytes: usize| {
        let (piece, after) = std::mem::take(&mut rest).split_at_mut(bytes);
        rest = after;
        piece
    };
    let columns = plan.schema.columns;
    let lengths: &mut [i64] = bytemuck::cast_slice_mut(cut(room.lengths.len()));
    let checks: &mut [i64] = bytemuck::cast_slice_mut(cut(room.checks.len()));
    cut(room.tables.iter().map(ExactSizeIterator::len).sum()); // written when all frames are known
    let episodes = lengths.len();
    let mut slots: Vec<Slot<'_>> = lengths
        .iter_mut()
        .zip(checks.chunks_exact_mut(columns.len()))
        .zip(packed)
        .zip(first..)
        .map(|(((steps, checks), packed), k)| Slot {
            k,
            rows: Vec::with_capacity(columns.len()),
            steps,
            checks,
            packed,
        })
        .collect();
    let mut regions: Vec<Option<&mut [u8]>> = columns.iter().map(|_| None).collect();
    for column in plan.schema.raw() {
        regions[column] = Some(cut(room.columns[column].len()));
    }
    for region in regions.into_iter().flatten() {
        let stride = region.len() / episodes;
        let mut left = region;
        for slot in &mut slots {
            let (rows, after) = left.split_at_mut(stride);
            slot.rows.push(rows);
            left = after;
        }
    }
    slots
}

impl Slot<'_> {
    fn record(self, plan: &Plan<'_>, clear: bool) -> Result<(), DatasetError> {
        let Self { k, mut rows, steps, checks, packed } = self;
        let failed = |reason: String| DatasetError::Source { episode: k, seed: plan.source.header().seed, reason };
        let mut bench = plan.bench().map_err(failed)?;
        if clear {
            for rows in &mut rows {
                rows.fill(0);
            }
        }
        let columns = plan.schema.columns;
        let mut beside = bench.iter_mut().flat_map(|bench| &mut bench.rows);
        let mut in_place = rows.into_iter();
        let mut lent: Vec<&mut [u8]> = Vec::with_capacity(columns.len());
        for column in 0..columns.len() {
            lent.push(if plan.schema.block_rows(column).is_some() {
                let rows = beside.next().expect("a bench has room for every packed column");
                rows.fill(0);
                rows
            } else {
                in_place.next().expect("a slot has room for every other column")
            });
        }
        let mut episode = EpisodeBuffer::new(columns, lent.iter_mut().map(|rows| &mut **rows).collect(), plan.length);
        plan.source.record(k, &mut episode);
        let recorded = finished(episode, plan.source, k)?;
        *steps = recorded as i64;
        for ((check, column), rows) in checks.iter_mut().zip(columns).zip(&lent) {
            let used = column.follows.rows(recorded) * column.row_bytes();
            *check = i64::from(crc32fast::hash(&rows[..used]));
        }
        let Some(mut bench) = bench else { return Ok(()) };
        packed.resize_with(bench.rows.len(), Packed::default);
        for ((column, rows), packed) in plan.schema.packed().zip(&bench.rows).zip(packed) {
            let (spec, block_rows) = (&columns[column], plan.schema.block_rows(column).unwrap_or(1));
            let used = &rows[..spec.follows.rows(recorded) * spec.row_bytes()];
            packed.clear();
            let done = bench.packer.pack(used, block_rows * spec.row_bytes(), packed);
            done.map_err(|error| failed(format!("column `{}` cannot be packed: {error}", spec.name)))?;
        }
        plan.put_back(bench);
        Ok(())
    }
}

/// The steps of episode `k`, or why it cannot be kept.
fn finished(episode: EpisodeBuffer<'_>, source: &dyn EpisodeSource, k: u64) -> Result<usize, DatasetError> {
    episode.finish().map_err(|reason| DatasetError::Source { episode: k, seed: source.header().seed, reason })
}

/// One episode in memory, for tests and for looking at a source without a dataset.
pub struct RecordedEpisode {
    columns: Vec<ColumnSpec>,
    steps: usize,
    rows: Vec<Vec<u64>>,
}

impl RecordedEpisode {
    /// Records episode `k` of `source`.
    ///
    /// # Errors
    /// When the source fails, or its columns could not be stored.
    pub fn new(source: &dyn EpisodeSource, k: u64) -> Result<Self, DatasetError> {
        let columns = source.columns();
        super::layout::check_columns(&columns, Codec::Raw)?;
        let length = source.length();
        let bytes = |column: &ColumnSpec| column.follows.rows(length.longest()) * column.row_bytes();
        let mut rows: Vec<Vec<u64>> = columns.iter().map(|column| vec![0; bytes(column).div_ceil(8)]).collect();
        let lent = rows.iter_mut().zip(&columns).map(|(words, column)| {
            let all: &mut [u8] = bytemuck::cast_slice_mut(words);
            &mut all[..bytes(column)]
        });
        let mut episode = EpisodeBuffer::new(&columns, lent.collect(), length);
        source.record(k, &mut episode);
        let steps = finished(episode, source, k)?;
        Ok(Self { columns, steps, rows })
    }

    /// T.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// All rows of a column, `[rows * row_len]`.
    ///
    /// # Panics
    /// When there is no such column, or `T` is not its type.
    #[must_use]
    pub fn column<T: Element>(&self, name: &str) -> &[T] {
        let found = self.columns.iter().position(|column| column.name == name);
        let index = found.unwrap_or_else(|| panic!("no column `{name}`"));
        let column = &self.columns[index];
        assert!(T::reads(column.dtype), "column `{name}` holds {}", column.dtype.name());
        let all: &[T] = bytemuck::cast_slice(&self.rows[index]);
        &all[..column.follows.rows(self.steps) * column.row_len()]
    }
}
