//! Small networks, several of one shape side by side: linear layers, with a layer norm and an activation between two of them.
//! Actors, critics and latent dynamics are made of them.
//!
//! [`Mlps::forward`] is plain tensor operations, differentiable by libtorch on any device. [`Mlps::run`] and
//! [`Mlps::pull_back`] are the same forward and reverse pass without its tape, for the CPU: products by libtorch and MKL, everything
//! between two products in one pass over memory ([`passes`]). Trained at this size, most of the time otherwise goes into that.

mod kernels;
pub mod passes;
mod product;

use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};
use simulators::rng::Rng;
use tch::{Device, Kind, Tensor, nn};

use kernels::EPSILON;
use passes::{Gradients, Passes, Run};

/// A function of each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x tanh(ln(1 + e^x))` (Misra 2019).
    Mish,
    /// `x` above zero, `e^x - 1` below (Clevert et al. 2016).
    Elu,
}

/// Numbers that SimNorm takes the soft-max of together.
pub const GROUP: i64 = 8;

/// What follows a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// An activation, then a layer norm: actors and critics.
    ActivationNorm(Activation),
    /// A layer norm, then an activation: world models.
    NormActivation(Activation),
    /// A layer norm, then the soft-max of each [`GROUP`] numbers: latents (Hansen et al. 2024, eq. 4).
    SimNorm,
}

/// What networks look like.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Widths: input, hidden layers, output.
    pub sizes: Vec<i64>,
    /// What follows the hidden layers.
    pub hidden: Between,
    /// What follows the last layer, if anything does.
    pub last: Option<Between>,
}

impl Shape {
    /// Activation then norm after the hidden layers, nothing after the last.
    #[must_use]
    pub fn plain(sizes: &[i64], activation: Activation) -> Self {
        Self { sizes: sizes.to_vec(), hidden: Between::ActivationNorm(activation), last: None }
    }

    /// Trainable numbers of one network.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let last = self.sizes.len() - 2;
        let layer = |(number, ends): (usize, &[i64])| {
            let norm = if number < last || self.last.is_some() { 2 } else { 0 };
            (ends[0] as u64 + 1 + norm).saturating_mul(ends[1] as u64)
        };
        self.sizes.windows(2).enumerate().map(layer).fold(0, u64::saturating_add)
    }
}

/// How the weights of linear layers begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// PyTorch's default: weights and biases uniform in `±1/√(fan in)`.
    Uniform,
    /// Orthogonal times √2, biases zero (Saxe et al. 2014).
    Orthogonal,
    /// Normal with deviation 0.02, biases zero.
    Normal,
}

/// What [`Mlps::run`] multiplies and stores in; sums are in single precision, and so is a last layer of few outputs.
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
}

#[derive(Debug)]
struct Layer {
    /// `[K, in, out]`.
    weight: Tensor,
    /// `[K, 1, out]`.
    bias: Tensor,
    /// What follows, if anything does, with gain and shift `[K, 1, out]` of the layer norm.
    norm: Option<(Between, [Tensor; 2])>,
}

impl Mlps {
    /// `count` networks. Weights are made under `path`.
    #[must_use]
    pub fn new(path: &nn::Path<'_>, count: i64, shape: &Shape, start: Start, rng: &mut Rng) -> Self {
        let last = shape.sizes.len() - 2;
        let layer = |(number, ends): (usize, &[i64])| {
            let path = path / number;
            let (from, to) = (ends[0], ends[1]);
            let made: Vec<[Tensor; 2]> = (0..count).map(|_| linear(start, from, to, rng)).collect();
            let stacked =
                |of: usize| Tensor::stack(&made.iter().map(|pair| pair[of].shallow_clone()).collect::<Vec<_>>(), 0);
            let filled = |name: &str, value: f64| path.var(name, &[count, 1, to], nn::Init::Const(value));
            let between = if number < last { Some(shape.hidden) } else { shape.last };
            Layer {
                weight: path.var_copy("weight", &stacked(0)),
                bias: path.var_copy("bias", &stacked(1)),
                norm: between.map(|between| (between, [filled("gain", 1.0), filled("shift", 0.0)])),
            }
        };
        Self { layers: shape.sizes.windows(2).enumerate().map(layer).collect() }
    }

