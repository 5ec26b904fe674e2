//! Columns of numbers between envs and networks: buffers and tensors as floats, noise as a tensor, and how episodes went on.

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::env::EnvError;
use rand_distr::{Distribution as _, StandardNormal};
use simulators::rng::Rng;
use tch::Tensor;

use crate::returns::Course;

/// The numbers of a buffer of floats.
///
/// # Panics
/// If it is of another kind: trainers refuse such envs when they begin.
pub(crate) fn floats(buffer: &Buffer) -> &[f32] {
    buffer.get::<f32>().expect("checked when the run began")
}

/// The numbers of a tensor of floats, in order.
pub(crate) fn floats_of(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.flatten(0, -1)).expect("floats")
}

/// `[rows, columns]` of standard normal numbers.
pub(crate) fn normal(rng: &mut Rng, rows: usize, columns: usize) -> Tensor {
    let values: Vec<f32> = (0..rows * columns).map(|_| StandardNormal.sample(rng)).collect();
    Tensor::from_slice(&values).view([rows as i64, columns as i64])
}

/// In how many rows the step that `result` is of gave a number that is not finite.
///
/// # Errors
/// Any other error.
pub(crate) fn broken_rows(result: Result<(), EnvError>) -> Result<usize, EnvError> {
    match result {
        Ok(()) => Ok(0),
        Err(EnvError::NonFinite { rows, .. }) => Ok(rows),
        Err(error) => Err(error),
    }
}

/// How the episode of each row went on after a step. One whose numbers are not finite counts as terminated, and so does the
/// step that is ignored because it only resets such a row.
pub(crate) fn courses(out: &StepBatch) -> impl Iterator<Item = Course> {
    let led_to = floats(out.final_obs());
    let columns = led_to.chunks_exact(led_to.len() / out.reward().len()).zip(out.reward());
    let rows = out.stop().iter().zip(out.ignored()).zip(columns);
    rows.map(|((stop, &ignored), (led_to, reward))| {
        let finite = reward.is_finite() && led_to.iter().all(|x| x.is_finite());
        match (stop.terminated || ignored || !finite, stop.truncated) {
            (true, _) => Course::Terminated,
            (_, true) => Course::Truncated,
            _ => Course::On,
        }
    })
}
