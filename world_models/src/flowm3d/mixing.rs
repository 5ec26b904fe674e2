//! The mixing of velocity channels. Equivariance to flow ends at a wall, where a block turns round: there its content has to change to
//! another channel.
//!
//! As published it is a 3x3 convolution on the torus that each feature does on its own, over all its channels. Being linear, and the same
//! everywhere, it cannot know where walls are. [`reflect`] can: it looks at what rests in the cell ahead.
//!
//! [`convolve`] is the convolution in tensor operations. On a CPU, libtorch takes longer over it than over all attention of a small
//! model, most of it to put features last again. [`Mixer`] leaves them where they are, and takes the motion that comes before it
//! along: it reads each cell where it was. A sample is worked on by one thread, and sums over samples are
//! made in their order, so that the number of threads does not matter.

#![expect(clippy::inline_always, reason = "a body is compiled for a processor's features only where it is inlined")]

use rayon::prelude::*;
use tch::{Tensor, nn};

use super::config::Mixing;
use super::geometry::VELOCITIES;
use super::layers::Maker;
use crate::raw::{Element, for_every_cpu, slice, slice_mut};

/// The weights of one way to mix.
#[derive(Debug)]
pub enum Mix {
    /// `[D V, V, 3, 3]`, a group for each feature; input and output channel `d V + v` is feature `d` of velocity `v`.
    Convolution(Tensor),
    /// Whether what rests in a cell is a wall: weight `[1, D]` and bias `[1]`.
    Reflection([Tensor; 2]),
}

impl Mix {
    /// The weights that training begins with; nothing is there to be mixed without velocities, and nothing to reflect.
    pub fn new(path: &nn::Path<'_>, mixing: Mixing, features: i64, channels: i64, maker: &mut Maker) -> Option<Self> {
        /// Nothing is a wall to begin with, or hardly.
        const OPEN: f32 = -4.0;
        if mixing == Mixing::Reflecting {
            let path = path / "reflection";
            let mut gate = |name, shape: &[i64], value| maker.constant(&path, name, shape, value);
            let gate =
                (channels > 1).then(|| [gate("weight", &[1, features], 0.0), gate("bias", &[1], OPEN / STEEP as f32)]);
            return gate.map(Self::Reflection);
        }
        let shape = [features * channels, channels, 3, 3];
        let values = initial(mixing, features, channels)?;
        Some(Self::Convolution(maker.values(&(path / "v_channel_mixing"), "weight", &shape, &values)))
    }

    pub fn weights(&self) -> &[Tensor] {
        match self {
            Self::Convolution(weight) => std::slice::from_ref(weight),
            Self::Reflection(gate) => gate,
        }
    }

    /// Whether it takes what rests in cells `[B, D]` for walls, `[B]`; a convolution knows of none.
    pub fn walls(&self, rest: &Tensor) -> Option<Tensor> {
        match self {
            Self::Convolution(_) => None,
            Self::Reflection(gate) => Some(wallness(rest, gate).squeeze_dim(1).gt(0.0)),
        }
    }

    /// `[B, V, S, S, D]` -> the same, in tensor operations.
    pub fn apply(&self, map: &Tensor) -> Tensor {
        match self {
            Self::Convolution(weight) => convolve(map, weight),
            Self::Reflection(gate) => reflect(map, gate),
        }
    }
}

/// The gate's logit is so many times a linear map: few weights have to grow far, and an optimiser's step is as long for all.
const STEEP: f64 = 32.0;

/// `[.., D]` -> `[.., 1]`: the logit of what rests in a cell being a wall.
fn wallness(rest: &Tensor, [weight, bias]: &[Tensor; 2]) -> Tensor {
    rest.linear(weight, Some(bias)) * STEEP
}

/// `[B, V, S, S, D]` -> the same. Where a wall is ahead, opposite channels change places: what has come as far as it can goes back from
/// there, and what would come out of the wall goes back into it. Nothing grows.
fn reflect(map: &Tensor, gate: &[Tensor; 2]) -> Tensor {
    let (rest, moving) = (map.narrow(1, 0, 1), map.slice(1, 1, None, 1));
    let wall = wallness(&rest.squeeze_dim(1), gate).sigmoid(); // [B, S, S, 1]
    let ahead: Vec<Tensor> = VELOCITIES[1..].iter().map(|[right, down]| wall.roll([-down, -right], [1, 2])).collect();
    let free = 1.0 - Tensor::stack(&ahead, 1); // [B, V - 1, S, S, 1]
    let opposite = |x: &Tensor| x.roll([2i64], [1i64]);
    let turned = 1.0 - &free * opposite(&free);
    Tensor::cat(&[rest, moving.lerp_tensor(&opposite(&moving), &turned)], 1)
}

