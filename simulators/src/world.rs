//! The seam of this crate: what every world can do, and how a batch of them is stepped.

use crate::rng::Rng;
use rayon::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

/// A world that moves in steps and can be looked at.
///
/// After construction a world is in some valid state; [`World::reset`] draws a fresh one. Between resets a world draws
/// nothing, so a step is a function of state and action.
pub trait World: Send {
    /// What the agent does in one step.
    type Action: Copy;
    /// The whole state, small enough to keep one per step.
    type Snapshot: Clone + Serialize + DeserializeOwned + PartialEq;

    /// Draws a new start state. Every draw comes from `rng`.
    fn reset(&mut self, rng: &mut Rng);

    /// Advances by one step.
    fn step(&mut self, action: Self::Action);

    /// `[height, width, channels]` of a frame.
    fn frame_shape(&self) -> [usize; 3];

    /// Draws the present state into `frame`, `[height, width, channels]` bytes.
    ///
    /// # Panics
    /// If `frame` has another length.
    fn render(&self, frame: &mut [u8]);

    /// The present state; restoring it continues byte for byte.
    fn snapshot(&self) -> Self::Snapshot;

    /// Puts a state back that a world of the same configuration had.
    ///
    /// # Errors
    /// If the snapshot cannot have come from such a world. The state is then unchanged.
    fn restore(&mut self, snapshot: &Self::Snapshot) -> Result<(), SnapshotError>;
}

/// A snapshot that does not fit the world it should be restored into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("snapshot field `{field}` is {value}, allowed: {allowed}")]
pub struct SnapshotError {
    /// The field at fault.
    pub field: &'static str,
    /// What it holds.
    pub value: String,
    /// What this world could have written.
    pub allowed: String,
}

/// Steps world `i` with `actions[i]` and renders it into row `i` of `frames`, in parallel over worlds.
///
/// `frames` is `[worlds, height, width, channels]`. The bytes do not depend on the number of threads.
///
/// # Panics
/// If the three lengths do not belong together.
pub fn step_and_render<W: World>(worlds: &mut [W], actions: &[W::Action], frames: &mut [u8])
where
    W::Action: Sync,
{
    let Some(first) = worlds.first() else {
        assert!(actions.is_empty() && frames.is_empty(), "no worlds, but actions or frames");
        return;
    };
    let frame_len: usize = first.frame_shape().iter().product();
    assert_eq!(actions.len(), worlds.len(), "one action a world");
    assert_eq!(frames.len(), worlds.len() * frame_len, "one frame a world");
    // A frame takes a fraction of a microsecond: hand out worlds by the dozen, or scheduling would cost more than drawing.
    let rows = (worlds.par_iter_mut(), actions.par_iter(), frames.par_chunks_exact_mut(frame_len));
    rows.into_par_iter().with_min_len(16).for_each(|(world, &action, frame)| {
        world.step(action);
        world.render(frame);
    });
}
