//! Worlds, batches of environments, datasets on disk and back.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result};
use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::collect::{CollectConfig, Truth};
use envs::dataset::{Clips, Control, Dataset, Request, collect};
use envs::policy::{Policy, RandomWalk};
use envs::registry::find;
use envs::vector::{AutoresetMode, Reset, VectorConfig};
use rand::RngExt;
use rayon::prelude::*;
use serde_json::json;
use simulators::block_world::{Action, BlockWorld, BlockWorldConfig, Surfaces};
use simulators::digits::DigitBank;
use simulators::mnist_world::{MnistWorld, MnistWorldConfig};
use simulators::rng::{Purpose, Seed, stream};
use simulators::room::Picture;
use simulators::world::{World, step_and_render};
use tempfile::TempDir;

use super::{ENOUGH, Rate, seconds_per_call};

pub const BENCHES: [Rate; 11] = [
    ("mnist_world/step_render", "frames/s", || step_render(rayon::current_num_threads())),
    ("mnist_world/step_render_1_thread", "frames/s", || step_render(1)),
    ("block_world/step_render", "frames/s", || rooms(128, false)),
    ("block_world/step_render_depth_ids_map", "frames/s", || rooms(128, true)),
    ("block_world/step_render_256", "frames/s", || rooms(256, false)),
    ("block_world/physics_steps", "steps/s", bodies),
    ("block_world/to_disk_full", "frames/s", rooms_to_disk),
    ("vector_env/steps", "steps/s", vector_env),
    ("collect/to_disk_state", "frames/s", || to_disk(Truth::State)),
    ("collect/to_disk_full", "frames/s", || to_disk(Truth::Full)),
    ("clips/gather", "clips/s", gather),
];

/// Worlds, or rows of a batch: enough to keep every thread busy, few enough for their frames to stay in the cache.
const BATCH: usize = 1024;
/// Clips gathered at a time.
const CLIPS: usize = 32;