/// The weight of the convolution that training begins with, `[D V, V, 3, 3]`.
fn initial(mixing: Mixing, features: i64, channels: i64) -> Option<Vec<f32>> {
    const CENTRE: i64 = 4;
    let kept = match mixing {
        Mixing::None | Mixing::Reflecting => return None,
        // A Dirac kernel of one group keeps as many outputs as it has inputs: those of the first feature.
        Mixing::Faithful => channels,
        Mixing::Corrected => features * channels,
    };
    let mut weight = vec![0.0; (features * channels * channels * 9) as usize];
    for out in 0..kept {
        weight[((out * channels + out % channels) * 9 + CENTRE) as usize] = 1.0;
    }
    Some(weight)
}

/// `[B, V, S, S, D]` -> the same.
pub fn convolve(map: &Tensor, weight: &Tensor) -> Tensor {
    let [b, v, side, d] = [0, 1, 2, 4].map(|axis: usize| map.size()[axis]);
    let planes = map.permute([0, 4, 1, 2, 3]).flatten(1, 2); // [B, D V, S, S]
    let padded = planes.pad([1, 1, 1, 1], "circular", None);
    let mixed = padded.conv2d(weight, None::<&Tensor>, [1, 1], [0, 0], [1, 1], d);
    mixed.view([b, d, v, side, side]).permute([0, 2, 3, 4, 1]).contiguous()
}

/// Taps of the convolution, by row.
const TAPS: usize = 9;

/// Moves and mixes maps in memory of the CPU.
#[derive(Debug, Clone, Copy)]
pub struct Mixer<'a> {
    /// `S`.
    pub side: usize,
    /// `V`: one or five.
    pub channels: usize,
    /// `D`.
    pub features: usize,
    /// The weight, `[D V, V, 3, 3]`.
    pub weight: &'a [f32],
}

/// One step of each sample's motion: `[V S S]`, which cell of which channel the content of each place comes from.
pub type Sources<'a> = &'a [u32];

