//! Recording one shard in memory: episodes in parallel, each straight into the place that the file will have it at.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::column::{ColumnSpec, Element};
use super::error::DatasetError;
use super::shard::Places;
use super::source::{EpisodeBuffer, EpisodeSource, Length};

/// The data of one shard, as it will be in the file after the header.
#[derive(Default)]
pub(super) struct ShardData {
    /// In words, so that every element type is aligned. May be longer than the data.
    words: Vec<u64>,
    /// Where the tensors lie.
    places: Option<Places>,
}

/// What of a shard's range is to be recorded, and how.
pub(super) struct Plan<'a> {
    pub source: &'a dyn EpisodeSource,
    pub columns: &'a [ColumnSpec],
    pub length: Length,
}

/// One episode's share of the buffer.
struct Slot<'a> {
    k: u64,
    rows: Vec<&'a mut [u8]>,
    steps: &'a mut i64,
    checks: &'a mut [i64],
}

impl ShardData {
    /// The bytes after the header.
    pub fn bytes(&self) -> &[u8] {
        let bytes = self.places.as_ref().map_or(0, |places| places.bytes);
        &bytemuck::cast_slice(&self.words)[..bytes]
    }

    /// The header of its file, when its first episode is `first`.
    pub fn header(&self, columns: &[ColumnSpec], first: u64) -> Vec<u8> {
        self.places.as_ref().map_or_else(Vec::new, |places| places.header(columns, first))
    }

    /// Tensor `lengths`.
    pub fn lengths(&self) -> &[i64] {
        self.places.as_ref().map_or(&[], |places| bytemuck::cast_slice(&self.bytes()[places.lengths.clone()]))
    }

    /// Tensor `checks`, `[E, columns]`.
    pub fn checks(&self) -> &[i64] {
        self.places.as_ref().map_or(&[], |places| bytemuck::cast_slice(&self.bytes()[places.checks.clone()]))
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
        let room = episodes.checked_mul(longest).and_then(|steps| Places::new(plan.columns, episodes, steps));
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
        let slots = slots(bytemuck::cast_slice_mut(&mut self.words), &room, plan, first, episodes);
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
        self.places = Some(room);
        self.close_gaps(plan, longest)?;
        Ok(true)
    }

    /// Moves the rows together where episodes are shorter than the room they had. Everything moves towards the start,
    /// in order, so nothing is overwritten before it has moved.
    fn close_gaps(&mut self, plan: &Plan<'_>, longest: usize) -> Result<(), DatasetError> {
        let lengths: Vec<usize> = self.lengths().iter().map(|&steps| steps as usize).collect();
        if lengths.iter().all(|&steps| steps == longest) {
            return Ok(());
        }
        let Some(room) = self.places.take() else { return Ok(()) };
        let steps = lengths.iter().sum();
        let places = Places::new(plan.columns, lengths.len(), steps).ok_or_else(|| DatasetError::Request {
            field: "episodes_per_shard",
            value: lengths.len().to_string(),
            allowed: "fewer: the shard is too large for this machine".to_owned(),
        })?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        let mut order: Vec<usize> = (0..plan.columns.len()).collect();
        order.sort_by_key(|&column| (room.columns[column].start, room.columns[column].end));
        for column in order {
            let spec = &plan.columns[column];
            let stride = spec.follows.rows(longest) * spec.row_bytes();
            let mut to = places.columns[column].start;
            for (episode, &steps) in lengths.iter().enumerate() {
                let from = room.columns[column].start + episode * stride;
                let len = spec.follows.rows(steps) * spec.row_bytes();
                bytes.copy_within(from..from + len, to);
                to += len;
            }
        }
        self.places = Some(places);
        Ok(())
    }
}

/// Cuts the buffer into one slot an episode.
fn slots<'a>(mut rest: &'a mut [u8], room: &Places, plan: &Plan<'_>, first: u64, episodes: usize) -> Vec<Slot<'a>> {
    let mut cut = |bytes: usize| {
        let (piece, after) = std::mem::take(&mut rest).split_at_mut(bytes);
        rest = after;
        piece
    };
    let lengths: &mut [i64] = bytemuck::cast_slice_mut(cut(room.lengths.len()));
    let checks: &mut [i64] = bytemuck::cast_slice_mut(cut(room.checks.len()));
    let mut slots: Vec<Slot<'_>> = lengths
        .iter_mut()
        .zip(checks.chunks_exact_mut(plan.columns.len()))
        .zip(first..)
        .map(|((steps, checks), k)| Slot { k, rows: Vec::with_capacity(plan.columns.len()), steps, checks })
        .collect();
    let mut order: Vec<usize> = (0..plan.columns.len()).collect();
    order.sort_by_key(|&column| (room.columns[column].start, room.columns[column].end));
    let mut regions: Vec<Option<&mut [u8]>> = plan.columns.iter().map(|_| None).collect();
    for column in order {
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
        let Self { k, mut rows, steps, checks } = self;
        if clear {
            for rows in &mut rows {
                rows.fill(0);
            }
        }
        let lent = rows.iter_mut().map(|rows| &mut **rows).collect();
        let mut episode = EpisodeBuffer::new(plan.columns, lent, plan.length);
        plan.source.record(k, &mut episode);
        let recorded = finished(episode, plan.source, k)?;
        *steps = recorded as i64;
        for ((check, column), rows) in checks.iter_mut().zip(plan.columns).zip(&rows) {
            let used = column.follows.rows(recorded) * column.row_bytes();
            *check = i64::from(crc32fast::hash(&rows[..used]));
        }
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
        super::layout::check_columns(&columns)?;
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
