//! Collectors: a task and a behaviour policy as a source of episodes for a dataset.
//!
//! Episode `k` draws its world from stream `(seed, World, k)` and its actions from `(seed, Policy, k)`, so that it is the
//! episode `k` that the same policy plays in a `VectorEnv` of that seed.

use serde::{Deserialize, Serialize};
use serde_json::json;
use simulators::block_world::{Agent, BlockWorld, Pose, RoomLook, ThingState};
use simulators::digits::DigitBank;
use simulators::mnist_world::MnistWorld;
use simulators::rng::{Purpose, Seed, stream};
use simulators::room::Picture;
use simulators::world::World;

use crate::batch::StepBatch;
use crate::biased_walk::BiasedWalk;
use crate::buffer::{Buffer, Dtype, Scalar, with_values};
use crate::coverage::{CoverageError, CoveragePlanner};
use crate::dataset::{self, Codec, ColumnSpec, DatasetHeader, EpisodeBuffer, EpisodeSource, Length, Zstd};
use crate::env::{Env, EnvError, EnvSpec};
use crate::policy::Policy;
use crate::registry::Entry;
use crate::tasks::block_world::BlockWorldEnv;
use crate::tasks::mnist_world::MnistWorldEnv;
use crate::vector::{AutoresetMode, Reset, VectorConfig};

/// How to collect.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectConfig {
    /// Seed of every episode.
    pub seed: Seed,
    /// Which ground truth to record beside what the agent sees.
    pub truth: Truth,
}

/// Ground truth columns, where a task has them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// None: the smallest dataset.
    None,
    /// State: where everything is.
    State,
    /// State, and per pixel what is seen there.
    #[default]
    Full,
}

/// Why a collector could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The task itself could not be made.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The collector cannot do its work in such a world.
    #[error("{env}: the collector cannot show the whole world")]
    Coverage {
        /// Id of the env.
        env: String,
        /// With the numbers.
        source: CoverageError,
    },
    /// The task has no time limit.
    #[error("{env}: episodes have no end to collect up to")]
    Endless {
        /// Id of the env.
        env: String,
    },
}

/// Columns that every env has, in the order in which collectors fill them.
mod column {
    pub const OBSERVATIONS: usize = 0;
    pub const ACTIONS: usize = 1;
    pub const REWARDS: usize = 2;
    pub const TERMINATIONS: usize = 3;
    pub const TRUNCATIONS: usize = 4;
    // Those of MNIST World follow.
    pub const CAMERA: usize = 5;
    pub const POSITIONS: usize = 6;
    pub const VELOCITIES: usize = 7;
    pub const LABELS: usize = 8;
    pub const ENTITY: usize = 9;
}

/// Columns that the episodes of every env have, in order.
pub(crate) fn env_columns(spec: &EnvSpec) -> Vec<ColumnSpec> {
    let (observation, action) = (&spec.observation, &spec.action);
    vec![
        ColumnSpec::observations("observations", on_disk(observation.dtype()), &observation.shape()),
        ColumnSpec::steps("actions", on_disk(action.dtype()), &action.shape()),
        ColumnSpec::steps("rewards", dataset::Dtype::F32, &[]),
        ColumnSpec::steps("terminations", dataset::Dtype::Bool, &[]),
        ColumnSpec::steps("truncations", dataset::Dtype::Bool, &[]),
    ]
}

fn on_disk(dtype: Dtype) -> dataset::Dtype {
    match dtype {
        Dtype::Uint8 => dataset::Dtype::U8,
        Dtype::Int8 => dataset::Dtype::I8,
        Dtype::Int64 => dataset::Dtype::I64,
        Dtype::Float32 => dataset::Dtype::F32,
    }
}

fn header(spec: &EnvSpec, seed: Seed, collector: &serde_json::Value) -> DatasetHeader {
    DatasetHeader {
        env_id: spec.id.clone(),
        env_version: spec.version(),
        config: json!({ "env": spec.config, "collector": collector }),
        spaces: json!({ "observation": spec.observation, "action": spec.action }),
        fps: spec.fps,
        seed,
    }
}

