//! Forward and reverse passes of networks on the CPU, without libtorch's tape.
//!
//! Rows are cut into shards, and each goes through all layers on one thread, libtorch's products included: threads meet once a
//! pass, not twice an operation. A reverse pass leaves behind, layer by layer, what the products were given and the gradients
//! of what they gave. Gradients of weights are made of those at the end, all steps of a recurrence in one product.

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::kernels::{self, Padded, Parameters, Stats};
use super::{Between, Layer, Numbers};
use crate::raw::{self, Bf16, slice, slice_mut};

/// Rows of a shard at least, and shards at most: each has gradients of its own.
const SHARD: [i64; 2] = [128, 4];

/// Networks that are ready to be run: their weights as the products want them.
pub struct Passes {
    layers: Vec<Ready>,
    /// Whether rows are shared among threads.
    shared: bool,
}

struct Ready {
    /// `[K, in, out]`; of a last layer that nothing follows in single precision, else in the numbers of the passes.
    weight: Tensor,
    /// `[K, 1, out]`.
    bias: Tensor,
    norm: Option<(Between, [Tensor; 2])>,
}

/// What the way back through a run needs, and what it leaves.
pub struct Run {
    passes: Passes,
    /// One for each shard of rows.
    tapes: Vec<Tape>,
}

/// What a run leaves for the way back, and the way back for the gradients.
#[derive(Default)]
struct Tape {
    /// `[K, B, in]` of each layer.
    inputs: Vec<Tensor>,
    /// Of each layer that something follows: what the product gave, `[K, B, out]`, and `[K * B]` statistics.
    between: Vec<(Tensor, Vec<Stats>)>,
    /// After the way back, last layer first: gradients with respect to what the product gave, `[K, B, out]`, and sums over
    /// rows for bias, gain and shift of each network.
    bars: Vec<(Tensor, Vec<kernels::Sums>)>,
}

/// Gradients of all parameters, in their order.
pub type Gradients = Vec<Tensor>;

impl Passes {
    pub(super) fn new(layers: &[Layer], numbers: Numbers) -> Self {
        let ready = |layer: &Layer| {
            let kind = if layer.norm.is_some() { numbers.kind() } else { Kind::Float };
            let norm = layer.norm.as_ref().map(|(between, parameters)| (*between, parameters.each_ref().map(detached)));
            Ready { weight: layer.weight.detach().to_kind(kind), bias: layer.bias.detach(), norm }
        };
        Self { layers: layers.iter().map(ready).collect(), shared: true }
    }

    /// What the networks make of `x` `[K, B, in]`: `[K, B, out]` in single precision, and what the way back needs.
    ///
    /// # Panics
    /// If `x` is not on the CPU, or of other widths.
    pub fn run(&self, x: &Tensor) -> (Tensor, Run) {
        let items = tch::no_grad(|| self.shards(x)).into_iter().map(|x| (self.shallow_clone(), x)).collect();
        let (results, tapes): (Vec<_>, Vec<_>) =
            side_by_side(items, |(passes, x)| passes.run_shard(&x)).into_iter().unzip();
        (joined(results), Run { passes: self.shallow_clone(), tapes })
    }

    /// Rows of `x` `[K, B, w]` as they are shared among threads.
    fn shards(&self, x: &Tensor) -> Vec<Tensor> {
        let count = if self.shared { shards(x.size()[1]) } else { 1 };
        if count == 1 { vec![x.shallow_clone()] } else { x.tensor_split(count, 1) }
    }

    /// The same networks, for another thread.
    fn shallow_clone(&self) -> Self {
        let clone = |layer: &Ready| Ready {
            weight: layer.weight.shallow_clone(),
            bias: layer.bias.shallow_clone(),
            norm: layer.norm.as_ref().map(|(between, parameters)| (*between, parameters.each_ref().map(detached))),
        };
        Self { layers: self.layers.iter().map(clone).collect(), shared: self.shared }
    }

    /// The same networks, to be run on one thread, another one: whoever has cut rows already does not want them cut again.
    #[must_use]
    pub fn on_one_thread(&self) -> Self {
        Self { shared: false, ..self.shallow_clone() }
    }

    fn run_shard(&self, x: &Tensor) -> (Tensor, Tape) {
        let mut tape = Tape::default();
        let mut x = x.shallow_clone();
        for layer in &self.layers {
            let input = in_kind(&x, layer.weight.kind());
            x = if let Some((between, norm)) = &layer.norm {
                let pre = product(&input, &layer.weight);
                let (out, stats) = forward(*between, &pre, &layer.bias, norm);
                tape.between.push((pre, stats));
                out
            } else {
                layer.bias.baddbmm(&input, &layer.weight, 1.0, 1.0)
            };
            tape.inputs.push(input);
        }
        (x.to_kind(Kind::Float), tape)
    }

