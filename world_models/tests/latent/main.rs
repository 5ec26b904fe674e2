//! Latent models: against the originals, and what a flow must do whatever its weights.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod batches;
#[path = "../fixture/mod.rs"]
mod fixture;
mod flow;
mod parity;
mod reward;
mod shown;