/// `MnistWorld-v0` looked at by a covering walk: see [`CoveragePlanner`]. Drives the simulator directly.
///
/// Columns beside those of every env, with `truth = "state"`: `truth.camera [T+1, 2]` i16, `truth.positions [T+1, N, 2]` i16,
/// `truth.velocities [T+1, N, 2]` i8, all as `(x, y)`, and `truth.labels [N]` u8 once an episode; with `"full"` also
/// `truth.entity [T+1, w, w]` u8: 0 the background, `i + 1` the digit with most ink at that pixel.
pub struct MnistWorldSource {
    spec: EnvSpec,
    world: MnistWorld,
    planner: CoveragePlanner,
    steps: usize,
    collect: CollectConfig,
}

impl MnistWorldSource {
    /// A collector for this task.
    ///
    /// # Errors
    /// If walks of that length hardly ever cover the world.
    pub fn new(env: &MnistWorldEnv, collect: &CollectConfig) -> Result<Self, CollectError> {
        let config = env.config();
        let planner = CoveragePlanner::new(&config.world, config.context)
            .map_err(|source| CollectError::Coverage { env: env.spec().id.clone(), source })?;
        let steps = config.steps() as usize;
        Ok(Self { spec: env.spec().clone(), world: env.world().clone(), planner, steps, collect: *collect })
    }
}

impl EpisodeSource for MnistWorldSource {
    fn header(&self) -> DatasetHeader {
        // Files keep their name when their content changes, so the digits themselves are part of what made the episodes.
        let digits = fingerprint(self.world.bank());
        let collector = json!({ "policy": "coverage_walk", "truth": self.collect.truth, "digits_blake3": digits });
        header(&self.spec, self.collect.seed, &collector)
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        let (n, window) = (self.world.config().digits, self.world.config().window);
        let mut columns = env_columns(&self.spec);
        if self.collect.truth >= Truth::State {
            columns.extend([
                ColumnSpec::observations("truth.camera", dataset::Dtype::I16, &[2]),
                ColumnSpec::observations("truth.positions", dataset::Dtype::I16, &[n, 2]),
                ColumnSpec::observations("truth.velocities", dataset::Dtype::I8, &[n, 2]),
                ColumnSpec::episode("truth.labels", dataset::Dtype::U8, &[n]),
            ]);
        }
        if self.collect.truth == Truth::Full {
            columns.push(ColumnSpec::observations("truth.entity", dataset::Dtype::U8, &[window, window]));
        }
        columns
    }

    fn length(&self) -> Length {
        Length::Fixed(self.steps)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        let mut rng = stream(self.collect.seed, Purpose::Policy, k);
        let (moves, _) = episode.rows_mut::<i8>(column::ACTIONS)[..2 * self.steps].as_chunks_mut::<2>();
        if let Err(error) = self.planner.clone().plan(&mut rng, moves) {
            episode.fail(error.to_string());
            return;
        }
        let mut world = self.world.clone();
        world.reset(&mut stream(self.collect.seed, Purpose::World, k));
        self.look(&world, 0, episode);
        for t in 0..self.steps {
            let action: &[i8] = episode.row_mut(column::ACTIONS, t);
            world.step([action[0], action[1]]);
            self.look(&world, t + 1, episode);
        }
        if self.collect.truth >= Truth::State {
            episode.row_mut(column::LABELS, 0).copy_from_slice(world.digit_labels());
        }
        // Rewards and terminations stay zero.
        episode.row_mut::<u8>(column::TRUNCATIONS, self.steps - 1)[0] = 1;
    }
}

impl MnistWorldSource {
    /// Writes row `t` of everything that there is `T + 1` times.
    fn look(&self, world: &MnistWorld, t: usize, episode: &mut EpisodeBuffer<'_>) {
        world.render(episode.row_mut(column::OBSERVATIONS, t));
        if self.collect.truth >= Truth::State {
            episode.row_mut(column::CAMERA, t).copy_from_slice(&world.camera());
            episode.row_mut(column::POSITIONS, t).copy_from_slice(world.positions().as_flattened());
            episode.row_mut(column::VELOCITIES, t).copy_from_slice(world.velocities().as_flattened());
        }
        if self.collect.truth == Truth::Full {
            world.entity_mask(episode.row_mut(column::ENTITY, t));
        }
    }
}

