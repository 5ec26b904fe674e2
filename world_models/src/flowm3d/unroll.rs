//! A whole clip forwards and backwards: FloWM 3D's training step.
//!
//! The map goes by hand. Moving it is a permutation, whose adjoint is its inverse; only the cells in view take part in attention,
//! and the gradient of all others passes a step by as the map does. So autograd sees a graph for each step, of the cells in view
//! and the frame, and the graphs are run backwards one after another. What a step's graph keeps can be kept for all steps, or,
//! where `recompute` is set, made again from the map before it.

use rand::RngExt;
use rand::seq::index::sample;
use simulators::rng::Rng;
use tch::{Kind, Tensor};

use super::config::Flowm3dConfig;
use super::model::Flowm3d;
use crate::belief::{Clip, WorldModel};
use crate::by_hand::{carry, inject};

/// What is done in one step of a clip, beside writing what is seen.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Whether the true frame is written in place of the predicted one.
    forced: bool,
    /// Whether its frame is drawn, if it is one to predict, or one to draw again.
    draws: bool,
}

/// As the model is asked: everything is drawn, and nothing is forced.
pub fn alone(clip: &Clip) -> Vec<Turn> {
    vec![Turn { forced: false, draws: true }; clip.steps() as usize]
}

/// As it is trained: a toss for each predicted step says whether it is forced, and `draws` of them are drawn, and of those seen.
pub fn by_chance(config: &Flowm3dConfig, clip: &Clip, rng: &mut Rng) -> Vec<Turn> {
    let mut turns = alone(clip);
    let (seen, predicted) = turns.split_at_mut(clip.context as usize);
    for turn in predicted.iter_mut() {
        turn.forced = rng.random_bool(config.teacher_forcing);
    }
    for turns in [seen, predicted] {
        let draws = config.draws as usize;
        if (1..turns.len()).contains(&draws) {
            let drawn = sample(rng, turns.len(), draws).into_vec();
            for (at, turn) in turns.iter_mut().enumerate() {
                turn.draws = drawn.contains(&at);
            }
        }
    }
    turns
}

/// Mean squared error of the predicted frames (of the paper, and its code), and `reconstruction` times that of the seen frames as
/// they are drawn once they are written; its `backward` gives the gradients of all weights, which were computed on the way.
/// `turns` says what is done in each step.
///
/// # Panics
/// If the clip does not fit the configuration, or has no frame to see or none to predict.
pub fn loss(model: &Flowm3d, clip: &Clip, turns: &[Turn]) -> Tensor {
    assert!(clip.context >= 1 && clip.steps() > clip.context, "a clip has frames to see and frames to predict");
    let pass = Pass { model, clip, turns };
    let mut maps = vec![model.start(clip.batch()).part(super::part::MAP).shallow_clone()];
    let mut looks = Vec::new();
    let mut total = Tensor::zeros([], (Kind::Float, clip.frames.device()));
    for t in 0..clip.steps() {
        let mixed = model.advanced(&maps[t as usize], &clip.action(t));
        let look = if model.config.recompute { tch::no_grad(|| pass.look(&mixed, t)) } else { pass.look(&mixed, t) };
        if let Some(loss) = &look.loss {
            total += loss.detach();
        }
        maps.push(match &look.written {
            Some(written) => model.with_seen(&mixed, &written.detach()),
            None => mixed,
        });
        if !model.config.recompute {
            looks.push(look);
        }
    }
    let weights = pass.weights();
    let mut gradients: Vec<Tensor> = weights.iter().map(|weight| weight.detach().zeros_like()).collect();
    let mut after = None;
    for t in (0..clip.steps()).rev() {
        let map = &maps[t as usize];
        let look = looks.pop().unwrap_or_else(|| pass.look(&model.advanced(map, &clip.action(t)), t));
        after = Some(pass.back(&look, map, t, after, &mut gradients));
        maps.truncate(t as usize);
    }
    carry(&total, &weights, &gradients)
}

struct Pass<'a> {
    model: &'a Flowm3d,
    clip: &'a Clip,
    turns: &'a [Turn],
}

/// What happens in view in one step, with the graph of its way back.
struct Look {
    /// What is in view before anything is written, a leaf.
    cells: Tensor,
    /// This step's share of the loss: of what is predicted, or of what is drawn again.
    loss: Option<Tensor>,
    /// What is in view then, if something is written and ever asked for.
    written: Option<Tensor>,
}

fn leaf(x: &Tensor) -> Tensor {
    x.detach().set_requires_grad(true)
}

