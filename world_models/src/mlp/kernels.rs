//! What lies between two products of a network: bias, activation and layer norm, in one pass over memory each way.
//!
//! Rows are `[B, w]` of one network, and are gone through on the thread that calls. Arithmetic is in `f32`, in the same order on every
//! processor.

#![expect(clippy::inline_always, reason = "a body is compiled for a processor's features only where it is inlined")]

use super::{Activation, Between};
use crate::raw::{Bf16, Element};

/// Numbers that are worked on together.
const LANES: usize = 16;
type Lanes = [f32; LANES];
/// Added to a variance before its root is taken.
pub(super) const EPSILON: f64 = 1e-5;

/// A row's mean, and one over its deviation.
pub(super) type Stats = [f32; 2];

/// A vector of `w` numbers, filled up with zeros to whole lanes.
pub(super) struct Padded(Vec<Lanes>);

impl Padded {
    pub fn new(values: &[f32]) -> Self {
        Self((0..values.len()).step_by(LANES).map(|at| load(values, at)).collect())
    }
}

/// Bias, gain and shift of a layer of one network.
pub(super) struct Parameters {
    pub bias: Padded,
    pub gain: Padded,
    pub shift: Padded,
}

/// Gradients with respect to bias, gain and shift: `[w]` each.
pub(super) type Sums = [Vec<f32>; 3];

#[inline(always)]
fn load<T: Element>(row: &[T], at: usize) -> Lanes {
    let mut lanes = [0.0; LANES];
    if let Some(whole) = row.get(at..at + LANES) {
        for i in 0..LANES {
            lanes[i] = whole[i].widen();
        }
    } else {
        for (lane, x) in lanes.iter_mut().zip(&row[at..]) {
            *lane = x.widen();
        }
    }
    lanes
}

#[inline(always)]
fn store<T: Element>(lanes: &Lanes, row: &mut [T], at: usize) {
    if let Some(whole) = row.get_mut(at..at + LANES) {
        for i in 0..LANES {
            whole[i] = T::round(lanes[i]);
        }
    } else {
        for (x, lane) in row[at..].iter_mut().zip(lanes) {
            *x = T::round(*lane);
        }
    }
}

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = f(i);
    }
    lanes
}

/// Their sum, pairwise: a chain of sixteen additions would hold up the row. It is not inlined, since that lets the compiler
/// take whole lanes apart in the loops that lead up to it.
#[inline(never)]
fn total(lanes: Lanes) -> f32 {
    let mut sums = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// `e^x` for x in -87..=88, within 2 units of the last place: a power of two times a polynomial on ±ln(2)/2.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Added to a small number, it leaves the nearest whole one in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let z = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = z - ROUND;
    // ln 2 in two parts, the first of few bits, so that the remainder is exact.
    let r = whole.mul_add(2.121_944_4e-4, whole.mul_add(-0.693_359_4, x));
    let p = r.mul_add(1.987_569_1e-4, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r + 1.0);
    p * f32::from_bits((z.to_bits() << 23).wrapping_add(0x3f80_0000))
}

trait Function: Copy + Send + Sync {
    /// Its value and its derivative.
    fn at(x: f32) -> (f32, f32);
}

#[derive(Clone, Copy)]
struct Mish;

/// Beyond it mish is the identity in single precision.
const HIGH: f32 = 20.0;
/// Below it all of mish's terms vanish.
const LOW: f32 = -80.0;

impl Function for Mish {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        // tanh(ln(1 + e^x)) = n / (n + 2), n = e^x (e^x + 2).
        let e = exp(x.clamp(LOW, HIGH));
        let n = e.mul_add(e, 2.0 * e);
        let inverse = 1.0 / (n + 2.0);
        let share = n * inverse;
        (x * share, (x * inverse * inverse).mul_add(4.0 * e.mul_add(e, e), share))
    }
}

#[derive(Clone, Copy)]
struct Elu;

impl Function for Elu {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        let e = exp(x.clamp(LOW, 0.0));
        if x > 0.0 { (x, 1.0) } else { (e - 1.0, e) }
    }
}

#[derive(Clone, Copy)]
struct Identity;

impl Function for Identity {
    #[inline(always)]
    fn at(x: f32) -> (f32, f32) {
        (x, 1.0)
    }
}

/// What follows the norm.
trait Outer: Copy + Send + Sync {
    fn of(y: Lanes) -> Lanes;
    /// The gradient with respect to `y`, given that with respect to what became of it.
    fn back(y: Lanes, bar: Lanes) -> Lanes;
}

