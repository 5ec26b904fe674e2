//! Asks a belief where blocks are: fits a readout on the beliefs of some episodes of Blockworld, and counts on others.

use std::sync::Arc;

use envs::dataset::{Clips, Dataset, Window};
use rayon::prelude::*;
use simulators::block_world::COLOURS;
use simulators::rng::Seed;
use tch::{Device, Kind, Tensor};

use super::block_world::{BlockTruth, column, is_of, missing};
use super::split::Split;
use super::{EvaluateError, to_vec};
use crate::belief::{Belief, WorldModel};
use crate::clips::ClipLoader;
use crate::memory::probe::evaluation::Asked;
use crate::memory::probe::maps::ProbedMap;
use crate::memory::probe::{Block, Known, ProbeEvaluation, ProbeFit, Reads, Shape};
use crate::memory::vectors::report::Episodes;

/// Beliefs that the readout is fitted on, at most.
const FITTED: usize = 2048;
/// Numbers of a vector, at most: the readout's sums are as many as their square.
const MOST_NUMBERS: usize = 4096;
/// Sums of a readout of vectors, at most: a gigabyte.
const MOST_SUMS: usize = 1 << 27;
/// The part of a belief that is a map of cells.
const MAP: &str = "map";
/// Clips that a model is asked about at a time. Always so many, so that nothing that may be set changes a bit.
const BATCH: usize = 16;

/// What to ask of a model.
#[derive(Debug, Clone, Copy)]
pub struct ProbeQuestions<'a> {
    /// Frames of each clip that are seen.
    pub context: usize,
    /// Steps after the last of them, increasing.
    pub horizons: &'a [usize],
    /// Clips to count on, and to fit on, at most.
    pub clips: usize,
}

/// The parts of a belief that places are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The part `map`, `[B, V, S, S, D]`: the largest of its channels.
    Map,
    /// All parts that are vectors `[B, F]`, in the order of their names.
    Vectors(Vec<&'static str>),
}

/// Takes a belief at one of the steps that were asked for, by its number among them, and where blocks are.
type Take<'a> = dyn FnMut(usize, &[f32], &[Block]) + 'a;

/// A model, and how it is asked.
struct Asker<'a> {
    model: &'a dyn WorldModel,
    truth: BlockTruth<'a>,
    source: Source,
    shape: Shape,
    context: usize,
}

/// Fits a readout of `model`'s beliefs on one half of the episodes that are long enough, and counts on the other. Also returns the maps of
/// the first clip, one a horizon. `watch` is told how many clips of how many are done.
///
/// # Errors
/// If the dataset is not one of Blockworld with its ground truth, has too few episodes that are long enough, or its ground truth does not
/// fit its world; if the belief has nothing to read places from, or is not finite.
pub fn evaluate_probe(
    model: &dyn WorldModel,
    dataset: &Arc<Dataset>,
    device: Device,
    questions: ProbeQuestions<'_>,
    watch: &mut dyn FnMut(usize, usize),
) -> Result<(ProbeEvaluation, Vec<ProbedMap>), EvaluateError> {
    let ProbeQuestions { context, horizons, clips: most } = questions;
    let last = horizons.last().copied().unwrap_or(0);
    let truth = truth_of(dataset)?;
    let split = split_of(dataset, context + last, most)?;
    let (source, shape) = tch::no_grad(|| source(&model.start(1), usize::from(truth.world.room)))?;
    let asker = Asker { model, truth, source, shape, context };
    let mut loader = ClipLoader::new(Clips::new(Arc::clone(dataset), context + last, Seed(0))?, device)?;

    let (of, mut done) = (split.fitted_windows.len() + split.windows.len(), 0);
    let every = (split.fitted_windows.len() * (last + 1)).div_ceil(FITTED);
    let steps: Vec<usize> = (0..=last).step_by(every).collect();
    let mut fit = ProbeFit::new(shape);
    for windows in split.fitted_windows.chunks(BATCH) {
        asker.ask(&mut loader, windows, &steps, &mut |_, belief, blocks| fit.add(belief, blocks))?;
        done += windows.len();
        watch(done, of);
    }
    let asked = Asked { context, horizons: horizons.to_vec() };
    let episodes = Episodes { evaluated: split.evaluated as u64, fitted: split.fitted_episodes() as u64 };
    let mut evaluation = ProbeEvaluation::new(fit.solve(), asked, episodes)?;
    let mut maps: Vec<ProbedMap> = Vec::new();
    for windows in split.windows.chunks(BATCH) {
        asker.ask(&mut loader, windows, horizons, &mut |at, belief, blocks| {
            let named = evaluation.add(at, belief, blocks);
            // Clips come in their order at each step.
            if maps.len() == at {
                maps.push(ProbedMap { blocks: blocks.to_vec(), named });
            }
        })?;
        done += windows.len();
        watch(done, of);
    }
    Ok((evaluation, maps))
}

/// The ground truth of a dataset that has what a probe needs.
fn truth_of(dataset: &Dataset) -> Result<BlockTruth<'_>, EvaluateError> {
    let columns = [column::CAMERA, column::POSES, column::KINDS, column::COLOURS, column::ENTITY];
    let lacks = if is_of(dataset) { missing(dataset, &columns) } else { columns.to_vec() };
    if !lacks.is_empty() {
        return Err(EvaluateError::NoTruth { dataset: dataset.dir().to_owned(), columns: lacks.join(", ") });
    }
    BlockTruth::of(dataset, &columns)
}

