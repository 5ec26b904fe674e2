//! Memory in Blockworld: recall by the age of what is seen, and where a belief says that blocks are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod probe;
mod readout;
mod recall;
mod support;