    fn pull_back_shard(&self, tape: &mut Tape, bar: &Tensor, wants_x: bool) -> Option<Tensor> {
        let mut bar = bar.copy().contiguous();
        for (number, layer) in self.layers.iter().enumerate().rev() {
            bar = bar.to_kind(layer.weight.kind());
            let sums = layer.norm.as_ref().map(|(between, norm)| {
                let (pre, stats) = tape.between.pop().expect("one for each layer that something follows");
                backward(*between, &pre, &stats, &layer.bias, norm, &bar)
            });
            let before = (number > 0 || wants_x).then(|| bar.bmm(&layer.weight.transpose(1, 2)));
            tape.bars.push((bar, sums.unwrap_or_default()));
            bar = before?;
        }
        Some(bar.to_kind(Kind::Float))
    }

    /// Gradients of the parameters after the ways back of all steps, in the numbers of the products.
    fn gradients_of_shard(&self, mut steps: Vec<Tape>) -> Gradients {
        let mut gradients = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let (mut inputs, mut bars, mut sums) = (Vec::new(), Vec::new(), Vec::new());
            for tape in &mut steps {
                inputs.push(tape.inputs[number].shallow_clone());
                let (bar, of_vectors) = tape.bars.pop().expect("tapes whose way back was gone");
                bars.push(bar);
                sums.push(of_vectors);
            }
            let (inputs, bars) = (joined(inputs), joined(bars));
            gradients.push(product(&inputs.transpose(1, 2), &bars));
            if layer.norm.is_none() {
                gradients.push(bars.sum_dim_intlist([1i64].as_slice(), true, Kind::Float));
                continue;
            }
            for of in 0..3 {
                gradients.push(total(&sums, of).view_as(&layer.bias));
            }
        }
        gradients
    }
}

impl Run {
    /// What the first layer was given, `[K, B, in]`, in the numbers of the passes.
    pub fn input(&self) -> Tensor {
        joined(self.tapes.iter().map(|tape| tape.inputs[0].shallow_clone()).collect())
    }

    /// The way back through [`Passes::run`], given the gradient with respect to the result, `bar` `[K, B, out]`. Returns that
    /// with respect to `x`, `[K, B, in]`, if it is wanted.
    ///
    /// # Panics
    /// If the shape is that of other networks, or the way back was gone already.
    pub fn pull_back(&mut self, bar: &Tensor, wants_x: bool) -> Option<Tensor> {
        let bars = tch::no_grad(|| self.passes.shards(bar));
        let tapes = std::mem::take(&mut self.tapes);
        assert_eq!(tapes.len(), bars.len(), "a gradient of as many rows as were run");
        let items = tapes.into_iter().zip(bars).map(|(tape, bar)| (self.passes.shallow_clone(), tape, bar)).collect();
        let pulled = side_by_side(items, |(passes, mut tape, bar)| {
            let of_x = passes.pull_back_shard(&mut tape, &bar, wants_x);
            (of_x, tape)
        });
        let (of_x, tapes): (Vec<_>, Vec<_>) = pulled.into_iter().unzip();
        self.tapes = tapes;
        let of_x: Option<Vec<_>> = of_x.into_iter().collect();
        of_x.map(joined)
    }

    /// Gradients of the parameters after the way back.
    ///
    /// # Panics
    /// If the way back was not gone.
    #[must_use]
    pub fn gradients(self) -> Gradients {
        gradients(vec![self])
    }
}

/// Gradients of the parameters after the ways back of all `runs`, steps with the same networks, summed over steps and rows.
///
/// # Panics
/// If there is no run, or one whose way back was not gone.
#[must_use]
pub fn gradients(runs: Vec<Run>) -> Gradients {
    let passes = runs[0].passes.shallow_clone();
    let mut shards: Vec<(Passes, Vec<Tape>)> = Vec::new();
    for (shard, tape) in runs.into_iter().flat_map(|run| run.tapes.into_iter().enumerate()) {
        if shard == shards.len() {
            shards.push((passes.shallow_clone(), Vec::new()));
        }
        shards[shard].1.push(tape);
    }
    let found = side_by_side(shards, |(passes, steps)| passes.gradients_of_shard(steps));
    let parts = |number: usize| found.iter().map(|of_shard| &of_shard[number]).collect::<Vec<_>>();
    (0..found[0].len()).map(|number| raw::sum(&parts(number))).collect()
}

/// `x` `[K, B, w]` in other numbers; rows that all networks share are rounded once.
fn in_kind(x: &Tensor, kind: Kind) -> Tensor {
    if x.stride()[0] == 0 { x.narrow(0, 0, 1).to_kind(kind).expand_as(x) } else { x.to_kind(kind) }
}

