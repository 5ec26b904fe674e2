//! Worlds: state, step, render, snapshot. No rewards, no tensors, no episodes.
//!
//! A world here is the part of an environment that would exist without a learner: it moves, it can be looked at, and it
//! tells its ground truth. Rewards and episode ends live one layer up. Every random draw comes from a named stream
//! ([`rng::stream`]), so a world's history is a function of its seed alone.
//!
//! ```
//! use simulators::digits::DigitBank;
//! use simulators::mnist_world::{MnistWorld, MnistWorldConfig};
//! use simulators::rng::{Purpose, Seed, stream};
//! use simulators::world::World;
//! use std::sync::Arc;
//!
//! let bank = Arc::new(DigitBank::draw(Seed(0), 4, 28)); // 40 digits of 28 x 28 pixels
//! let mut world = MnistWorld::new(MnistWorldConfig::default(), bank)?;
//! world.reset(&mut stream(Seed(7), Purpose::World, 0));
//! world.step([3, -2]); // camera three pixels right, two up; digits one step on
//! let mut frame = vec![0; 32 * 32];
//! world.render(&mut frame);
//! # Ok::<(), simulators::mnist_world::MnistWorldError>(())
//! ```

pub mod articulated;
pub mod block_world;
pub mod digits;
pub mod image;
pub mod limits;
pub mod mnist_world;
pub mod rng;
pub mod room;
pub mod view;
pub mod world;
