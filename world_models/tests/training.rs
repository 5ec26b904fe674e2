//! The training loop from outside: it learns, and it can be interrupted without a trace.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use envs::collect::{CollectConfig, Truth};
use envs::dataset::{Clips, Control, Dataset, Request, collect};
use envs::storage::Disk;
use serde_json::json;
use simulators::rng::Seed;
use tch::{Device, Tensor};
use tempfile::TempDir;
use world_models::belief::{Clip, WorldModel, roll_out};
use world_models::checkpoint::Checkpoint;
use world_models::clips::ClipLoader;
use world_models::flowm::{FlowmConfig, Precision};
use world_models::linear_rnn::LinearRnnConfig;
use world_models::registry::WorldModelConfig;
use world_models::train::{Event, Folder, From, Loaded, Outcome, RunConfig, Schedule, TrainConfig, train};

const CONTEXT: i64 = 8;
const HORIZON: i64 = 10;

/// Episodes of a world small enough for seconds: digits of 8 pixels on a torus of 16, seen through a window of 12.
fn recorded_world(episodes: u64, seed: u64, digits: usize, horizon: i64) -> TempDir {
    let config = json!({
        "world": { "world": 16, "window": 12, "digits": digits, "digit_px": 8, "step": 4 },
        "context": CONTEXT, "horizon": horizon,
    });
    let settings = CollectConfig { seed: Seed(seed), truth: Truth::None };
    let source = envs::registry::find("mnist-world").unwrap().source(&config, &settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(source.as_ref(), folder.path(), Request::episodes(episodes), control).unwrap();
    folder
}

fn recorded(episodes: u64, seed: u64) -> TempDir {
    recorded_world(episodes, seed, 2, HORIZON)
}

fn loader(data: &Path, frames: i64) -> ClipLoader {
    // The tests run side by side already, and the worlds are too small to share out.
    world_models::libtorch::set_threads(1);
    let dataset = Arc::new(Dataset::open(data).unwrap());
    ClipLoader::new(Clips::new(dataset, frames as usize, Seed(0)).unwrap(), Device::Cpu).unwrap()
}

fn flowm(precision: Precision) -> WorldModelConfig {
    WorldModelConfig::Flowm(FlowmConfig { hidden: 8, world: 16, window: 12, precision, ..Default::default() })
}

fn linear_rnn() -> WorldModelConfig {
    WorldModelConfig::LinearRnn(LinearRnnConfig { hidden: 24, window: 12, ..Default::default() })
}

fn config(model: WorldModelConfig, updates: u64) -> RunConfig {
    let train = TrainConfig {
        updates,
        batch_size: 2,
        context: CONTEXT,
        horizon: HORIZON,
        warmup: 2,
        log_every: 2,
        checkpoint_every: 3,
        ..Default::default()
    };
    RunConfig { seed: Seed(5), model, train }
}

fn in_folder(run: &Path) -> Folder<'_> {
    Folder { run, storage: &Disk }
}

/// Runs to the end, or to `stop_at` updates.
fn run(run: &Path, config: &RunConfig, data: &Path, resume: bool, stop_at: Option<u64>) -> Outcome {
    let mut loader = loader(data, config.train.context + config.train.horizon);
    let checkpoint = resume.then(|| Checkpoint::newest(&run.join("checkpoints")).unwrap());
    let from = From { resume: checkpoint.as_ref(), weights: None };
    let stop = AtomicBool::new(false);
    let mut watch = |event: Event<'_>| {
        if let Event::Updated { update, .. } = event {
            stop.store(Some(update) == stop_at, Ordering::Relaxed);
        }
    };
    train(in_folder(run), config, &mut loader, Device::Cpu, from, &stop, &mut watch).unwrap()
}

/// A checkpoint's file.
fn bytes(run: &Path, update: u64, file: &str) -> Vec<u8> {
    std::fs::read(run.join(format!("checkpoints/{update:06}/{file}"))).unwrap()
}

const WEIGHTS: &str = "model/model.safetensors";
const MOMENTS: &str = "training_state/optimizer.safetensors";

fn same_ends(a: &Path, b: &Path, update: u64) {
    for file in [WEIGHTS, MOMENTS, "training_state/step.json"] {
        assert!(bytes(a, update, file) == bytes(b, update, file), "{file} differs after {update} updates");
    }
}

fn steps_of_the_log(run: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["step"].as_u64().unwrap()).collect()
}

#[test]
fn one_clip_can_be_learned_by_heart() {
    let data = recorded_world(1, 0, 1, 4);
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(flowm(Precision::F32), 200);
    config.train =
        TrainConfig { batch_size: 1, horizon: 4, learning_rate: 1e-2, checkpoint_every: 200, ..config.train };
    let mut losses = Vec::new();
    let mut watch = |event: Event<'_>| {
        if let Event::Updated { loss, .. } = event {
            losses.push(loss);
        }
    };
    let (mut loader, stop) = (loader(data.path(), CONTEXT + 4), AtomicBool::new(false));
    assert_eq!(loader.clips().windows(), 1);
    train(in_folder(folder.path()), &config, &mut loader, Device::Cpu, From::default(), &stop, &mut watch).unwrap();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.01 * first, "loss {first} only fell to {last}");
}