/// `BlockWorld-v0` in the walk of the published episodes: see [`BiasedWalk`]. Drives the simulator directly.
///
/// Columns beside those of every env, with `truth = "state"`: `truth.camera [T+1, 3]` f32, the agent's `x`, `z` (m) and heading (degrees);
/// `truth.poses [T+1, N, 7]` f32, middles `x`, `y`, `z` (m) and turns as quaternions `x`, `y`, `z`, `w`; once an episode `truth.kinds [N]`
/// u8 (0 nothing, 1 box, 2 ball), `truth.colours [N]` u8 (of the palette) and `truth.textures [2 + N]` u8 (wall, floor, then of each thing
/// one more than the number of its texture). `N` is the most that there may be; rows of what is not there are zero. With `"full"` also
/// `truth.entity [T+1, image, image]` u8: 0 the room, `i + 1` the thing seen there; and `truth.depth` of the same shape, u16: how far it is
/// along the agent's axis, mm.
pub struct BlockWorldSource {
    spec: EnvSpec,
    env: BlockWorldEnv,
    steps: usize,
    collect: CollectConfig,
}

/// Columns of Blockworld, after those that every env has.
mod block_column {
    pub const CAMERA: usize = 5;
    pub const POSES: usize = 6;
    pub const KINDS: usize = 7;
    pub const COLOURS: usize = 8;
    pub const TEXTURES: usize = 9;
    pub const ENTITY: usize = 10;
    pub const DEPTH: usize = 11;
}

/// Ground truth of a picture, on its way into columns.
struct Pixels {
    depth: Vec<f32>,
    ids: Vec<u8>,
}

impl BlockWorldSource {
    /// A collector for this task.
    #[must_use]
    pub fn new(env: &BlockWorldEnv, collect: &CollectConfig) -> Self {
        let steps = env.config().frames as usize - 1;
        Self { spec: env.spec().clone(), env: env.clone(), steps, collect: *collect }
    }

    fn most(&self) -> usize {
        self.env.config().world.most.into()
    }

    /// Writes row `t` of everything that there is `T + 1` times.
    fn look(&self, world: &BlockWorld, t: usize, episode: &mut EpisodeBuffer<'_>, pixels: &mut Pixels) {
        if self.collect.truth < Truth::Full {
            world.render(episode.row_mut(column::OBSERVATIONS, t));
        } else {
            let Pixels { depth, ids } = pixels;
            let rgb = episode.row_mut(column::OBSERVATIONS, t);
            world.paint(Picture { rgb, depth: Some(depth), ids: Some(ids) });
            episode.row_mut(block_column::ENTITY, t).copy_from_slice(ids);
            for (to, &metres) in episode.row_mut::<u16>(block_column::DEPTH, t).iter_mut().zip(depth.iter()) {
                *to = (metres * 1000.0).round() as u16;
            }
        }
        if self.collect.truth >= Truth::State {
            let Agent { place: [x, z], heading } = world.agent();
            episode.row_mut(block_column::CAMERA, t).copy_from_slice(&[x, z, f32::from(heading)]);
            let poses = episode.row_mut::<f32>(block_column::POSES, t).as_chunks_mut::<7>().0;
            for (to, ThingState { pose: Pose { place: [x, y, z], turn: [a, b, c, w] }, .. }) in
                poses.iter_mut().zip(world.things())
            {
                *to = [x, y, z, a, b, c, w];
            }
        }
    }
}

impl EpisodeSource for BlockWorldSource {
    fn header(&self) -> DatasetHeader {
        let textures = format!("{:016x}", self.env.world().surfaces().fingerprint());
        let collector = json!({ "policy": "biased_walk_v2", "truth": self.collect.truth, "textures": textures });
        header(&self.spec, self.collect.seed, &collector)
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        let (n, side) = (self.most(), self.env.config().world.image);
        let mut columns = env_columns(&self.spec);
        if self.collect.truth >= Truth::State {
            columns.extend([
                ColumnSpec::observations("truth.camera", dataset::Dtype::F32, &[3]),
                ColumnSpec::observations("truth.poses", dataset::Dtype::F32, &[n, 7]),
                ColumnSpec::episode("truth.kinds", dataset::Dtype::U8, &[n]),
                ColumnSpec::episode("truth.colours", dataset::Dtype::U8, &[n]),
                ColumnSpec::episode("truth.textures", dataset::Dtype::U8, &[2 + n]),
            ]);
        }
        if self.collect.truth == Truth::Full {
            columns.extend([
                ColumnSpec::observations("truth.entity", dataset::Dtype::U8, &[side, side]),
                ColumnSpec::observations("truth.depth", dataset::Dtype::U16, &[side, side]),
            ]);
        }
        columns
    }

