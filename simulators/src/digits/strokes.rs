//! Draws one handwritten-looking digit: a glyph's strokes, bent, slanted, sized, centred and inked.
//!
//! Lengths are parts of the patch's side unless a name ends in `_px`, so a digit looks alike at every size.

use super::PATCH_STRIDE;
use super::glyphs::{GLYPHS, Stroke};
use crate::rng::Rng;
use rand::RngExt;

/// A point `(x, y)`, y downward.
type Point = [f32; 2];

/// Pieces that a smooth stroke is cut into between two of its points.
const PIECES: usize = 6;

/// Larger side of the box that a digit's path fills, on average: MNIST fits digits with their ink into 20 of 28 pixels.
const EXTENT: f32 = 0.63;

/// Median half width of the pen; with it a bank has MNIST's ink (mean square of about 0.112).
const HALF_WIDTH: f32 = 0.0458;

/// Width over which ink fades at the edge of a stroke, in pixels of the patch.
const EDGE_PX: f32 = 1.5;

/// Draws a digit of this label into `patch [side, PATCH_STRIDE]`, 0 paper and 255 ink.
pub(super) fn draw(label: usize, side: usize, rng: &mut Rng, patch: &mut [u8]) {
    let variants = GLYPHS[label];
    let glyph = variants[rng.random_range(0..variants.len() as u32) as usize];
    let bend = Bend::random(rng);
    let mut paths: Vec<Vec<Point>> = glyph.iter().map(|stroke| trace(stroke, &bend)).collect();
    place(&mut paths, rng);

    let half_width = HALF_WIDTH * libm::expf(spread(rng, 0.42));
    let pressure = Wave::random(rng, 0.18, 6.0);
    let mut darkness = vec![0.0; side * side];
    for piece in paths.iter().flat_map(|path| path.windows(2)) {
        ink_piece([piece[0], piece[1]], half_width * (1.0 + pressure.at(piece[0])), side, &mut darkness);
    }
    for (row, dark) in patch.chunks_exact_mut(PATCH_STRIDE).zip(darkness.chunks_exact(side)) {
        for (pixel, dark) in row.iter_mut().zip(dark) {
            *pixel = (dark * 255.0 + 0.5) as u8;
        }
    }
}

/// A number around 0 and within `-width..width`, more often near 0 than far from it.
fn spread(rng: &mut Rng, width: f32) -> f32 {
    (rng.random::<f32>() - rng.random::<f32>()) * width
}

/// A plane wave `amplitude * sin(k . p + phase)` over the unit box.
struct Wave {
    amplitude: f32,
    k: Point,
    phase: f32,
}

impl Wave {
    fn random(rng: &mut Rng, amplitude: f32, k: f32) -> Self {
        let k = [spread(rng, k), spread(rng, k)];
        Self { amplitude, k, phase: rng.random::<f32>() * std::f32::consts::TAU }
    }

    fn at(&self, p: Point) -> f32 {
        self.amplitude * libm::sinf(self.k[0] * p[0] + self.k[1] * p[1] + self.phase)
    }
}

/// Smooth displacement of the unit box. It moves points by where they are, so strokes that meet keep meeting.
struct Bend {
    /// For each axis a slow wave and a quicker, weaker one.
    waves: [[Wave; 2]; 2],
}

impl Bend {
    fn random(rng: &mut Rng) -> Self {
        let mut pair = || [Wave::random(rng, 0.08, 5.0), Wave::random(rng, 0.03, 10.0)];
        Self { waves: [pair(), pair()] }
    }

    fn apply(&self, p: Point) -> Point {
        [0, 1].map(|axis| p[axis] + self.waves[axis].iter().map(|wave| wave.at(p)).sum::<f32>())
    }
}

