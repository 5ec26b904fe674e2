//! FloWM 3D: a recurrent transformer over an egocentric map that is equivariant to motion, the agent's and that of blocks.
//!
//! Lillemark, Huang, Zhan, Du, Keller: *Flow Equivariant World Models* (2026), the model of 3D Dynamic Blockworld. The model keeps
//! a map of features in the agent's frame, with a channel for each velocity that a block can have. Each step every channel is
//! moved by its velocity, and all of them against the agent's turn or step; channels are mixed, so that what hits a wall can
//! change its velocity; and attention over the cells in view and the patches of the picture writes what is seen. What is
//! predicted is drawn from the cells in view alone.

mod config;
mod geometry;
mod layers;
mod mixing;
mod model;
mod unroll;

pub use config::{Flowm3dConfig, Mixing};
pub use geometry::ACTIONS;
pub use model::{Flowm3d, part};