/// A function of each number.
#[derive(Clone, Copy)]
struct Each<F>(std::marker::PhantomData<F>);

impl<F: Function> Outer for Each<F> {
    #[inline(always)]
    fn of(y: Lanes) -> Lanes {
        each(|i| F::at(y[i]).0)
    }
    #[inline(always)]
    fn back(y: Lanes, bar: Lanes) -> Lanes {
        each(|i| F::at(y[i]).1 * bar[i])
    }
}

/// Soft-max of each [`GROUP`](super::GROUP) numbers.
#[derive(Clone, Copy)]
struct SimNorm;

const GROUP: usize = super::GROUP as usize;

/// In every place the number that stands `AWAY` from it in its group.
#[inline(always)]
fn swapped<const AWAY: usize>(y: Lanes) -> Lanes {
    each(|i| y[i ^ AWAY])
}

/// In every place what `f` makes of all numbers of its group, whole lanes at a time: of halves, of quarters, of neighbours.
#[inline(always)]
fn of_group(y: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    const { assert!(GROUP == 8 && LANES.is_multiple_of(GROUP)) };
    let with = |y: Lanes, other: Lanes| each(|i| f(y[i], other[i]));
    let y = with(y, swapped::<4>(y));
    let y = with(y, swapped::<2>(y));
    with(y, swapped::<1>(y))
}

impl Outer for SimNorm {
    #[inline(always)]
    fn of(y: Lanes) -> Lanes {
        let most = of_group(y, |a, b| if a > b { a } else { b });
        // What is not a number stays so.
        let below = each(|i| if y[i] - most[i] < LOW { LOW } else { y[i] - most[i] });
        let shares = each(|i| exp(below[i]));
        let sum = of_group(shares, |a, b| a + b);
        each(|i| shares[i] / sum[i])
    }
    #[inline(always)]
    fn back(y: Lanes, bar: Lanes) -> Lanes {
        let shares = Self::of(y);
        let mean = of_group(each(|i| shares[i] * bar[i]), |a, b| a + b);
        each(|i| shares[i] * (bar[i] - mean[i]))
    }
}

/// A function before the norm, and what follows it.
trait Form: Copy + Send + Sync {
    type Inner: Function;
    type Outer: Outer;
}

/// As `Form` has it.
#[derive(Clone, Copy)]
struct Of<I, O>(std::marker::PhantomData<(I, O)>);

impl<I: Function, O: Outer> Form for Of<I, O> {
    type Inner = I;
    type Outer = O;
}

/// Calls `$inner`, compiled for the best features that this processor has. All do the same operations in the same order, so they give
/// the same bits.
macro_rules! for_this_cpu {
    ($inner:ident::<$($g:ident: $bound:ident),+>($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
            fn avx512<$($g: $bound),+>($($arg: $ty),*) -> $ret { $inner::<$($g),+>($($arg),*) }
            #[target_feature(enable = "avx2,fma")]
            fn avx2<$($g: $bound),+>($($arg: $ty),*) -> $ret { $inner::<$($g),+>($($arg),*) }
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("fma") {
                // SAFETY: the features were just detected.
                #[expect(unsafe_code, reason = "calling code compiled for a detected CPU feature")]
                return unsafe { avx512::<$($g),+>($($arg),*) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the features were just detected.
                #[expect(unsafe_code, reason = "calling code compiled for a detected CPU feature")]
                return unsafe { avx2::<$($g),+>($($arg),*) };
            }
        }
        $inner::<$($g),+>($($arg),*)
    }};
}

/// Calls `$inner::<O, …>(…)` for the form that `$between` names.
macro_rules! for_this_form {
    ($between:expr, $inner:ident::<$o:ident>($($arg:expr),*)) => {
        match $between {
            Between::ActivationNorm(Activation::Mish) => $inner::<$o, Of<Mish, Each<Identity>>>($($arg),*),
            Between::ActivationNorm(Activation::Elu) => $inner::<$o, Of<Elu, Each<Identity>>>($($arg),*),
            Between::NormActivation(Activation::Mish) => $inner::<$o, Of<Identity, Each<Mish>>>($($arg),*),
            Between::NormActivation(Activation::Elu) => $inner::<$o, Of<Identity, Each<Elu>>>($($arg),*),
            Between::SimNorm => $inner::<$o, Of<Identity, SimNorm>>($($arg),*),
        }
    };
}

