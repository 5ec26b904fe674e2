//! Numbers that go wrong in a loss, a gradient, a weight, a dataset or a prediction: caught there, named, never trained on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use envs::collect::{CollectConfig, Truth};
use envs::dataset::{
    Clips, ColumnSpec, Control, Dataset, DatasetHeader, Dtype, EpisodeBuffer, EpisodeSource, Length, Request, collect,
};
use envs::storage::Disk;
use serde_json::{Value, json};
use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use world_models::belief::{Belief, Clip, WorldModel};
use world_models::checkpoint::{Checkpoint, CheckpointError};
use world_models::clips::{ClipError, ClipLoader};
use world_models::evaluate::{EvaluateError, Questions, evaluate_memory};
use world_models::flowm::{FlowmConfig, Precision};
use world_models::linear_rnn::LinearRnnConfig;
use world_models::memory::{FrameShape, MemoryEvaluation, MemorySettings};
use world_models::nonfinite::{GaveUp, LeftOut};
use world_models::registry::WorldModelConfig;
use world_models::train::{
    Event, Folder, From, Loaded, Outcome, RunConfig, Schedule, TrainConfig, TrainError, train_model,
};

const CONTEXT: i64 = 5;
const HORIZON: i64 = 3;
const SEED: Seed = Seed(5);

fn flowm(precision: Precision) -> WorldModelConfig {
    WorldModelConfig::Flowm(FlowmConfig { hidden: 8, world: 16, window: 12, precision, ..Default::default() })
}

fn linear_rnn() -> WorldModelConfig {
    WorldModelConfig::LinearRnn(LinearRnnConfig { hidden: 16, window: 12, ..Default::default() })
}

fn models() -> [WorldModelConfig; 3] {
    [flowm(Precision::F32), flowm(Precision::Bf16), linear_rnn()]
}

fn config(model: WorldModelConfig, updates: u64) -> RunConfig {
    let train = TrainConfig {
        updates,
        batch_size: 2,
        context: CONTEXT,
        horizon: HORIZON,
        warmup: 2,
        log_every: 1,
        checkpoint_every: 1,
        keep_checkpoints: 40,
        ..Default::default()
    };
    RunConfig { seed: SEED, model, train }
}

fn recorded() -> TempDir {
    let config = json!({
        "world": { "world": 16, "window": 12, "digits": 2, "digit_px": 8, "step": 4 }, "context": 8, "horizon": 10,
    });
    let settings = CollectConfig { seed: Seed(0), truth: Truth::None };
    let source = envs::registry::find("mnist-world").unwrap().source(&config, &settings).unwrap();
    into_folder(source.as_ref(), 6)
}

fn into_folder(source: &dyn EpisodeSource, episodes: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(source, folder.path(), Request::episodes(episodes), control).unwrap();
    folder
}

fn loader(data: &Path, seed: Seed) -> ClipLoader {
    // The tests run side by side already, and the worlds are too small to share out.
    world_models::libtorch::set_threads(1);
    let dataset = Arc::new(Dataset::open(data).unwrap());
    ClipLoader::new(Clips::new(dataset, (CONTEXT + HORIZON) as usize, seed).unwrap(), Device::Cpu).unwrap()
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// A pixel that the model sees, so that its own arithmetic arrives at a loss that is not finite.
    Pixel(f64),
    /// The loss, without asking the model.
    Loss(f64),
    /// The gradient of one weight; the loss is as it was. The root of 0 has an infinite slope, and of `0^2` none.
    Gradient(f64),
}

/// A model whose loss goes wrong at some updates.
struct Faulty {
    model: Box<dyn WorldModel>,
    weight: Tensor,
    fault: Fault,
    at: Range<u64>,
    /// The update whose loss is asked next; one less at first, when the loop measures what an update costs.
    next: Cell<i64>,
}

