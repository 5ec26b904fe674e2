//! Policies and how well they do: [`shac`] trains them through differentiable simulators, [`evaluate()`] plays a policy and
//! reports its returns, [`planner`] searches for what to do in what a world model imagines.
//!
//! Scripted policies live in [`envs::policy`], below anything that learns; a trained one ([`Learned`]) implements the same
//! trait, so that both are judged by the same numbers.

mod actor;
mod agent;
mod columns;
pub mod config;
mod critic;
pub mod dreamer;
mod evaluate;
mod eyes;
mod inside;
mod learned;
pub mod learner;
mod moments;
pub mod networks;
pub mod planner;
mod played;
pub mod pwm;
pub mod returns;
pub mod shac;
pub mod train;
mod window;

#[cfg(test)]
#[path = "../../world_models/tests/fixture/mod.rs"]
mod fixture;

pub use evaluate::{Evaluation, EvaluationError, MIN_EPISODES, bytes, evaluate};
pub use learned::{Learned, Manner};
pub use moments::Moments;
