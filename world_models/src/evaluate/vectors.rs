//! Asks a model of vectors: see the last observation of the context, imagine the rest with the true actions, compare.
//!
//! A dataset pairs `observations[t], actions[t] -> rewards[t], observations[t + 1]`, and so does everything here.

use std::sync::Arc;

use envs::dataset::{Clips, Dataset, Dtype, Follows, Window};
use simulators::rng::Seed;
use tch::{Kind, Tensor};

use super::split::Split;
use super::{EvaluateError, to_vec};
use crate::clips::ClipError;
use crate::memory::vectors::evaluation::Yardstick;
use crate::memory::vectors::readout::RIDGE;
use crate::memory::vectors::report::Episodes;
use crate::memory::vectors::rewards::Rewards;
use crate::memory::vectors::scales::ScalesOf;
use crate::memory::vectors::{ReadoutFit, StepRows, VectorEvaluation};

/// Clips, or observations to fit on, that a model is asked about at a time. Always so many, so that nothing that may be set changes
/// a bit.
const ROWS: usize = 512;
/// Observations that a readout is fitted on, at most.
const FITTED: usize = 32_768;

/// A model whose belief is the latent of what it saw last. On the CPU; everything in single precision.
pub trait VectorModel {
    /// Numbers of an observation, of an action and of a latent.
    fn sizes(&self) -> [usize; 3];
    /// Eyes open: latents `[B, L]` of observations `[B, O]`.
    fn observe(&self, observations: &Tensor) -> Tensor;
    /// Eyes shut: the latents `[B, L]` that actions `[B, A]` lead to from latents `[B, L]`.
    fn imagine(&self, latents: &Tensor, actions: &Tensor) -> Tensor;
    /// The rewards `[B]` of these actions there, in units of the environment.
    fn reward(&self, latents: &Tensor, actions: &Tensor) -> Tensor;
}

/// What to ask of a model.
#[derive(Debug, Clone, Copy)]
pub struct VectorQuestions {
    /// Observations that are seen. A belief is the latent of the last.
    pub context: usize,
    /// Steps that are imagined.
    pub horizon: usize,
    /// Clips at most.
    pub clips: usize,
}

/// A column's name and number.
type Named = (&'static str, usize);

/// The columns of a dataset that a model of vectors is asked about.
struct Columns {
    observations: Named,
    actions: Named,
    rewards: Named,
}

/// Scores `model` on clips of one half of the episodes; a readout of its latents is fitted on the others. `watch` is told how many
/// clips of how many are done.
///
/// # Errors
/// If the dataset has other columns or widths, or episodes that are too short or too few, or a number in it or of the model is not
/// finite.
///
/// # Panics
/// If the model gives tensors of other shapes than it should.
pub fn evaluate_vectors(
    model: &dyn VectorModel,
    dataset: &Arc<Dataset>,
    questions: VectorQuestions,
    watch: &mut dyn FnMut(usize, usize),
) -> Result<VectorEvaluation, EvaluateError> {
    let VectorQuestions { context, horizon, clips: most } = questions;
    let columns = Columns::of(dataset, model.sizes())?;
    let split = Split::of(dataset, context + horizon, most)?;
    let mut evaluation = VectorEvaluation::new(yardstick(model, dataset, &columns, &split)?, context, horizon)?;
    let clips = Clips::new(Arc::clone(dataset), context + horizon, Seed(0))?;
    let mut done = 0;
    for windows in split.windows.chunks(ROWS) {
        tch::no_grad(|| ask(model, &clips, &columns, windows, questions, &mut evaluation))?;
        done += windows.len();
        watch(done, split.windows.len());
    }
    Ok(evaluation)
}

/// Imagines some clips, and scores each step.
fn ask(
    model: &dyn VectorModel,
    clips: &Clips,
    columns: &Columns,
    windows: &[Window],
    VectorQuestions { context, horizon, .. }: VectorQuestions,
    evaluation: &mut VectorEvaluation,
) -> Result<(), EvaluateError> {
    let [o, a, l] = model.sizes();
    let (b, frames) = (windows.len() as i64, (context + horizon) as i64);
    let gathered = |(name, column), rows: i64, width: usize| -> Result<Tensor, EvaluateError> {
        let mut bytes = Vec::new();
        clips.gather(column, windows, &mut bytes)?;
        let spec = &clips.dataset().columns()[column];
        if let Some((row, value)) = spec.first_not_finite(&bytes) {
            let (window, step) = (windows[row / rows as usize], row % rows as usize);
            return Err(not_finite(clips.dataset(), window.episode, name, window.start + step, value).into());
        }
        Ok(Tensor::from_data_size(&bytes, &[b, rows, width as i64], Kind::Float))
    };
    let observations = gathered(columns.observations, frames, o)?;
    let actions = gathered(columns.actions, frames - 1, a)?;
    let rewards = gathered(columns.rewards, frames - 1, 1)?;
    let seen = |step: usize| observations.select(1, (context - 1 + step) as i64).contiguous();
    let checked = |values: Vec<f32>, step: usize| {
        let width = values.len() / windows.len();
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => {
                let window = windows[at / width];
                let episode = clips.dataset().episode(window.episode).expect("a window of this dataset").number();
                let frame = window.start + context - 1 + step;
                Err(EvaluateError::NotFinite { episode, frame, ahead: step, value: values[at] })
            }
        }
    };

    let last = to_vec(&seen(0));
    let mut imagined = model.observe(&seen(0));
    assert_eq!(imagined.size(), [b, l as i64], "latents are [B, L]");
    let mut encoded = imagined.shallow_clone();
    let still = checked(to_vec(&imagined), 0)?;
    evaluation.add_start(&still, &last);
    for step in 1..=horizon {
        let t = (context + step - 2) as i64;
        let action = actions.select(1, t).contiguous();
        let [of_imagined, of_seen] = [&imagined, &encoded].map(|latents| to_vec(&model.reward(latents, &action)));
        imagined = model.imagine(&imagined, &action);
        encoded = model.observe(&seen(step));
        let (recorded, observed) = (to_vec(&rewards.select(1, t)), to_vec(&seen(step)));
        let rewards =
            Rewards { imagined: &checked(of_imagined, step)?, seeing: &checked(of_seen, step)?, recorded: &recorded };
        let rows = StepRows {
            imagined: &checked(to_vec(&imagined), step)?,
            encoded: &checked(to_vec(&encoded), step)?,
            still: &still,
            observed: &observed,
            last: &last,
            rewards,
        };
        evaluation.add_step(step, rows);
    }
    Ok(())
}

