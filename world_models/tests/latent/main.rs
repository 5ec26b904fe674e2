//! Latent models: against the originals, and what a flow must do whatever its weights.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod batches;
#[path = "../fixture/mod.rs"]
mod fixture;
mod flow;
mod parity;
mod reward;
mod shown;

use std::collections::BTreeMap;

use tch::{Tensor, nn};

/// Weights in an order that does not change, so that what is drawn for them one after the other does not either.
fn by_name(vs: &nn::VarStore) -> BTreeMap<String, Tensor> {
    vs.variables().into_iter().collect()
}
