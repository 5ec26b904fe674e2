//! `BlockWorldFind-v0`: walk to the red block.
//!
//! An episode ends when the agent is within `reach` of a red thing. Its only reward comes then: the steps that the shortest way takes, divided by
//! those that were taken. So an episode's return is its *success weighted by path length* (Anderson et al. 2018, *On Evaluation of Embodied
//! Navigation Agents*), 0 for one that runs out of time, and the share of episodes that terminate is the success rate.

use serde::{Deserialize, Serialize};
use simulators::block_world::{Action, BlockWorld, BlockWorldConfig, BlockWorldSnapshot, RED, Regime};
use simulators::image::Image;
use simulators::limits::{self, Limit};
use simulators::rng::Rng;
use simulators::view::View;
use simulators::world::World;

use super::block_world::{build_world, load_world, map, view, world_limits, world_spec};
use super::mnist_world::{MAX_FRAMES, refused};
use super::texture_source::TextureSource;
use crate::env::{Env, EnvError, EnvSpec, Outcome, StateError};
use crate::registry::{Drawn, Mapped, Task};

/// Worlds that are drawn for an episode, at most.
const TRIES: u32 = 100;

/// Configuration of [`BlockWorldFindEnv`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockWorldFindConfig {
    /// What is in the room, and how it moves; at least six things, so that one is red.
    pub world: BlockWorldConfig,
    /// Where its textures come from.
    pub textures: TextureSource,
    /// Metres from a red thing that are near enough.
    pub reach: f32,
    /// Steps of an episode.
    pub steps: u32,
}

impl Default for BlockWorldFindConfig {
    fn default() -> Self {
        let world = BlockWorldConfig { moving: false, ..BlockWorldConfig::default() };
        Self { world, textures: TextureSource::default(), reach: 1.5, steps: 100 }
    }
}

/// A room with something red to be found. Observation and action as in [`super::block_world::BlockWorldEnv`].
#[derive(Clone, Debug)]
pub struct BlockWorldFindEnv {
    spec: EnvSpec,
    world: BlockWorld,
    reach: f32,
    progress: Progress,
}

/// How far an episode is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    /// Steps that the shortest way takes.
    shortest: u32,
    /// Steps taken.
    taken: u32,
}

/// What is saved of an episode.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    world: serde_json::Value,
    progress: Progress,
}

impl BlockWorldFindEnv {
    /// The world, for ground truth.
    #[must_use]
    pub fn world(&self) -> &BlockWorld {
        &self.world
    }

    /// Metres along the floor to the nearest red thing.
    #[must_use]
    pub fn distance(&self) -> f32 {
        distance(&self.world)
    }

    /// Steps that the shortest way from the start takes.
    #[must_use]
    pub fn shortest(&self) -> u32 {
        self.progress.shortest
    }
}

/// Metres along the floor to the nearest red thing, infinite where there is none.
#[must_use]
pub fn distance(world: &BlockWorld) -> f32 {
    let [x, z] = world.agent().place;
    let red = world.things().filter(|thing| thing.colour == RED);
    let far = red.map(|thing| (thing.pose.place[0] - x).powi(2) + (thing.pose.place[2] - z).powi(2));
    far.fold(f32::INFINITY, f32::min).sqrt()
}

/// Steps of the shortest way to within `reach`, at most `most`: all that the agent could do is tried a step at a time, each place and heading
/// once, while things move as they do.
fn shortest(world: &BlockWorld, reach: f32, most: u32) -> u32 {
    let mut things = world.clone();
    let room = usize::from(world.config().room);
    let index = |state: &BlockWorldSnapshot| {
        let [x, z] = state.agent.place.map(|at| at as usize);
        (z * room + x) * 4 + usize::from(state.agent.heading / 90)
    };
    let mut here = vec![world.snapshot()];
    for taken in 0..most {
        for state in &here {
            things.restore(state).expect("a state of this world");
            if distance(&things) <= reach {
                return taken;
            }
        }
        let mut seen = vec![false; room * room * 4];
        let mut next = Vec::new();
        for state in &here {
            for action in Action::ALL {
                things.restore(state).expect("a state of this world");
                things.step(action);
                let state = things.snapshot();
                if !std::mem::replace(&mut seen[index(&state)], true) {
                    next.push(state);
                }
            }
        }
        here = next;
    }
    most
}