/// `out = outer(gain · normal(inner(pre + bias)) + shift)`, row by row; for the way back, `stats`, and `pre` in half the bytes in `kept`.
pub(super) fn forward<O: Element>(
    between: Between,
    parameters: &Parameters,
    width: usize,
    pre: &[f32],
    kept: Option<&mut [Bf16]>,
    out: &mut [O],
    stats: &mut [Stats],
) {
    for_this_form!(between, forward_as::<O>(parameters, width, pre, kept, out, stats));
}

fn forward_as<O: Element, F: Form>(
    parameters: &Parameters,
    width: usize,
    pre: &[f32],
    kept: Option<&mut [Bf16]>,
    out: &mut [O],
    stats: &mut [Stats],
) {
    #[inline(always)]
    fn rows<O: Element, F: Form>(
        parameters: &Parameters,
        width: usize,
        pre: &[f32],
        kept: Option<&mut [Bf16]>,
        out: &mut [O],
        stats: &mut [Stats],
    ) {
        let Parameters { bias, gain, shift } = parameters;
        let mut values = vec![[0.0; LANES]; bias.0.len()];
        let mut kept = kept.map(|kept| kept.chunks_exact_mut(width));
        for ((pre, out), stats) in pre.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(stats) {
            *stats = activate::<F::Inner>(bias, width, pre, &mut values);
            let [mean, inverse] = *stats;
            for (chunk, (values, (gain, shift))) in values.iter().zip(gain.0.iter().zip(&shift.0)).enumerate() {
                let y = each(|i| ((values[i] - mean) * inverse).mul_add(gain[i], shift[i]));
                store(&F::Outer::of(y), out, chunk * LANES);
            }
            if let Some(kept) = kept.as_mut().and_then(Iterator::next) {
                for at in (0..width).step_by(LANES) {
                    store(&load(pre, at), kept, at);
                }
            }
        }
    }
    for_this_cpu!(rows::<O: Element, F: Form>(
        parameters: &Parameters,
        width: usize,
        pre: &[f32],
        kept: Option<&mut [Bf16]>,
        out: &mut [O],
        stats: &mut [Stats],
    ) -> ());
}

/// `f(pre + bias)` of one row, and its mean and deviation.
#[inline(always)]
fn activate<F: Function>(bias: &Padded, width: usize, pre: &[f32], values: &mut [Lanes]) -> Stats {
    let mut sum = [0.0; LANES];
    for (chunk, (values, bias)) in values.iter_mut().zip(&bias.0).enumerate() {
        let x = load(pre, chunk * LANES);
        // Padding stays zero: both functions are zero at zero.
        *values = each(|i| F::at(x[i] + bias[i]).0);
        sum = each(|i| sum[i] + values[i]);
    }
    let mean = total(sum) / width as f32;
    let mut squares = [0.0; LANES];
    if let Some(last) = values.last_mut() {
        // So that padding does not deviate.
        let live = width - (width - 1) / LANES * LANES;
        last[live..].fill(mean);
    }
    for values in &*values {
        squares = each(|i| (values[i] - mean).mul_add(values[i] - mean, squares[i]));
    }
    [mean, 1.0 / (total(squares) / width as f32 + EPSILON as f32).sqrt()]
}

/// The way back through [`forward`], given `bar`, the gradient with respect to its output: writes that with respect to `pre`, and returns
/// those with respect to the parameters if they are wanted, else zeros.
#[expect(clippy::too_many_arguments, reason = "plain slices")]
pub(super) fn backward<P: Element>(
    between: Between,
    parameters: &Parameters,
    width: usize,
    pre: &[P],
    stats: &[Stats],
    bar: &[f32],
    of_pre: &mut [P],
    wants_parameters: bool,
) -> Sums {
    let chunks = parameters.bias.0.len();
    let mut sums = vec![[0.0; LANES]; 3 * chunks];
    let all = wants_parameters.then_some(sums.as_mut_slice());
    for_this_form!(between, backward_as::<P>(parameters, width, pre, stats, bar, of_pre, all));
    std::array::from_fn(|of| {
        let mut sum = sums[of * chunks..(of + 1) * chunks].as_flattened().to_vec();
        sum.truncate(width);
        sum
    })
}

