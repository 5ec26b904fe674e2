//! The tasks themselves, one a file. A task is registered by a line in [`crate::registry`].

pub mod articulated;
pub mod block_world;
pub mod block_world_find;
pub mod digit_source;
pub mod mnist_world;
pub mod mnist_world_track;
pub mod texture_source;