/// The bent path of a stroke. Smooth strokes are uniform Catmull-Rom splines: through every point, with the direction of
/// its neighbours' difference.
fn trace(stroke: &Stroke, bend: &Bend) -> Vec<Point> {
    let points = stroke.points;
    let last = points.len() - 1;
    let mut path = Vec::with_capacity(last * PIECES + 1);
    for i in 0..last {
        let [before, from, to, after] = [i.saturating_sub(1), i, i + 1, (i + 2).min(last)].map(|j| points[j]);
        for piece in 0..PIECES {
            let t = piece as f32 / PIECES as f32;
            path.push(bend.apply([0, 1].map(|axis| {
                if stroke.straight {
                    return from[axis] + t * (to[axis] - from[axis]);
                }
                let (m0, m1) = ((to[axis] - before[axis]) / 2.0, (after[axis] - from[axis]) / 2.0);
                let rise = to[axis] - from[axis];
                from[axis] + t * (m0 + t * ((3.0 * rise - 2.0 * m0 - m1) + t * (m0 + m1 - 2.0 * rise)))
            })));
        }
    }
    path.push(bend.apply(points[last]));
    path
}

/// Turns, slants and stretches the paths, fits them to [`EXTENT`] and moves their centre of mass to the patch's.
fn place(paths: &mut [Vec<Point>], rng: &mut Rng) {
    let turn = spread(rng, 0.28);
    let (sin, cos) = (libm::sinf(turn), libm::cosf(turn));
    let slant = 0.12 + spread(rng, 0.45); // writers lean to the right more often than to the left
    let stretch = 0.92 * libm::expf(spread(rng, 0.38));
    let extent = EXTENT * (1.0 + spread(rng, 0.10));
    for p in paths.iter_mut().flatten() {
        let [x, y] = [p[0] * stretch - slant * p[1], p[1]];
        *p = [cos * x - sin * y, sin * x + cos * y];
    }

    let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
    let (mut mass, mut centre) = (0.0, [0.0; 2]);
    for path in paths.iter() {
        for piece in path.windows(2) {
            let (a, b) = (piece[0], piece[1]);
            let length = length([b[0] - a[0], b[1] - a[1]]);
            mass += length;
            for axis in [0, 1] {
                low[axis] = low[axis].min(a[axis]).min(b[axis]);
                high[axis] = high[axis].max(a[axis]).max(b[axis]);
                centre[axis] += length * (a[axis] + b[axis]) / 2.0;
            }
        }
    }
    let scale = extent / (high[0] - low[0]).max(high[1] - low[1]);
    // The ink's centre goes to the middle of the patch, as MNIST has it, but not so far that the path leaves its margin.
    let margin = 0.12;
    let shift = [0, 1].map(|axis| {
        let wish = 0.5 - scale * centre[axis] / mass;
        wish.min(1.0 - margin - scale * high[axis]).max(margin - scale * low[axis])
    });
    for p in paths.iter_mut().flatten() {
        *p = [0, 1].map(|axis| scale * p[axis] + shift[axis]);
    }
}

fn length(v: Point) -> f32 {
    (v[0] * v[0] + v[1] * v[1]).sqrt()
}

/// Darkens the pixels around one straight piece of a path: full ink inside the pen's half width, fading over its edge.
fn ink_piece([a, b]: [Point; 2], half_width: f32, side: usize, darkness: &mut [f32]) {
    let px = side as f32;
    let (a, b, half_width_px) = (a.map(|v| v * px), b.map(|v| v * px), half_width * px);
    // A pen finer than a pixel still leaves a mark, only a lighter one: never a gap between pixels.
    let reach = half_width_px + EDGE_PX / 2.0;
    let ab = [b[0] - a[0], b[1] - a[1]];
    let squared = (ab[0] * ab[0] + ab[1] * ab[1]).max(1e-12);
    let range = |axis: usize| {
        let first = (a[axis].min(b[axis]) - reach - 0.5).max(0.0) as usize;
        let end = ((a[axis].max(b[axis]) + reach + 0.5).max(0.0) as usize).min(side);
        first..end
    };
    for row in range(1) {
        for col in range(0) {
            let p = [col as f32 + 0.5 - a[0], row as f32 + 0.5 - a[1]];
            let along = ((p[0] * ab[0] + p[1] * ab[1]) / squared).clamp(0.0, 1.0);
            let distance = length([p[0] - along * ab[0], p[1] - along * ab[1]]);
            let dark = ((reach - distance) / EDGE_PX).clamp(0.0, 1.0);
            let pixel = &mut darkness[row * side + col];
            *pixel = pixel.max(dark);
        }
    }
}
