//! Asks a model what the memory benchmark asks: watch the context, imagine the rest, compare. [`vectors`] asks those that see no
//! pictures.

pub mod split;
pub mod vectors;

use std::path::PathBuf;

use envs::dataset::{Clips, Dataset, DatasetError, Episode, Window};
use rayon::prelude::*;
use simulators::mnist_world::{MnistWorldConfig, Sightings};
use tch::{Kind, Tensor};

use crate::belief::{WorldModel, roll_out};
use crate::clips::{ClipError, ClipLoader};
use crate::memory::evaluation::Sight;
use crate::memory::html::{ExampleClip, quantise};
use crate::memory::{Clip, FrameShape, MemoryError, MemoryEvaluation};

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

/// What was last seen when, per pixel of the predicted frames of one clip.
struct Seen {
    last_seen: Vec<i32>,
    entity: Vec<u8>,
}

/// Reads the ground truth of datasets whose environment has it.
struct Witness<'a> {
    dataset: &'a Dataset,
    world: MnistWorldConfig,
}

impl<'a> Witness<'a> {
    /// A witness, where the dataset has the columns that recall needs.
    fn of(dataset: &'a Dataset) -> Option<Self> {
        let source = &dataset.description().source;
        let has = |name: &str| dataset.columns().iter().any(|column| column.name == name);
        if !source.env_id.starts_with("MnistWorld-")
            || !["truth.camera", "truth.positions", "truth.entity"].iter().all(|name| has(name))
        {
            return None;
        }
        let world = serde_json::from_value(source.config.pointer("/env/world")?.clone()).ok()?;
        Some(Self { dataset, world })
    }

    /// Watches the context of a window, then asks of every later pixel when its point was last seen.
    fn watch(&self, window: Window, context: usize, frames: usize) -> Result<Seen, EvaluateError> {
        let episode = self.dataset.episode(window.episode).expect("a window of this dataset");
        let (w, digits) = (self.world.window, self.world.digits);
        let wrong = |column, problem: String| EvaluateError::Truth { episode: episode.number(), column, problem };
        let camera = episode.column::<i16>("truth.camera")?;
        let camera = pairs(&episode, "truth.camera", &camera, 1)?;
        let positions = episode.column::<i16>("truth.positions")?;
        let positions = pairs(&episode, "truth.positions", &positions, digits)?;
        let entity = episode.column::<u8>("truth.entity")?;
        if entity.len() != episode.frames() * w * w {
            return Err(wrong("truth.entity", format!("{} values an episode, not {w} x {w} a frame", entity.len())));
        }
        let side = self.world.world as i16;
        let inside = |xy: &[i16; 2]| xy.iter().all(|x| (0..side).contains(x));
        for (column, places) in [("truth.camera", camera), ("truth.positions", positions)] {
            if let Some(outside) = places.iter().find(|xy| !inside(xy)) {
                return Err(wrong(column, format!("{outside:?} lies outside the torus of {side}")));
            }
        }
        let mut sightings = Sightings::new(&self.world);
        let mut seen = Seen { last_seen: vec![-1; (frames - context) * w * w], entity: Vec::new() };
        for t in 0..frames {
            let at = window.start + t;
            let (camera, positions) = (camera[at], &positions[at * digits..][..digits]);
            if t < context {
                sightings.observe(t as i32, camera, positions);
                continue;
            }
            let mask = &entity[at * w * w..][..w * w];
            if let Some(unknown) = mask.iter().find(|id| usize::from(**id) > digits) {
                return Err(wrong("truth.entity", format!("entity {unknown}, but there are {digits} digits")));
            }
            let out = &mut seen.last_seen[(t - context) * w * w..][..w * w];
            sightings.last_seen(camera, positions, mask, out);
            seen.entity.extend_from_slice(mask);
        }
        Ok(seen)
    }
}

/// The values of a column as `(x, y)` pairs, `per_row` of them in each row.
fn pairs<'a>(
    episode: &Episode<'_>,
    column: &'static str,
    values: &'a [i16],
    per_row: usize,
) -> Result<&'a [[i16; 2]], EvaluateError> {
    let (pairs, rest) = values.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != episode.frames() * per_row {
        let problem = format!("{} pairs, not {per_row} a frame", pairs.len());
        return Err(EvaluateError::Truth { episode: episode.number(), column, problem });
    }
    Ok(pairs)
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
        let seen = witness_all(loader.clips(), batch, context, frames)?;
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
    clips: &Clips,
    windows: &[Window],
    context: usize,
    frames: usize,
) -> Result<Option<Vec<Seen>>, EvaluateError> {
    let Some(witness) = Witness::of(clips.dataset()) else { return Ok(None) };
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
