//! The gradient of the recurrent convolution's weights, summed over a whole clip.
//!
//! `dW[o, i, k] = sum over cells p of gradient[p, o] * map[p + k, i]`: for each of the nine taps `k` a product of two long
//! thin matrices. On processors with `bf16` dot products (AVX-512 BF16) it is computed here, from maps as they lie, two
//! neighbouring cells of a row at a time; elsewhere autograd does it. Sums are kept per sample, so the result does not
//! depend on the number of threads.

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::kernels::Geometry;
use crate::raw::{Bf16, Element, slice};

/// Sums of weight gradients, `f32`.
pub enum WeightGradient {
    /// `[B, 9, C in, C out]`, filled by the kernel.
    Dot(Vec<f32>),
    /// `[C out, C in, 3, 3]`, filled by autograd.
    Taped(Tensor),
}

impl WeightGradient {
    /// Zero, to be summed in the fastest way there is for maps of kind `T`.
    pub fn zero<T: Element>(g: &Geometry) -> Self {
        if T::KIND == Bf16::KIND && g.features.is_multiple_of(16) && has_bf16_dot() {
            Self::Dot(vec![0.0; g.batch * sample_len(g)])
        } else {
            let c = g.features as i64;
            Self::Taped(Tensor::zeros([c, c, 3, 3], (Kind::Float, tch::Device::Cpu)))
        }
    }

    /// Adds the share of one step: `map` was convolved with `weight`, and `gradient` came back for the result.
    ///
    /// Shapes: both `[B*V, W+2, W+2, C]`, with halo; the halo of `gradient` is not part of the result and is ignored.
    ///
    /// # Panics
    /// If a shape or kind is another one.
    pub fn add(&mut self, g: &Geometry, map: &Tensor, gradient: &Tensor, weight: &Tensor) {
        match self {
            Self::Dot(sums) => {
                let len = g.batch * g.velocities * g.padded_plane();
                let (map, gradient) = (slice::<Bf16>(map, len), slice::<Bf16>(gradient, len));
                let planes = g.velocities * g.padded_plane();
                sums.par_chunks_exact_mut(sample_len(g)).enumerate().for_each(|(sample, sums)| {
                    let planes = sample * planes..(sample + 1) * planes;
                    add_planes(g, &map[planes.clone()], &gradient[planes], sums);
                });
            }
            Self::Taped(sum) => {
                let (world, weight) = (g.world as i64, weight.detach().set_requires_grad(true));
                let inner = |x: &Tensor| x.narrow(1, 1, world).narrow(2, 1, world).permute([0, 3, 1, 2]);
                let map = map.permute([0, 3, 1, 2]);
                let made = map.conv2d(&weight, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1);
                let root = (made * inner(gradient)).sum(weight.kind());
                let _ = sum.g_add_(&Tensor::run_backward(&[root], &[&weight], false, false)[0]);
            }
        }
    }

    /// The sum over all steps and samples, `[C out, C in, 3, 3]`.
    pub fn total(self, g: &Geometry) -> Tensor {
        match self {
            Self::Dot(sums) => {
                let c = g.features as i64;
                let sums = Tensor::from_slice(&sums).view([g.batch as i64, 3, 3, c, c]);
                sums.sum_dim_intlist([0i64].as_slice(), false, Kind::Float).permute([3, 2, 0, 1]).contiguous()
            }
            Self::Taped(sum) => sum,
        }
    }
}

fn sample_len(g: &Geometry) -> usize {
    9 * g.features * g.features
}