    /// Weights, biases, gains and shifts, layer by layer.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flat_map(Layer::parameters)
    }

    /// How many networks.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.layers[0].weight.size()[0]
    }

    /// The weight of the last layer, `[K, in, out]`.
    pub fn last_weight(&self) -> Tensor {
        self.layers[self.layers.len() - 1].weight.shallow_clone()
    }

    /// What each network makes of `x` `[B, in]`, or of its own `[K, B, in]`: `[K, B, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = self.each(x);
        for Layer { weight, bias, norm } in &self.layers {
            x = bias.baddbmm(&x, weight, 1.0, 1.0);
            let Some((between, [gain, shift])) = norm else { continue };
            let width = x.size()[2];
            let normal = |x: &Tensor| {
                let normal = x.layer_norm([width], None::<&Tensor>, None::<&Tensor>, EPSILON, false);
                shift.addcmul(&normal, gain)
            };
            x = match between {
                Between::ActivationNorm(activation) => normal(&activation.of(&x)),
                Between::NormActivation(activation) => activation.of(&normal(&x)),
                Between::SimNorm => {
                    normal(&x).unflatten(-1, [width / GROUP, GROUP]).softmax(-1, Kind::Float).flatten(-2, -1)
                }
            };
        }
        x
    }

    /// Rows `[B, in]` for each network, `[K, B, in]`; its own stay so.
    pub fn each(&self, x: &Tensor) -> Tensor {
        if x.dim() == 3 { x.shallow_clone() } else { x.unsqueeze(0).expand([self.count(), -1, -1], false) }
    }

    /// The networks ready to be run on the CPU, in these numbers, with the weights of now.
    #[must_use]
    pub fn passes(&self, numbers: Numbers) -> Passes {
        Passes::new(&self.layers, numbers)
    }

    /// As [`Mlps::forward`], of CPU tensors and without libtorch's tape; what the way back needs is returned beside it. The
    /// result is in single precision. Rows are shared among threads; how many there are changes no bit.
    ///
    /// # Panics
    /// If the parameters or `x` are not single-precision tensors on the CPU.
    pub fn run(&self, x: &Tensor, numbers: Numbers) -> (Tensor, Run) {
        self.passes(numbers).run(&self.each(x))
    }

    /// The way back through [`Mlps::run`], given the gradient of a number with respect to the result, `bar` `[K, B, out]`:
    /// adds those with respect to the parameters to their `grad()`, as `backward` does.
    ///
    /// # Panics
    /// If the shapes are those of other networks.
    pub fn pull_back(&self, mut run: Run, bar: &Tensor) {
        let _ = run.pull_back(bar, false);
        self.add(&run.gradients());
    }

    /// As [`Mlps::pull_back`], and returns the gradient with respect to `x`, `[B, in]`, summed over networks.
    ///
    /// # Panics
    /// As there.
    pub fn pull_back_to_x(&self, mut run: Run, bar: &Tensor) -> Tensor {
        let bar = run.pull_back(bar, true).expect("it was wanted");
        self.add(&run.gradients());
        tch::no_grad(|| bar.sum_dim_intlist([0i64].as_slice(), false, Kind::Float))
    }

    /// Adds gradients to the `grad()` of the parameters.
    pub fn add(&self, gradients: &Gradients) {
        gradients.add_to(&self.layers);
    }
}

impl Layer {
    fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        let norm = self.norm.iter().flat_map(|(_, parameters)| parameters);
        [&self.weight, &self.bias].into_iter().chain(norm)
    }
}

