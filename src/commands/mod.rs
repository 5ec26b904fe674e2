//! One command a file.

pub mod bench;
pub mod collect;
pub mod data;
pub mod doctor;
pub mod envs;
pub mod eval;
pub mod play;
pub mod quickstart;
pub mod record;
pub mod render;
pub mod rollout;
pub mod train;
