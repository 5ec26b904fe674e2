//! Learning from pictures of a room: by heart, and the same whether interrupted or not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use envs::dataset::{
    Clips, ColumnSpec, Control, Dataset, DatasetHeader, Dtype, EpisodeBuffer, EpisodeSource, Length, Request, collect,
};
use envs::space::Space;
use envs::storage::Disk;
use rand::RngExt;
use serde_json::json;
use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use world_models::checkpoint::Checkpoint;
use world_models::clips::{Actions, ClipError, ClipLoader};
use world_models::flowm::Precision;
use world_models::flowm3d::{Flowm3dConfig, Mixing};
use world_models::registry::WorldModelConfig;
use world_models::train::{Event, Folder, From, Outcome, RunConfig, Schedule, TrainConfig, train};

const CONTEXT: i64 = 5;
const HORIZON: i64 = 4;
const SIDE: usize = 16;
const STEPS: usize = (CONTEXT + HORIZON) as usize - 1;

/// A room of five by five cells whose walls have four colours. A block goes to and fro in it, and an agent looks around.
struct Room {
    /// An action to put into the first episode, at the third step.
    action: i64,
}

/// Turns to the left, from looking along x: the direction ahead, in (x, z).
const AHEAD: [[f64; 2]; 4] = [[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]];

/// What is seen over `SIDE * SIDE` pixels of three colours, 60 degrees wide.
fn picture(agent: [f64; 2], heading: usize, block: [f64; 2]) -> Vec<u8> {
    let (ahead, right) = (AHEAD[heading], AHEAD[(heading + 3) % 4]);
    let colour = |[x, z]: [f64; 2]| -> Option<[u8; 3]> {
        match (x, z) {
            (x, z) if (x - block[0]).abs() < 0.35 && (z - block[1]).abs() < 0.35 => Some([255, 255, 0]),
            (..0.5, _) => Some([255, 0, 0]),
            (5.5.., _) => Some([0, 0, 255]),
            (_, ..0.5) => Some([0, 255, 0]),
            (_, 5.5..) => Some([200, 0, 200]),
            _ => None,
        }
    };
    let columns: Vec<(f64, [u8; 3])> = (0..SIDE)
        .map(|column| {
            let aside = ((column as f64 + 0.5) / (SIDE / 2) as f64 - 1.0) * 30f64.to_radians().tan();
            let at = |distance: f64| [0, 1].map(|i| agent[i] + distance * (ahead[i] + aside * right[i]));
            let mut distances = (1..).map(|i| f64::from(i) * 0.05);
            distances.find_map(|distance| Some((distance, colour(at(distance))?))).unwrap()
        })
        .collect();
    let pixel = |row: usize, (distance, colour): (f64, [u8; 3])| {
        if (row as f64 + 0.5 - (SIDE / 2) as f64).abs() < SIDE as f64 / 3.0 / distance { colour } else { [90; 3] }
    };
    (0..SIDE).flat_map(|row| columns.iter().flat_map(move |column| pixel(row, *column))).collect()
}

impl EpisodeSource for Room {
    fn header(&self) -> DatasetHeader {
        DatasetHeader {
            env_id: "Room-v0".into(),
            env_version: 0,
            config: json!({}),
            spaces: json!({ "action": Space::Discrete { n: 5 } }),
            fps: 1.0,
            seed: Seed(0),
        }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations("observations", Dtype::U8, &[SIDE, SIDE, 3]),
            ColumnSpec::steps("actions", Dtype::I64, &[]),
        ]
    }

    fn length(&self) -> Length {
        Length::Fixed(STEPS)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        let mut rng = stream(Seed(0), Purpose::World, k);
        let (mut agent, mut heading) = ([3.0, 3.0], rng.random_range(0..4));
        let (mut block, mut velocity) = ([f64::from(rng.random_range(1..=5)), 1.0], 1.0);
        for t in 0..=STEPS {
            episode.row_mut::<u8>(0, t).copy_from_slice(&picture(agent, heading, block));
            if t == STEPS {
                break;
            }
            let next = [0, 1].map(|i| agent[i] + AHEAD[heading][i]);
            let action = match rng.random_range(0..5) {
                2 if next.iter().any(|x| !(1.0..=5.0).contains(x)) => 4,
                3 => 0,
                action => action,
            };
            match action {
                0 => heading = (heading + 1) % 4,
                1 => heading = (heading + 3) % 4,
                2 => agent = next,
                _ => {}
            }
            if !(1.0..=5.0).contains(&(block[0] + velocity)) {
                velocity = -velocity;
            }
            block[0] += velocity;
            episode.row_mut::<i64>(1, t)[0] = if (k, t) == (0, 2) && self.action != 0 { self.action } else { action };
        }
    }
}

fn recorded(episodes: u64, action: i64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(&Room { action }, folder.path(), Request::episodes(episodes), control).unwrap();
    folder
}

