//! A whole clip forwards and backwards without a tape: FloWM's training step on a CPU.
//!
//! Autograd would keep, copy and add maps at every step. Here the maps live in buffers that are kept from one update to
//! the next, everything between two convolutions is one pass over memory ([`super::kernels`]), a gradient goes back through
//! a convolution of the torus as a convolution with the turned weights, and the weights' own gradient is summed as it
//! passes ([`super::weight_gradient`]). Autograd does the small encoder and decoder, a graph for each prediction, run
//! backwards one after another; gradients enter such a graph as the factor of a sum.
//!
//! With `S_0 = 0` and `n` counting writes, `S_{n+1} = relu(recurrent * S_n + write(u_n))`, `u_n` the encoded frame.
//! A prediction reads `S_n` before the write (paper) or `S_{n+1}` after it (code).

use tch::{Kind, Tensor};

use super::config::WriteOrder;
use super::kernels::{Origin, ReadGradient, advance, read, reverse};
use super::model::{Flowm, circular_conv, decode};
use super::weight_gradient::WeightGradient;
use crate::belief::Clip;
use crate::by_hand::{carry, inject};
use crate::raw::Element;

/// Maps kept between updates, so that their memory is touched for the first time only once.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// `S_1, S_2, ...` with halos, `[B*V, W+2, W+2, C]`.
    maps: Vec<Tensor>,
}

impl Workspace {
    fn reserve(&mut self, count: usize, size: [i64; 4], kind: Kind) {
        if self.maps.first().is_none_or(|map| map.size() != size || map.kind() != kind) {
            self.maps.clear();
        }
        while self.maps.len() < count {
            self.maps.push(Tensor::zeros(size, (kind, tch::Device::Cpu)));
        }
    }
}

/// One prediction, kept for its backward pass.
struct Predicted {
    /// `[B, w, w, C]`, what was read; a leaf.
    strongest: Tensor,
    winner: Tensor,
    origins: Vec<Origin>,
    /// This step's share of the loss.
    loss: Tensor,
    /// `[B, w, w, C]`, the prediction encoded for writing.
    encoded: Tensor,
}

/// A leaf to differentiate with respect to.
fn leaf(x: &Tensor) -> Tensor {
    x.detach().set_requires_grad(true)
}

/// `[N, W+2, W+2, I]` with halo, `[O, I, 3, 3]` -> `[N, W, W, O]`; no graph.
fn convolve(padded: &Tensor, weight: &Tensor) -> Tensor {
    let nchw = padded.permute([0, 3, 1, 2]);
    tch::no_grad(|| nchw.conv2d(weight, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1)).permute([0, 2, 3, 1])
}

fn channels_last(nchw: &Tensor) -> Tensor {
    nchw.permute([0, 2, 3, 1]).contiguous()
}

impl Flowm {
    /// Mean squared error of the predicted frames (§3.5); its `backward` gives the gradients of all weights, which were
    /// computed on the way.
    ///
    /// Equal to [`Flowm::taped_loss`] up to rounding. On the CPU, for the flow cell.
    ///
    /// # Panics
    /// If the clip does not fit the configuration (window, channels), or has no frame to predict.
    pub(crate) fn unrolled_loss<T: Element>(&self, clip: &Clip) -> Tensor {
        let pass = Pass::<T>::new(self, clip);
        pass.run()
    }
}

/// One forward and backward pass over a clip.
struct Pass<'a, T> {
    model: &'a Flowm,
    clip: &'a Clip,
    origins: Vec<Vec<Origin>>,
    input: Tensor,
    /// In the map's kind.
    recurrent: Tensor,
    /// The same, with inputs and outputs exchanged and the taps turned: what takes gradients back.
    turned: Tensor,
    decoder: Vec<Tensor>,
    kind: std::marker::PhantomData<T>,
}

