//! World models: beliefs that can look, imagine and be drawn; their training and their memory benchmark.
//!
//! Everything that asks a model asks it through [`belief::WorldModel`], so the memory benchmark, the player and policies
//! are written once. Models differ only in how they are trained: a `loss` of their own. [`registry`] builds any of them
//! from a configuration, [`train`] is the one loop, [`checkpoint`] what it leaves, [`memory`] the benchmark.

pub mod adam;
pub mod belief;
pub mod checkpoint;
pub mod clips;
pub mod dream;
pub mod evaluate;
pub mod flow;
pub mod flowm;
pub mod flowm3d;
pub mod last_frame;
pub mod latent;
pub mod libtorch;
pub mod linear_rnn;
pub mod memory;
pub mod metrics;
pub mod mlp;
pub mod nonfinite;
pub mod onlooker;
pub mod panorama;
pub mod registry;
pub mod tensorboard;
pub mod train;

mod by_hand;
mod raw;