impl Task for BlockWorldFindEnv {
    const ID: &'static str = "BlockWorldFind-v0";
    const ALIAS: &'static str = "block-world-find";
    const ABOUT: &'static str = "walk to the red block of a Blockworld; reward at the end: shortest way / way taken";
    type Config = BlockWorldFindConfig;

    fn limits(config: &BlockWorldFindConfig) -> Vec<Limit> {
        let grid = i128::from(config.world.regime == Regime::Grid);
        let own = [
            Limit::whole("steps", config.steps.into(), 1..=MAX_FRAMES),
            Limit::real("reach", config.reach, 1.0..=8.0),
            Limit::whole("world.fewest", config.world.fewest.into(), 6..=i128::from(config.world.most))
                .because("so that one is red"),
            Limit::whole("world.regime is grid", grid, 1..=1).because("the shortest way is counted in cells"),
        ];
        world_limits(&config.world).chain(own).collect()
    }

    fn build(config: BlockWorldFindConfig) -> Result<Self, EnvError> {
        limits::check(&Self::limits(&config)).map_err(refused(Self::ID))?;
        let world = build_world(Self::ID, &config.world, &config.textures)?;
        let config_json = serde_json::to_value(&config).expect("a configuration is plain data");
        let spec = world_spec(Self::ID, &config.world, config.steps, config_json);
        Ok(Self { spec, world, reach: config.reach, progress: Progress::default() })
    }
}

impl Drawn for BlockWorldFindEnv {
    fn view(&self) -> View {
        view(&self.world)
    }
}

impl Mapped for BlockWorldFindEnv {
    fn map(&self) -> Image {
        map(&self.world)
    }
}

impl Env for BlockWorldFindEnv {
    type Obs = u8;
    type Action = i64;

    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// Draws worlds until one has nothing red within reach; where that is so rare that none of a hundred has, the last one.
    fn reset(&mut self, rng: &mut Rng, obs: &mut [u8]) {
        for _ in 0..TRIES {
            self.world.reset(rng);
            if self.distance() > self.reach {
                break;
            }
        }
        let most = self.spec.max_steps.unwrap_or(u32::MAX);
        // Nobody arrives before the first step.
        self.progress = Progress { shortest: shortest(&self.world, self.reach, most).max(1), taken: 0 };
        self.world.render(obs);
    }

    fn step(&mut self, action: &[i64], _: &mut Rng, obs: &mut [u8]) -> Outcome {
        self.world.step(Action::ALL[action[0] as usize]);
        self.world.render(obs);
        self.progress.taken += 1;
        let terminated = self.distance() <= self.reach;
        let Progress { shortest, taken } = self.progress;
        let reward = if terminated { shortest as f32 / taken.max(shortest) as f32 } else { 0.0 };
        Outcome { reward, terminated }
    }