impl Activation {
    fn of(self, x: &Tensor) -> Tensor {
        match self {
            Self::Mish => x.mish(),
            Self::Elu => x.elu(),
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
        Start::Normal => {
            let values: Vec<f32> = (0..from * to).map(|_| StandardNormal.sample(rng)).collect();
            [Tensor::from_slice(&values).view([from, to]) * 0.02, Tensor::zeros([1, to], (Kind::Float, Device::Cpu))]
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
    use super::passes::Keeps;
    use super::*;
    use simulators::rng::{Purpose, Seed, stream};

    fn made(count: i64, shape: &Shape, start: Start) -> (nn::VarStore, Mlps) {
        let vs = nn::VarStore::new(Device::Cpu);
        let networks = Mlps::new(&vs.root(), count, shape, start, &mut stream(Seed(1), Purpose::Weights, 0));
        (vs, networks)
    }

    fn mish(sizes: &[i64]) -> Shape {
        Shape::plain(sizes, Activation::Mish)
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
            let (_vs, networks) = made(count, &mish(sizes), Start::Uniform);
            let found = networks.parameters().map(Tensor::numel).sum::<usize>();
            assert_eq!(found as u64, count as u64 * mish(sizes).parameters());
            found
        };
        // The actor of the Ant; log-deviations of its eight actions come to it.
        assert_eq!(parameters(1, &[37, 400, 200, 100, 8]) + 8, 117_716);
        assert_eq!(parameters(1, &[512, 400, 200, 100, 8]) + 8, 307_716);
        assert_eq!(parameters(3, &[512, 400, 200, 1]), 3 * 286_801);
    }

    #[test]
    fn networks_side_by_side_are_what_each_is_alone() {
        let (vs, networks) = made(3, &mish(&[5, 16, 8, 2]), Start::Orthogonal);
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

    /// Widths that are whole lanes and such that are not; more rows than a shard has; more inputs than a thread makes gradients of, and a
    /// wide last layer.
    #[test]
    fn passes_by_hand_are_those_of_libtorch() {
        let (mish, elu) = (Activation::Mish, Activation::Elu);
        for (hidden, last, sizes) in [
            (Between::ActivationNorm(mish), None, [5, 40, 16, 7, 3]),
            (Between::ActivationNorm(elu), None, [5, 40, 16, 7, 3]),
            (Between::NormActivation(mish), None, [5, 40, 16, 7, 3]),
            (Between::NormActivation(mish), None, [5, 40, 300, 264, 72]),
            (Between::NormActivation(elu), Some(Between::SimNorm), [5, 40, 16, 7, 24]),
            (Between::NormActivation(mish), Some(Between::SimNorm), [5, 40, 16, 7, 16]),
        ] {
            let (shape, outputs) = (Shape { sizes: sizes.to_vec(), hidden, last }, sizes[4]);
            let (vs, networks) = made(2, &shape, Start::Uniform);
            let by_name: std::collections::BTreeMap<_, _> = vs.variables().into_iter().collect();
            for (index, mut parameter) in by_name.into_values().enumerate() {
                // Gains and shifts that make a difference.
                let noise = random(&parameter.size(), 10 + index as u64) * 0.3;
                let _ = tch::no_grad(|| parameter.g_add_(&noise));
            }
            let x = random(&[600, 5], 1).set_requires_grad(true);
            let bar = random(&[2, 600, outputs], 2);
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
                    assert!(error < tolerance, "{shape:?} {numbers:?} {what}: {error}");
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
    fn a_run_keeps_what_it_is_asked_to_and_gives_the_same() {
        let (_vs, networks) = made(2, &mish(&[40, 24, 2]), Start::Uniform);
        let (x, bar) = (networks.each(&random(&[300, 40], 1)), random(&[2, 300, 2], 2));
        for numbers in [Numbers::F32, Numbers::Bf16] {
            let passes = |keeps| networks.passes(numbers).keeping(keeps);
            let (whole, mut run) = passes(Keeps::Parameters).run(&x);
            let (of_inputs, mut short) = passes(Keeps::Inputs).run(&x);
            assert_eq!(whole, of_inputs);
            assert_eq!(whole, passes(Keeps::Nothing).run(&x).0);
            assert_eq!(run.pull_back(&bar, true), short.pull_back(&bar, true));
            assert_eq!(run.input(), passes(Keeps::Nothing).run(&x).1.input());
            // Columns may come in parts.
            let parts = [x.narrow(2, 0, 7), x.narrow(2, 7, 33)];
            assert_eq!(whole, passes(Keeps::Nothing).run_on(&parts.each_ref()).0);
            // What the way back was given may be written over.
            let gradients = |after: &dyn Fn(&mut Tensor)| {
                let (mut run, mut bar) = (passes(Keeps::Parameters).run(&x).1, bar.copy());
                let _ = run.pull_back(&bar, false);
                after(&mut bar);
                networks.parameters().for_each(|parameter| drop(gradient(parameter).zero_()));
                networks.add(&run.gradients());
                networks.parameters().map(|parameter| parameter.grad().copy()).collect::<Vec<_>>()
            };
            assert_eq!(gradients(&|_| ()), gradients(&|bar| drop(bar.zero_())));
        }
    }

    #[test]
    fn inputs_of_other_widths_are_refused() {
        let (_vs, networks) = made(2, &mish(&[40, 24, 2]), Start::Uniform);
        let runs = |x: Vec<Tensor>, numbers| {
            let passes = networks.passes(numbers);
            let run = std::panic::AssertUnwindSafe(|| drop(passes.run_on(&x.iter().collect::<Vec<_>>())));
            std::panic::catch_unwind(run).is_ok()
        };
        for numbers in [Numbers::F32, Numbers::Bf16] {
            assert!(runs(vec![random(&[2, 300, 40], 1)], numbers));
            for shape in [[2, 300, 39], [2, 300, 41], [3, 300, 40], [1, 300, 40]] {
                assert!(!runs(vec![random(&shape, 1)], numbers), "{shape:?}");
            }
            assert!(!runs(vec![random(&[2, 300, 20], 1), random(&[2, 100, 20], 1)], numbers));
        }
    }

    #[test]
    #[should_panic(expected = "for gradients of parameters")]
    fn runs_that_keep_less_have_no_gradients() {
        let (_vs, networks) = made(1, &mish(&[4, 24, 2]), Start::Uniform);
        let mut run = networks.passes(Numbers::F32).keeping(Keeps::Inputs).run(&random(&[1, 9, 4], 1)).1;
        let _ = run.pull_back(&random(&[1, 9, 2], 2), false);
        networks.add(&run.gradients());
    }

    #[test]
    fn groups_of_eight_sum_to_one() {
        let shape = Shape { last: Some(Between::SimNorm), ..mish(&[5, 24, 40]) };
        let (vs, networks) = made(1, &shape, Start::Normal);
        // Also where one number of a group is far beyond the others.
        let _ = tch::no_grad(|| vs.variables()["1.gain"].shallow_clone().g_mul_scalar_(300.0));
        for latents in [networks.forward(&random(&[9, 5], 7)), networks.run(&random(&[9, 5], 7), Numbers::F32).0] {
            let groups = latents.view([-1, GROUP]);
            assert!(groups.min().double_value(&[]) >= 0.0);
            let error = (groups.sum_dim_intlist([1i64].as_slice(), false, Kind::Float) - 1.0).abs().max();
            assert!(error.double_value(&[]) < 1e-5, "{error:?}");
        }
    }

    #[test]
    fn gradients_add_up() {
        let (_vs, networks) = made(1, &mish(&[4, 24, 2]), Start::Orthogonal);
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