    fn codec(&self) -> Codec {
        // The same floors and walls are seen again and again.
        Codec::Zstd(Zstd::default())
    }

    fn length(&self) -> Length {
        Length::Fixed(self.steps)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        let mut world = self.env.world().clone();
        world.reset(&mut stream(self.collect.seed, Purpose::World, k));
        let mut rng = stream(self.collect.seed, Purpose::Policy, k);
        let mut walk = BiasedWalk::new(self.env.config().forward);
        let count = world.config().image.pow(2);
        let mut pixels = Pixels { depth: vec![0.0; count], ids: vec![0; count] };
        self.look(&world, 0, episode, &mut pixels);
        for t in 0..self.steps {
            let action = walk.act(&world, &mut rng);
            episode.row_mut(column::ACTIONS, t).copy_from_slice(&[action as i64]);
            world.step(action);
            self.look(&world, t + 1, episode, &mut pixels);
        }
        if self.collect.truth >= Truth::State {
            let RoomLook { wall, floor } = world.look();
            episode.row_mut::<u8>(block_column::TEXTURES, 0)[..2].copy_from_slice(&[wall, floor]);
            for (number, thing) in world.things().enumerate() {
                episode.row_mut::<u8>(block_column::KINDS, 0)[number] = thing.kind as u8 + 1;
                episode.row_mut::<u8>(block_column::COLOURS, 0)[number] = thing.colour;
                let texture = thing.texture.map_or(0, |number| number + 1);
                episode.row_mut::<u8>(block_column::TEXTURES, 0)[2 + number] = texture;
            }
        }
        // Rewards and terminations stay zero.
        episode.row_mut::<u8>(column::TRUNCATIONS, self.steps - 1)[0] = 1;
    }
}

/// Identifies the images of a bank.
fn fingerprint(bank: &DigitBank) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bank.labels());
    for image in 0..bank.len() {
        hasher.update(bank.patch(image));
    }
    hasher.finalize().to_hex().to_string()
}

/// Any env with a time limit, in uniformly random actions; no ground truth.
pub struct RandomWalkSource<E> {
    env: E,
    steps: usize,
    seed: Seed,
}

impl<E: Env + Clone> RandomWalkSource<E> {
    /// A collector for this env.
    ///
    /// # Errors
    /// If episodes have no time limit.
    pub fn new(env: E, collect: &CollectConfig) -> Result<Self, CollectError> {
        match env.spec().max_steps {
            Some(steps) => Ok(Self { steps: steps as usize, seed: collect.seed, env }),
            None => Err(CollectError::Endless { env: env.spec().id.clone() }),
        }
    }
}

impl<E: Env + Clone> EpisodeSource for RandomWalkSource<E> {
    fn header(&self) -> DatasetHeader {
        header(self.env.spec(), self.seed, &json!({ "policy": "random_walk" }))
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        env_columns(self.env.spec())
    }

    fn length(&self) -> Length {
        Length::AtMost(self.steps)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        let mut env = self.env.clone();
        let space = env.spec().action.clone();
        let mut action = vec![E::Action::from_f64(0.0); space.size()];
        let mut policy_rng = stream(self.seed, Purpose::Policy, k);
        let mut world_rng = stream(self.seed, Purpose::World, k);
        env.reset(&mut world_rng, episode.row_mut(column::OBSERVATIONS, 0));
        for t in 0..self.steps {
            space.sample(&mut policy_rng, &mut action);
            episode.row_mut(column::ACTIONS, t).copy_from_slice(&action);
            let outcome = env.step(&action, &mut world_rng, episode.row_mut(column::OBSERVATIONS, t + 1));
            if !outcome.reward.is_finite() {
                episode.fail(format!("the reward of step {t} is {}", outcome.reward));
                return;
            }
            episode.row_mut::<f32>(column::REWARDS, t)[0] = outcome.reward;
            let truncated = t + 1 == self.steps;
            episode.row_mut::<u8>(column::TERMINATIONS, t)[0] = outcome.terminated.into();
            episode.row_mut::<u8>(column::TRUNCATIONS, t)[0] = truncated.into();
            if outcome.terminated || truncated {
                episode.set_steps(t + 1);
                return;
            }
        }
    }
}