/// `a` `[K, m, n]` times `b` `[K, n, p]`: one product after another where all have the same `a`, of which libtorch would make copies.
fn product(a: &Tensor, b: &Tensor) -> Tensor {
    let count = b.size()[0];
    if count == 1 || a.stride()[0] != 0 {
        return a.bmm(b);
    }
    let all = b.new_empty([count, a.size()[1], b.size()[2]], (b.kind(), b.device()));
    for k in 0..count {
        let _ = a.get(0).mm_out(&all.get(k), &b.get(k));
    }
    all
}

/// In how many shards so many rows are cut, however many threads there are.
#[must_use]
pub fn shards(rows: i64) -> i64 {
    let [least, most] = SHARD;
    (rows / least).clamp(1, most)
}

/// Rows that belong together, one after another.
fn joined(mut parts: Vec<Tensor>) -> Tensor {
    if parts.len() == 1 { parts.remove(0) } else { tch::no_grad(|| Tensor::cat(&parts, 1)) }
}

/// Does `work` on each of `items`, as many at a time as there are threads, with libtorch keeping to the thread it is called
/// on. Results are in the order of the items.
pub fn side_by_side<I: Send, O: Send>(items: Vec<I>, work: impl Fn(I) -> O + Sync) -> Vec<O> {
    let threads = tch::get_num_threads();
    let alone = |item| {
        tch::set_num_threads(1);
        tch::no_grad(|| work(item))
    };
    let results = if items.len() == 1 {
        items.into_iter().map(alone).collect()
    } else {
        items.into_par_iter().with_max_len(1).map(alone).collect()
    };
    tch::set_num_threads(threads);
    results
}

fn detached(tensor: &Tensor) -> Tensor {
    tensor.detach()
}

/// The sum over steps of bias, gain or shift of every network, flat.
fn total(steps: &[Vec<kernels::Sums>], of: usize) -> Tensor {
    let mut sum: Vec<f32> = steps[0].iter().flat_map(|sums| sums[of].iter().copied()).collect();
    for step in &steps[1..] {
        sum.iter_mut().zip(step.iter().flat_map(|sums| &sums[of])).for_each(|(sum, x)| *sum += x);
    }
    Tensor::from_slice(&sum)
}

/// `[K, B, w]` of a tensor.
fn sizes(tensor: &Tensor) -> [usize; 3] {
    let [k, b, w] = tensor.size()[..] else { panic!("three dimensions, not {:?}", tensor.size()) };
    [k as usize, b as usize, w as usize]
}

/// Those of network `k`.
fn parameters(bias: &Tensor, [gain, shift]: &[Tensor; 2], k: usize) -> Parameters {
    let of = |tensor: &Tensor| {
        let own = tensor.get(k as i64);
        Padded::new(slice::<f32>(&own, own.numel()))
    };
    Parameters { bias: of(bias), gain: of(gain), shift: of(shift) }
}

/// What becomes of what a product gave.
fn forward(between: Between, pre: &Tensor, bias: &Tensor, norm: &[Tensor; 2]) -> (Tensor, Vec<Stats>) {
    let [count, rows, width] = sizes(pre);
    let out = pre.empty_like();
    let mut stats = vec![[0.0; 2]; count * rows];
    for (k, stats) in stats.chunks_exact_mut(rows).enumerate() {
        let (parameters, pre, mut out) = (parameters(bias, norm, k), pre.get(k as i64), out.get(k as i64));
        let len = rows * width;
        if pre.kind() == Kind::Float {
            let out = slice_mut::<f32>(&mut out, len);
            kernels::forward(between, &parameters, width, slice(&pre, len), out, stats);
        } else {
            let out = slice_mut::<Bf16>(&mut out, len);
            kernels::forward(between, &parameters, width, slice(&pre, len), out, stats);
        }
    }
    (out, stats)
}

/// The way back through [`forward`]: overwrites `bar` with the gradient with respect to what the product gave.
fn backward(
    between: Between,
    pre: &Tensor,
    stats: &[Stats],
    bias: &Tensor,
    norm: &[Tensor; 2],
    bar: &Tensor,
) -> Vec<kernels::Sums> {
    let [_, rows, width] = sizes(pre);
    let each = |(k, stats)| {
        let (parameters, pre, mut bar) = (parameters(bias, norm, k), pre.get(k as i64), bar.get(k as i64));
        let len = rows * width;
        if pre.kind() == Kind::Float {
            kernels::backward(between, &parameters, width, slice(&pre, len), stats, slice_mut::<f32>(&mut bar, len))
        } else {
            kernels::backward(between, &parameters, width, slice(&pre, len), stats, slice_mut::<Bf16>(&mut bar, len))
        }
    };
    stats.chunks_exact(rows).enumerate().map(each).collect()
}