/// The dataset's scales, and a readout fitted on the episodes that are not evaluated.
fn yardstick(
    model: &dyn VectorModel,
    dataset: &Dataset,
    columns: &Columns,
    split: &Split,
) -> Result<Yardstick, EvaluateError> {
    let [o, _, l] = model.sizes();
    let (mut observations, mut rewards) = (ScalesOf::new(o), ScalesOf::new(1));
    for (position, episode) in dataset.episodes().enumerate() {
        for (name, column) in [columns.observations, columns.rewards] {
            let spec = &dataset.columns()[column];
            if let Some((step, value)) = spec.first_not_finite(&episode.bytes(column)?) {
                return Err(not_finite(dataset, position, name, step, value).into());
            }
        }
        observations.add(&episode.column("observations")?);
        rewards.add(&episode.column("rewards")?);
    }
    let fitted = || split.fitted.iter().map(|&position| dataset.episode(position).expect("a position in this dataset"));
    // Every so many rows of all, whichever episodes they are of.
    let every = fitted().map(|episode| episode.frames()).sum::<usize>().div_ceil(FITTED).max(1);
    let (mut fit, mut chunk, mut number) = (ReadoutFit::new(l, o), Vec::new(), 0);
    let mut flush = |chunk: &mut Vec<f32>| {
        let latents = tch::no_grad(|| model.observe(&Tensor::from_slice(chunk).view([-1, o as i64])));
        fit.add(&to_vec(&latents), chunk);
        chunk.clear();
    };
    for episode in fitted() {
        for row in episode.column::<f32>("observations")?.chunks_exact(o) {
            if number % every == 0 {
                chunk.extend_from_slice(row);
            }
            number += 1;
            if chunk.len() == ROWS * o {
                flush(&mut chunk);
            }
        }
    }
    if !chunk.is_empty() {
        flush(&mut chunk);
    }
    Ok(Yardstick {
        readout: fit.solve(RIDGE),
        ridge: RIDGE,
        observations: observations.scales(),
        rewards: rewards.scales(),
        episodes: Episodes { evaluated: split.evaluated as u64, fitted: split.fitted.len() as u64 },
    })
}

impl Columns {
    fn of(dataset: &Dataset, [o, a, _]: [usize; 3]) -> Result<Self, EvaluateError> {
        let column = |name, field, follows: Follows, width: usize| {
            let number = dataset.column_index(name)?;
            let spec = &dataset.columns()[number];
            let fits = spec.dtype == Dtype::F32 && spec.follows == follows && spec.row_len() == width;
            if fits && spec.shape.len() <= 1 {
                return Ok((name, number));
            }
            let each = |follows: Follows| format!("a row for each of the {follows:?}").to_lowercase();
            let value = format!("{} {:?}, {}", spec.dtype.name(), spec.shape, each(spec.follows));
            let allowed = format!("F32 of {width} in all, {}", each(follows));
            Err(EvaluateError::Refused { dataset: dataset.dir().to_owned(), field, value, allowed })
        };
        Ok(Self {
            observations: column("observations", "column `observations`", Follows::Observations, o)?,
            actions: column("actions", "column `actions`", Follows::Steps, a)?,
            rewards: column("rewards", "column `rewards`", Follows::Steps, 1)?,
        })
    }
}

fn not_finite(dataset: &Dataset, position: usize, column: &'static str, step: usize, value: f64) -> ClipError {
    let episode = dataset.episode(position).expect("a position in this dataset").number();
    ClipError::NotFinite { dataset: dataset.dir().to_owned(), episode, column, step, value }
}