impl Pass<'_> {
    /// Of writing, drawing, mixing, in this order.
    fn weights(&self) -> Vec<&Tensor> {
        let model = self.model;
        model.writing_weights().iter().chain(model.drawing_weights()).chain(model.mixing_weights()).collect()
    }

    /// How many frames are drawn, of those that are seen or of those that are predicted.
    fn drawings(&self, seen: bool) -> usize {
        let (before, after) = self.turns.split_at(self.clip.context as usize);
        if seen { before } else { after }.iter().filter(|turn| turn.draws).count()
    }

    /// Step `t`, from the map on that is before looking.
    fn look(&self, mixed: &Tensor, t: i64) -> Look {
        let (model, clip, frame) = (self.model, self.clip, self.clip.frame(t));
        let cells = leaf(&model.seen(mixed));
        let (Turn { forced, draws }, seen) = (self.turns[t as usize], t < clip.context);
        let drawn = (draws && !seen).then(|| model.drawn(&cells));
        let shown = if forced { &frame } else { drawn.as_ref().unwrap_or(&frame) };
        // What is predicted last is never asked for.
        let writes = t + 1 < clip.steps() && (seen || forced || model.config.feedback);
        let written = writes.then(|| model.written(&cells, shown, &clip.action(t)));
        let weight = model.config.reconstruction;
        let share = |drawn: &Tensor| drawn.mse_loss(&frame, tch::Reduction::Mean) / self.drawings(seen) as f64;
        let redrawn = written.as_ref().filter(|_| draws && seen && weight > 0.0).map(|written| model.drawn(written));
        let loss = drawn.map(|drawn| share(&drawn)).or_else(|| redrawn.map(|redrawn| share(&redrawn) * weight));
        Look { cells, loss, written }
    }

    /// Back through step `t`, which began with `map`: takes the gradient of the map after it, if there is one, adds to the
    /// gradients of the weights, gives that of `map`.
    fn back(&self, look: &Look, map: &Tensor, t: i64, after: Option<Tensor>, gradients: &mut [Tensor]) -> Tensor {
        let model = self.model;
        let injected =
            look.written.as_ref().zip(after.as_ref()).map(|(written, after)| inject(written, &model.seen(after)));
        let (writes, draws) = (injected.is_some(), look.loss.is_some());
        let root = [look.loss.as_ref().map(Tensor::shallow_clone), injected].into_iter().flatten().reduce(|a, b| a + b);
        let around = after.unwrap_or_else(|| map.zeros_like());
        let Some(root) = root else { return self.moved_back(&around, map, t, gradients) };
        let (writing, drawing) = (model.writing_weights(), model.drawing_weights());
        let mut inputs = vec![&look.cells];
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
        for (place, gradient) in places.into_iter().zip(found) {
            let _ = gradients[place].g_add_(&gradient);
        }
        // Out of view, the map was not changed; in view neither, where nothing was written.
        let cells = if writes { cells } else { cells + model.seen(&around) };
        self.moved_back(&model.with_seen(&around, &cells), map, t, gradients)
    }

    /// Back through the motion that step `t` begins with.
    fn moved_back(&self, mixed: &Tensor, map: &Tensor, t: i64, gradients: &mut [Tensor]) -> Tensor {
        let (before, mixing) = self.model.advanced_back(map, &self.clip.action(t), mixed);
        let first = self.model.writing_weights().len() + self.model.drawing_weights().len();
        for (place, gradient) in (first..).zip(&mixing) {
            let _ = gradients[place].g_add_(gradient);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::RngExt;
    use simulators::rng::{Purpose, Seed, stream};
    use tch::{Device, Kind, Reduction, nn};

    use super::*;
    use crate::belief::roll_out;
    use crate::flowm3d::{ACTIONS, Flowm3dConfig, Mixing};

    #[test]
    fn what_is_drawn_again_counts_beside_what_is_predicted() {
        crate::libtorch::set_threads(1);
        let config = Flowm3dConfig {
            window: 8,
            patch: 4,
            map_side: 5,
            hidden: 8,
            heads: 2,
            encoder_depth: 1,
            decoder_depth: 1,
            mixing: Mixing::Corrected,
            reconstruction: 0.5,
            ..Default::default()
        };
        let vs = nn::VarStore::new(Device::Cpu);
        let model = Flowm3d::new(&vs.root(), &config, Seed(3));
        let mut rng = stream(Seed(4), Purpose::World, 0);
        let mut numbers = |count: i64| -> Vec<f32> { (0..count).map(|_| rng.random_range(0.0..1.0)).collect() };
        let frames = Tensor::from_slice(&numbers(2 * 5 * 3 * 64)).view([2, 5, 3, 8, 8]);
        let actions = Tensor::eye(ACTIONS, (Kind::Float, Device::Cpu)).unsqueeze(0).repeat([2, 1, 1]);
        let clip = Clip { frames, actions, context: 3 };
        let gradients = |loss: &Tensor| {
            vs.variables().into_values().for_each(|mut weight| weight.zero_grad());
            loss.backward();
            vs.variables().into_iter().map(|(name, weight)| (name, weight.grad().copy())).collect::<BTreeMap<_, _>>()
        };

        let mut belief = model.start(2);
        let mut expected = roll_out(&model, &clip).mse_loss(&clip.frames.narrow(1, 3, 2), Reduction::Mean);
        for t in 0..3 {
            belief = model.observe(&belief, &clip.action(t), &clip.frame(t));
            let redrawn = model.drawn(&model.seen(belief.part(super::super::part::MAP)));
            expected += redrawn.mse_loss(&clip.frame(t), Reduction::Mean) * (0.5 / 3.0);
        }
        let found = model.loss(&clip);
        let (value, wanted) = (found.double_value(&[]), expected.double_value(&[]));
        assert!((value / wanted - 1.0).abs() < 1e-5, "{value}, not {wanted}");
        for ((name, found), (_, expected)) in gradients(&found).into_iter().zip(gradients(&expected)) {
            let largest = expected.abs().max().double_value(&[]).max(1e-4);
            let error = (found - expected).abs().max().double_value(&[]);
            assert!(error < 1e-4 * largest, "{name} differs by {error} of {largest}");
        }
    }
}
