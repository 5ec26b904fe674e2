//! `BlockWorld-v0`: walk about in a Blockworld. No reward: it is there to be recorded, learned and remembered.

use serde::{Deserialize, Serialize};
use simulators::block_world::{Action, BlockWorld, BlockWorldConfig};
use simulators::image::Image;
use simulators::limits::{self, Limit};
use simulators::rng::Rng;
use simulators::view::View;
use simulators::world::World;

use super::mnist_world::{MAX_FRAMES, refused};
use super::texture_source::TextureSource;
use crate::env::{Env, EnvError, EnvSpec, Outcome, StateError};
use crate::registry::{Drawn, Mapped, Task};
use crate::space::Space;

/// Frames per second of the published videos.
const FPS: f64 = 15.0;
/// Side of a map, pixels.
const MAP_SIDE: usize = 256;

/// Configuration of [`BlockWorldEnv`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockWorldEnvConfig {
    /// What is in the room, and how it moves.
    pub world: BlockWorldConfig,
    /// Where its textures come from.
    pub textures: TextureSource,
    /// Observations of an episode.
    pub frames: u32,
    /// How likely the collector's walk goes on, a step, where it may.
    pub forward: f64,
}

impl Default for BlockWorldEnvConfig {
    fn default() -> Self {
        let (world, textures) = (BlockWorldConfig::default(), TextureSource::default());
        Self { world, textures, frames: 500, forward: 0.92 }
    }
}

/// A room to walk about in.
///
/// Observation: what the agent sees, `[image, image, 3]` bytes. Action: 0 turn left, 1 turn right, 2 forward, 3 back, 4 nothing. Reward: 0. Never
/// terminates; truncated after `frames - 1` actions. Action `t` leads from observation `t` to observation `t + 1`: the agent moves, the things
/// move, the room is seen.
#[derive(Clone, Debug)]
pub struct BlockWorldEnv {
    spec: EnvSpec,
    world: BlockWorld,
    config: BlockWorldEnvConfig,
}

impl BlockWorldEnv {
    /// The world, for ground truth.
    #[must_use]
    pub fn world(&self) -> &BlockWorld {
        &self.world
    }

    /// The resolved configuration.
    #[must_use]
    pub fn config(&self) -> &BlockWorldEnvConfig {
        &self.config
    }
}

impl Task for BlockWorldEnv {
    const ID: &'static str = "BlockWorld-v0";
    const ALIAS: &'static str = "block-world";
    const ABOUT: &'static str = "walk about in a room in 3D among blocks that move; no reward";
    type Config = BlockWorldEnvConfig;

    fn limits(config: &BlockWorldEnvConfig) -> Vec<Limit> {
        let own = [
            Limit::whole("frames", config.frames.into(), 2..=MAX_FRAMES),
            Limit::real("forward", config.forward as f32, 0.0..=1.0),
        ];
        world_limits(&config.world).chain(own).collect()
    }

    fn build(config: BlockWorldEnvConfig) -> Result<Self, EnvError> {
        limits::check(&Self::limits(&config)).map_err(refused(Self::ID))?;
        let world = build_world(Self::ID, &config.world, &config.textures)?;
        let config_json = serde_json::to_value(&config).expect("a configuration is plain data");
        let spec = world_spec(Self::ID, &config.world, config.frames - 1, config_json);
        Ok(Self { spec, world, config })
    }
}

impl Drawn for BlockWorldEnv {
    fn view(&self) -> View {
        view(&self.world)
    }
}

impl Mapped for BlockWorldEnv {
    fn map(&self) -> Image {
        map(&self.world)
    }
}

impl Env for BlockWorldEnv {
    type Obs = u8;
    type Action = i64;

    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [u8]) {
        self.world.reset(rng);
        self.world.render(obs);
    }

    fn step(&mut self, action: &[i64], _: &mut Rng, obs: &mut [u8]) -> Outcome {
        self.world.step(Action::ALL[action[0] as usize]);
        self.world.render(obs);
        Outcome { reward: 0.0, terminated: false }
    }

    fn save(&self) -> serde_json::Value {
        serde_json::to_value(self.world.snapshot()).expect("a snapshot is plain data")
    }

    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError> {
        load_world(Self::ID, &mut self.world, state)
    }
}

/// Spaces of a task whose agent walks about in a Blockworld.
pub(crate) fn world_spec(id: &str, world: &BlockWorldConfig, steps: u32, config: serde_json::Value) -> EnvSpec {
    EnvSpec {
        id: id.to_owned(),
        observation: Space::image([world.image, world.image, 3]),
        action: Space::Discrete { n: Action::ALL.len() as i64 },
        max_steps: Some(steps),
        fps: FPS,
        config,
    }
}

/// What the world of a task may be.
pub(super) fn world_limits(world: &BlockWorldConfig) -> impl Iterator<Item = Limit> {
    world.limits().into_iter().map(|limit| limit.within("world"))
}

/// The world of a task whose configuration was checked.
pub(super) fn build_world(
    id: &str,
    config: &BlockWorldConfig,
    textures: &TextureSource,
) -> Result<BlockWorld, EnvError> {
    BlockWorld::new(config.clone(), textures.surfaces(id)?).map_err(refused(id))
}

pub(super) fn load_world(id: &str, world: &mut BlockWorld, state: &serde_json::Value) -> Result<(), StateError> {
    let fail = |source| StateError { env: id.to_owned(), source };
    let snapshot = Deserialize::deserialize(state).map_err(|error: serde_json::Error| fail(error.into()))?;
    world.restore(&snapshot).map_err(|error| fail(error.into()))
}

/// What the agent sees, and on its right the room from above: more than the agent sees.
pub(super) fn view(world: &BlockWorld) -> View {
    let side = world.config().image;
    let (mut seen, mut plan) = (vec![0; side * side * 3], vec![0; side * side * 3]);
    world.render(&mut seen);
    world.plan(side, &mut plan);
    let rows = seen.chunks_exact(side * 3).zip(plan.chunks_exact(side * 3));
    let rgb = rows.flat_map(|(seen, plan)| seen.iter().chain(plan).copied()).collect();
    View::Pixels(Image { width: 2 * side, height: side, rgb })
}

/// The room from above, large enough for people to make things out.
pub(super) fn map(world: &BlockWorld) -> Image {
    let mut map = Image::black(MAP_SIDE, MAP_SIDE);
    world.plan(MAP_SIDE, &mut map.rgb);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_configurations_name_their_field() {
        let refused = |config| BlockWorldEnv::build(config).unwrap_err().to_string();
        let message = refused(BlockWorldEnvConfig { frames: 1, ..Default::default() });
        assert_eq!(message, "BlockWorld-v0: `frames` is 1, allowed: 2..=1000000");
        let mut small = BlockWorldEnvConfig::default();
        small.world.room = 2;
        assert!(refused(small).starts_with("BlockWorld-v0: `world.room` is 2, allowed: 4..=64"));
    }
}
