//! Small networks, several of one shape side by side: linear, activation, layer norm, as often as there are hidden layers;
//! then linear. Actors, critics and latent dynamics are made of them.
//!
//! [`Mlps::forward`] is plain tensor operations, differentiable by libtorch on any device. [`Mlps::run`] and
//! [`Mlps::pull_back`] are the same forward and reverse pass without its tape, for the CPU: products by libtorch, everything
//! between two products in one pass over memory. Trained at this size, most of the time otherwise goes into that.

mod kernels;

use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};
use simulators::rng::Rng;
use tch::{Device, Kind, Tensor, nn};

use crate::raw::{Bf16, slice, slice_mut};
use kernels::{EPSILON, Padded, Parameters, Stats};

/// What follows a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x tanh(ln(1 + e^x))` (Misra 2019).
    Mish,
    /// `x` above zero, `e^x - 1` below (Clevert et al. 2016).
    Elu,
}

/// How the weights of linear layers begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// PyTorch's default: weights and biases uniform in `±1/√(fan in)`.
    Uniform,
    /// Orthogonal times √2, biases zero (Saxe et al. 2014).
    Orthogonal,
}

/// What [`Mlps::run`] multiplies and stores in; sums are in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// Single precision.
    #[default]
    F32,
    /// Half the bytes, eight bits of mantissa: several times as fast where the processor multiplies it.
    Bf16,
}

impl Numbers {
    fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

/// `K` networks of one shape.
#[derive(Debug)]
pub struct Mlps {
    layers: Vec<Layer>,
    activation: Activation,
}

#[derive(Debug)]
struct Layer {
    /// `[K, in, out]`.
    weight: Tensor,
    /// `[K, 1, out]`.
    bias: Tensor,
    /// Gain and shift `[K, 1, out]` of the layer norm; the last layer has none.
    norm: Option<[Tensor; 2]>,
}

/// What [`Mlps::pull_back`] needs of a run.
pub struct Tape {
    numbers: Numbers,
    /// `[K, B, in]` of each layer.
    inputs: Vec<Tensor>,
    /// Of each hidden layer: what the product gave, `[K, B, out]`, and `[K * B]` statistics of what became of it.
    hidden: Vec<(Tensor, Vec<Stats>)>,
}

impl Mlps {
    /// `count` networks with layers of `sizes`: input, hidden ones, output. Weights are made under `path`.
    #[must_use]
    pub fn new(
        path: &nn::Path<'_>,
        count: i64,
        sizes: &[i64],
        activation: Activation,
        start: Start,
        rng: &mut Rng,
    ) -> Self {
        let hidden = sizes.len().saturating_sub(2);
        let layer = |(number, ends): (usize, &[i64])| {
            let path = path / number;
            let (from, to) = (ends[0], ends[1]);
            let made: Vec<[Tensor; 2]> = (0..count).map(|_| linear(start, from, to, rng)).collect();
            let stacked =
                |of: usize| Tensor::stack(&made.iter().map(|pair| pair[of].shallow_clone()).collect::<Vec<_>>(), 0);
            let filled = |name: &str, value: f64| path.var(name, &[count, 1, to], nn::Init::Const(value));
            Layer {
                weight: path.var_copy("weight", &stacked(0)),
                bias: path.var_copy("bias", &stacked(1)),
                norm: (number < hidden).then(|| [filled("gain", 1.0), filled("shift", 0.0)]),
            }
        };
        Self { layers: sizes.windows(2).enumerate().map(layer).collect(), activation }
    }

    /// Weights, biases, gains and shifts, layer by layer.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flat_map(|layer| [&layer.weight, &layer.bias].into_iter().chain(layer.norm.iter().flatten()))
    }

    fn count(&self) -> i64 {
        self.layers[0].weight.size()[0]
    }

