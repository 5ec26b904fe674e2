//! Forward and reverse passes of networks on the CPU, without libtorch's tape.
//!
//! Rows are cut into shards, and each goes through all layers on one thread, libtorch's products included: threads meet once a
//! pass, not twice an operation. A reverse pass leaves behind, layer by layer, what the products were given and the gradients
//! of what they gave. Gradients of weights are made of those at the end, of all steps of a recurrence and all rows at once.

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::kernels::{self, Padded, Parameters, Stats};
use super::product::{add_product, product};
use super::{Between, Layer, Numbers, gradient};
use crate::raw::{Bf16, Element, slice, slice_mut};

/// Rows of a shard at least, since a product of fewer spends its time on its weights, and shards at most.
const SHARD: [i64; 2] = [128, 4];

/// Inputs of a first product in half the bytes are filled up with zeros to whole multiples of it: products of others cost
/// a third more.
const WHOLE: i64 = 32;

/// Outputs of a last layer below which it is in single precision: a value or an action is what it says, and costs little. Of many outputs
/// (velocities, bins of a reward) none counts for as much, and in single precision they would cost more than all layers before them.
const WIDE: i64 = 64;

/// What a run keeps for the way back. All keep what the first layer was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// Nothing else: there is no way back.
    Nothing,
    /// What it takes to go back to inputs.
    Inputs,
    /// What gradients of parameters take, too.
    Parameters,
}

/// Rows of a weight whose gradient one thread makes.
const SLAB: usize = 256;

/// Networks that are ready to be run: their weights as the products want them.
pub struct Passes {
    layers: Vec<Ready>,
    /// Whether rows are shared among threads.
    shared: bool,
    /// What runs keep.
    keeps: Keeps,
}

struct Ready {
    /// `[K, in, out]`; of a narrow last layer that nothing follows in single precision, else in the numbers of the passes. Of a first layer,
    /// rows of zeros may follow.
    weight: Tensor,
    /// `in`.
    inputs: i64,
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
    /// `[K, B, in]` of the first layer, or of each; the first has zeros up to the rows of the ready weight.
    inputs: Vec<Tensor>,
    /// Of each layer that something follows: what the product gave, `[K, B, out]` in the layer's numbers, and `[K * B]` statistics.
    between: Vec<(Tensor, Vec<Stats>)>,
    /// After the way back, last layer first: gradients with respect to what the product gave, `[K, B, out]` in its numbers, and sums
    /// over rows for bias, gain and shift of each network, step after step.
    bars: Vec<(Tensor, Vec<kernels::Sums>)>,
}

/// Gradients of all parameters, as what they are the products and sums of: what each way back has left.
pub struct Gradients(Vec<Tape>);

impl Gradients {
    /// Those of all rows, given those of shares of them.
    pub fn of_shares(shares: impl IntoIterator<Item = Self>) -> Self {
        Self(shares.into_iter().flat_map(|Self(tapes)| tapes).collect())
    }

    /// Adds them to those of the parameters of `layers`. Each thread makes a part of them of all rows, straight into its place.
    pub(super) fn add_to(&self, layers: &[Layer]) {
        let mut items = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let [weights, bias] = [&layer.weight, &layer.bias].map(gradient);
            let bars = || self.0.iter().map(|tape| &tape.bars[layers.len() - 1 - number]);
            let ([count, inputs, _], norm) = (sizes(&weights), layer.norm.as_ref().map(|(_, norm)| norm));
            for k in 0..count as i64 {
                for at in (0..inputs as i64).step_by(SLAB) {
                    let pairs = self.0.iter().zip(bars());
                    let pairs: Vec<[Tensor; 2]> =
                        pairs.map(|(tape, (bar, _))| [&tape.inputs[number], bar].map(Tensor::shallow_clone)).collect();
                    items.push((weights.get(k), k, at, pairs));
                }
            }
            let Some(norm) = norm else {
                let bars = bars().map(|(bar, _)| bar.shallow_clone()).collect();
                let sum = |bar: Tensor| bar.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
                for sum in side_by_side(bars, sum) {
                    let _ = tch::no_grad(|| bias.shallow_clone().g_add_(&sum));
                }
                continue;
            };
            for (of, vector) in [bias, gradient(&norm[0]), gradient(&norm[1])].into_iter().enumerate() {
                bars().for_each(|(_, sums)| add(&mut vector.shallow_clone(), sums, of));
            }
        }
        let _: Vec<()> = side_by_side(items, |(weights, k, at, pairs): (Tensor, i64, i64, Vec<[Tensor; 2]>)| {
            let width = (weights.size()[0] - at).min(SLAB as i64);
            let mut sum = weights.narrow(0, at, width);
            for [inputs, bars] in pairs {
                add_product(&mut sum, &inputs.get(k).narrow(1, at, width).tr(), &bars.get(k));
            }
        });
    }
}

