//! FloWM 2D through its public face: against the original, against the equations written out, and its symmetries.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../fixture/mod.rs"]
mod fixture;
mod literal;
mod oracle;
mod parity;
mod rolled;
mod support;
mod symmetry;
mod unrolled;
