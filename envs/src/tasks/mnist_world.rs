//! `MnistWorld-v0`: look around in an MNIST World. No reward: it is there to be recorded, learned and remembered.

use serde::{Deserialize, Serialize};
use simulators::image::Image;
use simulators::limits::{self, Limit, OutOfRange};
use simulators::mnist_world::{MnistWorld, MnistWorldConfig, MnistWorldError};
use simulators::rng::Rng;
use simulators::view::View;
use simulators::world::World;

use super::digit_source::DigitSource;
use crate::buffer::Dtype;
use crate::env::{Env, EnvError, EnvSpec, Outcome, StateError};
use crate::registry::{Drawn, Mapped, Task};
use crate::space::Space;

/// Frames per second of the published videos.
pub const FPS: f64 = 8.0;
/// Most frames of a context or horizon.
pub(super) const MAX_FRAMES: i128 = 1_000_000;

/// Configuration of [`MnistWorldEnv`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MnistWorldEnvConfig {
    /// Sizes and speeds of the world.
    pub world: MnistWorldConfig,
    /// Where its digits come from.
    pub digits: DigitSource,
    /// Observations that a model may look at before it predicts; the collector covers the whole world within them.
    pub context: u32,
    /// Observations after the context, to be predicted.
    pub horizon: u32,
}

impl Default for MnistWorldEnvConfig {
    fn default() -> Self {
        Self { world: MnistWorldConfig::default(), digits: DigitSource::default(), context: 50, horizon: 20 }
    }
}

impl MnistWorldEnvConfig {
    /// Actions of an episode: one fewer than its `context + horizon` observations.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.context + self.horizon - 1
    }
}

/// An MNIST World with a camera to move.
///
/// Observation: the window, `[w, w, 1]` bytes. Action: `(dx, dy)`, the camera's move in pixels, each in `-S..=S`, int8.
/// Reward: 0. Never terminates; truncated after `context + horizon - 1` actions. Action `t` leads from observation `t` to
/// observation `t + 1`: the camera moves, the digits move, the window is seen.
#[derive(Clone, Debug)]
pub struct MnistWorldEnv {
    spec: EnvSpec,
    world: MnistWorld,
    config: MnistWorldEnvConfig,
}

impl MnistWorldEnv {
    /// The world, for ground truth: camera, positions, velocities, labels, entity mask, picture of the whole.
    #[must_use]
    pub fn world(&self) -> &MnistWorld {
        &self.world
    }

    /// The resolved configuration.
    #[must_use]
    pub fn config(&self) -> &MnistWorldEnvConfig {
        &self.config
    }
}

impl Task for MnistWorldEnv {
    const ID: &'static str = "MnistWorld-v0";
    const ALIAS: &'static str = "mnist-world";
    const ABOUT: &'static str = "digits drift over a torus, seen through a window that the agent moves; no reward";
    type Config = MnistWorldEnvConfig;

    fn limits(config: &MnistWorldEnvConfig) -> Vec<Limit> {
        let frames = [("context", config.context), ("horizon", config.horizon)];
        let frames = frames.map(|(field, value)| Limit::whole(field, value.into(), 1..=MAX_FRAMES));
        world_limits(&config.world, &config.digits).into_iter().chain(frames).collect()
    }

    fn build(config: MnistWorldEnvConfig) -> Result<Self, EnvError> {
        limits::check(&Self::limits(&config)).map_err(refused(Self::ID))?;
        let world = build_world(Self::ID, &config.world, &config.digits)?;
        let config_json = serde_json::to_value(&config).expect("a configuration is plain data");
        let spec = world_spec(Self::ID, &config.world, config.steps(), config_json);
        Ok(Self { spec, world, config })
    }
}

impl Drawn for MnistWorldEnv {
    fn view(&self) -> View {
        self.world.view()
    }
}

impl Mapped for MnistWorldEnv {
    fn map(&self) -> Image {
        self.world.map()
    }
}

impl Env for MnistWorldEnv {
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
        Outcome { reward: 0.0, terminated: false }
    }

    fn save(&self) -> serde_json::Value {
        save_world(&self.world)
    }

    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError> {
        load_world(Self::ID, &mut self.world, state)
    }
}