impl Passes {
    pub(super) fn new(layers: &[Layer], numbers: Numbers) -> Self {
        let ready = |(number, layer): (usize, &Layer)| {
            let exact = layer.norm.is_none() && layer.weight.size()[2] < WIDE;
            let kind = if exact { Kind::Float } else { numbers.kind() };
            let norm = layer.norm.as_ref().map(|(between, parameters)| (*between, parameters.each_ref().map(detached)));
            let (weight, inputs) = (layer.weight.detach().to_kind(kind), layer.weight.size()[1]);
            let more = if number == 0 && kind == Kind::BFloat16 { (-inputs).rem_euclid(WHOLE) } else { 0 };
            let weight = if more > 0 { weight.constant_pad_nd([0, 0, 0, more]) } else { weight };
            Ready { weight, inputs, bias: layer.bias.detach(), norm }
        };
        Self { layers: layers.iter().enumerate().map(ready).collect(), shared: true, keeps: Keeps::Parameters }
    }

    /// What the networks make of `x` `[K, B, in]`: `[K, B, out]` in single precision, and what the way back needs.
    ///
    /// # Panics
    /// If `x` is not on the CPU, or of other widths.
    pub fn run(&self, x: &Tensor) -> (Tensor, Run) {
        self.run_on(&[x])
    }

    /// As [`Passes::run`], of what `parts` `[K, B, ..]` are side by side, `[K, B, in]` together.
    ///
    /// # Panics
    /// As there.
    pub fn run_on(&self, parts: &[&Tensor]) -> (Tensor, Run) {
        let first = &self.layers[0];
        let (count, rows) = (first.weight.size()[0], parts[0].size()[1]);
        let fits = parts.iter().all(|part| part.size()[..2] == [count, rows])
            && parts.iter().map(|part| part.size()[2]).sum::<i64>() == first.inputs;
        let sizes = || parts.iter().map(|part| part.size()).collect::<Vec<_>>();
        assert!(fits, "{:?} to {count} networks of {} inputs", sizes(), first.inputs);
        let mut items: Vec<(Self, Vec<Tensor>)> = Vec::new();
        for part in parts {
            for (number, rows) in tch::no_grad(|| self.shards(part)).into_iter().enumerate() {
                if number == items.len() {
                    items.push((self.shallow_clone(), Vec::new()));
                }
                items[number].1.push(rows);
            }
        }
        let (results, tapes): (Vec<_>, Vec<_>) =
            side_by_side(items, |(passes, parts)| passes.run_shard(&parts)).into_iter().unzip();
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
            inputs: layer.inputs,
            bias: layer.bias.shallow_clone(),
            norm: layer.norm.as_ref().map(|(between, parameters)| (*between, parameters.each_ref().map(detached))),
        };
        Self { layers: self.layers.iter().map(clone).collect(), shared: self.shared, keeps: self.keeps }
    }

    /// The same networks, to be run on one thread, another one: whoever has cut rows already does not want them cut again.
    #[must_use]
    pub fn on_one_thread(&self) -> Self {
        Self { shared: false, ..self.shallow_clone() }
    }

    /// The same networks, whose runs keep something else.
    #[must_use]
    pub fn keeping(&self, keeps: Keeps) -> Self {
        Self { keeps, ..self.shallow_clone() }
    }

    fn run_shard(&self, parts: &[Tensor]) -> (Tensor, Tape) {
        let mut tape = Tape::default();
        let mut x = side_by_side_in(parts, &self.layers[0].weight);
        for (number, layer) in self.layers.iter().enumerate() {
            // What the next product is given, or whoever asked.
            let kind = self.layers.get(number + 1).map_or(Kind::Float, |next| next.weight.kind());
            let out = if let Some((between, norm)) = &layer.norm {
                let pre = product(&x, &layer.weight);
                let kept = (self.keeps > Keeps::Nothing).then(|| layer.weight.kind());
                let (out, stats, kept) = forward(*between, pre, &layer.bias, norm, kind, kept);
                tape.between.extend(kept.map(|kept| (kept, stats)));
                out
            } else {
                product(&x, &layer.weight).g_add_(&layer.bias)
            };
            if number == 0 || self.keeps == Keeps::Parameters {
                tape.inputs.push(x);
            }
            x = out;
        }
        (x, tape)
    }

    fn pull_back_shard(&self, tape: &mut Tape, bar: &Tensor, wants_x: bool) -> Option<Tensor> {
        let wants_parameters = self.keeps == Keeps::Parameters;
        // Memory of its own, since it may stay in the tape while others write to theirs.
        let mut bar = if wants_parameters { bar.copy() } else { bar.shallow_clone() }.contiguous();
        for (number, layer) in self.layers.iter().enumerate().rev() {
            let (of_product, sums) = if let Some((between, norm)) = &layer.norm {
                let between_products = tape.between.pop().expect("one for each layer that something follows");
                backward(*between, &between_products, &layer.bias, norm, &bar, wants_parameters)
            } else {
                (bar.to_kind(layer.weight.kind()), Vec::new())
            };
            let before = (number > 0 || wants_x).then(|| product(&of_product, &layer.weight.transpose(1, 2)));
            if wants_parameters {
                tape.bars.push((of_product, sums));
            }
            bar = before?;
        }
        Some(bar.narrow(2, 0, self.layers[0].inputs))
    }
}