impl<'a, T: Element> Pass<'a, T> {
    fn new(model: &'a Flowm, clip: &'a Clip) -> Self {
        assert!(clip.context >= 1 && clip.steps() > clip.context, "a clip has frames to see and frames to predict");
        let recurrent = model.recurrent.detach().to_kind(T::KIND);
        Self {
            model,
            clip,
            origins: model.origins(clip),
            input: leaf(&model.input),
            turned: recurrent.transpose(0, 1).flip([2, 3]).contiguous(),
            recurrent,
            decoder: model.decoder.iter().map(leaf).collect(),
            kind: std::marker::PhantomData,
        }
    }

    fn run(&self) -> Tensor {
        let config = &self.model.config;
        let g = self.model.geometry(self.clip.batch());
        let (context, steps) = (self.clip.context as usize, self.clip.steps() as usize);
        let paper = config.write_order == WriteOrder::Paper;
        // After the last prediction of `paper` order nothing is written any more.
        let writes = if paper { steps - 1 } else { steps };
        let mut workspace = self.model.workspace.borrow_mut();
        let side = config.world + 2;
        workspace.reserve(writes, [(g.batch * g.velocities) as i64, side, side, config.hidden], T::KIND);
        let maps = &mut workspace.maps;

        // The whole context is encoded at once: [Tc * B, C, w, w] -> [Tc, B, w, w, C].
        let seen = self.clip.frames.slice(1, 0, self.clip.context, 1).transpose(0, 1).flatten(0, 1);
        let seen = channels_last(&circular_conv(&seen, &self.input));
        let seen = seen.view([self.clip.context, g.batch as i64, config.window, config.window, config.hidden]);

        let mut predicted: Vec<Predicted> = Vec::with_capacity(steps - context);
        for n in 0..steps {
            let reads = n >= context;
            if reads && paper {
                let encoded = self.predict(&maps[n - 1], n, predicted.len() + 1 == steps - context);
                predicted.push(encoded);
            }
            if n < writes {
                let encoded = match (n < context, paper) {
                    (true, _) => seen.get(n as i64),
                    (false, true) => predicted[n - context].encoded.shallow_clone(),
                    (false, false) if n == context => seen.get(context as i64 - 1),
                    (false, false) => predicted[n - context - 1].encoded.shallow_clone(),
                };
                let pre = (n > 0).then(|| convolve(&maps[n - 1], &self.recurrent));
                advance::<T>(&g, pre.as_ref(), &encoded.detach(), &self.origins[n], &mut maps[n]);
            }
            if reads && !paper {
                let encoded = self.predict(&maps[n], n, n + 1 == steps);
                predicted.push(encoded);
            }
        }
        let loss = predicted.iter().map(|p| p.loss.detach()).reduce(|a, b| a + b).expect("at least one prediction");
        let gradients = self.reverse_all(&maps[..writes], &seen, predicted, paper);
        carry(&loss, &self.weights(), &gradients.0)
    }

    /// The model's own weights, in the order of [`Gradients`].
    fn weights(&self) -> Vec<&Tensor> {
        [&self.model.input, &self.model.recurrent].into_iter().chain(&self.model.decoder).collect()
    }

    /// Reads `map` at step `n`, decodes, compares with the truth, and encodes what will be written.
    fn predict(&self, map: &Tensor, n: usize, last: bool) -> Predicted {
        let g = self.model.geometry(self.clip.batch());
        let size = [g.batch as i64, self.model.config.window, self.model.config.window, self.model.config.hidden];
        let mut strongest = Tensor::empty(size, (Kind::Float, map.device()));
        let mut winner = Tensor::empty(size, (Kind::Uint8, map.device()));
        let origins = &self.origins[n];
        read::<T>(&g, map, origins, &mut strongest, &mut winner);
        let strongest = strongest.set_requires_grad(true);
        let picture = decode(&strongest.permute([0, 3, 1, 2]), &self.decoder);
        let predicted_steps = (self.clip.steps() - self.clip.context) as f64;
        let loss = picture.mse_loss(&self.clip.frame(n as i64), tch::Reduction::Mean) / predicted_steps;
        // What is predicted last is never written.
        let encoded = if last { Tensor::default() } else { channels_last(&circular_conv(&picture, &self.input)) };
        Predicted { strongest, winner, origins: origins.clone(), loss, encoded }
    }

