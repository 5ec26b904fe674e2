//! `MnistWorldTrack-v0`: keep one digit in the window.
//!
//! Digit 0 is the target. It is drawn in full ink and the others in `distractor_ink`, so that the picture itself says which
//! digit to follow. The reward of a step is the share of the target's patch that is inside the window after it, 0 to 1; an
//! episode has 100 steps and never terminates, so a return is the mean share in percent.
//!
//! Returns over 1,000 episodes with the default configuration (`cargo run --release -p agents --example track_returns`):
//!
//! | policy | mean | std | min | max |
//! |---|---|---|---|---|
//! | uniformly random moves | 41.19 +- 0.16 | 5.06 | 27.66 | 57.76 |
//! | scripted oracle, which reads the target's position | 99.76 +- 0.01 | 0.21 | 99.12 | 100.00 |
//!
//! Random play is what areas say: 32 of 50 pixels in view along each axis, so 100 * 0.64^2 = 40.96. The oracle loses only
//! the first steps, in which it may have to go and find the target.

use serde::{Deserialize, Serialize};
use simulators::image::Image;
use simulators::limits::{self, Limit};
use simulators::mnist_world::{MnistWorld, MnistWorldConfig};
use simulators::rng::Rng;
use simulators::view::View;
use simulators::world::World;

use super::digit_source::DigitSource;
use super::mnist_world::{MAX_FRAMES, build_world, load_world, refused, save_world, world_limits, world_spec};
use crate::env::{Env, EnvError, EnvSpec, Outcome, StateError};
use crate::registry::{Drawn, Mapped, Task};

/// The digit to keep in the window.
pub const TARGET: usize = 0;

/// Configuration of [`MnistWorldTrackEnv`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MnistWorldTrackConfig {
    /// Sizes and speeds of the world. Its `distractor_ink` stays 1: this task has its own, with its own default.
    pub world: MnistWorldConfig,
    /// Where its digits come from.
    pub digits: DigitSource,
    /// Ink of the other digits, 0 to 1; the target's is 1.
    pub distractor_ink: f32,
    /// Steps of an episode.
    pub steps: u32,
}

impl Default for MnistWorldTrackConfig {
    fn default() -> Self {
        Self { world: MnistWorldConfig::default(), digits: DigitSource::default(), distractor_ink: 0.5, steps: 100 }
    }
}

/// An MNIST World with a digit to follow. Observation and action as in [`super::mnist_world::MnistWorldEnv`].
#[derive(Clone, Debug)]
pub struct MnistWorldTrackEnv {
    spec: EnvSpec,
    world: MnistWorld,
}

impl MnistWorldTrackEnv {
    /// The world, for ground truth.
    #[must_use]
    pub fn world(&self) -> &MnistWorld {
        &self.world
    }

    /// Share of the target's patch area inside the window, 0 to 1.
    #[must_use]
    pub fn target_in_view(&self) -> f32 {
        let MnistWorldConfig { world, window, digit_px, .. } = *self.world.config();
        let (camera, corner) = (self.world.camera(), self.world.positions()[TARGET]);
        let seen = |axis: usize| {
            let offset = i32::from(corner[axis]) - i32::from(camera[axis]) + (window / 2) as i32;
            overlap(offset.rem_euclid(world as i32) as usize, digit_px, window, world)
        };
        (seen(0) * seen(1)) as f32 / (digit_px * digit_px) as f32
    }
}

/// Pixels that a patch of `patch` pixels, `offset < world` after the window's first, has in common with the window.
fn overlap(offset: usize, patch: usize, window: usize, world: usize) -> usize {
    let end = offset + patch;
    // The second part is what has come round the torus.
    window.min(end).saturating_sub(offset) + window.min(end.saturating_sub(world))
}

impl Task for MnistWorldTrackEnv {
    const ID: &'static str = "MnistWorldTrack-v0";
    const ALIAS: &'static str = "mnist-world-track";
    const ABOUT: &'static str = "keep the brightest digit of an MNIST World in the window; reward: share of it in view";
    type Config = MnistWorldTrackConfig;

    fn limits(config: &MnistWorldTrackConfig) -> Vec<Limit> {
        let own = [
            Limit::whole("steps", config.steps.into(), 1..=MAX_FRAMES),
            Limit::real("world.distractor_ink", config.world.distractor_ink, 1.0..=1.0)
                .because("set `distractor_ink` instead"),
            Limit::real("distractor_ink", config.distractor_ink, 0.0..=1.0),
        ];
        own.into_iter().chain(world_limits(&config.world, &config.digits)).collect()
    }

    fn build(config: MnistWorldTrackConfig) -> Result<Self, EnvError> {
        limits::check(&Self::limits(&config)).map_err(refused(Self::ID))?;
        let inked = MnistWorldConfig { distractor_ink: config.distractor_ink, ..config.world.clone() };
        let world = build_world(Self::ID, &inked, &config.digits)?;
        let config_json = serde_json::to_value(&config).expect("a configuration is plain data");
        let spec = world_spec(Self::ID, &inked, config.steps, config_json);
        Ok(Self { spec, world })
    }
}

impl Drawn for MnistWorldTrackEnv {
    fn view(&self) -> View {
        self.world.view()
    }
}

impl Mapped for MnistWorldTrackEnv {
    fn map(&self) -> Image {
        self.world.map()
    }
}

impl Env for MnistWorldTrackEnv {
    type Obs = u8;
    type Action = i8;

    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [u8]) {
        self.world.reset(rng);
        self.world.render(obs);
    }

    fn step(&mut self, action: &[i8], _: &mut Rng, obs: &mut [u8]) -> Outcome {
        self.world.step([action[0], action[1]]);
        self.world.render(obs);
        Outcome { reward: self.target_in_view(), terminated: false }
    }

    fn save(&self) -> serde_json::Value {
        save_world(&self.world)
    }

    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError> {
        load_world(Self::ID, &mut self.world, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn overlap_counts_pixels(world in 8usize..60, window in 1usize..60, patch in 1usize..60, offset in 0usize..60) {
            let (window, patch, offset) = (window.min(world), patch.min(world), offset % world);
            let counted = (0..patch).filter(|i| (offset + i) % world < window).count();
            prop_assert_eq!(overlap(offset, patch, window, world), counted);
        }
    }

    #[test]
    fn distractor_ink_has_one_place() {
        let mut config = MnistWorldTrackConfig::default();
        config.world.distractor_ink = 0.7;
        let message = MnistWorldTrackEnv::build(config).unwrap_err().to_string();
        assert!(
            message.contains("`world.distractor_ink` is 0.7, allowed: 1 (set `distractor_ink` instead)"),
            "{message}"
        );
        let config = MnistWorldTrackConfig { distractor_ink: 1.5, ..Default::default() };
        let message = MnistWorldTrackEnv::build(config).unwrap_err().to_string();
        assert_eq!(message, "MnistWorldTrack-v0: `distractor_ink` is 1.5, allowed: a finite number in [0, 1]");
    }
}
