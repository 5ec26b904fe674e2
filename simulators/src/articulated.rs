//! Articulated bodies: trees of links and joints on a plane, exact, differentiable and fast.
//!
//! The equations, the contact law and the order of operations are dflex's (NVIDIA's differentiable simulator, as used by
//! SHAC, arXiv 2204.07137); what of it is a mistake is a setting, with the mistake as the default, since published policies
//! rest on it.

#![expect(clippy::inline_always, reason = "a body is compiled for a processor's features only where it is inlined")]

mod adjoint;
#[cfg(test)]
mod count;
mod dynamics;
mod inspect;
mod model;
mod portrait;
mod real;
mod rooms;
mod shape;
mod simulator;
mod spatial;
mod step;

pub mod ant;
pub mod cartpole;
pub mod hopper;

pub use inspect::Mechanics;
pub use model::{Drive, Ground, InertiaMode, Joint, Link, Model, Motor};
pub use portrait::{Portrait, Pose};
pub use real::Scalar;
pub use shape::{MassProperties, Shape};
pub use simulator::{Body, Simulator};
