//! Structural similarity of two frames, number for number what torchmetrics computes.
//!
//! `StructuralSimilarityIndexMeasure(data_range=1.0)`: an 11 x 11 Gaussian of sigma 1.5 gives local means, variances
//! (not below zero) and covariance; frames are padded by reflection without repeating the edge; `K = (0.01, 0.03)`. The
//! index of a frame is the mean over its pixels and channels. Source: Wang et al. 2004, eq. 13.
//!
//! What is averaged changed over time: since torchmetrics 1.4.2 every pixel, before that only those whose window needed
//! no padding (five pixels cut off on each side). Both are offered, because papers name the metric but seldom the
//! version.

use serde::{Deserialize, Serialize};

use super::metrics::total;
use super::{FrameShape, MemoryError};

/// Half the width of the window: 11 = 2 * 5 + 1.
const REACH: usize = 5;
const SIGMA: f64 = 1.5;
const C1: f32 = 0.01 * 0.01;
const C2: f32 = 0.03 * 0.03;

/// Which pixels the mean is taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SsimBorder {
    /// All pixels: torchmetrics 1.4.2 and later.
    #[default]
    Full,
    /// Without the outer five pixels: torchmetrics up to 1.4.1.
    Cropped,
}

impl SsimBorder {
    /// Pixels left out on each side.
    fn cut(self) -> usize {
        match self {
            Self::Full => 0,
            Self::Cropped => REACH,
        }
    }
}

/// A frame with its local moments, made by [`Ssim::measure`]. What is compared more than once is measured only once.
#[derive(Debug, Clone)]
pub struct Moments(Vec<Plane>);

/// A channel `[H + 10, W + 10]`, its mean, its local mean and its local variance `[H, W]`.
#[derive(Debug, Clone)]
struct Plane {
    center: f32,
    padded: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// Measures and compares frames of one shape.
#[derive(Debug, Clone)]
pub struct Ssim {
    shape: FrameShape,
    border: SsimBorder,
    /// Weights of the window at distance 0..=5 from its centre.
    taps: [f32; REACH + 1],
    /// Scratch: a padded row, a padded channel and a channel.
    row: Vec<f32>,
    squares: Vec<f32>,
    mean_squares: Vec<f32>,
}

impl Ssim {
    /// Buffers for frames of `shape`.
    ///
    /// # Errors
    /// Frames need at least 6 pixels a side for the reflection, and 11 where the border is cut off.
    pub fn new(shape: FrameShape, border: SsimBorder) -> Result<Self, MemoryError> {
        let least = (REACH + 1).max(2 * border.cut() + 1);
        if shape.height < least || shape.width < least {
            return Err(MemoryError::FrameTooSmall { height: shape.height, width: shape.width, least });
        }
        let weight = |distance: usize| (-0.5 * (distance as f64 / SIGMA).powi(2)).exp();
        let sum = weight(0) + 2.0 * (1..=REACH).map(weight).sum::<f64>();
        let stride = shape.width + 2 * REACH;
        let mut taps: [f32; REACH + 1] = std::array::from_fn(|distance| (weight(distance) / sum) as f32);
        // Rounded weights would not add up to one, and flat frames would then seem to vary.
        taps[0] = (1.0 - 2.0 * taps[1..].iter().map(|&tap| f64::from(tap)).sum::<f64>()) as f32;
        Ok(Self {
            shape,
            border,
            taps,
            row: vec![0.0; stride],
            squares: vec![0.0; (shape.height + 2 * REACH) * stride],
            mean_squares: vec![0.0; shape.pixels()],
        })
    }

    /// Room for the moments of a frame; those of a black one.
    #[must_use]
    pub fn moments(&self) -> Moments {
        let plane = Plane {
            center: 0.0,
            padded: vec![0.0; self.squares.len()],
            mean: vec![0.0; self.shape.pixels()],
            variance: vec![0.0; self.shape.pixels()],
        };
        Moments(vec![plane; self.shape.channels])
    }

