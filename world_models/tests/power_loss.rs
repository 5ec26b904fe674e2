//! The power goes at any moment of a save, or of a training: the newest checkpoint that was reported is there, whole, and
//! the run that goes on from it ends with the bits, and the log, of one that nothing disturbed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../envs/tests/power_loss/recorder.rs"]
mod recorder;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use envs::collect::{CollectConfig, Truth};
use envs::dataset::{Clips, Control, Dataset, Request, collect};
use recorder::{Luck, Recorder};
use serde_json::{Value, json};
use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, Tensor};
use world_models::checkpoint::{Checkpoint, Named, Parts, Progress, complete, save};
use world_models::clips::ClipLoader;
use world_models::linear_rnn::LinearRnnConfig;
use world_models::registry::WorldModelConfig;
use world_models::train::{Event, Folder, From, RunConfig, TrainConfig, train};

/// Checkpoints of a run of saves, and how many of them are kept.
const SAVES: u64 = 5;
const KEEP: usize = 2;

/// Every kind of operation of a save, and of the log beside it.
const DEATHS: [(&str, &str); 11] = [
    ("create_folder", ""),
    ("create", ""),
    ("append", ""),
    ("write", ""),
    ("sync", ""),
    ("rename", ""),
    ("link", ""),
    ("sync_folder", ""),
    ("remove_file", ""),
    ("remove_folder", "old"),
    ("remove_folder", "checkpoints"),
];

/// Images of each death; ten times as many with `MINDSEYE_TEST_SCALE=full`.
fn images(small: u64) -> u64 {
    if std::env::var("MINDSEYE_TEST_SCALE").is_ok_and(|scale| scale == "full") { 10 * small } else { small }
}

fn numbers(update: u64) -> Named {
    BTreeMap::from([("w".to_owned(), Tensor::from_slice(&[update as f32; 40]))])
}

/// Saves checkpoint after checkpoint, as far as it comes, and marks those that are reported.
fn save_from(recorder: &Recorder, first: u64) {
    for update in first..=SAVES {
        let progress = Progress { update, ..Progress::default() };
        let numbers = &numbers(update);
        let parts = Parts { update, config: &"config", state: &progress, model: numbers, optimizer: numbers };
        if save(recorder, recorder.root(), &parts, KEEP).is_err() {
            return;
        }
        recorder.mark(update);
    }
}

/// The newest checkpoint, which must be one that was promised or a later one, and have its own numbers.
fn newest(folder: &Path, promised: u64, case: &str) -> u64 {
    let update = match Checkpoint::newest(folder) {
        Ok(checkpoint) => {
            let update = checkpoint.progress().unwrap().update;
            let loaded = numbers(0);
            checkpoint.load_model(&loaded).unwrap();
            assert_eq!(loaded, numbers(update), "{case}");
            update
        }
        Err(error) => {
            assert_eq!(promised, 0, "{case}: {error}");
            0
        }
    };
    assert!(update >= promised, "{case}: checkpoint {promised} was reported, {update} is the newest");
    let last = folder.join("last");
    if last.is_symlink() {
        Checkpoint::open(&last).unwrap_or_else(|error| panic!("{case}: `last` points to {error}"));
    }
    update
}

/// Loses the power at `cut`, and lets the saves go on.
fn loses_no_checkpoint(recorder: &Recorder, cut: usize, luck: &mut Luck, case: &str) {
    let case = format!("{case}, cut at {cut} of {}", recorder.len());
    let left = recorder::folder();
    let promised = recorder.power_loss(cut, luck, left.path()).unwrap_or(0);
    let found = newest(left.path(), promised, &case);
    let recorder = Recorder::of(left);
    save_from(&recorder, found + 1);
    assert_eq!(newest(recorder.root(), SAVES, &case), SAVES);
    let mut names: Vec<_> = fs::read_dir(recorder.root()).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    // Each save clears up after those before it.
    assert!(found == SAVES || names == ["000004", "000005", "last"], "{case}: left over are {names:?}");
}

#[test]
fn a_checkpoint_that_was_reported_survives_a_power_loss() {
    let mut image = 0;
    let mut drawn = |recorder: &Recorder, from: usize| {
        image += 1;
        let mut rng = stream(Seed(0), Purpose::World, image);
        (from + rand::Rng::next_u64(&mut rng) as usize % (recorder.len() - from + 1), Luck::Drawn(Box::new(rng)))
    };
    let mut worst_and_drawn = |recorder: &Recorder, from: usize, case: &str| {
        let drawn: Vec<_> = (0..images(3)).map(|_| drawn(recorder, from)).collect();
        for (number, (cut, mut luck)) in recorder.worst(from).into_iter().chain(drawn).enumerate() {
            loses_no_checkpoint(recorder, cut, &mut luck, &format!("{case}, image {number}"));
        }
    };
    let recorder = Recorder::new();
    save_from(&recorder, 1);
    worst_and_drawn(&recorder, 0, "undisturbed");
    for (kind, part) in DEATHS.into_iter().filter(|(kind, part)| (*kind, *part) != ("append", "")) {
        for n in 1.. {
            let recorder = Recorder::new();
            if !recorder.dying(kind, part, n, || save_from(&recorder, 1)) {
                break;
            }
            let from = recorder.len();
            let case = format!("died at {kind}~{part}:{n}");
            let found = newest(recorder.root(), 0, &case);
            save_from(&recorder, found + 1);
            worst_and_drawn(&recorder, from, &case);
        }
    }
    assert!(counted() >= 500);
}

