//! What FloWM does to its map between two convolutions, fused into one pass over memory each way.
//!
//! The map is kept in co-moving frames: instead of rolling velocity channel `v` by `v - a` each step, the *place of the
//! window* in it moves the other way. So a step is a convolution of the whole map, then [`advance`]: add what the window
//! saw at the window's place, rectify, and lay a halo of one cell around each plane, which makes the next circular
//! convolution an ordinary one. [`read`] takes the maximum over velocity channels at the window's place; [`reverse`] is
//! the adjoint of both.
//!
//! Shapes, channels last: maps `[B*V, W+2, W+2, C]` with halo, `[B*V, W, W, C]` without; window pictures `[B, w, w, C]`.
//! Work is split over planes or samples, each written by one thread, so results do not depend on the number of threads.

#![expect(clippy::inline_always, reason = "a body is compiled for a processor's features only where it is inlined")]

use rayon::prelude::*;
use tch::Tensor;

use crate::raw::{Element, for_every_cpu, slice, slice_mut};

/// The sizes a kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// `B`, samples in the batch.
    pub batch: usize,
    /// `V`, velocity channels.
    pub velocities: usize,
    /// `W`, side of the torus, in cells.
    pub world: usize,
    /// `w`, side of the window.
    pub window: usize,
    /// `C`, features per cell.
    pub features: usize,
}

/// Row and column, in the stored map, of the window's top-left cell; one for each `(sample, velocity)`.
pub type Origin = [usize; 2];

impl Geometry {
    /// Elements of one row with its halo.
    pub fn padded_row(&self) -> usize {
        (self.world + 2) * self.features
    }
    /// Elements of one plane with its halo.
    pub fn padded_plane(&self) -> usize {
        (self.world + 2) * self.padded_row()
    }
    fn row(&self) -> usize {
        self.world * self.features
    }
    /// Elements of one plane without halo.
    pub fn plane(&self) -> usize {
        self.world * self.row()
    }
    /// Elements of one window picture.
    pub fn picture(&self) -> usize {
        self.window * self.window * self.features
    }
    fn planes(&self) -> usize {
        self.batch * self.velocities
    }
    /// Which row of the window lies on map row `row`, if any.
    #[inline(always)]
    fn window_row(&self, row: usize, origin: Origin) -> Option<usize> {
        let i = (row + self.world - origin[0]) % self.world;
        (i < self.window).then_some(i)
    }
    /// The window's columns as at most two runs of features in a map row: `(start in the map row, start in the window row, length)`.
    #[inline(always)]
    fn runs(&self, origin: Origin) -> [(usize, usize, usize); 2] {
        let first = self.window.min(self.world - origin[1]);
        let c = self.features;
        [(origin[1] * c, 0, first * c), (0, first * c, (self.window - first) * c)]
    }
}

/// `next = pad(relu(pre + write(seen)))`.
///
/// * `pre [B*V, W, W, C]`, the convolved map; `None` stands for zeros (the first step).
/// * `seen [B, w, w, C]` `f32`, written into every velocity channel at its origin.
/// * `next [B*V, W+2, W+2, C]`, overwritten, of the same kind as `pre`.
///
/// # Panics
/// If a shape or kind is another one.
pub fn advance<T: Element>(g: &Geometry, pre: Option<&Tensor>, seen: &Tensor, origins: &[Origin], next: &mut Tensor) {
    assert_eq!(origins.len(), g.planes(), "one origin for each sample and velocity");
    let pre = pre.map(|pre| slice::<T>(pre, g.planes() * g.plane()));
    let seen = slice::<f32>(seen, g.batch * g.picture());
    slice_mut::<T>(next, g.planes() * g.padded_plane()).par_chunks_exact_mut(g.padded_plane()).enumerate().for_each(
        |(plane, next)| {
            let pre = pre.map(|pre| &pre[plane * g.plane()..][..g.plane()]);
            let seen = &seen[plane / g.velocities * g.picture()..][..g.picture()];
            advance_plane::<T>(g, pre, seen, origins[plane], next);
        },
    );
}

for_every_cpu!(advance_plane, advance_plane_inner,
    (g: &Geometry, pre: Option<&[T]>, seen: &[f32], origin: Origin, next: &mut [T]));

#[inline(always)]
fn advance_plane_inner<T: Element>(g: &Geometry, pre: Option<&[T]>, seen: &[f32], origin: Origin, next: &mut [T]) {
    let (row, padded_row, c) = (g.row(), g.padded_row(), g.features);
    for r in 0..g.world {
        let out = &mut next[(r + 1) * padded_row..][..padded_row];
        let (body, picture) = (&mut out[c..c + row], g.window_row(r, origin));
        match (pre.map(|pre| &pre[r * row..][..row]), picture) {
            (Some(pre), None) => relu(body, pre),
            (None, None) => body.fill(T::round(0.0)),
            (pre, Some(i)) => {
                match pre {
                    Some(pre) => body.copy_from_slice(pre),
                    None => body.fill(T::round(0.0)),
                }
                let seen = &seen[i * g.window * c..][..g.window * c];
                let inside = g.runs(origin);
                for (at, from, len) in inside {
                    relu_add(&mut body[at..at + len], &seen[from..from + len]);
                }
                // The cells of this row outside the window.
                let (low, high) = (inside[1].2, inside[0].0);
                if inside[1].2 == 0 {
                    relu_in_place(&mut body[..high]);
                    relu_in_place(&mut body[high + inside[0].2..]);
                } else {
                    relu_in_place(&mut body[low..high]);
                }
            }
        }
        halo_of_row(out, c);
    }
    halo_of_plane(next, padded_row);
}