fn loader(data: &Path) -> ClipLoader {
    // The tests run side by side already, and the maps are too small to share out.
    world_models::libtorch::set_threads(1);
    let dataset = Arc::new(Dataset::open(data).unwrap());
    ClipLoader::new(Clips::new(dataset, STEPS + 1, Seed(0)).unwrap(), Device::Cpu).unwrap()
}

fn config(precision: Precision, train: &TrainConfig) -> RunConfig {
    let model = Flowm3dConfig {
        window: SIDE as i64,
        patch: 4,
        map_side: 11,
        hidden: 32,
        heads: 2,
        encoder_depth: 1,
        decoder_depth: 1,
        mixing: Mixing::Corrected,
        recompute: false,
        precision,
        ..Default::default()
    };
    let train = TrainConfig { context: CONTEXT, horizon: HORIZON, warmup: 5, ..train.clone() };
    RunConfig { seed: Seed(5), model: WorldModelConfig::Flowm3d(model), train }
}

fn run(run: &Path, config: &RunConfig, data: &Path, stop_at: Option<u64>) -> (Outcome, Vec<f64>) {
    let checkpoints = run.join("checkpoints");
    let checkpoint = checkpoints.exists().then(|| Checkpoint::newest(&checkpoints).unwrap());
    let from = From { resume: checkpoint.as_ref(), weights: None };
    let (stop, mut losses) = (AtomicBool::new(false), Vec::new());
    let mut watch = |event: Event<'_>| {
        if let Event::Updated { update, loss } = event {
            losses.push(loss);
            stop.store(Some(update) == stop_at, Ordering::Relaxed);
        }
    };
    let folder = Folder { run, storage: &Disk };
    let outcome = train(folder, config, &mut loader(data), Device::Cpu, from, &stop, &mut watch).unwrap();
    (outcome, losses)
}

#[test]
fn choices_arrive_as_so_many_numbers_and_the_first_as_none() {
    let data = recorded(2, 0);
    let dataset = Dataset::open(data.path()).unwrap();
    assert_eq!(Actions::of(&dataset), Some(Actions::Choice(5)));
    let mut loader = loader(data.path());
    let windows: Vec<_> = loader.clips().in_order().collect();
    let clip = loader.load(&windows, CONTEXT).unwrap();
    assert_eq!(clip.actions.size(), [2, CONTEXT + HORIZON, 5]);
    assert_eq!(clip.action(0), Tensor::zeros([2, 5], (Kind::Float, Device::Cpu)));
    for (sample, window) in (0..).zip(windows) {
        let episode = dataset.episode(window.episode).unwrap();
        let taken = Tensor::from_slice(&episode.column::<i64>("actions").unwrap());
        assert_eq!(clip.actions.get(sample).narrow(0, 1, STEPS as i64), crate::support::told(&taken));
    }
}

#[test]
fn a_recorded_choice_that_there_is_none_of_is_named() {
    for action in [5, -1, i64::MIN] {
        let data = recorded(2, action);
        let mut loader = loader(data.path());
        let windows: Vec<_> = loader.clips().in_order().collect();
        let error = loader.load(&windows, CONTEXT).unwrap_err();
        assert!(matches!(error, ClipError::Choice { .. }), "{error}");
        let said = format!("episode 0: column `actions` is {action} at step 2, not one of 0..5");
        assert!(error.to_string().ends_with(&said), "{error}");
    }
}

#[test]
fn one_clip_can_be_learned_by_heart() {
    let (data, folder) = (recorded(1, 0), tempfile::tempdir().unwrap());
    let train = TrainConfig {
        updates: 400,
        batch_size: 1,
        learning_rate: 4e-3,
        schedule: Schedule::Cosine,
        checkpoint_every: 400,
        ..Default::default()
    };
    let (_, losses) = run(folder.path(), &config(Precision::F32, &train), data.path(), None);
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.01 * first, "loss {first} only fell to {last}");
}

#[test]
fn a_resumed_run_ends_with_the_bits_of_one_that_was_never_interrupted() {
    let data = recorded(4, 0);
    for precision in [Precision::F32, Precision::Bf16] {
        let train = TrainConfig { updates: 6, batch_size: 2, checkpoint_every: 2, ..Default::default() };
        let mut config = config(precision, &train);
        if let WorldModelConfig::Flowm3d(model) = &mut config.model {
            model.teacher_forcing = 0.5;
        }
        let [straight, stopped] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        run(straight.path(), &config, data.path(), None);
        let (outcome, _) = run(stopped.path(), &config, data.path(), Some(3));
        assert!(outcome.stopped && outcome.update == 3);
        run(stopped.path(), &config, data.path(), None);
        for file in ["model/model.safetensors", "training_state/optimizer.safetensors", "training_state/step.json"] {
            let bytes = |run: &TempDir| std::fs::read(run.path().join("checkpoints/000006").join(file)).unwrap();
            assert!(bytes(&straight) == bytes(&stopped), "{file} differs");
        }
    }
}
