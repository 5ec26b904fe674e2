//! The memory benchmark for worlds that are seen as vectors: how well does a model know what it has not been shown yet?
//!
//! A model without pictures has latents, `L` numbers that mean nothing to anybody else. So its errors are measured twice. In
//! latents, between what was imagined and what the encoder makes of what was really observed: exact, but an encoder that says the
//! same of everything makes no error at all. And in observations, of which a linear readout tells, fitted on other episodes: an
//! encoder that says nothing cannot be read. There every component's squared error is divided by its variance over the dataset,
//! so that *mean*, who always says the mean, scores 1; *copy last* says what was seen last, and *readout* is what the readout
//! makes of latents that are not imagined: what is lost before anything is imagined, as with the *oracle* of pictures.
//!
//! As for pictures, nothing here knows of tensors or models: rows are slices. From the bottom up: [`readout`] is the regression,
//! [`scales`] the dataset's means and variances, [`rewards`] compares rewards, [`evaluation`] sums errors by step, [`report`] is what a run leaves behind,
//! [`table`] and [`super::html::vectors`] show it to people.

pub mod evaluation;
pub mod readout;
pub mod report;
pub mod rewards;
pub mod scales;
pub mod table;

pub use evaluation::{StepRows, VectorEvaluation};
pub use readout::{Readout, ReadoutFit};
pub use report::VectorReport;
pub use scales::Scales;