/// The larger of `x` and 0; unlike `f32::max` it lets a NaN through, so that the loss shows it.
#[inline(always)]
fn rectified(x: f32) -> f32 {
    if 0.0 > x { 0.0 } else { x }
}

#[inline(always)]
fn relu<T: Element>(out: &mut [T], x: &[T]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = T::round(rectified(x.widen()));
    }
}

#[inline(always)]
fn relu_in_place<T: Element>(x: &mut [T]) {
    for x in x {
        *x = T::round(rectified(x.widen()));
    }
}

#[inline(always)]
fn relu_add<T: Element>(x: &mut [T], add: &[f32]) {
    for (x, add) in x.iter_mut().zip(add) {
        *x = T::round(rectified(x.widen() + add));
    }
}

/// The maximum over velocity channels of what lies in the window.
///
/// * `map [B*V, W+2, W+2, C]`.
/// * `out [B, w, w, C]` `f32` and `winner [B, w, w, C]` `u8`, the first channel that has the maximum; both overwritten.
///
/// # Panics
/// If a shape or kind is another one.
pub fn read<T: Element>(g: &Geometry, map: &Tensor, origins: &[Origin], out: &mut Tensor, winner: &mut Tensor) {
    assert_eq!(origins.len(), g.planes(), "one origin for each sample and velocity");
    let map = slice::<T>(map, g.planes() * g.padded_plane());
    let out = slice_mut::<f32>(out, g.batch * g.picture());
    let winner = slice_mut::<u8>(winner, g.batch * g.picture());
    (out.par_chunks_exact_mut(g.picture()), winner.par_chunks_exact_mut(g.picture()))
        .into_par_iter()
        .enumerate()
        .for_each(|(sample, (out, winner))| {
            let map = &map[sample * g.velocities * g.padded_plane()..][..g.velocities * g.padded_plane()];
            read_sample::<T>(g, map, &origins[sample * g.velocities..][..g.velocities], out, winner);
        });
}

for_every_cpu!(read_sample, read_sample_inner,
    (g: &Geometry, map: &[T], origins: &[Origin], out: &mut [f32], winner: &mut [u8]));

#[inline(always)]
fn read_sample_inner<T: Element>(g: &Geometry, map: &[T], origins: &[Origin], out: &mut [f32], winner: &mut [u8]) {
    let width = g.window * g.features;
    for (v, origin) in origins.iter().enumerate() {
        let plane = &map[v * g.padded_plane()..][..g.padded_plane()];
        for i in 0..g.window {
            let row = &plane[((origin[0] + i) % g.world + 1) * g.padded_row() + g.features..][..g.row()];
            for (at, from, len) in g.runs(*origin) {
                let out = &mut out[i * width + from..][..len];
                let winner = &mut winner[i * width + from..][..len];
                for ((out, winner), x) in out.iter_mut().zip(winner).zip(&row[at..at + len]) {
                    let x = x.widen();
                    // A NaN wins and stays, so that the loss shows it.
                    let better = v == 0 || x > *out || x.is_nan();
                    *out = if better { x } else { *out };
                    *winner = if better { v as u8 } else { *winner };
                }
            }
        }
    }
}

/// A gradient that arrives through [`read`].
#[derive(Clone, Copy, Debug)]
pub struct ReadGradient<'a> {
    /// `[B, w, w, C]` `f32`.
    pub gradient: &'a Tensor,
    /// `[B, w, w, C]` `u8`, as [`read`] left it.
    pub winner: &'a Tensor,
    /// Where the window lay when it was read.
    pub origins: &'a [Origin],
}

