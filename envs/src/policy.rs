//! Behaviour policies: who chooses the actions of a batch. Learned policies implement the same trait one layer up.

use simulators::block_world::Action;
use simulators::mnist_world::MnistWorldConfig;
use simulators::rng::{Purpose, Rng, Seed, stream};

use crate::batch::check_buffer;
use crate::biased_walk::BiasedWalk;
use crate::buffer::{Buffer, with_values};
use crate::coverage::{CoverageError, CoveragePlanner, random_move, shortest_move};
use crate::env::EnvError;
use crate::registry::Task;
use crate::tasks::block_world::BlockWorldEnv;
use crate::tasks::block_world_find::BlockWorldFindEnv;
use crate::tasks::mnist_world::{MnistWorldEnv, MnistWorldEnvConfig};
use crate::tasks::mnist_world_track::{MnistWorldTrackEnv, TARGET};
use crate::vector::{BatchEnv, Row};

/// Chooses the actions of a batch.
pub trait Policy: Send {
    /// Writes an action into each row of `actions`, `[N, A]`, given the observations, `[N, O]`. Rows whose episode is over
    /// may be left as they are. An action depends on nothing but its own row's episode.
    ///
    /// # Errors
    /// An env that this policy cannot act in, or buffers that do not fit.
    fn act(&mut self, envs: &dyn BatchEnv, obs: &Buffer, actions: &mut Buffer) -> Result<(), PolicyError>;
}

/// Why a policy could not act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The policy was made for another env.
    #[error("the policy {policy} acts in {acts_in} only, this is {env}")]
    WrongEnv {
        /// Name of the policy.
        policy: String,
        /// Id of the env it was made for.
        acts_in: String,
        /// Id of this env.
        env: String,
    },
    /// No walk sees the whole world.
    #[error("{env}: no covering walk")]
    Coverage {
        /// Id of the env.
        env: String,
        /// With the numbers.
        source: CoverageError,
    },
    /// A buffer that does not fit the env.
    #[error(transparent)]
    Env(#[from] EnvError),
}

/// A policy's own stream of each row's episode, `(seed, Policy, k)`, from the episode's first action on.
#[derive(Default)]
pub struct EpisodeStreams {
    rows: Vec<Option<(Seed, u64, Rng)>>,
}

impl EpisodeStreams {
    /// The stream of row `index`, and whether its episode has just begun.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&mut self, envs: &dyn BatchEnv, index: usize) -> (&mut Rng, bool) {
        self.rows.resize_with(envs.num_envs(), || None);
        let (seed, Row { episode, steps, .. }) = (envs.seed(), envs.row(index));
        let row = &mut self.rows[index];
        let running = row.as_ref().is_some_and(|(s, k, _)| (*s, *k) == (seed, episode));
        let begins = steps == 0 || !running;
        if begins {
            *row = Some((seed, episode, stream(seed, Purpose::Policy, episode)));
        }
        let (_, _, rng) = row.as_mut().expect("filled if it was not");
        (rng, begins)
    }
}

/// Rows that wait for an action.
fn running(envs: &dyn BatchEnv) -> impl Iterator<Item = usize> {
    (0..envs.num_envs()).filter(|&row| !envs.row(row).over)
}

/// Refuses actions that are not of this env.
fn check_actions(envs: &dyn BatchEnv, actions: &Buffer) -> Result<(), PolicyError> {
    let spec = envs.spec();
    Ok(check_buffer(actions, "actions", &spec.action, spec, envs.num_envs())?)
}

/// Uniformly random actions, each alone.
#[derive(Default)]
pub struct RandomWalk {
    streams: EpisodeStreams,
}

impl Policy for RandomWalk {
    fn act(&mut self, envs: &dyn BatchEnv, _: &Buffer, actions: &mut Buffer) -> Result<(), PolicyError> {
        check_actions(envs, actions)?;
        let space = &envs.spec().action;
        for row in running(envs) {
            let (rng, _) = self.streams.row(envs, row);
            let range = row * space.size()..(row + 1) * space.size();
            with_values!(actions, values => space.sample(rng, &mut values[range]));
        }
        Ok(())
    }
}

/// Does nothing: every component of every action is zero, or it is the action that leaves everything as it is.
#[derive(Default)]
pub struct Zero;

impl Policy for Zero {
    fn act(&mut self, envs: &dyn BatchEnv, _: &Buffer, actions: &mut Buffer) -> Result<(), PolicyError> {
        check_actions(envs, actions)?;
        let space = &envs.spec().action;
        *actions = Buffer::zeros(space.dtype(), envs.num_envs() * space.size());
        // Blockworld's action 0 turns left.
        let env = envs.row(0).env;
        if env.is::<BlockWorldEnv>() || env.is::<BlockWorldFindEnv>() {
            actions.get_mut::<i64>().unwrap_or_default().fill(Action::Nothing as i64);
        }
        Ok(())
    }
}

