//! Rows that need no learning. Each fills a frame `[H, W, C]` with values in `[0, 1]`.

use super::metrics::unit_interval;

/// *Copy last*: the last context frame, whatever the step. What a model knows that believes nothing changes.
///
/// # Panics
/// When the slices differ in length.
pub fn copy_last(last_context_frame: &[u8], out: &mut [f32]) {
    unit_interval(last_context_frame, out);
}

/// *All black*: an empty world.
pub fn all_black(out: &mut [f32]) {
    out.fill(0.0);
}

/// *Oracle*: the truth wherever the point shown had been seen, black elsewhere. What perfect memory of the context can
/// know.
///
/// `truth` and `out` are `[H, W, C]`, `last_seen` is `[H, W]` and negative for never.
///
/// # Panics
/// When the slices do not fit each other.
pub fn oracle(truth: &[u8], last_seen: &[i32], out: &mut [f32]) {
    unit_interval(truth, out);
    let channels = out.len() / last_seen.len();
    assert_eq!(out.len(), channels * last_seen.len(), "one last step per pixel");
    for (pixel, &last_seen) in out.chunks_exact_mut(channels).zip(last_seen) {
        if last_seen < 0 {
            pixel.fill(0.0);
        }
    }
}

/// *Mean frame*: the average of many frames, which has the least squared error of all fixed pictures.
#[derive(Debug, Clone)]
pub struct MeanFrame {
    sums: Vec<u64>,
    frames: u64,
}

impl MeanFrame {
    /// For frames of `values` bytes; no frames yet.
    #[must_use]
    pub fn new(values: usize) -> Self {
        Self { sums: vec![0; values], frames: 0 }
    }

    /// Adds one or more frames, one after the other.
    ///
    /// # Panics
    /// When `frames` is not a whole number of frames.
    pub fn add(&mut self, frames: &[u8]) {
        let frames = frames.chunks_exact(self.sums.len());
        assert!(frames.remainder().is_empty(), "whole frames");
        for frame in frames {
            self.frames += 1;
            for (sum, &byte) in self.sums.iter_mut().zip(frame) {
                *sum += u64::from(byte);
            }
        }
    }

    /// The mean so far, in `[0, 1]`; black before the first frame.
    #[must_use]
    pub fn mean(&self) -> Vec<f32> {
        let scale = 255.0 * self.frames.max(1) as f64;
        self.sums.iter().map(|&sum| (sum as f64 / scale) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_knows_what_was_seen_and_nothing_else() {
        let mut out = vec![9.0; 6];
        oracle(&[255, 51, 0, 102, 255, 255], &[3, -1], &mut out);
        assert_eq!(out, [1.0, 0.2, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn copies_and_blanks() {
        let mut out = vec![9.0; 2];
        copy_last(&[0, 255], &mut out);
        assert_eq!(out, [0.0, 1.0]);
        all_black(&mut out);
        assert_eq!(out, [0.0, 0.0]);
    }

    #[test]
    fn the_mean_frame_is_exact() {
        let mut mean = MeanFrame::new(2);
        assert_eq!(mean.mean(), [0.0, 0.0]);
        mean.add(&[0, 255, 255, 255]);
        mean.add(&[255, 0]);
        mean.add(&[255, 0]);
        assert_eq!(mean.mean(), [0.75, 0.5]);
    }
}