impl WorldModel for Faulty {
    fn start(&self, batch: i64) -> Belief {
        self.model.start(batch)
    }
    fn observe(&self, belief: &Belief, action: &Tensor, observation: &Tensor) -> Belief {
        self.model.observe(belief, action, observation)
    }
    fn imagine(&self, belief: &Belief, action: &Tensor) -> Belief {
        self.model.imagine(belief, action)
    }
    fn picture(&self, belief: &Belief) -> Tensor {
        self.model.picture(belief)
    }
    fn loss(&self, clip: &Clip) -> Tensor {
        let update = self.next.replace(self.next.get() + 1);
        if !u64::try_from(update).is_ok_and(|update| self.at.contains(&update)) {
            return self.model.loss(clip);
        }
        match self.fault {
            Fault::Pixel(value) => {
                let frames = clip.frames.copy();
                let _ = frames.get(0).get(2).get(0).get(6).get(6).fill_(value);
                self.model.loss(&Clip { frames, actions: clip.actions.copy(), context: clip.context })
            }
            Fault::Loss(value) => self.weight.sum(Kind::Float) * 0.0 + value,
            Fault::Gradient(value) => {
                let zero = (&self.weight - self.weight.detach()).sum(Kind::Float);
                let zero = if value.is_nan() { zero.square() } else { zero };
                self.model.loss(clip) + zero.sqrt()
            }
        }
    }
}

/// How a run went.
struct Run {
    outcome: Result<Outcome, TrainError>,
    left_out: Vec<LeftOut>,
    saved: Vec<PathBuf>,
}

impl Run {
    fn gave_up(self) -> GaveUp {
        let Err(TrainError::NonFinite(gave_up)) = self.outcome else { panic!("{:?}", self.outcome) };
        *gave_up
    }
}

/// Trains with `fault` at the updates `at`, from the beginning or from the newest checkpoint of the run.
fn run(folder: &Path, config: &RunConfig, data: &Path, fault: Fault, at: Range<u64>, resume: bool) -> Run {
    let checkpoint = resume.then(|| Checkpoint::newest(&folder.join("checkpoints")).unwrap());
    run_from(folder, config, data, fault, at, From { resume: checkpoint.as_ref(), weights: None })
}

fn run_from(folder: &Path, config: &RunConfig, data: &Path, fault: Fault, at: Range<u64>, from: From<'_>) -> Run {
    let first = from.resume.map_or(0, |checkpoint| checkpoint.progress().unwrap().update);
    let Loaded { vs, model } = Loaded::fresh(config, Device::Cpu);
    let weight = vs.variables()[weight_at_fault(config)].shallow_clone();
    let model = Box::new(Faulty { model, weight, fault, at, next: Cell::new(first as i64 - 1) });
    let (mut left_out, mut saved) = (Vec::new(), Vec::new());
    let mut watch = |event: Event<'_>| match event {
        Event::Skipped(update) => left_out.push(update.clone()),
        Event::Saved { path } => saved.push(path.to_owned()),
        _ => {}
    };
    let (folder, stop) = (Folder { run: folder, storage: &Disk }, AtomicBool::new(false));
    let mut loader = loader(data, config.seed);
    let loaded = Loaded { vs, model };
    let outcome = train_model(folder, config, &loaded, &mut loader, from, &stop, &mut watch);
    Run { outcome, left_out, saved }
}

fn weight_at_fault(config: &RunConfig) -> &'static str {
    match config.model {
        WorldModelConfig::Flowm(_) => "cell.conv_h.weight",
        WorldModelConfig::Flowm3d(_) => "map_processor.norm.weight",
        WorldModelConfig::LinearRnn(_) => "remember.weight",
    }
}

const WEIGHTS: &str = "model/model.safetensors";
const MOMENTS: &str = "training_state/optimizer.safetensors";

fn bytes(run: &Path, update: u64, file: &str) -> Vec<u8> {
    std::fs::read(run.join(format!("checkpoints/{update:06}/{file}"))).unwrap()
}

