//! Drives any registered env through the `Env` trait of the crate `gymnasium-rs` (feature `gymnasium-rs`).
//!
//! `cargo test --release -p envs --features gymnasium-rs` builds and tests it; where the Python found first is newer than
//! 3.12, name another with `PYO3_PYTHON`.

use std::collections::HashMap;

use gymnasium_rs::core::{Env, Info, Options, Reward, Space as GymSpace};
use ndarray::{Array1, Array3};
use serde_json::Value;
use simulators::rng::Seed;

use crate::batch::StepBatch;
use crate::buffer::Buffer;
use crate::env::EnvError;
use crate::registry::Entry;
use crate::space::Space;
use crate::vector::{AutoresetMode, BatchEnv, Reset, VectorConfig};

/// One env behind `gymnasium_rs::core::Env<Buffer, Buffer>`: flat observations and actions of the env's own element types.
///
/// That trait has no errors, so `reset` and `step` panic, with the message of [`EnvError`], where a batch would return one:
/// a bad action, or a step after the end of an episode.
pub struct GymnasiumEnv {
    envs: Box<dyn BatchEnv>,
    out: StepBatch,
}

impl GymnasiumEnv {
    /// Builds the env of a registry entry.
    ///
    /// # Errors
    /// As [`Entry::make`].
    pub fn new(entry: &Entry, config: &Value) -> Result<Self, EnvError> {
        let vector = VectorConfig { autoreset: AutoresetMode::Disabled, ..VectorConfig::default() };
        let envs = entry.make(config, &vector)?;
        let out = StepBatch::for_spec(envs.spec(), 1);
        Ok(Self { envs, out })
    }

    fn info(&self) -> Info {
        let row = self.envs.row(0);
        HashMap::from([("episode".to_owned(), row.episode.into()), ("steps".to_owned(), row.steps.into())])
    }
}

impl Env<Buffer, Buffer> for GymnasiumEnv {
    fn observation_space(&self) -> GymSpace {
        gym_space(&self.envs.spec().observation)
    }

    fn action_space(&self) -> GymSpace {
        gym_space(&self.envs.spec().action)
    }

    /// A seed starts over with its episode 0; without one the next episode starts. A negative seed stands for its 32 bits.
    /// There are no options; any are ignored.
    fn reset(&mut self, seed: Option<i32>, _: Options) -> (Buffer, Info) {
        let which = seed.map_or(Reset::Next, |seed| Reset::Seed(Seed(u64::from(seed.cast_unsigned()))));
        self.envs.reset(which, self.out.obs_mut()).unwrap_or_else(|error| panic!("{error}"));
        (self.out.obs().clone(), self.info())
    }

    fn step(&mut self, action: Buffer) -> (Buffer, Reward, bool, bool, Info) {
        self.envs.step(&action, &mut self.out).unwrap_or_else(|error| panic!("{error}"));
        let stop = self.out.stop()[0];
        (self.out.obs().clone(), self.out.reward()[0], stop.terminated, stop.truncated, self.info())
    }

    /// The last observation as `[H, W, 3]`, where it is an image; grey is repeated.
    fn render(&self) -> Option<Array3<u8>> {
        let pixels = self.out.obs().get::<u8>()?;
        let [height, width, channels] = self.envs.spec().observation.shape().try_into().ok()?;
        let grey = channels == 1;
        let pixel = |(r, c, rgb)| pixels[(r * width + c) * channels + if grey { 0 } else { rgb }];
        (grey || channels == 3).then(|| Array3::from_shape_fn((height, width, 3), pixel))
    }

    fn close(&mut self) {}
}

/// What that crate can say of a space: components in a row between bounds, or one of `n`.
fn gym_space(space: &Space) -> GymSpace {
    match space {
        Space::Discrete { n } => GymSpace::Discrete(i32::try_from(*n).unwrap_or(i32::MAX)),
        Space::Box { .. } | Space::MultiDiscrete { .. } => GymSpace::Box {
            low: Array1::from_shape_fn(space.size(), |component| space.bounds(component).0 as f32),
            high: Array1::from_shape_fn(space.size(), |component| space.bounds(component).1 as f32),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{entries, find};
    use serde_json::json;

    fn env(id: &str, config: &Value) -> GymnasiumEnv {
        GymnasiumEnv::new(find(id).unwrap(), config).unwrap()
    }

    /// What a user of that crate writes: generic over its trait alone.
    fn play(env: &mut dyn Env<Buffer, Buffer>, action: &Buffer) -> (f32, usize) {
        let (mut total, mut steps) = (0.0, 0);
        env.reset_seed(3);
        loop {
            let (_, reward, terminated, truncated, _) = env.step(action.clone());
            (total, steps) = (total + reward, steps + 1);
            if terminated || truncated {
                env.close();
                return (total, steps);
            }
        }
    }

    #[test]
    fn every_registered_env_plays_an_episode_through_the_trait() {
        for entry in entries() {
            let mut env = GymnasiumEnv::new(entry, &json!({})).unwrap();
            let space = env.envs.spec().action.clone();
            let action = Buffer::zeros(space.dtype(), space.size());
            let limit = env.envs.spec().max_steps.unwrap() as usize;
            assert_eq!(
                play(&mut env, &action),
                play(&mut env, &action),
                "{}: the same seed, the same episode",
                entry.id
            );
            assert!(play(&mut env, &action).1 <= limit);
        }
    }

    #[test]
    fn spaces_and_pictures_are_told_in_that_crates_words() {
        let mut env = env("MnistWorld-v0", &json!({}));
        let (obs, info) = env.reset(Some(3), HashMap::new());
        assert_eq!((obs.len(), &info["episode"]), (32 * 32, &json!(0)));
        let (low, high) = (Array1::from_elem(2, -10.0), Array1::from_elem(2, 10.0));
        assert_eq!(env.action_space(), GymSpace::Box { low, high });
        let GymSpace::Box { high, .. } = env.observation_space() else { panic!("images are boxes") };
        assert_eq!((high.len(), high[0]), (1024, 255.0));
        let picture = env.render().unwrap();
        assert_eq!(picture.dim(), (32, 32, 3));
        assert_eq!(picture[[5, 7, 2]], obs.get::<u8>().unwrap()[5 * 32 + 7]);
    }

    #[test]
    #[should_panic(expected = "component 1 is 11, allowed: integers -10..=10")]
    fn a_bad_action_panics_with_the_reason() {
        let mut env = env("MnistWorld-v0", &json!({}));
        env.reset_default();
        env.step(Buffer::I8(vec![0, 11]));
    }
}