/// The adjoint of [`advance`], and of [`read`] of its result.
///
/// * `through`: gradient with respect to `next` through the convolution after it, `[B*V, W, W, C]`; `None` stands for zeros.
/// * `readout`: what came through a read of `next`.
/// * `next`: the map that [`advance`] made.
/// * `pre_gradient [B*V, W+2, W+2, C]`, overwritten, with a halo so that an ordinary convolution can take it on;
///   `seen_gradient [B, w, w, C]` `f32`, overwritten.
///
/// # Panics
/// If a shape or kind is another one.
pub fn reverse<T: Element>(
    g: &Geometry,
    through: Option<&Tensor>,
    readout: Option<ReadGradient<'_>>,
    next: &Tensor,
    origins: &[Origin],
    pre_gradient: &mut Tensor,
    seen_gradient: &mut Tensor,
) {
    let through = through.map(|x| slice::<T>(x, g.planes() * g.plane()));
    let readout = readout.map(|r| {
        let len = g.batch * g.picture();
        (slice::<f32>(r.gradient, len), slice::<u8>(r.winner, len), r.origins)
    });
    let next = slice::<T>(next, g.planes() * g.padded_plane());
    let pre_gradient = slice_mut::<T>(pre_gradient, g.planes() * g.padded_plane());
    let seen_gradient = slice_mut::<f32>(seen_gradient, g.batch * g.picture());
    (
        pre_gradient.par_chunks_exact_mut(g.velocities * g.padded_plane()),
        seen_gradient.par_chunks_exact_mut(g.picture()),
    )
        .into_par_iter()
        .enumerate()
        .for_each_init(
            || vec![0.0; g.row()],
            |line, (sample, (pre_gradient, seen_gradient))| {
                seen_gradient.fill(0.0);
                for v in 0..g.velocities {
                    let plane = sample * g.velocities + v;
                    let through = through.map(|x| &x[plane * g.plane()..][..g.plane()]);
                    let readout = readout.map(|(gradient, winner, origins)| PlaneReadout {
                        gradient: &gradient[sample * g.picture()..][..g.picture()],
                        winner: &winner[sample * g.picture()..][..g.picture()],
                        velocity: v as u8,
                        origin: origins[plane],
                    });
                    let next = &next[plane * g.padded_plane()..][..g.padded_plane()];
                    let pre_gradient = &mut pre_gradient[v * g.padded_plane()..][..g.padded_plane()];
                    let arrived = Arrived { through, readout, next, origin: origins[plane] };
                    reverse_plane::<T>(g, &arrived, line, pre_gradient, seen_gradient);
                }
            },
        );
}

#[derive(Clone, Copy)]
struct PlaneReadout<'a> {
    gradient: &'a [f32],
    winner: &'a [u8],
    velocity: u8,
    origin: Origin,
}

/// One plane's share of what [`reverse`] is given.
struct Arrived<'a, T> {
    through: Option<&'a [T]>,
    readout: Option<PlaneReadout<'a>>,
    next: &'a [T],
    origin: Origin,
}

for_every_cpu!(reverse_plane, reverse_plane_inner,
    (g: &Geometry, arrived: &Arrived<'_, T>, line: &mut [f32], pre_gradient: &mut [T], seen_gradient: &mut [f32]));

#[inline(always)]
fn reverse_plane_inner<T: Element>(
    g: &Geometry,
    arrived: &Arrived<'_, T>,
    line: &mut [f32],
    pre_gradient: &mut [T],
    seen_gradient: &mut [f32],
) {
    let &Arrived { through, readout, next, origin } = arrived;
    let (row, padded_row, c, width) = (g.row(), g.padded_row(), g.features, g.window * g.features);
    for r in 0..g.world {
        match through {
            Some(through) => {
                for (x, y) in line.iter_mut().zip(&through[r * row..][..row]) {
                    *x = y.widen();
                }
            }
            None => line.fill(0.0),
        }
        if let Some(read) = readout
            && let Some(i) = g.window_row(r, read.origin)
        {
            for (at, from, len) in g.runs(read.origin) {
                let gradient = &read.gradient[i * width + from..][..len];
                let winner = &read.winner[i * width + from..][..len];
                for ((x, gradient), winner) in line[at..at + len].iter_mut().zip(gradient).zip(winner) {
                    *x += if *winner == read.velocity { *gradient } else { 0.0 };
                }
            }
        }
        let next = &next[(r + 1) * padded_row + c..][..row];
        let out = &mut pre_gradient[(r + 1) * padded_row..][..padded_row];
        for ((x, next), out) in line.iter_mut().zip(next).zip(&mut out[c..c + row]) {
            *x = if next.widen() > 0.0 { *x } else { 0.0 };
            *out = T::round(*x);
        }
        halo_of_row(out, c);
        if let Some(i) = g.window_row(r, origin) {
            for (at, from, len) in g.runs(origin) {
                let seen = &mut seen_gradient[i * width + from..][..len];
                for (seen, x) in seen.iter_mut().zip(&line[at..at + len]) {
                    *seen += x;
                }
            }
        }
    }
    halo_of_plane(pre_gradient, padded_row);
}

/// Copies the first and last cells of a padded row to where they are neighbours on the torus.
#[inline(always)]
fn halo_of_row<T: Element>(row: &mut [T], c: usize) {
    let end = row.len() - c;
    row.copy_within(end - c..end, 0);
    row.copy_within(c..2 * c, end);
}

/// The same for the first and last rows of a padded plane.
#[inline(always)]
fn halo_of_plane<T: Element>(plane: &mut [T], row: usize) {
    let end = plane.len() - row;
    plane.copy_within(end - row..end, 0);
    plane.copy_within(row..2 * row, end);
}

#[cfg(test)]
mod tests;