/// Whether weights and moments of two checkpoints have the same bits.
fn same(a: (&Path, u64), b: (&Path, u64)) -> bool {
    [WEIGHTS, MOMENTS].iter().all(|file| bytes(a.0, a.1, file) == bytes(b.0, b.1, file))
}

fn lines(run: &Path, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join(file)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The clips of an update, as a person looks them up: episode and first frame.
fn batch_of(data: &Path, config: &RunConfig, update: u64) -> Vec<(u64, usize)> {
    let windows = loader(data, config.seed).clips().draws(update * 2, 2);
    windows.iter().map(|window| (window.episode as u64, window.start)).collect()
}

fn in_lines(left_out: &[LeftOut]) -> Vec<Value> {
    left_out.iter().map(|update| serde_json::to_value(update).unwrap()).collect()
}

const FAULTS: [(Fault, &str, &str); 5] = [
    (Fault::Pixel(f64::NAN), "loss", "NaN"),
    (Fault::Loss(f64::NEG_INFINITY), "loss", "-inf"),
    (Fault::Loss(f64::NAN), "loss", "NaN"),
    (Fault::Gradient(f64::NAN), "gradient norm", "NaN"),
    (Fault::Gradient(f64::INFINITY), "gradient norm", "inf"),
];

#[test]
fn an_update_that_goes_wrong_once_changes_no_bit_is_counted_and_written_down_with_its_clips() {
    let data = recorded();
    for model in models() {
        for (fault, what, value) in FAULTS {
            let (config, folder) = (config(model.clone(), 4), tempfile::tempdir().unwrap());
            let folder = folder.path();
            let run = run(folder, &config, data.path(), fault, 3..4, false);
            let said = format!("{fault:?} in {:?}", config.model);
            assert_eq!(run.outcome.unwrap().update, 4, "{said}");
            assert!(same((folder, 3), (folder, 4)) && !same((folder, 2), (folder, 3)), "{said}");
            let progress = Checkpoint::newest(&folder.join("checkpoints")).unwrap().progress().unwrap();
            assert_eq!((progress.update, progress.draws, progress.skipped), (4, 8, 1), "{said}");

            let gradient = if what == "loss" { vec![] } else { vec![weight_at_fault(&config).to_owned()] };
            let expected = LeftOut {
                update: 3,
                what,
                value: value.to_owned(),
                gradients: gradient,
                weights: vec![],
                in_a_row: 1,
                seed: SEED,
                clips: batch_of(data.path(), &config, 3),
            };
            assert_eq!(run.left_out, [expected], "{said}");
            assert_eq!(lines(folder, "nonfinite.jsonl"), in_lines(&run.left_out));
            let metrics = lines(folder, "metrics.jsonl");
            let skipped: Vec<_> = metrics.iter().map(|line| line["train/skipped"].as_f64().unwrap()).collect();
            assert_eq!(skipped, [0.0, 0.0, 0.0, 1.0]);
            assert!(metrics[2].get("train/loss").is_some() && metrics[3].get("train/loss").is_none());
        }
    }
}

#[test]
fn what_went_wrong_in_one_update_leaves_nothing_behind_for_the_next() {
    // FloWM keeps its maps from one update to the next. A loss made up without asking the model leaves nothing for certain.
    let data = recorded();
    for model in models() {
        let config = config(model, 7);
        let ends = [Fault::Pixel(f64::NAN), Fault::Pixel(f64::INFINITY), Fault::Loss(f64::NAN)].map(|fault| {
            let folder = tempfile::tempdir().unwrap();
            let run = run(folder.path(), &config, data.path(), fault, 3..5, false);
            assert_eq!((run.outcome.unwrap().update, run.left_out.len()), (7, 2));
            folder
        });
        for end in &ends[..2] {
            assert!(same((end.path(), 7), (ends[2].path(), 7)), "{:?}", config.model);
        }
    }
}

#[test]
fn at_the_limit_the_run_ends_with_its_last_good_checkpoint_and_says_what_to_change() {
    let data = recorded();
    for model in models() {
        let config = config(model, 12);
        let clean = tempfile::tempdir().unwrap();
        run(clean.path(), &config, data.path(), Fault::Loss(0.0), 0..0, false).outcome.unwrap();
        for (fault, what, value) in [FAULTS[0], FAULTS[3]] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            let ended = run(folder, &config, data.path(), fault, 4..12, false);
            let left_out = ended.left_out.clone();
            let newest = folder.join("checkpoints/000004");
            assert_eq!(ended.saved.last(), Some(&newest), "nothing was saved between bad updates");
            let gave_up = ended.gave_up();
            assert_eq!(
                left_out.iter().map(|update| (update.update, update.in_a_row)).collect::<Vec<_>>(),
                [(4, 1), (5, 2), (6, 3)]
            );
            assert_eq!(left_out.last(), Some(&gave_up.last));
            assert_eq!((gave_up.last.what, gave_up.last.value.as_str(), gave_up.limit), (what, value, 3));
            for update in &left_out {
                assert_eq!(update.clips, batch_of(data.path(), &config, update.update));
            }
            assert_eq!(lines(folder, "nonfinite.jsonl"), in_lines(&left_out));

            let checkpoint = Checkpoint::newest(&folder.join("checkpoints")).unwrap();
            assert_eq!((checkpoint.path(), Some(&newest)), (newest.as_path(), gave_up.checkpoint.as_ref()));
            Loaded::from_checkpoint(&checkpoint, Device::Cpu).unwrap();
            assert!(same((folder, 4), (clean.path(), 4)), "{fault:?} in {:?}", config.model);

            let message = gave_up.to_string();
            let clips: Vec<String> = gave_up.last.clips.iter().map(|clip| format!("{clip:?}")).collect();
            for part in [
                &format!("update 6: the {what} is {value}"),
                "3 in a row; seed 5, clips (episode, frame) ",
                &clips.join(", "),
                "train.nonfinite_limit is 3",
                &folder.join("nonfinite.jsonl").display().to_string(),
                &newest.display().to_string(),
                &format!("--start-from {}", folder.display()),
                "a lower train.learning_rate (it is 0.001) or another --seed",
            ] {
                assert!(message.contains(part), "no {part:?} in: {message}");
            }
        }
    }
}