impl Mixer<'_> {
    fn sample(&self) -> usize {
        self.channels * self.side * self.side * self.features
    }

    /// `convolve` of maps `[B, V, S, S, D]` that are moved first.
    ///
    /// # Panics
    /// If the maps are not contiguous `f32` on the CPU, or there is not a motion for each.
    pub fn moved_and_mixed(&self, maps: &Tensor, motions: &[Sources<'_>]) -> Tensor {
        let weights = self.weights(|tap, to, from| (to, from, tap));
        self.of_samples(maps, motions, |map, sources, out| {
            let places = Places { side: self.side, read: Some(sources), write: None };
            mix::<f32>(self.channels, self.features, places, &weights, map, out);
        })
    }

    /// The gradient with respect to the maps before they were moved, of that with respect to what came of it.
    ///
    /// # Panics
    /// As [`Self::moved_and_mixed`].
    pub fn back(&self, gradients: &Tensor, motions: &[Sources<'_>]) -> Tensor {
        // What went into a cell by one tap comes back by the opposite one.
        let weights = self.weights(|tap, to, from| (from, to, TAPS - 1 - tap));
        self.of_samples(gradients, motions, |gradient, sources, out| {
            let places = Places { side: self.side, read: None, write: Some(sources) };
            mix::<f32>(self.channels, self.features, places, &weights, gradient, out);
        })
    }

    /// The gradient with respect to the weight.
    ///
    /// # Panics
    /// As [`Self::moved_and_mixed`].
    pub fn weight_gradient(&self, maps: &Tensor, gradients: &Tensor, motions: &[Sources<'_>]) -> Tensor {
        let (v, d) = (self.channels, self.features);
        let all = motions.len() * self.sample();
        let maps = slice::<f32>(maps, all).par_chunks_exact(self.sample());
        let gradients = slice::<f32>(gradients, all).par_chunks_exact(self.sample());
        let of_samples: Vec<Vec<f32>> = maps
            .zip(gradients)
            .zip(motions)
            .map(|((map, gradient), sources)| {
                let places = Places { side: self.side, read: Some(sources), write: None };
                let mut sums = vec![0.0; TAPS * v * v * d];
                correlate::<f32>(v, d, places, map, gradient, &mut sums);
                sums
            })
            .collect();
        let mut total = vec![0.0; TAPS * v * v * d];
        for sums in &of_samples {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        let by_tap = Tensor::from_slice(&total).view([TAPS as i64, v as i64, v as i64, d as i64]);
        by_tap.permute([3, 1, 2, 0]).reshape([(d * v) as i64, v as i64, 3, 3])
    }

    /// The weight as [`mix`] takes it: by tap, channel that is written, channel that is read, and feature; `taken` says which output,
    /// input and tap of the convolution that is.
    fn weights(&self, taken: impl Fn(usize, usize, usize) -> (usize, usize, usize)) -> Vec<f32> {
        let (v, d) = (self.channels, self.features);
        assert_eq!(self.weight.len(), d * v * v * TAPS, "a weight for each tap, and from each channel to each");
        let mut weights = vec![0.0; d * v * v * TAPS];
        for (at, of_features) in weights.chunks_exact_mut(d).enumerate() {
            let (output, input, tap) = taken(at / (v * v), at / v % v, at % v);
            for (feature, weight) in of_features.iter_mut().enumerate() {
                *weight = self.weight[((feature * v + output) * v + input) * TAPS + tap];
            }
        }
        weights
    }

    fn of_samples(
        &self,
        maps: &Tensor,
        motions: &[Sources<'_>],
        work: impl Fn(&[f32], Sources<'_>, &mut [f32]) + Sync,
    ) -> Tensor {
        let all = motions.len() * self.sample();
        let mut out = Tensor::empty(maps.size(), (tch::Kind::Float, maps.device()));
        let samples = slice::<f32>(maps, all).par_chunks_exact(self.sample());
        let outs = slice_mut::<f32>(&mut out, all).par_chunks_exact_mut(self.sample());
        samples.zip(outs).zip(motions).for_each(|((map, out), sources)| work(map, sources, out));
        out
    }
}

/// Where the places of a map lie in memory.
#[derive(Clone, Copy)]
struct Places<'a> {
    side: usize,
    /// Of what is read; none where they lie in order.
    read: Option<Sources<'a>>,
    /// Of what is written.
    write: Option<Sources<'a>>,
}

impl Places<'_> {
    #[inline(always)]
    fn at(table: Option<Sources<'_>>, place: usize) -> usize {
        table.map_or(place, |table| table[place] as usize)
    }

    /// The nine cells around one, by row.
    #[inline(always)]
    fn around(&self, cell: usize) -> [usize; TAPS] {
        let side = self.side;
        let before = |at: usize| if at == 0 { side - 1 } else { at - 1 };
        let after = |at: usize| if at + 1 == side { 0 } else { at + 1 };
        let [rows, columns] = [cell / side, cell % side].map(|at| [before(at), at, after(at)]);
        std::array::from_fn(|tap| rows[tap / 3] * side + columns[tap % 3])
    }
}

/// `sum += a[0] * b[0] + a[1] * b[1] + ..`, number by number.
#[inline(always)]
fn add_products<T: Element, const N: usize>(sum: &mut [T], a: [&[T]; N], b: [&[T]; N]) {
    let (a, b) = (a.map(|a| &a[..sum.len()]), b.map(|b| &b[..sum.len()]));
    for (i, sum) in sum.iter_mut().enumerate() {
        let mut total = sum.widen();
        for k in 0..N {
            total += a[k][i].widen() * b[k][i].widen();
        }
        *sum = T::round(total);
    }
}

for_every_cpu!(mix, mix_inner,
    (channels: usize, features: usize, places: Places<'_>, weights: &[T], map: &[T], out: &mut [T]));

#[inline(always)]
fn mix_inner<T: Element>(
    channels: usize,
    features: usize,
    places: Places<'_>,
    weights: &[T],
    map: &[T],
    out: &mut [T],
) {
    match channels {
        1 => mix_channels::<T, 1>(features, places, weights, map, out),
        5 => mix_channels::<T, 5>(features, places, weights, map, out),
        _ => unreachable!("a map has one or five velocity channels"),
    }
}

#[inline(always)]
fn mix_channels<T: Element, const V: usize>(
    features: usize,
    places: Places<'_>,
    weights: &[T],
    map: &[T],
    out: &mut [T],
) {
    let plane = places.side * places.side;
    for cell in 0..plane {
        let around = places.around(cell);
        for to in 0..V {
            out[Places::at(places.write, to * plane + cell) * features..][..features].fill(T::round(0.0));
        }
        for (tap, weights) in weights.chunks_exact(V * V * features).enumerate() {
            let read: [&[T]; V] = std::array::from_fn(|from| {
                &map[Places::at(places.read, from * plane + around[tap]) * features..][..features]
            });
            for (to, weights) in weights.chunks_exact(V * features).enumerate() {
                let sum = &mut out[Places::at(places.write, to * plane + cell) * features..][..features];
                add_products(sum, read, std::array::from_fn(|from| &weights[from * features..][..features]));
            }
        }
    }
}

for_every_cpu!(correlate, correlate_inner,
    (channels: usize, features: usize, places: Places<'_>, map: &[T], gradient: &[T], sums: &mut [T]));

/// Adds to `sums`, by tap, channel that was written, channel that was read and feature, the products of what was read and the
/// gradient of what was written.
#[inline(always)]
fn correlate_inner<T: Element>(
    channels: usize,
    features: usize,
    places: Places<'_>,
    map: &[T],
    gradient: &[T],
    sums: &mut [T],
) {
    /// So many at a time, so that sums are taken up less often.
    const CELLS: usize = 4;
    let (plane, nothing) = (places.side * places.side, vec![T::round(0.0); features]);
    for first in (0..plane).step_by(CELLS) {
        let cells: [Option<usize>; CELLS] = std::array::from_fn(|k| Some(first + k).filter(|cell| *cell < plane));
        let around = cells.map(|cell| cell.map_or([0; TAPS], |cell| places.around(cell)));
        for (tap, sums) in sums.chunks_exact_mut(channels * channels * features).enumerate() {
            for (to, sums) in sums.chunks_exact_mut(channels * features).enumerate() {
                let written: [&[T]; CELLS] = std::array::from_fn(|k| {
                    cells[k].map_or(&nothing[..], |cell| &gradient[(to * plane + cell) * features..][..features])
                });
                for (from, sum) in sums.chunks_exact_mut(features).enumerate() {
                    let read: [&[T]; CELLS] = std::array::from_fn(|k| {
                        &map[Places::at(places.read, from * plane + around[k][tap]) * features..][..features]
                    });
                    add_products(sum, read, written);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use simulators::rng::{Purpose, Seed, stream};
    use tch::{Device, Kind};

    use super::*;
    use crate::flowm3d::geometry::{MOTIONS, VELOCITIES, sources};
    use rand::RngExt;

    /// On small whole numbers, whose sums are exact: widths of whole vectors and not, with and without velocities.
    #[test]
    fn moving_and_mixing_at_once_is_the_one_after_the_other_and_so_is_the_way_back() {
        for (channels, features) in [(5usize, 16usize), (5, 40), (1, 3), (1, 32)] {
            let (side, batch) = (5usize, MOTIONS.len());
            let mut rng = stream(Seed(6), Purpose::World, features as u64);
            let mut whole = |shape: &[usize]| {
                let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
                let values: Vec<f32> =
                    (0..shape.iter().product()).map(|_: i64| f32::from(rng.random_range(-2i8..=2))).collect();
                Tensor::from_slice(&values).view(shape.as_slice())
            };
            let size = [batch, channels, side, side, features];
            let (map, gradient) = (whole(&size).set_requires_grad(true), whole(&size));
            let weight = whole(&[features * channels, channels, 3, 3]).set_requires_grad(true);
            let tables = MOTIONS.map(|motion| sources(side as i64, &VELOCITIES[..channels], motion));
            let moved: Vec<Tensor> = (0..)
                .zip(&tables)
                .map(|(b, table)| {
                    let map = map.get(b);
                    map.reshape([-1, features as i64]).index_select(0, &Tensor::from_slice(table)).view_as(&map)
                })
                .collect();
            let expected = convolve(&Tensor::stack(&moved, 0), &weight);
            let root = (&expected * &gradient).sum(Kind::Float);
            let expected_back = Tensor::run_backward(&[root], &[&map, &weight], false, false);

            let tables = tables.map(|table| table.into_iter().map(|place| place as u32).collect::<Vec<_>>());
            let motions: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
            let weight = slice::<f32>(&weight, weight.numel());
            let mixer = Mixer { side, channels, features, weight };
            assert_eq!(mixer.moved_and_mixed(&map.detach(), &motions), expected.detach());
            assert_eq!(mixer.back(&gradient, &motions), expected_back[0]);
            assert_eq!(mixer.weight_gradient(&map.detach(), &gradient, &motions), expected_back[1]);
            assert_eq!(expected.device(), Device::Cpu);
        }
    }
}