#[test]
fn the_same_seed_gives_the_same_weights_and_another_seed_others() {
    let data = recorded(4, 0);
    let runs: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let again = config(flowm(Precision::Bf16), 4);
    let other = RunConfig { seed: Seed(6), ..again.clone() };
    for (folder, config) in runs.iter().zip([&again, &again, &other]) {
        run(folder.path(), config, data.path(), false, None);
    }
    same_ends(runs[0].path(), runs[1].path(), 4);
    assert!(bytes(runs[0].path(), 4, WEIGHTS) != bytes(runs[2].path(), 4, WEIGHTS));
}

#[test]
fn a_resumed_run_ends_with_the_bits_of_one_that_was_never_interrupted() {
    let data = recorded(4, 0);
    for model in [flowm(Precision::Bf16), flowm(Precision::F32), linear_rnn()] {
        let config = config(model, 8);
        let [straight, stopped, died] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let end = run(straight.path(), &config, data.path(), false, None);
        assert!(end.update == 8 && !end.stopped);

        // Asked to stop between two checkpoints: it saves where it is.
        let outcome = run(stopped.path(), &config, data.path(), false, Some(5));
        assert!(outcome.update == 5 && outcome.stopped);
        run(stopped.path(), &config, data.path(), true, None);
        same_ends(straight.path(), stopped.path(), 8);

        // Killed after its checkpoint of update 3 (what came later is lost) with lines in the log that must be dropped.
        run(died.path(), &config, data.path(), false, Some(5));
        std::fs::remove_dir_all(died.path().join("checkpoints/000005")).unwrap();
        run(died.path(), &config, data.path(), true, None);
        same_ends(straight.path(), died.path(), 8);
        for folder in [&straight, &stopped, &died] {
            assert_eq!(steps_of_the_log(folder.path()), [2, 4, 6, 8]);
        }
    }
}

#[test]
fn the_linear_rnn_learns_and_its_belief_is_what_its_loss_speaks_of() {
    let data = recorded(8, 0);
    let mut config = config(linear_rnn(), 60);
    config.train.schedule = Schedule::Constant;
    let clip = loader(data.path(), CONTEXT + HORIZON).draw(0, 4, CONTEXT).unwrap();
    let (fresh, folder) = (Loaded::fresh(&config, Device::Cpu), tempfile::tempdir().unwrap());
    run(folder.path(), &config, data.path(), false, None);
    let checkpoint = Checkpoint::newest(&folder.path().join("checkpoints")).unwrap();
    let (trained, found) = Loaded::from_checkpoint(&checkpoint, Device::Cpu).unwrap();
    assert_eq!(found, config);

    let model: &dyn WorldModel = trained.model.as_ref();
    let mut belief = model.start(clip.batch());
    for t in 0..CONTEXT {
        belief = model.observe(&belief, &clip.action(t), &clip.frame(t));
    }
    let mut squares = 0.0;
    for t in CONTEXT..clip.steps() {
        belief = model.imagine(&belief, &clip.action(t));
        squares += mean_square(&(model.picture(&belief) - clip.frame(t)));
    }
    let loss = model.loss(&clip).double_value(&[]);
    assert!((squares / HORIZON as f64 / loss - 1.0).abs() < 1e-5);
    let before = fresh.model.loss(&clip).double_value(&[]);
    assert!(loss < 0.8 * before, "loss {before} only fell to {loss}");
}

fn mean_square(x: &Tensor) -> f64 {
    x.square().mean(tch::Kind::Float).double_value(&[])
}

/// Mean squared error of the model's pictures and of showing the last frame of the context for ever.
fn errors(model: &dyn WorldModel, clip: &Clip) -> [f64; 2] {
    let truth = clip.frames.narrow(1, clip.context, clip.steps() - clip.context);
    let last = clip.frame(clip.context - 1).unsqueeze(1);
    [mean_square(&(tch::no_grad(|| roll_out(model, clip)) - &truth)), mean_square(&(last - &truth))]
}

#[test]
fn flowm_remembers_better_than_a_photograph() {
    let (data, unseen) = (recorded(200, 0), recorded(16, 1));
    let mut config = config(flowm(Precision::Bf16), 100);
    config.train = TrainConfig { batch_size: 4, learning_rate: 5e-3, warmup: 10, ..config.train };
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &config, data.path(), false, None);
    let checkpoint = Checkpoint::newest(&folder.path().join("checkpoints")).unwrap();
    let (trained, _) = Loaded::from_checkpoint(&checkpoint, Device::Cpu).unwrap();
    let clip = loader(unseen.path(), CONTEXT + HORIZON).draw(0, 16, CONTEXT).unwrap();
    let [model, copy_last] = errors(trained.model.as_ref(), &clip);
    assert!(model < 0.5 * copy_last, "error {model}, copying the last frame {copy_last}");
}