fn has_bf16_dot() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Adds the share of one sample: planes one after another, as [`WeightGradient::add`] has them.
#[cfg(target_arch = "x86_64")]
fn add_planes(g: &Geometry, map: &[Bf16], gradient: &[Bf16], sums: &mut [f32]) {
    assert!(has_bf16_dot(), "chosen only where the processor has bf16 dot products");
    // SAFETY: the features were just checked.
    #[expect(unsafe_code, reason = "calling code compiled for a detected CPU feature")]
    unsafe {
        dot::add_planes(g, map, gradient, sums);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn add_planes(_: &Geometry, _: &[Bf16], _: &[Bf16], _: &mut [f32]) {
    unreachable!("chosen only where the processor has bf16 dot products");
}

#[cfg(target_arch = "x86_64")]
mod dot {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{Bf16, Geometry};

    /// Rows with neighbouring cells side by side: word `j * C + f` holds feature `f` of cells `2j` and `2j + 1`.
    struct Rows {
        /// Pairs that begin at even columns, and at odd ones, of three consecutive rows of the map.
        even: [Vec<u32>; 3],
        odd: [Vec<u32>; 3],
        /// Pairs of one row of the gradient.
        gradient: Vec<u32>,
    }

    /// See [`super::add_planes`]: one row of a plane's gradient at a time against the three rows of the map around it.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub fn add_planes(g: &Geometry, map: &[Bf16], gradient: &[Bf16], sums: &mut [f32]) {
        let (c, row, pairs) = (g.features, g.padded_row(), g.world.div_ceil(2));
        let empty = || vec![0; (pairs + 1) * c];
        let mut rows = Rows { even: [empty(), empty(), empty()], odd: [empty(), empty(), empty()], gradient: empty() };
        let planes = map.chunks_exact(g.padded_plane()).zip(gradient.chunks_exact(g.padded_plane()));
        for (map, gradient) in planes {
            for r in 0..g.world + 2 {
                let cells = &map[r * row..][..row];
                pair_up(cells, c, &mut rows.even[r % 3]);
                pair_up(&cells[c..], c, &mut rows.odd[r % 3]);
                if r < 2 {
                    continue;
                }
                // The gradient's row `r - 1` (with halo) lies on the middle one of the map's rows `r - 2 ..= r`.
                pair_up(&gradient[(r - 1) * row + c..][..g.world * c], c, &mut rows.gradient);
                for tap in 0..9 {
                    let (ky, kx) = (tap / 3, tap % 3);
                    let map_row = (r - 2 + ky) % 3;
                    let map_pairs = match kx {
                        0 => &rows.even[map_row][..],
                        1 => &rows.odd[map_row][..],
                        _ => &rows.even[map_row][c..],
                    };
                    let sums = &mut sums[tap * c * c..][..c * c];
                    if c.is_multiple_of(32) {
                        add_products::<2, 8>(&rows.gradient, map_pairs, c, pairs, sums);
                    } else {
                        add_products::<1, 16>(&rows.gradient, map_pairs, c, pairs, sums);
                    }
                }
            }
        }
    }

    /// Puts cells `2j` and `2j + 1` of a row side by side; a cell beyond the end counts as zero.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn pair_up(cells: &[Bf16], c: usize, out: &mut [u32]) {
        let whole = cells.len() / (2 * c);
        let (pairs, rest) = cells.split_at(whole * 2 * c);
        let (joined, beyond) = out.split_at_mut(whole * c);
        for (pair, out) in pairs.chunks_exact(2 * c).zip(joined.chunks_exact_mut(c)) {
            let (first, second) = pair.split_at(c);
            for ((out, first), second) in out.iter_mut().zip(first).zip(second) {
                *out = u32::from(first.bits()) | u32::from(second.bits()) << 16;
            }
        }
        beyond.fill(0);
        for (out, first) in beyond.iter_mut().zip(rest) {
            *out = u32::from(first.bits());
        }
    }

    /// `sums[i, o] += sum over pairs of (gradient[o] . map[i])`, `[pairs, C]` words each, in blocks of `O` vectors of 16
    /// outputs by `I` inputs that stay in registers over the row.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn add_products<const O: usize, const I: usize>(
        gradient: &[u32],
        map: &[u32],
        c: usize,
        pairs: usize,
        sums: &mut [f32],
    ) {
        assert!(gradient.len() >= pairs * c && map.len() >= pairs * c && sums.len() == c * c, "rows hold all pairs");
        assert!(c.is_multiple_of(16 * O) && c.is_multiple_of(I), "blocks cover all features");
        for (o, i) in (0..c).step_by(16 * O).flat_map(|o| (0..c).step_by(I).map(move |i| (o, i))) {
            let mut held = [[_mm512_setzero_ps(); O]; I];
            for (k, held) in held.iter_mut().enumerate() {
                for (v, held) in held.iter_mut().enumerate() {
                    *held = load(&sums[(i + k) * c + o + 16 * v..]);
                }
            }
            for (gradient, map) in gradient.chunks_exact(c).zip(map.chunks_exact(c)).take(pairs) {
                let mut outputs = [pairs_of(_mm512_set1_epi32(0)); O];
                for (v, outputs) in outputs.iter_mut().enumerate() {
                    *outputs = pairs_of(load_words(&gradient[o + 16 * v..]));
                }
                for (held, input) in held.iter_mut().zip(&map[i..i + I]) {
                    let input = pairs_of(_mm512_set1_epi32(input.cast_signed()));
                    for (held, output) in held.iter_mut().zip(outputs) {
                        *held = _mm512_dpbf16_ps(*held, output, input);
                    }
                }
            }
            for (k, held) in held.iter().enumerate() {
                for (v, held) in held.iter().enumerate() {
                    store(&mut sums[(i + k) * c + o + 16 * v..], *held);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "vector loads take pointers")]
    fn load(from: &[f32]) -> __m512 {
        let from = &from[..16];
        // SAFETY: 16 numbers.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "vector loads take pointers")]
    fn load_words(from: &[u32]) -> __m512i {
        let from = &from[..16];
        // SAFETY: 16 words.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "vector stores take pointers")]
    fn store(to: &mut [f32], x: __m512) {
        let to = &mut to[..16];
        // SAFETY: 16 numbers.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
    }

    /// The same 512 bits, as pairs of bf16.
    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "a change of type without a function of its own")]
    fn pairs_of(x: __m512i) -> __m512bh {
        // SAFETY: both are any 512 bits.
        unsafe { std::mem::transmute(x) }
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use simulators::rng::{Purpose, Seed, stream};
    use tch::Device;

    use super::*;

    /// Both ways against the definition, on small whole numbers, whose sums are exact. Odd and even worlds, one and two
    /// vectors of features, and features that only autograd takes.
    #[test]
    fn the_sum_is_the_definition_whichever_way_it_is_made() {
        for (world, features) in [(5, 16), (6, 32), (4, 64), (5, 3)] {
            let g = Geometry { batch: 2, velocities: 2, world, window: 3, features };
            let mut rng = stream(Seed(5), Purpose::World, features as u64);
            let len = g.batch * g.velocities * g.padded_plane();
            let mut whole = || (0..len).map(|_| f32::from(rng.random_range(-2i8..=2))).collect::<Vec<_>>();
            let (map, gradient) = (whole(), whole());
            let (side, c) = (world + 2, features);
            let size = [(g.batch * g.velocities) as i64, side as i64, side as i64, c as i64];
            let tensor = |x: &[f32]| Tensor::from_slice(x).view(size).to_kind(Kind::BFloat16);
            let (map_tensor, gradient_tensor) = (tensor(&map), tensor(&gradient));
            let weight = Tensor::zeros([c as i64, c as i64, 3, 3], (Kind::BFloat16, Device::Cpu));
            let fastest = WeightGradient::zero::<Bf16>(&g);
            let taped = WeightGradient::Taped(weight.to_kind(Kind::Float));
            for mut sum in [fastest, taped] {
                for _ in 0..2 {
                    sum.add(&g, &map_tensor, &gradient_tensor, &weight);
                }
                let total = sum.total(&g);
                for [o, i, ky, kx] in [[0, 0, 0, 0], [c - 1, 0, 2, 1], [1, c - 1, 1, 2], [c / 2, 1, 0, 2]] {
                    let mut expected = 0.0;
                    for plane in 0..g.batch * g.velocities {
                        for (r, q) in (0..world).flat_map(|r| (0..world).map(move |q| (r, q))) {
                            let at = |r: usize, q: usize, f: usize| ((plane * side + r) * side + q) * c + f;
                            expected += gradient[at(r + 1, q + 1, o)] * map[at(r + ky, q + kx, i)];
                        }
                    }
                    let found = total.double_value(&[o as i64, i as i64, ky as i64, kx as i64]);
                    // Whole numbers: written out, they are equal or they are not.
                    assert_eq!(found.to_string(), (2.0 * expected).to_string(), "{g:?} [{o}, {i}, {ky}, {kx}]");
                }
            }
        }
    }
}
