//! Training on a CPU is a function of configuration, dataset and number of threads: every run ends with the same weights,
//! moments and counters, in a process of its own.
//!
//! Other numbers of threads may sum in another order inside libtorch, so nothing is promised across them; the test says
//! what it saw (`--nocapture`). `MINDSEYE_TEST_SCALE=full` repeats it at the size that a release is tried at.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use envs::collect::{CollectConfig, Truth};
use envs::dataset::{Clips, Control, Dataset, Request, collect};
use envs::storage::Disk;
use serde::{Deserialize, Serialize};
use serde_json::json;
use simulators::rng::Seed;
use tch::Device;
use world_models::clips::ClipLoader;
use world_models::flowm::{FlowmConfig, Precision};
use world_models::linear_rnn::LinearRnnConfig;
use world_models::registry::WorldModelConfig;
use world_models::train::{Folder, From, RunConfig, TrainConfig, train};

/// How much to try: a little on every change, all of it before a release.
fn scaled<T>(small: T, full: T) -> T {
    if std::env::var_os("MINDSEYE_TEST_SCALE").is_some_and(|scale| scale == "full") { full } else { small }
}

/// What the other process does; the file named by [`WORK`] holds it.
#[derive(Serialize, Deserialize)]
struct Work {
    config: RunConfig,
    data: PathBuf,
    run: PathBuf,
    threads: usize,
}

/// Names the file in which another process finds its work; unset, it has none.
const WORK: &str = "MINDSEYE_TRAINING_WORK";

/// Large enough that libtorch shares operations out among threads: digits on a torus of 32, seen through a window of 20.
const WORLD: i64 = 32;
const WINDOW: i64 = 20;
const CONTEXT: i64 = 8;
const HORIZON: i64 = 6;

fn record(folder: &Path) {
    let config = json!({
        "world": { "world": WORLD, "window": WINDOW, "digits": 3, "digit_px": 12, "step": 8 },
        "digits": { "kind": "drawn", "per_label": 5 },
        "context": CONTEXT, "horizon": HORIZON,
    });
    let settings = CollectConfig { seed: Seed(0), truth: Truth::None };
    let source = envs::registry::find("mnist-world").unwrap().source(&config, &settings).unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(source.as_ref(), folder, Request::episodes(32), control).unwrap();
}

fn models() -> [(&'static str, WorldModelConfig); 3] {
    let flowm = |precision| {
        // Sixteen features are what the kernel for bf16 weight gradients wants.
        let config =
            FlowmConfig { hidden: 16, v_range: 1, world: WORLD, window: WINDOW, precision, ..Default::default() };
        WorldModelConfig::Flowm(config)
    };
    let linear_rnn = LinearRnnConfig { hidden: 256, window: WINDOW, ..Default::default() };
    [
        ("flowm f32", flowm(Precision::F32)),
        ("flowm bf16", flowm(Precision::Bf16)),
        ("linear_rnn", WorldModelConfig::LinearRnn(linear_rnn)),
    ]
}

/// Trains in a new process; everything that the last checkpoint holds, by name.
fn trained(work: &Work) -> Vec<(&'static str, Vec<u8>)> {
    fs::create_dir_all(&work.run).unwrap();
    let file = work.run.join("work.json");
    fs::write(&file, serde_json::to_vec(work).unwrap()).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trains_as_another_process_says", "--ignored"])
        .env(WORK, file)
        // As the program sets it: spinning threads would fight for the cores with those of other tests.
        .env("OMP_WAIT_POLICY", "passive")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let last = work.run.join(format!("checkpoints/{:06}", work.config.train.updates));
    ["model/model.safetensors", "training_state/optimizer.safetensors", "training_state/step.json"]
        .map(|file| (file, fs::read(last.join(file)).unwrap()))
        .to_vec()
}

#[test]
fn the_same_number_of_threads_trains_the_same_weights() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    record(&data);
    for (name, model) in models() {
        let train = TrainConfig {
            updates: scaled(20, 200),
            batch_size: 4,
            context: CONTEXT,
            horizon: HORIZON,
            learning_rate: 5e-3,
            warmup: 5,
            checkpoint_every: 1_000,
            ..Default::default()
        };
        let config = RunConfig { seed: Seed(5), model, train };
        let mut first_of_each = Vec::new();
        for &threads in scaled(&[1, 2][..], &[1, 2, 4]) {
            let train = |repetition: usize| {
                let run = place.path().join(format!("{name}, {threads} threads, {repetition}"));
                trained(&Work { config: config.clone(), data: data.clone(), run, threads })
            };
            let first = train(0);
            for repetition in 1..scaled(2, 3) {
                for ((file, found), (_, expected)) in train(repetition).iter().zip(&first) {
                    assert!(found == expected, "{name}, {threads} threads: {file} of run {repetition} differs");
                }
            }
            first_of_each.push((threads, first));
        }
        let (_, alone) = &first_of_each[0];
        for (threads, weights) in &first_of_each[1..] {
            let agree = if weights == alone { "the bits of" } else { "other bits than" };
            println!("{name}: {threads} threads give {agree} one");
        }
    }
}

#[test]
#[ignore = "the other process of the test above, which starts it"]
fn trains_as_another_process_says() {
    let Some(file) = std::env::var_os(WORK) else { return };
    let Work { config, data, run, threads } = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    world_models::libtorch::set_threads(threads);
    let frames = (config.train.context + config.train.horizon) as usize;
    let clips = Clips::new(Arc::new(Dataset::open(&data).unwrap()), frames, config.seed).unwrap();
    let mut loader = ClipLoader::new(clips, Device::Cpu).unwrap();
    let (folder, stop) = (Folder { run: &run, storage: &Disk }, AtomicBool::new(false));
    train(folder, &config, &mut loader, Device::Cpu, From::default(), &stop, &mut |_| {}).unwrap();
}