/// Images so far.
fn counted() -> u64 {
    let images = recorder::IMAGES.load(Ordering::Relaxed);
    eprintln!("{images} images");
    images
}

/// Trains in the recorder's folder from where the run stands, as far as it comes, and marks the checkpoints reported.
fn train_on(recorder: &Recorder, data: &Path) {
    let train_config = TrainConfig {
        updates: 8,
        batch_size: 1,
        context: 3,
        horizon: 2,
        log_every: 2,
        checkpoint_every: 3,
        ..TrainConfig::default()
    };
    let model = WorldModelConfig::LinearRnn(LinearRnnConfig { hidden: 4, window: 12, ..Default::default() });
    let config = RunConfig { seed: Seed(1), model, train: train_config };
    world_models::libtorch::set_threads(1);
    let dataset = Arc::new(Dataset::open(data).unwrap());
    let mut loader = ClipLoader::new(Clips::new(dataset, 5, Seed(1)).unwrap(), Device::Cpu).unwrap();
    let checkpoints = recorder.root().join("checkpoints");
    let begun = complete(&checkpoints).is_ok_and(|numbers| !numbers.is_empty());
    let checkpoint = begun.then(|| Checkpoint::newest(&checkpoints).unwrap());
    let from = From { resume: checkpoint.as_ref(), weights: None };
    let mut watch = |event: Event<'_>| {
        if let Event::Saved { path } = event {
            recorder.mark(path.file_name().unwrap().to_str().unwrap().parse().unwrap());
        }
    };
    let folder = Folder { run: recorder.root(), storage: recorder };
    // It may die on the way.
    let _ = train(folder, &config, &mut loader, Device::Cpu, from, &AtomicBool::new(false), &mut watch);
}

/// What a run ends with: the files of its last checkpoint, and its log but for the clock.
fn end(run: &Path, case: &str) -> (Vec<Vec<u8>>, Vec<Value>) {
    let files = ["model/model.safetensors", "training_state/optimizer.safetensors", "training_state/step.json"];
    let read = |file| fs::read(run.join("checkpoints/last").join(file)).unwrap_or_else(|e| panic!("{case}: {e}"));
    let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let without_wall = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("wall").unwrap();
        line
    };
    (files.map(read).to_vec(), log.lines().map(without_wall).collect())
}

#[test]
fn a_run_goes_on_after_a_power_loss_to_the_same_bits_and_the_same_log() {
    let config = json!({
        "world": { "world": 16, "window": 12, "digits": 1, "digit_px": 8, "step": 4 }, "context": 8, "horizon": 4,
    });
    let settings = CollectConfig { seed: Seed(0), truth: Truth::None };
    let source = envs::registry::find("mnist-world").unwrap().source(&config, &settings).unwrap();
    let data = recorder::folder();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(source.as_ref(), data.path(), Request::episodes(4), control).unwrap();

    let whole = Recorder::new();
    train_on(&whole, data.path());
    let truth = end(whole.root(), "whole");
    let steps: Vec<_> = truth.1.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [2, 4, 6, 8]);

    let goes_on = |recorder: &Recorder, cut: usize, mut luck: Luck, case: &str| {
        let case = format!("{case}, cut at {cut} of {}", recorder.len());
        let left = recorder::folder();
        let promised = recorder.power_loss(cut, &mut luck, left.path()).unwrap_or(0);
        let found = Checkpoint::newest(&left.path().join("checkpoints"));
        let found = found.map_or(0, |checkpoint| checkpoint.progress().unwrap().update);
        assert!(found >= promised, "{case}: checkpoint {promised} was reported, {found} is the newest");
        let recorder = Recorder::of(left);
        train_on(&recorder, data.path());
        assert!(end(recorder.root(), &case) == truth, "{case}: another end");
    };
    for (cut, luck) in whole.worst(0) {
        goes_on(&whole, cut, luck, "undisturbed");
    }
    let mut rng = stream(Seed(1), Purpose::World, 0);
    for (kind, part) in DEATHS {
        // Not each of them: a save is tried in full above.
        for n in (1..).step_by(if images(1) == 1 { 5 } else { 1 }) {
            let recorder = Recorder::new();
            let died = recorder.dying(kind, part, n, || train_on(&recorder, data.path()));
            let case = format!("died at {kind}~{part}:{n}");
            if !died {
                break;
            }
            let from = recorder.len();
            train_on(&recorder, data.path());
            assert!(end(recorder.root(), &case) == truth, "{case}: another end");
            let cut = from + rand::Rng::next_u64(&mut rng) as usize % (recorder.len() - from + 1);
            goes_on(&recorder, cut, Luck::Drawn(Box::new(stream(Seed(2), Purpose::World, cut as u64))), &case);
        }
    }
    assert!(counted() >= 30);
}