    /// What each network makes of `x` `[B, in]`: `[K, B, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = x.unsqueeze(0).expand([self.count(), -1, -1], false);
        for Layer { weight, bias, norm } in &self.layers {
            x = bias.baddbmm(&x, weight, 1.0, 1.0);
            if let Some([gain, shift]) = norm {
                x = match self.activation {
                    Activation::Mish => x.mish(),
                    Activation::Elu => x.elu(),
                };
                let width = x.size()[2];
                let normal = x.layer_norm([width], None::<&Tensor>, None::<&Tensor>, EPSILON, false);
                x = shift.addcmul(&normal, gain);
            }
        }
        x
    }

    /// As [`Mlps::forward`], of CPU tensors and without libtorch's tape; what the way back needs is returned beside it. The
    /// result is in single precision.
    ///
    /// # Panics
    /// If the parameters or `x` are not single-precision tensors on the CPU.
    pub fn run(&self, x: &Tensor, numbers: Numbers) -> (Tensor, Tape) {
        tch::no_grad(|| {
            let mut tape = Tape { numbers, inputs: Vec::new(), hidden: Vec::new() };
            let mut x = x.to_kind(numbers.kind()).unsqueeze(0).expand([self.count(), -1, -1], false);
            for Layer { weight, bias, norm } in &self.layers {
                let pre = x.bmm(&weight.to_kind(numbers.kind()));
                tape.inputs.push(x);
                let Some(norm) = norm else { return (pre.to_kind(Kind::Float) + bias, tape) };
                let (out, stats) = self.between(&pre, bias, norm, numbers);
                tape.hidden.push((pre, stats));
                x = out;
            }
            unreachable!("the last layer has no norm")
        })
    }

    /// Bias, activation and norm of what a product gave.
    fn between(&self, pre: &Tensor, bias: &Tensor, norm: &[Tensor; 2], numbers: Numbers) -> (Tensor, Vec<Stats>) {
        let [count, rows, width] = sizes(pre);
        let out = pre.empty_like();
        let mut stats = vec![[0.0; 2]; count * rows];
        for (k, stats) in stats.chunks_exact_mut(rows).enumerate() {
            let (parameters, pre, mut out) = (parameters(bias, norm, k), pre.get(k as i64), out.get(k as i64));
            let len = rows * width;
            match numbers {
                Numbers::F32 => {
                    let out = slice_mut::<f32>(&mut out, len);
                    kernels::forward(self.activation, &parameters, width, slice(&pre, len), out, stats);
                }
                Numbers::Bf16 => {
                    let out = slice_mut::<Bf16>(&mut out, len);
                    kernels::forward(self.activation, &parameters, width, slice(&pre, len), out, stats);
                }
            }
        }
        (out, stats)
    }

    /// The way back through [`Mlps::run`], given the gradient of a number with respect to the result, `bar` `[K, B, out]`:
    /// adds those with respect to the parameters to their `grad()`, as `backward` does.
    ///
    /// # Panics
    /// If the shapes are those of other networks.
    pub fn pull_back(&self, tape: Tape, bar: &Tensor) {
        self.back(tape, bar, false);
    }

    /// As [`Mlps::pull_back`], and returns the gradient with respect to `x`, `[B, in]`, summed over networks.
    ///
    /// # Panics
    /// As there.
    pub fn pull_back_to_x(&self, tape: Tape, bar: &Tensor) -> Tensor {
        self.back(tape, bar, true).expect("it was wanted")
    }

    fn back(&self, tape: Tape, bar: &Tensor, wants_x: bool) -> Option<Tensor> {
        tch::no_grad(|| {
            let Tape { numbers, inputs, mut hidden } = tape;
            let mut bar = bar.to_kind(numbers.kind());
            for (number, (layer, input)) in self.layers.iter().zip(inputs).enumerate().rev() {
                if let Some(norm) = &layer.norm {
                    let between = hidden.pop().expect("one for each layer that has a norm");
                    self.back_between(&between, &layer.bias, norm, numbers, &bar);
                } else {
                    let sum = bar.to_kind(Kind::Float).sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
                    let _ = gradient(&layer.bias).g_add_(&sum);
                }
                let across = input.transpose(1, 2);
                let mut sum = gradient(&layer.weight);
                let _ = match numbers {
                    Numbers::F32 => sum.baddbmm_(&across, &bar),
                    Numbers::Bf16 => sum.g_add_(&across.bmm(&bar).to_kind(Kind::Float)),
                };
                if number > 0 || wants_x {
                    bar = bar.bmm(&layer.weight.to_kind(numbers.kind()).transpose(1, 2)).contiguous();
                }
            }
            wants_x.then(|| bar.to_kind(Kind::Float).sum_dim_intlist([0i64].as_slice(), false, Kind::Float))
        })
    }

    /// The way back through [`Mlps::between`]: overwrites `bar` with the gradient with respect to what the product gave.
    fn back_between(
        &self,
        (pre, stats): &(Tensor, Vec<Stats>),
        bias: &Tensor,
        norm: &[Tensor; 2],
        numbers: Numbers,
        bar: &Tensor,
    ) {
        let [_, rows, width] = sizes(pre);
        for (k, stats) in stats.chunks_exact(rows).enumerate() {
            let (parameters, pre, mut bar) = (parameters(bias, norm, k), pre.get(k as i64), bar.get(k as i64));
            let len = rows * width;
            let sums = match numbers {
                Numbers::F32 => {
                    let bar = slice_mut::<f32>(&mut bar, len);
                    kernels::backward(self.activation, &parameters, width, slice(&pre, len), stats, bar)
                }
                Numbers::Bf16 => {
                    let bar = slice_mut::<Bf16>(&mut bar, len);
                    kernels::backward(self.activation, &parameters, width, slice(&pre, len), stats, bar)
                }
            };
            for (parameter, sum) in [bias, &norm[0], &norm[1]].into_iter().zip(sums) {
                let _ = gradient(parameter).get(k as i64).g_add_(&Tensor::from_slice(&sum));
            }
        }
    }
}