    fn save(&self) -> serde_json::Value {
        let world = serde_json::to_value(self.world.snapshot()).expect("a snapshot is plain data");
        serde_json::to_value(Saved { world, progress: self.progress }).expect("a state is plain data")
    }

    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError> {
        let fail = |error: serde_json::Error| StateError { env: Self::ID.to_owned(), source: error.into() };
        let Saved { world, progress } = Deserialize::deserialize(state).map_err(fail)?;
        load_world(Self::ID, &mut self.world, &world)?;
        self.progress = progress;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulators::rng::{Purpose, Seed, stream};

    fn env(config: BlockWorldFindConfig, seed: u64) -> BlockWorldFindEnv {
        let world = BlockWorldConfig { image: 16, ..config.world };
        let mut env = BlockWorldFindEnv::build(BlockWorldFindConfig { world, ..config }).unwrap();
        env.reset(&mut stream(Seed(seed), Purpose::World, 0), &mut vec![0; 16 * 16 * 3]);
        env
    }

    /// Turns and cells from a place and heading to within reach of a cell, where nothing is in the way.
    fn by_hand(env: &BlockWorldFindEnv) -> u32 {
        let agent = env.world().agent();
        let red = env.world().things().filter(|thing| thing.colour == RED).collect::<Vec<_>>();
        let cells = (1..16).flat_map(|x| (1..16).map(move |z| [x as f32, z as f32]));
        let ends = cells
            .filter(|[x, z]| red.iter().any(|thing| (thing.pose.place[0] - x).hypot(thing.pose.place[2] - z) <= 1.5));
        let ways = ends.map(|end| {
            let by = [end[0] - agent.place[0], end[1] - agent.place[1]];
            // Along x first or z first: turns to face the first, then the second.
            let quarters = |from: u16, way: [f32; 2]| {
                let wanted = match way {
                    [x, _] if x > 0.0 => 0,
                    [x, _] if x < 0.0 => 180,
                    [_, z] if z > 0.0 => 270,
                    _ => 90,
                };
                let by = (wanted + 360 - from) % 360 / 90;
                (wanted, u32::from(by.min(4 - by)), by == 2)
            };
            let legs = |first: [f32; 2], second: [f32; 2]| {
                let (mut heading, mut steps) = (agent.heading, 0);
                for leg in [first, second] {
                    let cells = (leg[0].abs() + leg[1].abs()) as u32;
                    if cells > 0 {
                        // One behind is reached backwards, without turning.
                        let (facing, turns, behind) = quarters(heading, leg);
                        steps += cells + if behind { 0 } else { turns };
                        heading = if behind { heading } else { facing };
                    }
                }
                steps
            };
            legs([by[0], 0.0], [0.0, by[1]]).min(legs([0.0, by[1]], [by[0], 0.0]))
        });
        ways.min().unwrap()
    }

    #[test]
    fn the_shortest_way_is_that_of_turns_and_cells() {
        for seed in 0..40 {
            let env = env(BlockWorldFindConfig::default(), seed);
            assert!(env.distance() > 1.5);
            assert_eq!(env.shortest(), by_hand(&env), "seed {seed}");
        }
    }

    #[test]
    fn who_takes_the_shortest_way_gets_one_and_who_dawdles_less() {
        let start = env(BlockWorldFindConfig::default(), 3);
        for pauses in [0, 3] {
            let mut env = start.clone();
            let mut obs = vec![0; 16 * 16 * 3];
            let mut rng = stream(Seed(0), Purpose::World, 0);
            for _ in 0..pauses {
                let outcome = env.step(&[4], &mut rng, &mut obs);
                assert_eq!((outcome.reward, outcome.terminated), (0.0, false));
            }
            // Whatever shortens the way is on it.
            let outcome = loop {
                let left = shortest(&env.world, env.reach, 100);
                let better = (0..5).find(|&action| {
                    let mut tried = env.clone();
                    tried.step(&[action], &mut rng, &mut obs);
                    shortest(&tried.world, tried.reach, 100) < left
                });
                let outcome = env.step(&[better.unwrap()], &mut rng, &mut obs);
                if outcome.terminated {
                    break outcome;
                }
            };
            let expected = start.shortest() as f32 / (start.shortest() + pauses) as f32;
            assert!((outcome.reward - expected).abs() < 1e-6, "{} instead of {expected}", outcome.reward);
        }
    }

    #[test]
    fn where_red_is_everywhere_an_episode_begins_all_the_same() {
        let world = BlockWorldConfig { room: 4, most: 40, fewest: 40, ..Default::default() };
        let mut env = env(BlockWorldFindConfig { world, reach: 4.0, ..Default::default() }, 0);
        let outcome = env.step(&[4], &mut stream(Seed(0), Purpose::World, 0), &mut vec![0; 16 * 16 * 3]);
        assert_eq!((env.shortest(), outcome), (1, Outcome { reward: 1.0, terminated: true }));
    }

    #[test]
    fn worlds_without_red_or_without_cells_are_refused() {
        let refused = |world| {
            let config = BlockWorldFindConfig { world, ..Default::default() };
            BlockWorldFindEnv::build(config).unwrap_err().to_string()
        };
        let few = refused(BlockWorldConfig { fewest: 2, ..Default::default() });
        assert!(few.contains("`world.fewest` is 2, allowed: 6..=10 (so that one is red)"), "{few}");
        let physics = refused(BlockWorldConfig::preset("physics").unwrap());
        assert!(physics.contains("`world.regime is grid` is 0"), "{physics}");
    }
}