/// Makes a policy.
pub type MakePlayer = Box<dyn Fn() -> Result<Box<dyn Policy>, String> + Send + Sync>;

/// A policy that plays episodes for a dataset.
pub struct Player {
    /// What it is, whole: players with the same description play the same.
    pub about: serde_json::Value,
    /// Makes one, for an episode; or says why it cannot.
    pub make: MakePlayer,
}

/// Any env with a time limit, played by policies: episode `k` by the `k`-th of them, and by the first again after the last; no
/// ground truth.
pub struct PlayedSource {
    entry: &'static Entry,
    spec: EnvSpec,
    steps: usize,
    seed: Seed,
    players: Vec<Player>,
}

impl PlayedSource {
    /// A collector for envs of this configuration.
    ///
    /// # Errors
    /// As [`Entry::make`], or if episodes have no time limit.
    pub fn new(
        entry: &'static Entry,
        config: &serde_json::Value,
        seed: Seed,
        players: Vec<Player>,
    ) -> Result<Self, CollectError> {
        let spec = entry.make(config, &VectorConfig::default())?.spec().clone();
        match spec.max_steps {
            Some(steps) => Ok(Self { entry, steps: steps as usize, spec, seed, players }),
            None => Err(CollectError::Endless { env: spec.id }),
        }
    }

    fn play(&self, k: u64, episode: &mut EpisodeBuffer<'_>) -> Result<(), String> {
        let said = |error: &dyn std::error::Error| error.to_string();
        let vector = VectorConfig { seed: self.seed, autoreset: AutoresetMode::Disabled, ..VectorConfig::default() };
        let mut envs = self.entry.make(&self.spec.config, &vector).map_err(|error| said(&error))?;
        let mut policy = (self.players[(k % self.players.len() as u64) as usize].make)()?;
        let (observation, action) = (&self.spec.observation, &self.spec.action);
        let mut out = StepBatch::for_spec(&self.spec, 1);
        let mut obs = Buffer::zeros(observation.dtype(), observation.size());
        let mut actions = Buffer::zeros(action.dtype(), action.size());
        envs.reset(Reset::Episode(k), &mut obs).map_err(|error| said(&error))?;
        write(episode, column::OBSERVATIONS, 0, &obs);
        for t in 0..self.steps {
            policy.act(&*envs, &obs, &mut actions).map_err(|error| said(&error))?;
            envs.step(&actions, &mut out).map_err(|error| said(&error))?;
            obs.clone_from(out.final_obs());
            write(episode, column::ACTIONS, t, &actions);
            write(episode, column::OBSERVATIONS, t + 1, &obs);
            let stop = out.stop()[0];
            episode.row_mut::<f32>(column::REWARDS, t)[0] = out.reward()[0];
            episode.row_mut::<u8>(column::TERMINATIONS, t)[0] = stop.terminated.into();
            episode.row_mut::<u8>(column::TRUNCATIONS, t)[0] = stop.truncated.into();
            if stop.any() {
                episode.set_steps(t + 1);
                break;
            }
        }
        Ok(())
    }
}

/// Copies the one row of a buffer into the dataset.
fn write(episode: &mut EpisodeBuffer<'_>, column: usize, row: usize, buffer: &Buffer) {
    with_values!(buffer, values => episode.row_mut(column, row).copy_from_slice(values));
}

impl EpisodeSource for PlayedSource {
    fn header(&self) -> DatasetHeader {
        let about: Vec<&serde_json::Value> = self.players.iter().map(|player| &player.about).collect();
        header(&self.spec, self.seed, &json!({ "policies": about }))
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        env_columns(&self.spec)
    }

    fn length(&self) -> Length {
        Length::AtMost(self.steps)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        if let Err(error) = self.play(k, episode) {
            episode.fail(error);
        }
    }
}