/// The gradient of a parameter, to add to.
pub fn gradient(parameter: &Tensor) -> Tensor {
    if !parameter.grad().defined() {
        // There is no other way to give it one.
        tch::with_grad(|| (parameter * 0.0).sum(Kind::Float).backward());
    }
    parameter.grad()
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

/// Weight `[in, out]` and bias `[1, out]`.
fn linear(start: Start, from: i64, to: i64, rng: &mut Rng) -> [Tensor; 2] {
    match start {
        Start::Uniform => {
            let bound = 1.0 / (from as f32).sqrt();
            let mut drawn = |rows: i64| {
                let values: Vec<f32> = (0..rows * to).map(|_| rng.random_range(-bound..bound)).collect();
                Tensor::from_slice(&values).view([rows, to])
            };
            [drawn(from), drawn(1)]
        }
        Start::Orthogonal => {
            let (long, short) = (from.max(to), from.min(to));
            let values: Vec<f64> = (0..long * short).map(|_| StandardNormal.sample(rng)).collect();
            let (q, r) = Tensor::linalg_qr(&Tensor::from_slice(&values).view([long, short]), "reduced");
            // Of the many decompositions the one with a positive diagonal, so that all directions are equally likely.
            let q = q * r.diagonal(0, 0, 1).sign();
            let weight = if from >= to { q } else { q.tr() };
            let weight = (weight * std::f64::consts::SQRT_2).to_kind(Kind::Float).contiguous();
            [weight, Tensor::zeros([1, to], (Kind::Float, Device::Cpu))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulators::rng::{Purpose, Seed, stream};

    fn made(count: i64, sizes: &[i64], activation: Activation, start: Start) -> (nn::VarStore, Mlps) {
        let vs = nn::VarStore::new(Device::Cpu);
        let rng = &mut stream(Seed(1), Purpose::Weights, 0);
        let networks = Mlps::new(&vs.root(), count, sizes, activation, start, rng);
        (vs, networks)
    }

    fn random(shape: &[i64], index: u64) -> Tensor {
        let rng = &mut stream(Seed(2), Purpose::Weights, index);
        let count: i64 = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| StandardNormal.sample(rng)).collect();
        Tensor::from_slice(&values).view(shape)
    }

    #[test]
    fn the_sizes_of_the_papers_have_their_numbers_of_parameters() {
        let parameters = |count, sizes: &[i64]| {
            let (_vs, networks) = made(count, sizes, Activation::Mish, Start::Uniform);
            networks.parameters().map(Tensor::numel).sum::<usize>()
        };
        // The actor of the Ant; log-deviations of its eight actions come to it.
        assert_eq!(parameters(1, &[37, 400, 200, 100, 8]) + 8, 117_716);
        assert_eq!(parameters(1, &[512, 400, 200, 100, 8]) + 8, 307_716);
        assert_eq!(parameters(3, &[512, 400, 200, 1]), 3 * 286_801);
    }

    #[test]
    fn networks_side_by_side_are_what_each_is_alone() {
        let (vs, networks) = made(3, &[5, 16, 8, 2], Activation::Mish, Start::Orthogonal);
        let x = random(&[7, 5], 0);
        let all = networks.forward(&x);
        assert_eq!(all.size(), [3, 7, 2]);
        let weights = vs.variables();
        for k in 0..3 {
            let of = |name: &str| weights[name].get(k);
            let mut h = x.shallow_clone();
            for (layer, width) in [(0, 16), (1, 8)] {
                let named = |part: &str| of(&format!("{layer}.{part}"));
                h = (h.matmul(&named("weight")) + named("bias")).mish();
                let (gain, shift) = (named("gain").squeeze(), named("shift").squeeze());
                h = h.layer_norm([width], Some(&gain), Some(&shift), EPSILON, false);
            }
            let alone = h.matmul(&of("2.weight")) + of("2.bias");
            assert!(alone.allclose(&all.get(k), 1e-5, 1e-6, false));
        }
    }

    /// Widths that are whole lanes and such that are not; more rows than a block has.
    #[test]
    fn passes_by_hand_are_those_of_libtorch() {
        for activation in [Activation::Mish, Activation::Elu] {
            let (vs, networks) = made(2, &[5, 40, 16, 7, 3], activation, Start::Uniform);
            let by_name: std::collections::BTreeMap<_, _> = vs.variables().into_iter().collect();
            for (index, mut parameter) in by_name.into_values().enumerate() {
                // Gains and shifts that make a difference.
                let noise = random(&parameter.size(), 10 + index as u64) * 0.3;
                let _ = tch::no_grad(|| parameter.g_add_(&noise));
            }
            let x = random(&[150, 5], 1).set_requires_grad(true);
            let bar = random(&[2, 150, 3], 2);
            let expected = networks.forward(&x);
            (&expected * &bar).sum(Kind::Float).backward();
            for (numbers, tolerance) in [(Numbers::F32, 2e-5), (Numbers::Bf16, 0.1)] {
                let (found, tape) = networks.run(&x, numbers);
                let of_parameters: Vec<Tensor> =
                    networks.parameters().map(|parameter| parameter.grad().copy()).collect();
                vs.variables().values().for_each(|parameter| parameter.shallow_clone().zero_grad());
                let x_bar = networks.pull_back_to_x(tape, &bar);
                let near = |what: &str, found: &Tensor, expected: &Tensor| {
                    let scale = expected.abs().max().double_value(&[]).max(1e-3);
                    let error = (found - expected).abs().max().double_value(&[]) / scale;
                    assert!(error < tolerance, "{activation:?} {numbers:?} {what}: {error}");
                };
                near("result", &found, &expected);
                near("x", &x_bar, &x.grad());
                for (parameter, expected) in networks.parameters().zip(of_parameters) {
                    near(&format!("{:?}", parameter.size()), &parameter.grad(), &expected);
                }
            }
        }
    }

    #[test]
    fn gradients_add_up() {
        let (_vs, networks) = made(1, &[4, 24, 2], Activation::Mish, Start::Orthogonal);
        let (x, bar) = (random(&[100, 4], 3), random(&[1, 100, 2], 4));
        let pull_back = || networks.pull_back(networks.run(&x, Numbers::F32).1, &bar);
        pull_back();
        let once: Vec<Tensor> = networks.parameters().map(|parameter| parameter.grad().copy()).collect();
        pull_back();
        for (parameter, once) in networks.parameters().zip(once) {
            assert!(parameter.grad().allclose(&(once * 2.0), 1e-5, 1e-5, false));
        }
    }

    #[test]
    fn orthogonal_weights_keep_lengths_times_root_two() {
        for (from, to) in [(40, 7), (7, 40)] {
            let [weight, bias] = linear(Start::Orthogonal, from, to, &mut stream(Seed(2), Purpose::Weights, 0));
            let gram = if from >= to { weight.tr().mm(&weight) } else { weight.mm(&weight.tr()) };
            let expected = Tensor::eye(from.min(to), (Kind::Float, Device::Cpu)) * 2.0;
            assert!(gram.allclose(&expected, 1e-5, 1e-5, false));
            assert_eq!(bias.abs().max().double_value(&[]).to_bits(), 0.0f64.to_bits());
        }
    }
}