fn backward_as<P: Element, F: Form>(
    parameters: &Parameters,
    width: usize,
    pre: &[P],
    stats: &[Stats],
    bar: &[f32],
    of_pre: &mut [P],
    sums: Option<&mut [Lanes]>,
) {
    #[inline(always)]
    fn rows<P: Element, F: Form>(
        parameters: &Parameters,
        width: usize,
        pre: &[P],
        stats: &[Stats],
        bar: &[f32],
        of_pre: &mut [P],
        sums: Option<&mut [Lanes]>,
    ) {
        let Parameters { bias, gain, shift } = parameters;
        let chunks = bias.0.len();
        let mut sums = sums.map(|sums| {
            let (bias_bar, others) = sums.split_at_mut(chunks);
            let (gain_bar, shift_bar) = others.split_at_mut(chunks);
            [bias_bar, gain_bar, shift_bar]
        });
        let mut normal = vec![[0.0; LANES]; chunks];
        let mut scaled = normal.clone();
        let mut slopes = normal.clone();
        let given = pre.chunks_exact(width).zip(stats).zip(bar.chunks_exact(width));
        for (((pre, &[mean, inverse]), bar), of_pre) in given.zip(of_pre.chunks_exact_mut(width)) {
            let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
            for chunk in 0..chunks {
                let (x, out_bar) = (load(pre, chunk * LANES), load(bar, chunk * LANES));
                let (bias, gain, shift) = (&bias.0[chunk], &gain.0[chunk], &shift.0[chunk]);
                let mut x_hat = [0.0; LANES];
                for i in 0..LANES {
                    let (value, slope) = F::Inner::at(x[i] + bias[i]);
                    (x_hat[i], slopes[chunk][i]) = ((value - mean) * inverse, slope);
                }
                let y_bar = F::Outer::back(each(|i| x_hat[i].mul_add(gain[i], shift[i])), out_bar);
                let hat_bar = each(|i| y_bar[i] * gain[i]);
                first = each(|i| first[i] + hat_bar[i]);
                second = each(|i| hat_bar[i].mul_add(x_hat[i], second[i]));
                if let Some([_, gain_bar, shift_bar]) = &mut sums {
                    gain_bar[chunk] = each(|i| y_bar[i].mul_add(x_hat[i], gain_bar[chunk][i]));
                    shift_bar[chunk] = each(|i| shift_bar[chunk][i] + y_bar[i]);
                }
                (normal[chunk], scaled[chunk]) = (x_hat, hat_bar);
            }
            let (first, second) = (total(first) / width as f32, total(second) / width as f32);
            for chunk in 0..chunks {
                let (x_hat, hat_bar, slope) = (&normal[chunk], &scaled[chunk], &slopes[chunk]);
                let pre_bar = each(|i| inverse * x_hat[i].mul_add(-second, hat_bar[i] - first) * slope[i]);
                if let Some([bias_bar, ..]) = &mut sums {
                    bias_bar[chunk] = each(|i| bias_bar[chunk][i] + pre_bar[i]);
                }
                store(&pre_bar, of_pre, chunk * LANES);
            }
        }
    }
    for_this_cpu!(rows::<P: Element, F: Form>(
        parameters: &Parameters,
        width: usize,
        pre: &[P],
        stats: &[Stats],
        bar: &[f32],
        of_pre: &mut [P],
        sums: Option<&mut [Lanes]>,
    ) -> ());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_library_to_the_last_places() {
        for i in -8_700..=8_800 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 3e-7, "{x}: {} instead of {expected}", exp(x));
        }
    }

    #[test]
    fn functions_and_their_slopes_are_what_they_are_called() {
        for i in -3_000..=3_000 {
            let x = i as f32 / 40.0;
            let wide = f64::from(x);
            let softplus = wide.exp().ln_1p();
            let near = |found: f32, expected: f64| {
                assert!(
                    (f64::from(found) - expected).abs() <= 2e-6 * expected.abs().max(1.0),
                    "{x}: {found} {expected}"
                );
            };
            near(Mish::at(x).0, wide * softplus.tanh());
            let sigmoid = 1.0 / (1.0 + (-wide).exp());
            near(Mish::at(x).1, softplus.tanh() + wide * (1.0 - softplus.tanh().powi(2)) * sigmoid);
            near(Elu::at(x).0, if wide > 0.0 { wide } else { wide.exp_m1() });
            near(Elu::at(x).1, if wide > 0.0 { 1.0 } else { wide.exp() });
        }
    }
}
