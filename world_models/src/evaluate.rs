//! Asks a model what the memory benchmark asks: watch the context, imagine the rest, compare. [`vectors`] asks those that see no
//! pictures.

mod block_world;
pub mod probe;
pub mod split;
pub mod vectors;
mod witness;

use std::path::PathBuf;

use envs::dataset::{Dataset, DatasetError, Window};
use rayon::prelude::*;
use tch::{Kind, Tensor};

use crate::belief::{WorldModel, roll_out};
use crate::clips::{ClipError, ClipLoader};
use crate::memory::evaluation::Sight;
use crate::memory::html::{ExampleClip, quantise};
use crate::memory::{Clip, FrameShape, MemoryError, MemoryEvaluation};
use witness::{Seen, witness};

/// Why a memory evaluation cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The dataset cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The settings do not fit.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The dataset is not one for models.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// The model's numbers went wrong. Measured, they would count as black or white.
    #[error(
        "episode {episode}, frame {frame}: the model predicts {value}, not a finite number, {ahead} steps after the last \
         frame it saw"
    )]
    NotFinite {
        /// Number of the episode.
        episode: u64,
        /// The frame in the episode.
        frame: usize,
        /// Steps since the model last saw.
        ahead: usize,
        /// What it predicts there.
        value: f32,
    },
    /// A dataset that this model cannot be asked about.
    #[error("{}: {field} is {value}; allowed: {allowed}", dataset.display())]
    Refused {
        /// The dataset.
        dataset: PathBuf,
        /// What of it.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// A column of ground truth that its environment would not have recorded so.
    #[error("{}: column `{column}` is {found}; allowed: {expected}", dataset.display())]
    Column {
        /// The dataset.
        dataset: PathBuf,
        /// Its name.
        column: String,
        /// Its type, the shape of a row, and what its rows follow.
        found: String,
        /// The same, as they should be.
        expected: String,
    },
    /// A dataset without the ground truth that was asked for.
    #[error("{}: it has no {columns}; `mindseye collect block-world --truth full` records them", dataset.display())]
    NoTruth {
        /// The dataset.
        dataset: PathBuf,
        /// What it lacks.
        columns: String,
    },
    /// A belief that places cannot be read from.
    #[error(
        "the model's belief has neither a part `map` [B, V, S, S, D] nor a vector [B, F] of at most {most} numbers to read places \
         from; its parts are {parts}"
    )]
    NoBelief {
        /// Names and shapes.
        parts: String,
        /// The most numbers of a vector.
        most: usize,
    },
    /// Ground truth that is not that of its environment.
    #[error("episode {episode}: column `{column}` does not fit the world of the dataset: {problem}")]
    Truth {
        /// The episode.
        episode: u64,
        /// The column.
        column: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// What to ask of a model.
#[derive(Debug, Clone, Copy)]
pub struct Questions<'a> {
    /// The clips.
    pub windows: &'a [Window],
    /// Frames of each that are seen.
    pub context: usize,
    /// Clips at a time.
    pub batch: usize,
    /// How many of the first clips to keep to look at.
    pub examples: usize,
}

/// Scores `model`; also returns the first clips to look at.
///
/// Frames of a window after the context are predicted with the true actions; none of them is seen. Where the dataset has
/// the ground truth (`collect --truth full`), recall is measured too. `watch` is told how many clips are done.
///
/// # Errors
/// If the dataset cannot be read or its ground truth does not fit its world, or a prediction is not finite.
///
/// # Panics
/// If a window is not one of the loader's dataset.
pub fn evaluate_memory(
    model: &dyn WorldModel,
    loader: &mut ClipLoader,
    questions: Questions<'_>,
    evaluation: &mut MemoryEvaluation,
    watch: &mut dyn FnMut(usize),
) -> Result<Vec<ExampleClip>, EvaluateError> {
    let Questions { windows, context, batch, examples } = questions;
    let frames = loader.clips().frames();
    let shape = FrameShape::new(loader.frame().map(|side| side as usize));
    let mut kept = Vec::new();
    // What is wrong with the ground truth shall be known before the model has worked for it.
    witness(loader.clips().dataset())?;
    for (batch, first) in windows.chunks(batch).zip((0..).step_by(batch)) {
        let clip = loader.load(batch, context as i64)?;
        let predicted = tch::no_grad(|| roll_out(model, &clip)); // [B, T, C, H, W]
        let predicted = to_vec(&predicted.permute([0, 1, 3, 4, 2]));
        if let Some(at) = predicted.iter().position(|value| !value.is_finite()) {
            let (clip, step) = (at / shape.values() / (frames - context), at / shape.values() % (frames - context));
            let episode = loader.clips().dataset().episode(batch[clip].episode).expect("a window of this dataset");
            let (episode, frame) = (episode.number(), batch[clip].start + context + step);
            return Err(EvaluateError::NotFinite { episode, frame, ahead: step + 1, value: predicted[at] });
        }
        let truth = (clip.frames.permute([0, 1, 3, 4, 2]) * 255.0).round().to_kind(Kind::Uint8);
        let truth = to_bytes(&truth);
        let seen = witness_all(loader.clips().dataset(), batch, context, frames)?;
        let (truth_len, predicted_len) = (frames * shape.values(), (frames - context) * shape.values());
        let clips: Vec<Clip<'_>> = (0..batch.len())
            .map(|i| Clip {
                truth: &truth[i * truth_len..][..truth_len],
                prediction: &predicted[i * predicted_len..][..predicted_len],
                sight: seen.as_ref().map(|seen| Sight { last_seen: &seen[i].last_seen, entity: &seen[i].entity }),
            })
            .collect();
        evaluation.add_clips(&clips)?;
        for (clip, window) in clips.iter().zip(batch).take(examples.saturating_sub(kept.len())) {
            kept.push(ExampleClip {
                title: format!("Episode {}", window.episode),
                frame: shape,
                context,
                truth: clip.truth.to_vec(),
                prediction: quantise(clip.prediction),
                belief: None,
            });
        }
        watch(first + batch.len());
    }
    Ok(kept)
}

fn witness_all(
    dataset: &Dataset,
    windows: &[Window],
    context: usize,
    frames: usize,
) -> Result<Option<Vec<Seen>>, EvaluateError> {
    let Some(witness) = witness(dataset)? else { return Ok(None) };
    windows.par_iter().map(|window| witness.watch(*window, context, frames)).collect::<Result<_, _>>().map(Some)
}

fn to_vec(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    values
}

fn to_bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.to_device(tch::Device::Cpu).contiguous();
    let mut values = vec![0; tensor.numel()];
    tensor.copy_data_u8(&mut values, tensor.numel());
    values
}