/// Frames a second of the published world: drawing an action, stepping, rendering 32 x 32 pixels.
fn step_render(threads: usize) -> Result<f64> {
    let config = MnistWorldConfig::default();
    let reach = config.step;
    let bank = Arc::new(DigitBank::draw(Seed(1), 100, config.digit_px));
    let mut worlds = (0..BATCH as u64)
        .map(|i| {
            let mut world = MnistWorld::new(config.clone(), Arc::clone(&bank))?;
            world.reset(&mut stream(Seed(1), Purpose::World, i));
            Ok(world)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut rng = stream(Seed(1), Purpose::Policy, 0);
    let mut actions = vec![[0i8; 2]; BATCH];
    let mut frames = vec![0; BATCH * config.window * config.window];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
    let seconds = pool.install(|| {
        seconds_per_call(|| {
            actions.fill_with(|| [rng.random_range(-reach..=reach), rng.random_range(-reach..=reach)]);
            step_and_render(&mut worlds, &actions, &mut frames);
        })
    });
    Ok(BATCH as f64 / seconds)
}

/// Rooms in a batch.
const ROOMS: usize = 64;

/// Worlds of a preset of Blockworld, each in its own state.
fn block_worlds(preset: &str, image: usize) -> Result<Vec<BlockWorld>> {
    let config = BlockWorldConfig::preset(preset).context("a preset of Blockworld")?;
    let fresh = |i| {
        let mut world = BlockWorld::new(BlockWorldConfig { image, ..config.clone() }, Surfaces::drawn())?;
        world.reset(&mut stream(Seed(1), Purpose::World, i));
        Ok(world)
    };
    (0..ROOMS as u64).map(fresh).collect()
}

/// Pictures a second of the published Blockworld, in random actions: of `image` by `image` pixels and four samples a pixel; with `truth` also how
/// far each pixel is and of whom, and the room from above.
fn rooms(image: usize, truth: bool) -> Result<f64> {
    let mut worlds = block_worlds("dynamic", image)?;
    let mut rng = stream(Seed(1), Purpose::Policy, 0);
    let mut actions = [Action::Nothing; ROOMS];
    let (mut frames, mut maps) = (vec![0; ROOMS * image * image * 3], vec![0; ROOMS * image * image * 3]);
    let (mut depths, mut ids) = (vec![0.0; ROOMS * image * image], vec![0; ROOMS * image * image]);
    let seconds = seconds_per_call(|| {
        actions.fill_with(|| Action::ALL[rng.random_range(0..Action::ALL.len())]);
        if !truth {
            step_and_render(&mut worlds, &actions, &mut frames);
            return;
        }
        let pixels = image * image;
        let rows = (
            worlds.par_iter_mut().zip(&actions),
            (frames.par_chunks_exact_mut(3 * pixels), maps.par_chunks_exact_mut(3 * pixels)),
            (depths.par_chunks_exact_mut(pixels), ids.par_chunks_exact_mut(pixels)),
        );
        rows.into_par_iter().for_each(|((world, &action), (rgb, map), (depth, ids))| {
            world.step(action);
            world.paint(Picture { rgb, depth: Some(depth), ids: Some(ids) });
            world.plan(image, map);
        });
    });
    Ok(ROOMS as f64 / seconds)
}

/// Steps a second of rooms with eight bodies that the agent pushes about, without pictures.
fn bodies() -> Result<f64> {
    let mut worlds = block_worlds("physics", 16)?;
    let mut rng = stream(Seed(1), Purpose::Policy, 0);
    let mut actions = [Action::Nothing; ROOMS];
    let seconds = seconds_per_call(|| {
        actions.fill_with(|| Action::ALL[rng.random_range(0..Action::ALL.len())]);
        worlds.par_iter_mut().zip(&actions).for_each(|(world, &action)| world.step(action));
    });
    Ok(ROOMS as f64 / seconds)
}

/// Frames a second of the published Blockworld to disk, packed, with all ground truth.
fn rooms_to_disk() -> Result<f64> {
    let folder = scratch()?;
    let config = CollectConfig { seed: Seed(0), truth: Truth::Full };
    let source = find("BlockWorld-v0")?.source(&json!({}), &config)?;
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    let begin = Instant::now();
    let outcome = collect(source.as_ref(), folder.path(), Request::episodes(60), control)?;
    Ok(outcome.now.frames as f64 / begin.elapsed().as_secs_f64())
}

/// Steps a second of a whole batch of environments: checked actions, rewards, time limits, auto-reset.
fn vector_env() -> Result<f64> {
    let config = VectorConfig { num_envs: BATCH, autoreset: AutoresetMode::SameStep, ..Default::default() };
    let mut envs = find("MnistWorld-v0")?.make(&json!({}), &config)?;
    let mut out = StepBatch::for_spec(envs.spec(), BATCH);
    envs.reset(Reset::Next, out.obs_mut())?;
    let mut actions = Buffer::zeros(envs.spec().action.dtype(), 2 * BATCH);
    RandomWalk::default().act(&*envs, out.obs(), &mut actions)?;
    let seconds = seconds_per_call(|| envs.step(&actions, &mut out).expect("a random walk's actions are legal"));
    Ok(BATCH as f64 / seconds)
}

/// A folder on the disk that the user works on, removed when dropped.
fn scratch() -> Result<TempDir> {
    let here = tempfile::Builder::new().prefix(".mindseye-bench-").tempdir_in(".");
    here.context("cannot create a folder for the benchmark in the current directory")
}

/// Records into a new folder: it, and the frames it holds.
fn record(truth: Truth, episodes: u64) -> Result<(TempDir, u64)> {
    let folder = scratch()?;
    let source = find("MnistWorld-v0")?.source(&json!({}), &CollectConfig { seed: Seed(0), truth })?;
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    let outcome = collect(source.as_ref(), folder.path(), Request::episodes(episodes), control)?;
    Ok((folder, outcome.now.frames))
}

/// A dataset of the published world: 50 frames to see, 20 to predict.
pub fn recorded(episodes: u64) -> Result<(TempDir, Arc<Dataset>)> {
    let (folder, _) = record(Truth::None, episodes)?;
    let dataset = Dataset::open(folder.path())?;
    Ok((folder, Arc::new(dataset)))
}

/// Frames a second to disk, every shard synced. Folders are removed outside the time that is taken.
fn to_disk(truth: Truth) -> Result<f64> {
    let episodes = 2_000;
    drop(record(truth, episodes)?);
    let (mut seconds, mut frames) = (0.0, 0);
    while seconds < ENOUGH.as_secs_f64() {
        let begin = Instant::now();
        let (_folder, new) = record(truth, episodes)?;
        seconds += begin.elapsed().as_secs_f64();
        frames += new;
    }
    Ok(frames as f64 / seconds)
}

/// Clips of 70 frames a second, drawn at random out of the page cache into a batch.
fn gather() -> Result<f64> {
    let (_folder, dataset) = recorded(2_000)?;
    let clips = Clips::new(dataset, 70, Seed(1))?;
    let (mut observations, mut actions, mut next) = (Vec::new(), Vec::new(), 0);
    let mut gathered = Ok(());
    let seconds = seconds_per_call(|| {
        let batch = clips.batch(&clips.draws(next, CLIPS), &mut observations, &mut actions);
        gathered = std::mem::replace(&mut gathered, Ok(())).and(batch);
        next += CLIPS as u64;
    });
    gathered?;
    Ok(CLIPS as f64 / seconds)
}
