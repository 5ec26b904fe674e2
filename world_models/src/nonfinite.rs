//! Updates left out because a number was not finite: what is known of each, and `nonfinite.jsonl`, which keeps it.

use std::fmt;
use std::path::{Path, PathBuf};

use envs::dataset::{Clips, Window};
use envs::storage::{At, Failed, Storage};
use serde::Serialize;
use simulators::rng::Seed;

use crate::metrics::keep_lines;

/// Clips that a message names; the file names them all.
const CLIPS_SHOWN: usize = 8;

/// An update that was left out: weights and moments are as before it. Also a line of `nonfinite.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The update, counted from 0.
    pub update: u64,
    /// `loss` or `gradient norm`.
    pub what: &'static str,
    /// `NaN`, `inf` or `-inf`.
    pub value: String,
    /// Weights whose gradients are not finite, where the loss was.
    pub gradients: Vec<String>,
    /// Weights that are not finite themselves: no later update can heal them.
    pub weights: Vec<String>,
    /// How many updates in a row, this one included.
    pub in_a_row: u64,
    /// The run's seed.
    pub seed: Seed,
    /// The batch: number of the episode and first frame of each clip.
    pub clips: Vec<(u64, usize)>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { update, what, value, in_a_row, seed, clips, .. } = self;
        write!(f, "update {update}: the {what} is {value}")?;
        for (of, names) in [("gradients", &self.gradients), ("weights", &self.weights)] {
            if !names.is_empty() {
                write!(f, ", the {of} of {} are not finite", names.join(", "))?;
            }
        }
        let shown: Vec<String> = clips.iter().take(CLIPS_SHOWN).map(|clip| format!("{clip:?}")).collect();
        write!(f, ", {in_a_row} in a row; seed {seed}, clips (episode, frame) {}", shown.join(", "))?;
        match clips.len().saturating_sub(CLIPS_SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Why a run gave up: too many updates in a row were left out, or a weight is lost.
#[derive(Debug, Clone, PartialEq)]
pub struct GaveUp {
    /// The last update left out.
    pub last: LeftOut,
    /// `train.nonfinite_limit`.
    pub limit: u64,
    /// `train.learning_rate`.
    pub learning_rate: f64,
    /// The run's folder.
    pub run: PathBuf,
    /// The last good checkpoint, if one was written.
    pub checkpoint: Option<PathBuf>,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last, limit, learning_rate, run, checkpoint } = self;
        match last.weights.len() {
            0 => write!(f, "{last}, and train.nonfinite_limit is {limit}")?,
            _ => write!(f, "{last}, and no later update can heal that")?,
        }
        write!(f, "; {} has every update left out. ", path(run).display())?;
        let instead = format!("a lower train.learning_rate (it is {learning_rate}) or another --seed");
        match checkpoint {
            Some(checkpoint) => write!(
                f,
                "The last good checkpoint, {}, is intact. --resume would meet the same numbers again: begin another run \
                 from its weights, with --start-from {} and {instead}; or anew, if its first loss is no better",
                checkpoint.display(),
                run.display()
            ),
            None => write!(f, "No checkpoint had been written yet: begin anew with {instead}"),
        }
    }
}

impl std::error::Error for GaveUp {}

/// The clips of a batch as a person finds them in the dataset.
pub(crate) fn places(clips: &Clips, windows: &[Window]) -> Vec<(u64, usize)> {
    let number = |position| clips.dataset().episode(position).expect("a window of this dataset").number();
    windows.iter().map(|window| (number(window.episode), window.start)).collect()
}

fn path(run: &Path) -> PathBuf {
    run.join("nonfinite.jsonl")
}

/// Makes the file of a run that goes on at `update` what it was then: later lines, of an attempt that was cut off, go.
///
/// # Errors
/// If the file cannot be read or written.
pub(crate) fn forget_from(storage: &dyn Storage, run: &Path, update: u64) -> Result<(), Failed> {
    keep_lines(storage, &path(run), |line| line["update"].as_u64().is_some_and(|of| of < update))
}

/// Appends a line, for good: the run may be about to end.
///
/// # Errors
/// If the line cannot be written.
pub(crate) fn append(storage: &dyn Storage, run: &Path, left_out: &LeftOut) -> Result<(), Failed> {
    let path = path(run);
    let mut text = serde_json::to_string(left_out).expect("plain data has a JSON form");
    text.push('\n');
    let mut file = storage.append(&path).at("open", &path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync()).at_writing(text.len() as u64, &path)
}
