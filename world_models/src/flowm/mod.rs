//! FloWM 2D: a recurrent map on a torus that is equivariant to motion, the agent's and the objects'.
//!
//! Lillemark, Huang, Zhan, Du, Keller: *Flow Equivariant World Models* (2026). The model keeps a map in the agent's frame.
//! Each step every velocity channel of it is moved by its own velocity and against the agent's action, a shared
//! convolution is applied, and what the window shows is added. A digit of velocity `v` stands still in channel `v`.

mod config;
mod kernels;
mod model;
mod unroll;
mod weight_gradient;

pub use config::{Cell, FlowmConfig, Init, Precision, WriteOrder};
pub use model::{Flowm, part};
