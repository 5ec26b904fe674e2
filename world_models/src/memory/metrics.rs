//! Pixel errors by predicted step: MSE, PSNR of the global MSE, SSIM; sums over clips that merge exactly.
//!
//! The protocol is FloWM's: not-a-number becomes 0 and values are clamped to `[0, 1]` before anything is measured, so
//! that numbers compare with the paper's; here both are counted as well, because a model that needs it should be seen
//! to. Gray frames need no repetition to three channels: every metric below is a mean over channels.

use serde::{Deserialize, Serialize};

/// How many predicted values had to be repaired before they could be measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repairs {
    /// Not-a-number (measured as 0) or infinite (measured as 0 or 1, by sign).
    pub not_finite: u64,
    /// Finite, outside of `[0, 1]`, clamped.
    pub clamped: u64,
}

impl Repairs {
    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: Self) {
        self.not_finite += other.not_finite;
        self.clamped += other.clamped;
    }
}

/// Copies a prediction as it is measured: not-a-number as 0, the rest clamped to `[0, 1]`. Says how often it had to.
///
/// # Panics
/// When the slices differ in length.
pub fn clean(prediction: &[f32], out: &mut [f32]) -> Repairs {
    assert_eq!(prediction.len(), out.len(), "one output per value");
    let mut repairs = Repairs::default();
    for (out, &value) in out.iter_mut().zip(prediction) {
        *out = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
        repairs.not_finite += u64::from(!value.is_finite());
        repairs.clamped += u64::from(value.is_finite() && !(0.0..=1.0).contains(&value));
    }
    repairs
}

/// Bytes to `[0, 1]`, exactly as models see them: divided by 255.
///
/// # Panics
/// When the slices differ in length.
pub fn unit_interval(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len(), "one output per byte");
    for (out, &byte) in out.iter_mut().zip(bytes) {
        *out = f32::from(byte) / 255.0;
    }
}

/// Squared error of each pixel, mean over channels: two frames `[H, W, C]` to `out [H, W]`.
///
/// # Panics
/// When the slices do not fit each other.
pub fn squared_error(prediction: &[f32], truth: &[f32], channels: usize, out: &mut [f32]) {
    assert_eq!((prediction.len(), truth.len()), (out.len() * channels, out.len() * channels), "frames are [H, W, C]");
    if channels == 1 {
        for ((out, p), t) in out.iter_mut().zip(prediction).zip(truth) {
            *out = (p - t) * (p - t);
        }
    } else {
        let pixels = prediction.chunks_exact(channels).zip(truth.chunks_exact(channels));
        for (out, (p, t)) in out.iter_mut().zip(pixels) {
            *out = p.iter().zip(t).map(|(p, t)| (p - t) * (p - t)).sum::<f32>() / channels as f32;
        }
    }
}

/// The sum of many small numbers, in `f64`.
#[must_use]
pub fn total(values: &[f32]) -> f64 {
    // Eight partial sums, so that the additions need not wait for one another.
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for eight in eights {
        for (sum, &value) in sums.iter_mut().zip(eight) {
            *sum += f64::from(value);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value)).sum::<f64>()
}

/// Peak signal-to-noise ratio in dB of values in `[0, 1]`: `-10 log10(mse)`. `None` where there is no error (it is
/// infinite).
#[must_use]
pub fn psnr(mse: f64) -> Option<f64> {
    (mse > 0.0).then(|| 0.0 - 10.0 * mse.log10())
}

/// Errors of one row (a model or a baseline), summed over clips and kept apart by predicted step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSums {
    clips: u64,
    /// `[horizon]`: mean squared error of a frame, summed over clips.
    mse: Vec<f64>,
    /// `[horizon]`: SSIM of a frame, summed over clips.
    ssim: Vec<f64>,
}

impl StepSums {
    /// No clips yet; steps are `0..horizon`.
    #[must_use]
    pub fn new(horizon: usize) -> Self {
        Self { clips: 0, mse: vec![0.0; horizon], ssim: vec![0.0; horizon] }
    }