#[test]
fn a_run_that_gave_up_meets_the_same_numbers_when_resumed_and_goes_on_as_advised() {
    let (data, fault) = (recorded(), Fault::Gradient(f64::NAN));
    let config = config(flowm(Precision::F32), 9);
    let [folder, other, straight] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let folder = folder.path();
    let first = run(folder, &config, data.path(), fault, 4..8, false);
    let (left_out, gave_up) = (first.left_out.clone(), first.gave_up());
    assert_eq!(left_out.len(), 3);

    // Resumed as it is: the same updates, the same end, and no line twice.
    assert_eq!(run(folder, &config, data.path(), fault, 4..8, true).gave_up(), gave_up);
    assert_eq!(lines(folder, "nonfinite.jsonl"), in_lines(&left_out));

    // Another run from its weights, with another seed, where the same arithmetic holds.
    let checkpoint = Checkpoint::newest(&folder.join("checkpoints")).unwrap();
    let begun = RunConfig { seed: Seed(6), ..config.clone() };
    let from = From { resume: None, weights: Some(&checkpoint) };
    run_from(other.path(), &begun, data.path(), fault, 0..0, from).outcome.unwrap();

    // With a larger limit it passes over them, and ends as a run that had that limit from the beginning.
    let patient = RunConfig { train: TrainConfig { nonfinite_limit: 5, ..config.train.clone() }, ..config.clone() };
    assert_eq!(run(folder, &patient, data.path(), fault, 4..8, true).outcome.unwrap().update, 9);
    run(straight.path(), &patient, data.path(), fault, 4..8, false).outcome.unwrap();
    assert!(same((folder, 9), (straight.path(), 9)));
    assert_eq!(lines(folder, "nonfinite.jsonl"), lines(straight.path(), "nonfinite.jsonl"));

    // A limit of one is the policy "stop".
    let strict = RunConfig { train: TrainConfig { nonfinite_limit: 1, ..config.train.clone() }, ..config };
    let stopped = run(tempfile::tempdir().unwrap().path(), &strict, data.path(), fault, 0..8, false).gave_up();
    assert_eq!((stopped.last.update, stopped.checkpoint.as_ref()), (0, None));
    assert!(stopped.to_string().contains("No checkpoint had been written yet: begin anew"), "{stopped}");
}

