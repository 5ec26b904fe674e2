//! Training clips: windows of consecutive frames, drawn by number and gathered into batches.

use std::sync::Arc;

use rand::Rng as _;
use rayon::prelude::*;
use simulators::rng::{Purpose, Seed, stream};

use super::codec::Unpacker;
use super::column::Follows;
use super::error::DatasetError;
use super::reader::Dataset;

/// A clip: `frames` observations of an episode from observation `start` on, and the `frames - 1` steps between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Position of the episode in the dataset.
    pub episode: usize,
    /// Its first observation.
    pub start: usize,
}

/// All windows of one length in a dataset.
pub struct Clips {
    dataset: Arc<Dataset>,
    frames: usize,
    seed: Seed,
    observations: usize,
    actions: usize,
    /// Windows in all episodes up to and including each one.
    windows_through: Vec<u64>,
}

impl Clips {
    /// Windows of `frames` frames of `dataset`, to be drawn from the streams of `seed`.
    ///
    /// # Errors
    /// When no episode is that long, or there are no columns `observations` and `actions`.
    pub fn new(dataset: Arc<Dataset>, frames: usize, seed: Seed) -> Result<Self, DatasetError> {
        if frames == 0 {
            let allowed = "1 or more allowed".to_owned();
            return Err(DatasetError::Request { field: "frames", value: "0".to_owned(), allowed });
        }
        let (observations, actions) = (dataset.column_index("observations")?, dataset.column_index("actions")?);
        let mut windows = 0;
        let windows_through: Vec<u64> = dataset
            .episodes()
            .map(|episode| {
                windows += (episode.frames() + 1).saturating_sub(frames) as u64;
                windows
            })
            .collect();
        if windows == 0 {
            let longest = dataset.info().longest as usize + 1;
            return Err(DatasetError::Window { path: dataset.dir().to_owned(), frames, longest });
        }
        Ok(Self { dataset, frames, seed, observations, actions, windows_through })
    }

    /// Frames of a window.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The dataset.
    #[must_use]
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Number of different windows.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.windows_through.last().copied().unwrap_or(0)
    }

    /// Draw number `draw`: any window with equal chance. A function of seed and number alone.
    #[must_use]
    pub fn draw(&self, draw: u64) -> Window {
        let random = stream(self.seed, Purpose::Clips, draw).next_u64();
        // The high half of the product is uniform below `windows` up to a bias of windows / 2^64.
        let window = ((u128::from(random) * u128::from(self.windows())) >> 64) as u64;
        let episode = self.windows_through.partition_point(|&through| through <= window);
        let before = episode.checked_sub(1).map_or(0, |before| self.windows_through[before]);
        Window { episode, start: (window - before) as usize }
    }

    /// Draws `first..first + batch`.
    #[must_use]
    pub fn draws(&self, first: u64, batch: usize) -> Vec<Window> {
        (first..first + batch as u64).map(|draw| self.draw(draw)).collect()
    }

    /// The first window of every episode that is long enough, in order: for evaluation.
    pub fn in_order(&self) -> impl Iterator<Item = Window> {
        let long_enough = |episode: &usize| {
            let before = episode.checked_sub(1).map_or(0, |before| self.windows_through[before]);
            self.windows_through[*episode] > before
        };
        (0..self.windows_through.len()).filter(long_enough).map(|episode| Window { episode, start: 0 })
    }

    /// Gathers `windows` as one batch: `observations` becomes `[B, frames, row]`, `actions` `[B, frames - 1, row]`, both as
    /// the bytes of the column's type. What the vectors held is lost; their memory is used again.
    ///
    /// # Errors
    /// When packed rows are damaged.
    ///
    /// # Panics
    /// When a window is not one of this dataset.
    pub fn batch(
        &self,
        windows: &[Window],
        observations: &mut Vec<u8>,
        actions: &mut Vec<u8>,
    ) -> Result<(), DatasetError> {
        self.gather(self.observations, windows, observations)?;
        self.gather(self.actions, windows, actions)
    }

    /// Gathers the rows of column number `column` that belong to `windows`: `[B, rows, row]`, where rows are `frames` for a
    /// column that follows observations, `frames - 1` for one that follows steps, and 1 for one with a row an episode. Clips are
    /// gathered side by side, and of packed columns only the blocks that they need are unpacked.
    ///
    /// # Errors
    /// When packed rows are damaged.
    ///
    /// # Panics
    /// When there is no such column, or a window is not one of this dataset.
    pub fn gather(&self, column: usize, windows: &[Window], out: &mut Vec<u8>) -> Result<(), DatasetError> {
        let spec = &self.dataset.columns()[column];
        let rows = spec.follows.rows(self.frames - 1);
        let bytes = rows * spec.row_bytes();
        out.resize(windows.len() * bytes, 0);
        if bytes == 0 {
            return Ok(());
        }
        let clips = out.par_chunks_exact_mut(bytes).zip(windows);
        clips.try_for_each_init(Unpacker::default, |unpacker, (clip, window)| {
            let episode = self.dataset.episode(window.episode).expect("a window of this dataset");
            let first = match spec.follows {
                Follows::Observations | Follows::Steps => window.start,
                Follows::Episode => 0,
            };
            episode.read_with(unpacker, column, first..first + rows, clip)
        })
    }
}
