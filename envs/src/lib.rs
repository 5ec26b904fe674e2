//! Tasks: spaces, rewards, episodes, vectorised stepping, datasets on disk. No tensors.
//!
//! A task is an [`env::Env`]: one world with a reward. It is registered under an id in [`registry`], which hands it out as a
//! [`vector::BatchEnv`]: `N` of them stepped as one into columns that the caller owns. Being registered is all a task needs
//! to come under the conformance suite ([`conformance`]), to be collected ([`collect`]) and to be evaluated.

pub mod batch;
pub mod biased_walk;
pub mod buffer;
pub mod collect;
pub mod conformance;
pub mod coverage;
pub mod dataset;
pub mod differentiable;
pub mod env;
#[cfg(feature = "gymnasium-rs")]
pub mod gymnasium_rs;
pub mod import;
pub mod policy;
pub mod registry;
pub mod rollout;
pub mod space;
pub mod stop;
pub mod storage;
pub mod tasks;
pub mod untrusted;
pub mod vector;

mod slot;