#[test]
fn weights_that_a_step_has_made_infinite_are_neither_saved_nor_trained_on() {
    let data = recorded();
    for model in models() {
        for checkpoint_every in [1, 100] {
            let sane = config(model.clone(), 2);
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            run(folder, &sane, data.path(), Fault::Loss(0.0), 0..0, false).outcome.unwrap();
            let before = [WEIGHTS, MOMENTS].map(|file| bytes(folder, 2, file));
            // More than the program allows, so that one step is enough.
            let train = TrainConfig {
                updates: 9,
                learning_rate: 1e39,
                schedule: Schedule::Constant,
                checkpoint_every,
                ..sane.train.clone()
            };
            let wild = RunConfig { train, ..sane };
            let run = run(folder, &wild, data.path(), Fault::Loss(0.0), 0..0, true);
            match run.outcome.unwrap_err() {
                TrainError::Checkpoint(CheckpointError::NotFinite { name, update, .. }) => {
                    assert_eq!((checkpoint_every, update), (1, 3));
                    assert!(Loaded::fresh(&wild, Device::Cpu).weights().contains_key(&name), "{name}");
                }
                TrainError::NonFinite(gave_up) => {
                    assert_eq!((checkpoint_every, gave_up.last.update, gave_up.last.in_a_row), (100, 3, 1));
                    assert!(gave_up.last.weights.contains(&weight_at_fault(&wild).to_owned()), "{gave_up}");
                    assert!(gave_up.to_string().contains("no later update can heal that"), "{gave_up}");
                }
                other => panic!("{other}"),
            }
            assert_eq!(before, [WEIGHTS, MOMENTS].map(|file| bytes(folder, 2, file)));
            let checkpoint = Checkpoint::newest(&folder.join("checkpoints")).unwrap();
            assert_eq!(checkpoint.progress().unwrap().update, 2);
            Loaded::from_checkpoint(&checkpoint, Device::Cpu).unwrap();
        }
    }
}

/// Episodes of noise that move by fractions; one number can be found in the file.
struct Noise;

const MARK: f32 = 1234.5;
const MARKED: (u64, usize) = (4, 3);

impl EpisodeSource for Noise {
    fn header(&self) -> DatasetHeader {
        DatasetHeader {
            env_id: "Noise-v0".into(),
            env_version: 0,
            config: Value::Null,
            spaces: Value::Null,
            fps: 1.0,
            seed: Seed(0),
        }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations("observations", Dtype::U8, &[12, 12, 1]),
            ColumnSpec::steps("actions", Dtype::F32, &[2]),
        ]
    }

    fn length(&self) -> Length {
        Length::Fixed((CONTEXT + HORIZON - 1) as usize)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        rand::Rng::fill_bytes(&mut stream(Seed(0), Purpose::World, k), episode.rows_mut::<u8>(0));
        if k == MARKED.0 {
            episode.row_mut::<f32>(1, MARKED.1)[1] = MARK;
        }
    }
}

/// As another program might have written it: our writer refuses such a number.
fn with_a_recorded(value: f32) -> TempDir {
    let data = into_folder(&Noise, 6);
    let shard = std::fs::read_dir(data.path().join("shards")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&shard).unwrap();
    let found: Vec<usize> = (0..bytes.len() - 3).filter(|at| bytes[*at..*at + 4] == MARK.to_le_bytes()).collect();
    let [at] = found[..] else { panic!("the mark is there {} times", found.len()) };
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(shard, bytes).unwrap();
    data
}

