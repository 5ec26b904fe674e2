//! MNIST World: digits that drift over a torus, seen through a window that the agent moves.
//!
//! The world is a `W x W` torus with `N` digit patches, each moving at its own constant integer velocity. Where patches
//! overlap, their ink is added and clamped. The agent sees a window around its camera and moves the camera; most of the
//! world is out of sight most of the time, which is what makes memory necessary.
//!
//! Axes: `x` is the column and grows to the right, `y` is the row and grows downward; pairs are `(x, y)`.
//! Source: Lillemark et al. 2026 (Flow Equivariant World Models), the 2D benchmark.

mod config;
mod render;
mod sightings;
mod world;

pub use config::MnistWorldConfig;
pub use sightings::Sightings;
pub use world::{MnistWorld, MnistWorldError, MnistWorldSnapshot};
