//! A world model without memory: it believes what it saw last, where it saw it, and nothing of the rest.
//!
//! It has nothing to learn. It knows how it moves, so that what was seen leaves the window as the agent goes; what had been seen before is
//! forgotten, and what moves by itself stands still.

use tch::{Device, Kind, Tensor};

use crate::belief::{Belief, Clip, WorldModel, roll_out};
use crate::panorama;

/// Names of the parts of its belief.
mod part {
    /// `[B, C, 2w, 2w]`, from where the agent stands.
    pub const PANORAMA: &str = "panorama";
    /// `[B, 2]`, how far the agent has moved since it last looked; what counts is its gradient.
    pub const DISPLACEMENT: &str = "displacement";
}

/// What it remembers is a torus of twice the window's side, so that what leaves the window on one side does not come in on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFrame {
    /// Side of the window.
    pub window: i64,
    /// Colours of a frame.
    pub input_channels: i64,
}

fn belief(panorama: Tensor, displacement: Tensor) -> Belief {
    Belief::new([(part::PANORAMA, panorama), (part::DISPLACEMENT, displacement)])
}

impl WorldModel for LastFrame {
    fn start(&self, batch: i64) -> Belief {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        belief(zeros(&[batch, self.input_channels, 2 * self.window, 2 * self.window]), zeros(&[batch, 2]))
    }

    fn observe(&self, before: &Belief, _: &Tensor, observation: &Tensor) -> Belief {
        let seen = before.part(part::PANORAMA).zeros_like();
        seen.narrow(2, 0, self.window).narrow(3, 0, self.window).copy_(observation);
        belief(seen, before.part(part::DISPLACEMENT).zeros_like())
    }

    fn imagine(&self, before: &Belief, action: &Tensor) -> Belief {
        let seen = panorama::moved(before.part(part::PANORAMA), action);
        belief(seen, before.part(part::DISPLACEMENT) + action)
    }

    fn picture(&self, belief: &Belief) -> Tensor {
        belief.part(part::PANORAMA).narrow(2, 0, self.window).narrow(3, 0, self.window)
    }

    fn features(&self, belief: &Belief) -> Tensor {
        let (seen, displacement) = (belief.part(part::PANORAMA), belief.part(part::DISPLACEMENT));
        panorama::features(&panorama::with_slopes(seen, displacement))
    }

    fn loss(&self, clip: &Clip) -> Tensor {
        roll_out(self, clip).mse_loss(&clip.frames.slice(1, clip.context, clip.steps(), 1), tch::Reduction::Mean)
    }
}
