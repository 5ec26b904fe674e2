//! The whole program, disturbed: killed, signalled, without room, twice at once, in odd places, resumed otherwise. What was
//! reported stays, and what goes on ends with the bytes of what nothing disturbed.
//!
//! `MINDSEYE_TEST_SCALE=full` does what a release asks for. All randomness is of fixed seeds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod disk;
mod kills;
mod paths;
mod program;
mod resume;
mod signals;
mod soak;
mod writers;
