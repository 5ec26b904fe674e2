//! The seam between what makes episodes and what stores them: `EpisodeSource` fills an `EpisodeBuffer`.

use serde::{Deserialize, Serialize};
use simulators::rng::Seed;

use super::codec::Codec;
use super::column::{ColumnSpec, Element, Follows};

/// What the episodes of a dataset come from. Two equal headers, with equal columns, mean equal episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetHeader {
    /// Registered id, such as `MnistWorld-v0`.
    pub env_id: String,
    /// Raised whenever a change alters trajectories.
    pub env_version: u32,
    /// The resolved configuration of env and collector.
    pub config: serde_json::Value,
    /// Observation and action space.
    pub spaces: serde_json::Value,
    /// Frames per second at which a viewer should play it.
    pub fps: f64,
    /// Seed of every stream that an episode draws from.
    pub seed: Seed,
}

/// How long the episodes of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Every episode has exactly this many steps.
    Fixed(usize),
    /// An episode has at most this many; `record` says how many with [`EpisodeBuffer::set_steps`].
    AtMost(usize),
}

impl Length {
    /// Steps of the longest episode.
    #[must_use]
    pub fn longest(self) -> usize {
        match self {
            Self::Fixed(steps) | Self::AtMost(steps) => steps,
        }
    }
}

/// Makes episodes. Episode `k` is a pure function of the header and `k`: nothing else may enter, neither the thread
/// that records it nor what was recorded before it.
pub trait EpisodeSource: Sync {
    /// Where the episodes come from; written once into `dataset.json`.
    fn header(&self) -> DatasetHeader;

    /// The columns that `record` fills, in the order by which it addresses them.
    fn columns(&self) -> Vec<ColumnSpec>;

    /// How long its episodes are. Every episode of a shard is given room for the longest while it is recorded, so "at
    /// most" should be near to what episodes need.
    fn length(&self) -> Length;

    /// How a new dataset of it is encoded where nobody asks for a codec.
    fn codec(&self) -> Codec {
        Codec::Raw
    }

    /// Records episode `k`. The buffer comes zeroed; rows that are not written stay zero. Numbers must be finite: the
    /// writer refuses an episode with a NaN or an infinity, and commits nothing of its shard.
    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>);
}

/// Room for one episode, lent by the writer: the rows lie where the shard file will have them, unless they are to be packed.
pub struct EpisodeBuffer<'a> {
    columns: &'a [ColumnSpec],
    rows: Vec<&'a mut [u8]>,
    length: Length,
    steps: Option<usize>,
    failure: Option<String>,
}

impl<'a> EpisodeBuffer<'a> {
    /// A buffer over one zeroed byte slice per column, each with room for the longest episode and aligned for its type.
    pub(super) fn new(columns: &'a [ColumnSpec], rows: Vec<&'a mut [u8]>, length: Length) -> Self {
        let steps = match length {
            Length::Fixed(steps) => Some(steps),
            Length::AtMost(_) => None,
        };
        Self { columns, rows, length, steps, failure: None }
    }

    /// The most steps it has room for.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.length.longest()
    }

    /// The columns, in the order of [`EpisodeSource::columns`].
    #[must_use]
    pub fn columns(&self) -> &[ColumnSpec] {
        self.columns
    }

    /// All rows of column number `column`, `[rows * row_len]`, with room for the longest episode.
    ///
    /// # Panics
    /// When there is no such column or `T` is not its type.
    pub fn rows_mut<T: Element>(&mut self, column: usize) -> &mut [T] {
        let spec = &self.columns[column];
        assert!(T::reads(spec.dtype), "column `{}` holds {}, not {}", spec.name, spec.dtype.name(), T::DTYPE.name());
        bytemuck::cast_slice_mut(self.rows[column])
    }

    /// Row `row` of column number `column`, `[row_len]`.
    ///
    /// # Panics
    /// When there is no such column or row, or `T` is not the column's type.
    pub fn row_mut<T: Element>(&mut self, column: usize, row: usize) -> &mut [T] {
        let len = self.columns[column].row_len();
        &mut self.rows_mut(column)[row * len..(row + 1) * len]
    }

    /// Says that the episode has `steps` steps. Needed once where lengths vary.
    ///
    /// # Panics
    /// When there is no room for `steps`, or lengths are fixed to another number.
    pub fn set_steps(&mut self, steps: usize) {
        match self.length {
            Length::Fixed(fixed) => assert_eq!(steps, fixed, "every episode of this source has {fixed} steps"),
            Length::AtMost(most) => assert!(steps <= most, "{steps} steps, room for {most}"),
        }
        self.steps = Some(steps);
    }

    /// Gives up on this episode (a non-finite state, say): the writer reports `reason` and commits nothing of its shard.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.failure = Some(reason.into());
    }

    /// The steps recorded, or why there are none. Every episode on its way to a disk comes through here.
    pub(super) fn finish(self) -> Result<usize, String> {
        let steps = match (self.failure, self.steps) {
            (Some(reason), _) => return Err(reason),
            (None, Some(steps)) => steps,
            (None, None) => return Err("the source did not say how many steps the episode has".to_owned()),
        };
        for (column, rows) in self.columns.iter().zip(&self.rows) {
            let used = &rows[..column.follows.rows(steps) * column.row_bytes()];
            if let Some((row, value)) = column.first_not_finite(used) {
                let place = match column.follows {
                    Follows::Observations => format!(" at observation {row}"),
                    Follows::Steps => format!(" at step {row}"),
                    Follows::Episode => String::new(),
                };
                return Err(format!("column `{}` is {value}{place}, not a finite number", column.name));
            }
        }
        Ok(steps)
    }
}