    /// Adds a clip: the mean squared error and the SSIM of each of its frames.
    ///
    /// # Panics
    /// When there are not `horizon` frames.
    pub fn add_clip(&mut self, frames: impl ExactSizeIterator<Item = (f64, f64)>) {
        assert_eq!(frames.len(), self.mse.len(), "one frame per step");
        self.clips += 1;
        for (step, (mse, ssim)) in frames.enumerate() {
            self.mse[step] += mse;
            self.ssim[step] += ssim;
        }
    }

    /// Adds the sums of other clips.
    ///
    /// # Panics
    /// When the horizons differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.mse.len(), other.mse.len(), "same horizon");
        self.clips += other.clips;
        for (sum, more) in [(&mut self.mse, &other.mse), (&mut self.ssim, &other.ssim)] {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }

    /// Clips added so far.
    #[must_use]
    pub fn clips(&self) -> u64 {
        self.clips
    }

    /// Mean squared error at each step, `[horizon]`. Not-a-number before the first clip.
    #[must_use]
    pub fn mse(&self) -> Vec<f64> {
        self.mse.iter().map(|sum| sum / self.clips as f64).collect()
    }

    /// SSIM at each step, `[horizon]`. Not-a-number before the first clip.
    #[must_use]
    pub fn ssim(&self) -> Vec<f64> {
        self.ssim.iter().map(|sum| sum / self.clips as f64).collect()
    }
}

/// The mean of the first `steps` entries: what papers call the error "at" a horizon.
///
/// # Panics
/// When the curve is shorter, or `steps` is 0.
#[must_use]
pub fn up_to(curve: &[f64], steps: usize) -> f64 {
    assert!(steps > 0, "a horizon has at least one step");
    curve[..steps].iter().sum::<f64>() / steps as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_made_and_counted() {
        let mut out = vec![9.0; 6];
        let repairs = clean(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.5, 1.5, 0.25], &mut out);
        assert_eq!(out, [0.0, 1.0, 0.0, 0.0, 1.0, 0.25]);
        assert_eq!(repairs, Repairs { not_finite: 3, clamped: 2 });
    }

    #[test]
    fn squared_error_by_hand() {
        let mut gray = vec![0.0; 2];
        squared_error(&[0.5, 1.0], &[0.0, 0.75], 1, &mut gray);
        assert_eq!(gray, [0.25, 0.0625]);
        let mut rgb = [0.0; 1]; // (0.25 + 0.0625 + 0) / 3
        squared_error(&[0.5, 1.0, 0.2], &[0.0, 0.75, 0.2], 3, &mut rgb);
        assert!((rgb[0] - 0.312_5 / 3.0).abs() < 1e-7);
    }

    #[test]
    fn psnr_is_of_the_global_error() {
        // The paper's pairs: 0.0005 is 33.0 dB, 0.0018 is 27.4 dB; a perfect prediction has no finite number.
        assert!((psnr(0.0005).unwrap() - 33.010_3).abs() < 1e-4);
        assert!((psnr(0.01).unwrap() - 20.0).abs() < 1e-12);
        assert_eq!(psnr(0.0), None);
        // Two clips with errors 0.02 and 0: the global error is 0.01 and so 20 dB; a mean of ratios would be infinite.
        let mut sums = StepSums::new(1);
        sums.add_clip([(0.02, 1.0)].into_iter());
        sums.add_clip([(0.0, 1.0)].into_iter());
        assert!((psnr(sums.mse()[0]).unwrap() - 20.0).abs() < 1e-12);
    }

    #[test]
    fn a_horizon_is_the_mean_up_to_it() {
        let mut sums = StepSums::new(3);
        sums.add_clip([(0.1, 0.9), (0.2, 0.8), (0.6, 0.1)].into_iter());
        let mut more = StepSums::new(3);
        more.add_clip([(0.3, 0.7), (0.4, 0.6), (0.0, 0.3)].into_iter());
        sums.merge(&more);
        assert_eq!(sums.clips(), 2);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(sums.mse().iter().zip([0.2, 0.3, 0.3]).all(|(&a, b)| close(a, b)));
        assert!(close(up_to(&sums.mse(), 2), 0.25) && close(up_to(&sums.ssim(), 3), (0.8 + 0.7 + 0.2) / 3.0));
    }

    #[test]
    fn totals_do_not_drop_the_remainder() {
        let values: Vec<f32> = (1..=21).map(|i| i as f32).collect();
        assert!((total(&values) - 231.0).abs() < 1e-12);
    }
}
