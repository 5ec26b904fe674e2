//! FloWM 3D through its public face: against the original, against blocks that really move, and learning.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../fixture/mod.rs"]
mod fixture;
mod gradients;
mod kinematics;
mod learning;
mod parity;
mod support;
mod view;