/// Clips to count on, and others to fit on.
fn split_of(dataset: &Dataset, frames: usize, most: usize) -> Result<Split, EvaluateError> {
    let split = Split::of(dataset, frames, most)?;
    if split.fitted_windows.is_empty() {
        return Err(EvaluateError::Refused {
            dataset: dataset.dir().to_owned(),
            field: "the number of episodes that are long enough",
            value: "1".to_owned(),
            allowed: format!("2 or more of {frames} observations: what reads beliefs is fitted on others"),
        });
    }
    Ok(split)
}

/// What of a belief places are read from, in a room of `room` metres.
fn source(belief: &Belief, room: usize) -> Result<(Source, Shape), EvaluateError> {
    let colours = COLOURS.len();
    let shape = |reads, numbers: i64, side: usize| Shape { reads, numbers: numbers as usize, side, colours };
    let sizes: Vec<(&'static str, Vec<i64>)> = belief.parts().map(|(name, part)| (name, part.size())).collect();
    for (name, size) in &sizes {
        if let (&MAP, &[_, _, rows, columns, numbers]) = (name, size.as_slice())
            && rows == columns
            && rows % 2 == 1
        {
            return Ok((Source::Map, shape(Reads::Cells, numbers, rows as usize)));
        }
    }
    // As far as blocks can be from an agent in the room.
    let side = 2 * room - 1;
    let most = MOST_NUMBERS.min(MOST_SUMS / (colours * side * side));
    let vectors: Vec<_> = sizes.iter().filter(|(_, size)| size.len() == 2).collect();
    let numbers: i64 = vectors.iter().map(|(_, size)| size[1]).sum();
    if !(1..=most as i64).contains(&numbers) {
        let parts = sizes.iter().map(|(name, size)| format!("`{name}` {size:?}")).collect::<Vec<_>>();
        let parts = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
        return Err(EvaluateError::NoBelief { parts, most });
    }
    let names = vectors.into_iter().map(|(name, _)| *name).collect();
    Ok((Source::Vectors(names), shape(Reads::Vector, numbers, side)))
}

impl Asker<'_> {
    /// Watches the context of clips, imagines the rest, and hands out each belief `[belief]` at `steps` after the last frame that was seen,
    /// which increase, with the number of the step among them and where blocks are: clip by clip at each step.
    fn ask(
        &self,
        loader: &mut ClipLoader,
        windows: &[Window],
        steps: &[usize],
        take: &mut Take<'_>,
    ) -> Result<(), EvaluateError> {
        // A model need not be one that threads share.
        let Self { truth, shape, context, .. } = self;
        let blocks: Vec<Vec<Vec<Block>>> = windows
            .par_iter()
            .map(|&window| blocks_of(truth, *shape, *context, window, steps))
            .collect::<Result<_, _>>()?;
        let clip = loader.load(windows, self.context as i64)?;
        tch::no_grad(|| {
            let mut belief = self.model.start(clip.batch());
            for t in 0..clip.context {
                belief = self.model.observe(&belief, &clip.action(t), &clip.frame(t));
            }
            let mut imagined = 0;
            for (at, &step) in steps.iter().enumerate() {
                for step in imagined..step {
                    belief = self.model.imagine(&belief, &clip.action(clip.context + step as i64));
                }
                imagined = step;
                let beliefs = to_vec(&self.read(&belief));
                for ((belief, blocks), window) in beliefs.chunks_exact(self.shape.belief()).zip(&blocks).zip(windows) {
                    if let Some(&value) = belief.iter().find(|value| !value.is_finite()) {
                        let (episode, frame) = (self.truth.number(*window), window.start + self.context - 1 + step);
                        return Err(EvaluateError::NotFinite { episode, frame, ahead: step, value });
                    }
                    take(at, belief, &blocks[at]);
                }
            }
            Ok(())
        })
    }

    /// What places are read from: `[B, S, S, D]` or `[B, F]`.
    fn read(&self, belief: &Belief) -> Tensor {
        match &self.source {
            Source::Map => belief.part(MAP).amax([1i64], false),
            Source::Vectors(names) => {
                let parts: Vec<Tensor> = names.iter().map(|name| belief.part(name).to_kind(Kind::Float)).collect();
                Tensor::cat(&parts, 1)
            }
        }
    }
}

/// Where the blocks of a window are at each of `steps`.
fn blocks_of(
    truth: &BlockTruth<'_>,
    shape: Shape,
    context: usize,
    window: Window,
    steps: &[usize],
) -> Result<Vec<Vec<Block>>, EvaluateError> {
    let last = steps.last().copied().unwrap_or(0);
    let told = truth.told(window, context + last)?;
    let (colours, pixels, n) = (truth.colours(window)?, truth.world.image.pow(2), told.kinds.len());
    // What each frame shows, `[frames, N]`.
    let shown = told.entity.chunks_exact(pixels).map(|ids| {
        let mut shown = vec![false; n];
        ids.iter().filter(|&&id| id > 0).for_each(|&id| shown[usize::from(id) - 1] = true);
        shown
    });
    let shown: Vec<Vec<bool>> = shown.collect();
    let at = |step: &usize| {
        let now = context - 1 + step;
        let cell = |thing: usize, t: usize| {
            let [x, _, z] = told.poses[t * n + thing].place;
            shape.cell(told.agents[now].from_here([x, z]))
        };
        let block = |thing: usize| {
            let seen = (0..context).rev().find(|&t| shown[t][thing]);
            let known = match seen {
                None => Known::NeverSeen,
                Some(_) if shown[now][thing] => Known::InView,
                Some(_) => Known::OutOfView,
            };
            let last_seen = seen.and_then(|t| cell(thing, t));
            Block { colour: colours[thing], cell: cell(thing, now), known, last_seen }
        };
        (0..n).filter(|&thing| told.kinds[thing].is_some()).map(block).collect()
    };
    Ok(steps.iter().map(at).collect())
}
