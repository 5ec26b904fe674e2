//! A whole clip forwards and backwards: FloWM 3D's training step.
//!
//! The map goes by hand. Moving it is a permutation, whose adjoint is its inverse; only the cells in view take part in attention,
//! and the gradient of all others passes a step by as the map does. So autograd sees a graph for each step, of the cells in view
//! and the frame, and the graphs are run backwards one after another. What a step's graph keeps can be kept for all steps, or,
//! where `recompute` is set, made again from the map before it.

use rand::RngExt;
use simulators::rng::Rng;
use tch::{Kind, Tensor};

use super::model::Flowm3d;
use crate::belief::{Clip, WorldModel};
use crate::by_hand::{carry, inject};

/// Which steps of a clip write the true frame in place of the predicted one: one draw for each predicted step.
pub fn forced(probability: f64, clip: &Clip, rng: &mut Rng) -> Vec<bool> {
    (0..clip.steps()).map(|t| t >= clip.context && rng.random_bool(probability)).collect()
}

/// Mean squared error of the predicted frames (of the paper, and its code); its `backward` gives the gradients of all weights, which
/// were computed on the way. `forced` says of each step whether the true frame is written.
///
/// # Panics
/// If the clip does not fit the configuration, or has no frame to see or none to predict.
pub fn loss(model: &Flowm3d, clip: &Clip, forced: &[bool]) -> Tensor {
    assert!(clip.context >= 1 && clip.steps() > clip.context, "a clip has frames to see and frames to predict");
    let pass = Pass { model, clip, forced };
    let mut maps = vec![model.start(clip.batch()).part(super::part::MAP).shallow_clone()];
    let mut steps = Vec::new();
    let mut total = Tensor::zeros([], (Kind::Float, clip.frames.device()));
    for t in 0..clip.steps() {
        let map = &maps[t as usize];
        let step = if model.config.recompute { tch::no_grad(|| pass.step(map, t)) } else { pass.step(map, t) };
        if let Some(loss) = &step.loss {
            total += loss.detach();
        }
        maps.push(step.next());
        if !model.config.recompute {
            steps.push(step);
        }
    }
    let weights = pass.weights();
    let mut gradients: Vec<Tensor> = weights.iter().map(|weight| weight.detach().zeros_like()).collect();
    let mut after = None;
    for t in (0..clip.steps()).rev() {
        let map = &maps[t as usize];
        let step = steps.pop().unwrap_or_else(|| pass.step(map, t));
        after = Some(pass.back(&step, t, after, &mut gradients));
        maps.truncate(t as usize);
    }
    carry(&total, &weights, &gradients)
}

struct Pass<'a> {
    model: &'a Flowm3d,
    clip: &'a Clip,
    forced: &'a [bool],
}

/// One step, with the graphs of its way back.
struct Step {
    /// The map after its motion, a leaf.
    moved: Tensor,
    /// With its channels mixed.
    mixed: Tensor,
    /// What of it is in view, a leaf.
    cells: Tensor,
    /// This step's share of the loss, if it predicts.
    loss: Option<Tensor>,
    /// What is in view then, if that is ever asked for.
    written: Option<Tensor>,
    /// The map then, without a graph.
    next: Tensor,
}

impl Step {
    fn next(&self) -> Tensor {
        self.next.shallow_clone()
    }
}

fn leaf(x: &Tensor) -> Tensor {
    x.detach().set_requires_grad(true)
}

impl Pass<'_> {
    /// Of writing, drawing, mixing, in this order.
    fn weights(&self) -> Vec<&Tensor> {
        let model = self.model;
        model.writing_weights().iter().chain(model.drawing_weights()).chain(&model.mixing).collect()
    }

    /// From the map before step `t` on.
    fn step(&self, map: &Tensor, t: i64) -> Step {
        let (model, clip) = (self.model, self.clip);
        let (action, frame) = (clip.action(t), clip.frame(t));
        let moved = leaf(&model.moved(map, &action));
        let mixed = model.mixed(moved.shallow_clone());
        let cells = leaf(&model.seen(&mixed));
        let drawn = (t >= clip.context).then(|| model.drawn(&cells));
        let predicted = (clip.steps() - clip.context) as f64;
        let loss = drawn.as_ref().map(|drawn| drawn.mse_loss(&frame, tch::Reduction::Mean) / predicted);
        // What is predicted last is never written.
        let written = (t + 1 < clip.steps()).then(|| {
            let shown = drawn.filter(|_| !self.forced[t as usize]).unwrap_or(frame);
            model.written(&cells, &shown, &action)
        });
        let next = written
            .as_ref()
            .map_or_else(Tensor::default, |written| model.with_seen(&mixed.detach(), &written.detach()));
        Step { moved, mixed, cells, loss, written, next }
    }

    /// Through step `t`: takes the gradient of the map after it, if there is one, adds to those of the weights, gives that of the
    /// map before it.
    fn back(&self, step: &Step, t: i64, after: Option<Tensor>, gradients: &mut [Tensor]) -> Tensor {
        let model = self.model;
        let injected =
            step.written.as_ref().zip(after.as_ref()).map(|(written, after)| inject(written, &model.seen(after)));
        let (writes, draws) = (injected.is_some(), step.loss.is_some());
        let root = [step.loss.as_ref().map(Tensor::shallow_clone), injected].into_iter().flatten().reduce(|a, b| a + b);
        let root = root.expect("a step writes or predicts");
        let (writing, drawing) = (model.writing_weights(), model.drawing_weights());
        let mut inputs = vec![&step.cells];
        let mut places = Vec::new();
        if writes {
            inputs.extend(writing);
            places.extend(0..writing.len());
        }
        if draws {
            inputs.extend(drawing);
            places.extend(writing.len()..writing.len() + drawing.len());
        }
        let mut found = Tensor::run_backward(&[root], &inputs, false, false).into_iter();
        let cells = found.next().expect("a gradient for each input");
        let mut add = |place: usize, gradient: &Tensor| {
            let _ = gradients[place].g_add_(gradient);
        };
        for (place, gradient) in places.into_iter().zip(found) {
            add(place, &gradient);
        }
        // Out of view, the map was not changed.
        let around = after.unwrap_or_else(|| step.mixed.detach().zeros_like());
        let mixed = model.with_seen(&around, &cells);
        let moved = match &model.mixing {
            Some(weight) => {
                let found = Tensor::run_backward(&[inject(&step.mixed, &mixed)], &[&step.moved, weight], false, false);
                add(writing.len() + drawing.len(), &found[1]);
                found[0].shallow_clone()
            }
            None => mixed,
        };
        model.moved_back(&moved, &self.clip.action(t))
    }
}