impl Run {
    /// What the first layer was given, `[K, B, in]`, in the numbers of the passes.
    pub fn input(&self) -> Tensor {
        let width = self.passes.layers[0].inputs;
        joined(self.tapes.iter().map(|tape| tape.inputs[0].narrow(2, 0, width)).collect())
    }

    /// The way back through [`Passes::run_on`], given the gradient with respect to the result, `bar` `[K, B, out]`. Returns that
    /// with respect to `x`, `[K, B, in]`, if it is wanted.
    ///
    /// # Panics
    /// If the shape is that of other networks, or the run keeps [`Keeps::Nothing`], or was gone back already.
    pub fn pull_back(&mut self, bar: &Tensor, wants_x: bool) -> Option<Tensor> {
        let bars = tch::no_grad(|| self.passes.shards(bar));
        let tapes = std::mem::take(&mut self.tapes);
        assert_eq!(tapes.len(), bars.len(), "a gradient of as many rows as were run");
        assert!(self.passes.keeps > Keeps::Nothing, "a run that keeps its way back");
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
    /// If the run keeps less than [`Keeps::Parameters`], or was not gone back.
    #[must_use]
    pub fn gradients(self) -> Gradients {
        gradients(vec![self])
    }
}

/// Gradients of the parameters after the ways back of all `runs` with the same networks, steps of the same rows, summed over steps and rows.
///
/// # Panics
/// If there is no run, or one of other rows, or one that keeps less than [`Keeps::Parameters`] or was not gone back.
#[must_use]
pub fn gradients(runs: Vec<Run>) -> Gradients {
    let mut shards: Vec<Vec<Tape>> = runs[0].tapes.iter().map(|_| Vec::new()).collect();
    for run in runs {
        assert_eq!(run.tapes.len(), shards.len(), "runs of the same rows");
        let layers = run.passes.layers.len();
        let whole = run.tapes.iter().all(|tape| tape.inputs.len() == layers && tape.bars.len() == layers);
        assert!(whole, "a run for gradients of parameters that was gone back");
        shards.iter_mut().zip(run.tapes).for_each(|(steps, tape)| steps.push(tape));
    }
    Gradients(side_by_side(shards, Tape::joined))
}

impl Tape {
    /// Those of steps as one of as many rows: one large product takes less time than many small ones.
    fn joined(mut steps: Vec<Self>) -> Self {
        if steps.len() == 1 {
            return steps.remove(0);
        }
        let layers = steps[0].inputs.len();
        let inputs = |layer: usize| joined(steps.iter().map(|tape| tape.inputs[layer].shallow_clone()).collect());
        let bars = |layer: usize| joined(steps.iter().map(|tape| tape.bars[layer].0.shallow_clone()).collect());
        let sums = |layer: usize| steps.iter().flat_map(|tape| tape.bars[layer].1.iter().cloned()).collect();
        Self {
            inputs: (0..layers).map(inputs).collect(),
            between: Vec::new(),
            bars: (0..steps[0].bars.len()).map(|layer| (bars(layer), sums(layer))).collect(),
        }
    }
}

/// What a product with `weight` `[K, in, out]` is given: `parts` `[K, B, ..]` side by side in its numbers, and zeros as far as `in`. Rows
/// that all networks share are there once.
fn side_by_side_in(parts: &[Tensor], weight: &Tensor) -> Tensor {
    let (count, rows, width) = (weight.size()[0], parts[0].size()[1], weight.size()[1]);
    let once = if parts.iter().all(|part| part.stride()[0] == 0) { 1 } else { count };
    let each = parts.iter().map(|part| part.narrow(0, 0, once));
    let all = if parts.len() == 1 && parts[0].size()[2] == width {
        parts[0].narrow(0, 0, once).to_kind(weight.kind())
    } else {
        let all = weight.new_empty([once, rows, width], (weight.kind(), weight.device()));
        let filled = each.fold(0, |at, part| {
            let width = part.size()[2];
            all.narrow(2, at, width).copy_(&part);
            at + width
        });
        let _ = all.narrow(2, filled, width - filled).zero_();
        all
    };
    if once == count { all } else { all.expand([count, -1, -1], false) }
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

/// Adds sums over rows for bias, gain or shift of every network, step after step, to those of all, `[K, 1, out]`.
fn add(all: &mut Tensor, sums: &[kernels::Sums], of: usize) {
    let (count, len) = (all.size()[0] as usize, all.numel());
    let all = slice_mut::<f32>(all, len);
    for step in sums.chunks_exact(count) {
        all.iter_mut().zip(step.iter().flat_map(|sums| &sums[of])).for_each(|(all, x)| *all += x);
    }
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

/// What becomes of what a product gave, in numbers of one kind, statistics of its rows, and what it gave in those of another kind if that is
/// to be kept. In half the bytes that is a rounding away from what the statistics are of, and the way back is as much an approximation.
fn forward(
    between: Between,
    pre: Tensor,
    bias: &Tensor,
    norm: &[Tensor; 2],
    kind: Kind,
    kept: Option<Kind>,
) -> (Tensor, Vec<Stats>, Option<Tensor>) {
    fn of<O: Element>(
        between: Between,
        [pre, out]: [&Tensor; 2],
        kept: Option<&Tensor>,
        parameters: impl Fn(usize) -> Parameters,
        stats: &mut [Stats],
    ) {
        let [_, rows, width] = sizes(pre);
        for (k, stats) in stats.chunks_exact_mut(rows).enumerate() {
            let (pre, mut out, mut kept) = (pre.get(k as i64), out.get(k as i64), kept.map(|kept| kept.get(k as i64)));
            let kept = kept.as_mut().map(|kept| slice_mut::<Bf16>(kept, rows * width));
            let (pre, out) = (slice(&pre, rows * width), slice_mut::<O>(&mut out, rows * width));
            kernels::forward(between, &parameters(k), width, pre, kept, out, stats);
        }
    }
    let [count, rows, _] = sizes(&pre);
    let empty = |kind| pre.new_empty(pre.size(), (kind, pre.device()));
    let (out, mut stats) = (empty(kind), vec![[0.0; 2]; count * rows]);
    let half = kept.filter(|&kind| kind == Kind::BFloat16).map(empty);
    let (tensors, parameters) = ([&pre, &out], |k| parameters(bias, norm, k));
    if kind == Kind::Float {
        of::<f32>(between, tensors, half.as_ref(), parameters, &mut stats);
    } else {
        of::<Bf16>(between, tensors, half.as_ref(), parameters, &mut stats);
    }
    (out, stats, kept.map(|_| half.unwrap_or(pre)))
}

/// The way back through [`forward`]: the gradient with respect to what the product gave, in the numbers that were kept, and those with
/// respect to the parameters, if they are wanted, given `bar`, that with respect to what became of it.
fn backward(
    between: Between,
    (pre, stats): &(Tensor, Vec<Stats>),
    bias: &Tensor,
    norm: &[Tensor; 2],
    bar: &Tensor,
    wants_parameters: bool,
) -> (Tensor, Vec<kernels::Sums>) {
    fn of<P: Element>(
        between: Between,
        [pre, bar, out]: [&Tensor; 3],
        parameters: impl Fn(usize) -> Parameters,
        stats: &[Stats],
        wants_parameters: bool,
    ) -> Vec<kernels::Sums> {
        let [_, rows, width] = sizes(pre);
        let each = |(k, stats)| {
            let [pre, bar, mut out] = [pre, bar, out].map(|tensor| tensor.get(k as i64));
            let (pre, bar) = (slice::<P>(&pre, rows * width), slice(&bar, rows * width));
            let out = slice_mut(&mut out, rows * width);
            kernels::backward(between, &parameters(k), width, pre, stats, bar, out, wants_parameters)
        };
        stats.chunks_exact(rows).enumerate().map(each).collect()
    }
    let out = pre.empty_like();
    let (tensors, parameters) = ([pre, bar, &out], |k| parameters(bias, norm, k));
    let sums = if pre.kind() == Kind::Float {
        of::<f32>(between, tensors, parameters, stats, wants_parameters)
    } else {
        of::<Bf16>(between, tensors, parameters, stats, wants_parameters)
    };
    (out, sums)
}