/// Spaces of a task whose agent moves the camera of an MNIST World.
pub(crate) fn world_spec(id: &str, world: &MnistWorldConfig, steps: u32, config: serde_json::Value) -> EnvSpec {
    let step = i64::from(world.step);
    EnvSpec {
        id: id.to_owned(),
        observation: Space::image([world.window, world.window, 1]),
        action: Space::MultiDiscrete { dtype: Dtype::Int8, nvec: vec![2 * step + 1; 2], start: vec![-step; 2] },
        max_steps: Some(steps),
        fps: FPS,
        config,
    }
}

/// What the world and the digits of a task may be.
pub(super) fn world_limits(world: &MnistWorldConfig, digits: &DigitSource) -> Vec<Limit> {
    let world = world.limits().into_iter().map(|limit| limit.within("world"));
    world.chain(digits.limits().into_iter().map(|limit| limit.within("digits"))).collect()
}

/// The refusal of a value, with the id of the env that refuses it.
pub(super) fn refused(id: &str) -> impl Fn(OutOfRange) -> EnvError {
    move |OutOfRange { field, value, allowed }| EnvError::Config { env: id.to_owned(), field, value, allowed }
}

/// The world of a task whose configuration was checked.
pub(super) fn build_world(id: &str, config: &MnistWorldConfig, digits: &DigitSource) -> Result<MnistWorld, EnvError> {
    let bank = digits.bank(id, config.digit_px)?;
    match MnistWorld::new(config.clone(), bank) {
        Ok(world) => Ok(world),
        Err(MnistWorldError::Config(error)) => Err(refused(id)(error)),
        Err(error) => unreachable!("the bank was made for this configuration: {error}"),
    }
}

pub(super) fn save_world(world: &MnistWorld) -> serde_json::Value {
    serde_json::to_value(world.snapshot()).expect("a snapshot is plain data")
}

pub(super) fn load_world(id: &str, world: &mut MnistWorld, state: &serde_json::Value) -> Result<(), StateError> {
    let fail = |source| StateError { env: id.to_owned(), source };
    let snapshot = Deserialize::deserialize(state).map_err(|error: serde_json::Error| fail(error.into()))?;
    world.restore(&snapshot).map_err(|error| fail(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::StepBatch;
    use crate::buffer::Buffer;
    use crate::vector::{BatchEnv, Reset, VectorConfig, VectorEnv};

    fn config() -> MnistWorldEnvConfig {
        let digits = DigitSource::Drawn(super::super::digit_source::Drawn { per_label: 2, ..Default::default() });
        MnistWorldEnvConfig { digits, context: 3, horizon: 2, ..Default::default() }
    }

    #[test]
    fn five_observations_are_four_steps_and_the_last_is_truncated() {
        let env = MnistWorldEnv::build(config()).unwrap();
        let mut envs = VectorEnv::new(&VectorConfig::default(), &env).unwrap();
        let mut out = StepBatch::for_spec(envs.spec(), 1);
        envs.reset(Reset::Next, out.obs_mut()).unwrap();
        assert_eq!(envs.env(0).world().camera(), [0, 0]);
        for t in 1..=4 {
            envs.step(&Buffer::I8(vec![3, -2]), &mut out).unwrap();
            assert_eq!(envs.env(0).world().camera(), [3 * t, 50 - 2 * t]);
            assert_eq!((out.stop()[0].terminated, out.stop()[0].truncated), (false, t == 4));
        }
    }

    #[test]
    fn bad_configurations_name_their_field() {
        let refused = |config| MnistWorldEnv::build(config).unwrap_err().to_string();
        let mut wide = config();
        wide.world.window = 51;
        assert!(refused(wide).contains("`world.window` is 51, allowed: 1..=50"));
        let message = refused(MnistWorldEnvConfig { horizon: 0, ..config() });
        assert_eq!(message, "MnistWorld-v0: `horizon` is 0, allowed: 1..=1000000");
    }
}