    /// Takes the moments of a frame `[H, W, C]`, values in `[0, 1]`.
    ///
    /// # Panics
    /// When the frame is not of this shape.
    pub fn measure(&mut self, frame: &[f32], moments: &mut Moments) {
        assert_eq!(frame.len(), self.shape.values(), "frames are [H, W, C]");
        for (channel, plane) in moments.0.iter_mut().enumerate() {
            pad(self.shape, frame, channel, &mut plane.padded);
            blur(self.shape, &self.taps, &plane.padded, &mut self.row, &mut plane.mean);
            let center = (total(&plane.padded) / plane.padded.len() as f64) as f32;
            for (square, value) in self.squares.iter_mut().zip(&plane.padded) {
                *square = (value - center) * (value - center);
            }
            blur(self.shape, &self.taps, &self.squares, &mut self.row, &mut plane.variance);
            for (variance, mean) in plane.variance.iter_mut().zip(&plane.mean) {
                *variance = (*variance - (mean - center) * (mean - center)).max(0.0);
            }
            plane.center = center;
        }
    }

    /// The index of two frames: the mean over pixels and channels of
    /// `(2 ma mb + C1) / (ma^2 + mb^2 + C1) * (2 cov + C2) / (va + vb + C2)`.
    ///
    /// It is computed from the difference `d = a - b`, as `(1 - md^2 / (..)) * (1 - vd / (..))`, and every variance
    /// about the centre of its frame: the same number, but what cancels in single precision is then small.
    pub fn compare(&mut self, a: &Moments, b: &Moments) -> f64 {
        let (cut, width) = (self.border.cut(), self.shape.width);
        let mut sum = 0.0;
        for (a, b) in a.0.iter().zip(&b.0) {
            let center = a.center - b.center;
            for ((square, a), b) in self.squares.iter_mut().zip(&a.padded).zip(&b.padded) {
                *square = (a - b - center) * (a - b - center);
            }
            blur(self.shape, &self.taps, &self.squares, &mut self.row, &mut self.mean_squares);
            for r in cut..self.shape.height - cut {
                let columns = r * width + cut..(r + 1) * width - cut;
                let index = &mut self.row[..columns.len()];
                let a = a.mean[columns.clone()].iter().zip(&a.variance[columns.clone()]);
                let b = b.mean[columns.clone()].iter().zip(&b.variance[columns.clone()]);
                for (index, (((ma, va), (mb, vb)), dd)) in
                    index.iter_mut().zip(a.zip(b).zip(&self.mean_squares[columns]))
                {
                    let md = ma - mb;
                    let vd = dd - (md - center) * (md - center);
                    *index = (1.0 - md * md / (ma * ma + mb * mb + C1)) * (1.0 - vd / (va + vb + C2));
                }
                sum += total(index);
            }
        }
        sum / ((self.shape.height - 2 * cut) * (width - 2 * cut) * self.shape.channels) as f64
    }
}

/// The index of one pair of frames `[H, W, C]`, values in `[0, 1]`.
///
/// # Errors
/// As [`Ssim::new`].
///
/// # Panics
/// As [`Ssim::measure`].
pub fn ssim(shape: FrameShape, border: SsimBorder, prediction: &[f32], truth: &[f32]) -> Result<f64, MemoryError> {
    let mut ssim = Ssim::new(shape, border)?;
    let [mut a, mut b] = [ssim.moments(), ssim.moments()];
    ssim.measure(prediction, &mut a);
    ssim.measure(truth, &mut b);
    Ok(ssim.compare(&a, &b))
}

/// Copies one channel into the middle of `padded [H + 10, W + 10]` and mirrors it outwards; the edge itself is not
/// repeated.
fn pad(shape: FrameShape, frame: &[f32], channel: usize, padded: &mut [f32]) {
    let FrameShape { height, width, channels } = shape;
    let stride = width + 2 * REACH;
    for r in 0..height {
        let from = &frame[r * width * channels..(r + 1) * width * channels];
        let to = &mut padded[(r + REACH) * stride..(r + REACH + 1) * stride];
        for (to, from) in to[REACH..].iter_mut().zip(from.iter().skip(channel).step_by(channels)) {
            *to = *from;
        }
        for distance in 1..=REACH {
            to[REACH - distance] = to[REACH + distance];
            to[REACH + width - 1 + distance] = to[REACH + width - 1 - distance];
        }
    }
    for distance in 1..=REACH {
        let (top, bottom) = (REACH, REACH + height - 1);
        padded.copy_within((top + distance) * stride..(top + distance + 1) * stride, (top - distance) * stride);
        padded
            .copy_within((bottom - distance) * stride..(bottom - distance + 1) * stride, (bottom + distance) * stride);
    }
}

/// The Gaussian mean around each pixel: `padded [H + 10, W + 10]` to `out [H, W]`, rows first, then columns.
///
/// `row [W + 10]` is scratch. Both loops run over whole rows, with the eleven taps unrolled: that is what vectorises.
fn blur(shape: FrameShape, taps: &[f32; REACH + 1], padded: &[f32], row: &mut [f32], out: &mut [f32]) {
    let stride = shape.width + 2 * REACH;
    let [t0, t1, t2, t3, t4, t5] = *taps;
    let row = &mut row[..stride];
    for (r, out) in out.chunks_exact_mut(shape.width).enumerate() {
        let above: [&[f32]; 2 * REACH + 1] = std::array::from_fn(|k| &padded[(r + k) * stride..][..stride]);
        for (c, value) in row.iter_mut().enumerate() {
            *value = t0 * above[5][c]
                + t1 * (above[4][c] + above[6][c])
                + t2 * (above[3][c] + above[7][c])
                + t3 * (above[2][c] + above[8][c])
                + t4 * (above[1][c] + above[9][c])
                + t5 * (above[0][c] + above[10][c]);
        }
        let beside: [&[f32]; 2 * REACH + 1] = std::array::from_fn(|k| &row[k..][..shape.width]);
        for (c, value) in out.iter_mut().enumerate() {
            *value = t0 * beside[5][c]
                + t1 * (beside[4][c] + beside[6][c])
                + t2 * (beside[3][c] + beside[7][c])
                + t3 * (beside[2][c] + beside[8][c])
                + t4 * (beside[1][c] + beside[9][c])
                + t5 * (beside[0][c] + beside[10][c]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(side: usize) -> FrameShape {
        FrameShape::new([side, side, 1])
    }

    #[test]
    fn a_frame_is_like_itself() {
        let frame: Vec<f32> = (0..256).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
        for border in [SsimBorder::Full, SsimBorder::Cropped] {
            assert_eq!(ssim(square(16), border, &frame, &frame), Ok(1.0));
        }
    }

    #[test]
    fn flat_frames_differ_by_their_luminance_alone() {
        // Variances and covariance are 0: (2 p t + C1) / (p^2 + t^2 + C1) with p t = 0.08, p^2 + t^2 = 0.2, C1 =
        // 0.0001.
        let index = ssim(square(12), SsimBorder::Full, &[0.2; 144], &[0.4; 144]).unwrap();
        assert!((index - 0.1601 / 0.2001).abs() < 1e-4, "{index}");
    }

    #[test]
    fn the_window_sums_to_one_and_channels_average() {
        let taps = Ssim::new(square(11), SsimBorder::Full).unwrap().taps;
        assert!((taps[0] + 2.0 * taps[1..].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let gray: Vec<f32> = (0..144).map(|i| (i % 7) as f32 / 7.0).collect();
        let other: Vec<f32> = (0..144).map(|i| (i % 5) as f32 / 5.0).collect();
        let rgb = |frame: &[f32]| frame.iter().flat_map(|&x| [x, x, x]).collect::<Vec<_>>();
        let one = ssim(square(12), SsimBorder::Full, &gray, &other).unwrap();
        let three = ssim(FrameShape::new([12, 12, 3]), SsimBorder::Full, &rgb(&gray), &rgb(&other)).unwrap();
        assert!((one - three).abs() < 1e-12, "{one} {three}");
    }

    #[test]
    fn small_frames_are_refused_with_the_side_that_works() {
        assert_eq!(
            Ssim::new(square(5), SsimBorder::Full).unwrap_err(),
            MemoryError::FrameTooSmall { height: 5, width: 5, least: 6 }
        );
        assert_eq!(
            Ssim::new(square(10), SsimBorder::Cropped).unwrap_err(),
            MemoryError::FrameTooSmall { height: 10, width: 10, least: 11 }
        );
        assert!(Ssim::new(square(6), SsimBorder::Full).is_ok());
    }
}
