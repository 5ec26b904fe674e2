//! Policies and how well they do: [`evaluate()`] plays a policy and reports its returns.
//!
//! Scripted policies live in [`envs::policy`], below anything that learns; learned ones will live here and implement the
//! same trait, so that both are judged by the same numbers.

mod evaluate;

pub use evaluate::{Evaluation, EvaluationError, MIN_EPISODES, bytes, evaluate};