#[test]
fn a_recorded_number_that_is_not_finite_stops_whoever_reads_it_and_is_named() {
    for (value, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let data = with_a_recorded(value);
        let message =
            format!("{}: episode 4: column `actions` is {said} at step 3, not a finite number", data.path().display());
        for model in models() {
            let (config, folder) = (config(model, 40), tempfile::tempdir().unwrap());
            let run = run(folder.path(), &config, data.path(), Fault::Loss(0.0), 0..0, false);
            let error = run.outcome.unwrap_err();
            assert!(matches!(error, TrainError::Clip(ClipError::NotFinite { .. })), "{error}");
            assert_eq!(error.to_string(), message);
            // It is not an update that failed: nothing is skipped, whatever the limit.
            assert_eq!((run.left_out, lines(folder.path(), "nonfinite.jsonl")), (vec![], vec![]));
        }
        let config = config(linear_rnn(), 1);
        let fresh = Loaded::fresh(&config, Device::Cpu);
        assert_eq!(asked(fresh.model.as_ref(), data.path()).unwrap_err().to_string(), message);
    }
}

/// Asks a model what the benchmark asks, about every episode.
fn asked(model: &dyn WorldModel, data: &Path) -> Result<MemoryEvaluation, EvaluateError> {
    let mut loader = loader(data, SEED);
    let shape = FrameShape::new(loader.frame().map(|side| side as usize));
    let (context, horizon) = (CONTEXT as usize, HORIZON as usize);
    let mut evaluation = MemoryEvaluation::new(&MemorySettings::default(), shape, context, horizon, None).unwrap();
    let windows: Vec<_> = loader.clips().in_order().collect();
    let questions = Questions { windows: &windows, context, batch: 4, examples: 0 };
    evaluate_memory(model, &mut loader, questions, &mut evaluation, &mut |_| {})?;
    Ok(evaluation)
}

/// A model that predicts one wrong number: in clip `clip` of its second batch, `ahead` steps after what it saw.
struct Blinded {
    model: Box<dyn WorldModel>,
    value: f64,
    clip: i64,
    ahead: i64,
    pictures: Cell<i64>,
}

impl WorldModel for Blinded {
    fn start(&self, batch: i64) -> Belief {
        self.model.start(batch)
    }
    fn observe(&self, belief: &Belief, action: &Tensor, observation: &Tensor) -> Belief {
        self.model.observe(belief, action, observation)
    }
    fn imagine(&self, belief: &Belief, action: &Tensor) -> Belief {
        self.model.imagine(belief, action)
    }
    fn picture(&self, belief: &Belief) -> Tensor {
        let picture = self.model.picture(belief).copy();
        self.pictures.set(self.pictures.get() + 1);
        if self.pictures.get() == HORIZON + self.ahead {
            let _ = picture.get(self.clip).get(0).get(7).get(9).fill_(self.value);
        }
        picture
    }
    fn loss(&self, clip: &Clip) -> Tensor {
        self.model.loss(clip)
    }
}

#[test]
fn a_prediction_that_is_not_finite_is_no_measurement() {
    let data = recorded();
    for model in models() {
        for (value, said) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
            let Loaded { vs: _vs, model } = Loaded::fresh(&config(model.clone(), 1), Device::Cpu);
            let blinded = Blinded { model, value, clip: 1, ahead: 2, pictures: Cell::new(0) };
            let message = asked(&blinded, data.path()).unwrap_err().to_string();
            // The second batch begins with episode 4.
            assert_eq!(
                message,
                format!(
                    "episode 5, frame 6: the model predicts {said}, not a finite number, 2 steps after the last frame it saw"
                )
            );
        }
        let Loaded { vs: _vs, model } = Loaded::fresh(&config(model, 1), Device::Cpu);
        assert_eq!(asked(model.as_ref(), data.path()).unwrap().clips(), 6);
    }
}
