//! The memory benchmark: what does a model still know about what it cannot see?
//!
//! A clip is `context + horizon` true frames. A model observes the context, then imagines `horizon` frames with its
//! eyes shut. This module compares those frames with the truth, for the model and for four rows that need no learning:
//! the *oracle* (truth wherever the point shown had been seen, black elsewhere), *copy last* (the last context frame
//! for ever), *mean frame* and *all black*. It knows nothing of tensors or models: frames are slices, `[T, H, W, C]` as
//! datasets store them, predictions `f32` in `[0, 1]` and truth `u8`.
//!
//! From the bottom up: [`ssim`] and [`metrics`] score pixels, [`recall`] sorts errors by the time since a point was
//! last seen, [`baselines`] draws the rows, [`evaluation`] does all of that over clips, [`report`] is what a run leaves
//! behind, [`table`] and [`html`] show it to people. [`vectors`] is the same benchmark where nothing is pictured. [`probe`] asks
//! not for pictures but for places: what a belief says of where blocks are.

pub mod baselines;
pub mod evaluation;
pub mod html;
pub mod metrics;
pub mod probe;
pub mod recall;
pub mod report;
pub mod ssim;
pub mod table;
pub mod vectors;

use serde::{Deserialize, Serialize};

pub use evaluation::{Clip, MemoryEvaluation, MemorySettings, Origin};
pub use probe::ProbeReport;
pub use report::MemoryReport;
pub use vectors::VectorReport;

/// Height, width and channels of a frame whose pixels lie `[H, W, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 for gray, 3 for RGB; the metrics take any number.
    pub channels: usize,
}

impl FrameShape {
    /// The shape of an `[H, W, C]` frame.
    #[must_use]
    pub fn new([height, width, channels]: [usize; 3]) -> Self {
        Self { height, width, channels }
    }

    /// Pixels of a frame, `H * W`.
    #[must_use]
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Values of a frame, `H * W * C`.
    #[must_use]
    pub fn values(self) -> usize {
        self.pixels() * self.channels
    }
}

/// What cannot be evaluated, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryError {
    /// A setting is out of its range, alone or beside another.
    #[error("memory settings: `{field}` is {value}; allowed: {allowed}")]
    Setting {
        /// The dotted field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: String,
    },
    /// The structural similarity filter does not fit into the frame.
    #[error("frames of {height} x {width} pixels are too small for SSIM, which needs at least {least} x {least} here")]
    FrameTooSmall {
        /// Rows of the frame.
        height: usize,
        /// Columns of the frame.
        width: usize,
        /// The smallest side that works.
        least: usize,
    },
    /// A buffer does not have the length that the shapes ask for.
    #[error("clip {clip}: `{buffer}` has {found} values, the shapes ask for {expected}")]
    Length {
        /// Position of the clip in the whole evaluation, from zero.
        clip: u64,
        /// Which buffer.
        buffer: &'static str,
        /// Its length.
        found: usize,
        /// The length that was expected.
        expected: usize,
    },
    /// Some clips come with ground truth and some without, so that rows would be sums over different clips.
    #[error("clip {clip}: {found} ground truth of what was seen, unlike the clips before it")]
    MixedTruth {
        /// Position of the clip in the whole evaluation, from zero.
        clip: u64,
        /// `has` or `lacks`.
        found: &'static str,
    },
    /// A point is said to have been last seen after the step that shows it.
    #[error("clip {clip}, step {step}: a point was last seen at step {last_seen}, after the {context} context steps")]
    SeenTooLate {
        /// Position of the clip in the whole evaluation, from zero.
        clip: u64,
        /// Absolute step of the frame that shows the point.
        step: usize,
        /// The step given.
        last_seen: i32,
        /// How many steps the model observed.
        context: usize,
    },
    /// No clip was added.
    #[error("no clip was evaluated, so there is nothing to report")]
    NoClips,
}