/// Sees the whole world of `MnistWorld-v0` within the context, rests for a step, then walks at random; see
/// [`CoveragePlanner`].
pub struct CoverageWalk {
    planner: CoveragePlanner,
    config: MnistWorldEnvConfig,
    streams: EpisodeStreams,
    /// Moves of each row's episode.
    plans: Vec<Vec<[i8; 2]>>,
}

impl CoverageWalk {
    /// A walk for envs of this configuration.
    ///
    /// # Errors
    /// If no walk, or about none, covers that world within the context.
    ///
    /// # Panics
    /// If the configuration is not valid.
    pub fn new(config: &MnistWorldEnvConfig) -> Result<Self, CoverageError> {
        let planner = CoveragePlanner::new(&config.world, config.context)?;
        Ok(Self { planner, config: config.clone(), streams: EpisodeStreams::default(), plans: Vec::new() })
    }
}

impl Policy for CoverageWalk {
    fn act(&mut self, envs: &dyn BatchEnv, _: &Buffer, actions: &mut Buffer) -> Result<(), PolicyError> {
        let moves = camera_moves(envs, actions)?;
        self.plans.resize(envs.num_envs(), Vec::new());
        for row in running(envs) {
            let env = downcast::<MnistWorldEnv>(envs, row, "CoverageWalk")?;
            if *env.config() != self.config {
                let (env, source) = (envs.spec().id.clone(), CoverageError::OtherConfig);
                return Err(PolicyError::Coverage { env, source });
            }
            let (rng, begins) = self.streams.row(envs, row);
            let plan = &mut self.plans[row];
            if begins {
                plan.resize(self.config.steps() as usize, [0; 2]);
                let failed = |source| PolicyError::Coverage { env: envs.spec().id.clone(), source };
                self.planner.plan(rng, plan).map_err(failed)?;
            }
            let planned = plan.get(envs.row(row).steps as usize).copied();
            // A batch may have a longer time limit than the task.
            moves[row] = planned.unwrap_or_else(|| random_move(self.config.world.step, rng));
        }
        Ok(())
    }
}

/// Keeps the target of `MnistWorldTrack-v0` in the middle of the window. It reads the ground truth, so its return is what a
/// perfect memory would get.
#[derive(Default)]
pub struct TrackOracle;

impl Policy for TrackOracle {
    fn act(&mut self, envs: &dyn BatchEnv, _: &Buffer, actions: &mut Buffer) -> Result<(), PolicyError> {
        let moves = camera_moves(envs, actions)?;
        for row in running(envs) {
            let world = downcast::<MnistWorldTrackEnv>(envs, row, "TrackOracle")?.world();
            let MnistWorldConfig { world: side, window, digit_px, step, .. } = *world.config();
            let (camera, corner, velocity) = (world.camera(), world.positions()[TARGET], world.velocities()[TARGET]);
            for axis in 0..2 {
                // Where the target will be after this step, and the camera that has it in the middle.
                let target = i32::from(corner[axis]) + i32::from(velocity[axis]);
                let centre = target + (window / 2) as i32 - (window as i32 - digit_px as i32) / 2;
                moves[row][axis] = shortest_move(i32::from(camera[axis]), centre, side, step);
            }
        }
        Ok(())
    }
}

/// The walk of Blockworld's published episodes; see [`BiasedWalk`].
#[derive(Default)]
pub struct BlockWorldWalk {
    streams: EpisodeStreams,
    /// Of each row's episode.
    walks: Vec<BiasedWalk>,
}

impl Policy for BlockWorldWalk {
    fn act(&mut self, envs: &dyn BatchEnv, _: &Buffer, actions: &mut Buffer) -> Result<(), PolicyError> {
        check_actions(envs, actions)?;
        let chosen = actions.get_mut::<i64>().unwrap_or_default();
        for row in running(envs) {
            let env = downcast::<BlockWorldEnv>(envs, row, "BlockWorldWalk")?;
            let (rng, begins) = self.streams.row(envs, row);
            self.walks.resize(envs.num_envs(), BiasedWalk::new(env.config().forward));
            if begins {
                self.walks[row] = BiasedWalk::new(env.config().forward);
            }
            chosen[row] = self.walks[row].act(env.world(), rng) as i64;
        }
        Ok(())
    }
}

/// The actions of tasks that move a camera, as pairs `(dx, dy)`, `[N]`.
fn camera_moves<'a>(envs: &dyn BatchEnv, actions: &'a mut Buffer) -> Result<&'a mut [[i8; 2]], PolicyError> {
    check_actions(envs, actions)?;
    let values = actions.get_mut::<i8>().unwrap_or_default();
    Ok(values.as_chunks_mut().0)
}

/// The env of a row, if it is the one this policy was made for.
fn downcast<'a, T: Task>(envs: &'a dyn BatchEnv, row: usize, policy: &'static str) -> Result<&'a T, PolicyError> {
    let wrong =
        || PolicyError::WrongEnv { policy: policy.to_owned(), acts_in: T::ID.to_owned(), env: envs.spec().id.clone() };
    envs.row(row).env.downcast_ref().ok_or_else(wrong)
}