    /// Back through everything `run` did; the gradients of the weights.
    fn reverse_all(&self, maps: &[Tensor], seen: &Tensor, mut predicted: Vec<Predicted>, paper: bool) -> Gradients {
        let config = &self.model.config;
        let g = self.model.geometry(self.clip.batch());
        let (b, planes) = (g.batch as i64, (g.batch * g.velocities) as i64);
        let context = self.clip.context as usize;
        let mut gradients = Gradients::zeros(&self.weights());
        let seen_gradients = Tensor::zeros_like(seen);
        let picture_size = [b, config.window, config.window, config.hidden];
        let padded_size = [planes, config.world + 2, config.world + 2, config.hidden];
        let mut pre_gradient = Tensor::empty(padded_size, (T::KIND, maps[0].device()));
        let mut through: Option<Tensor> = None; // gradient of `S_{n+1}` through the convolution after it
        let mut written: Option<Tensor> = None; // gradient of what the prediction in hand wrote
        let mut readout = None; // gradient of `S_{n+1}` through a read of it: (gradient, winner, origins)
        let mut back_through = |p: Predicted, written: &mut Option<Tensor>| {
            let root = match written.take() {
                Some(gradient) => p.loss + inject(&p.encoded, &gradient),
                None => p.loss,
            };
            let mut inputs = vec![&p.strongest];
            inputs.extend(&self.decoder);
            if p.encoded.defined() {
                inputs.push(&self.input);
            }
            let mut found = Tensor::run_backward(&[root], &inputs, false, false).into_iter();
            let strongest = found.next().expect("one gradient for each input");
            for (i, gradient) in (2..gradients.0.len()).chain([0]).zip(found) {
                gradients.add(i, &gradient);
            }
            (strongest.contiguous(), p.winner, p.origins)
        };
        let mut recurrent = WeightGradient::zero::<T>(&g);
        if paper {
            // The last prediction read the last map.
            readout = predicted.pop().map(|p| back_through(p, &mut written));
        }
        for n in (0..maps.len()).rev() {
            if !paper && n >= context {
                readout = predicted.pop().map(|p| back_through(p, &mut written));
            }
            let mut seen_gradient = Tensor::empty(picture_size, (Kind::Float, maps[0].device()));
            let read = readout.as_ref().map(|(gradient, winner, origins): &(Tensor, Tensor, Vec<Origin>)| {
                ReadGradient { gradient, winner, origins }
            });
            reverse::<T>(&g, through.as_ref(), read, &maps[n], &self.origins[n], &mut pre_gradient, &mut seen_gradient);
            readout = None;
            let of_context = if paper { n < context } else { n <= context };
            if of_context {
                let frame = n.min(context - 1) as i64;
                let _ = seen_gradients.get(frame).g_add_(&seen_gradient);
            } else {
                written = Some(seen_gradient);
            }
            if paper && n >= context {
                readout = predicted.pop().map(|p| back_through(p, &mut written));
                // This prediction was written at `n` and read from the map before it.
            }
            if n > 0 {
                recurrent.add(&g, &maps[n - 1], &pre_gradient, &self.recurrent);
                through = Some(convolve(&pre_gradient, &self.turned));
            }
        }
        gradients.add(1, &recurrent.total(&g));
        let found = Tensor::run_backward(&[inject(seen, &seen_gradients)], &[&self.input], false, false);
        gradients.add(0, &found[0]);
        gradients
    }
}

/// One `f32` gradient for each weight: input, recurrent, decoder.
struct Gradients(Vec<Tensor>);

impl Gradients {
    fn zeros(weights: &[&Tensor]) -> Self {
        Self(weights.iter().map(|w| Tensor::zeros_like(&w.detach())).collect())
    }
    fn add(&mut self, i: usize, gradient: &Tensor) {
        let _ = self.0[i].g_add_(gradient);
    }
}
