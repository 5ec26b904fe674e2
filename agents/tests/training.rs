//! Training policies, through simulators and inside models: it learns, it goes on as if never interrupted, and what it leaves can be played.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use agents::config::PolicyConfig;
use agents::train::{Event, From, TrainError, train};
use agents::{Evaluation, Learned, Manner, evaluate};
use envs::storage::Disk;
use serde_json::{Value, json};
use simulators::rng::Seed;
use tch::Tensor;
use world_models::checkpoint::Checkpoint;
use world_models::train::Folder;

fn config_of(trainer: &str, env: &str, settings: &Value) -> PolicyConfig {
    serde_json::from_value(json!({"seed": 3, "env": {"id": env, "config": {}}, trainer: settings})).unwrap()
}

fn config(env: &str, shac: &Value) -> PolicyConfig {
    config_of("shac", env, shac)
}

/// Trains until an epoch number, or to the end.
fn trained(run: &Path, config: &PolicyConfig, until: Option<u64>) -> Checkpoint {
    let checkpoints = run.join("checkpoints");
    let resume = checkpoints.exists().then(|| Checkpoint::newest(&checkpoints).unwrap());
    let stop = AtomicBool::new(false);
    let folder = Folder { run, storage: &Disk };
    let mut watch = |event: Event<'_>| {
        if let (Event::Epoch { epoch, .. }, Some(until)) = (event, until) {
            stop.store(epoch >= until, Ordering::Relaxed);
        }
    };
    train(folder, config, From { resume: resume.as_ref(), ..From::default() }, &stop, &mut watch).unwrap();
    Checkpoint::newest(&checkpoints).unwrap()
}

/// Of the first layer of the dynamics.
fn weights(checkpoint: &Checkpoint) -> Tensor {
    let all = Tensor::read_safetensors(checkpoint.path().join("model/model.safetensors")).unwrap();
    all.into_iter().find(|(name, _)| name == "model.dynamics.0.weight").unwrap().1
}

fn read(checkpoint: &Checkpoint, file: &str) -> Vec<u8> {
    std::fs::read(checkpoint.path().join(file)).unwrap()
}

#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bits() {
    let plain = json!({"num_envs": 20, "horizon": 16, "epochs": 9, "checkpoint_every": 4,
        "actor": {"hidden": [24, 16]}, "critic": {"hidden": [24, 8], "passes": 2, "numbers": "bf16"}});
    let published = json!({"num_envs": 18, "horizon": 16, "epochs": 9, "scale": "steps", "normalise_observations": false,
        "actor": {"hidden": [16], "activation": "elu", "start": "orthogonal"},
        "critic": {"count": 1, "hidden": [16], "activation": "elu", "passes": 2, "target_stays": 0.2}});
    for (env, shac) in [("Hopper-v0", plain.clone()), ("Ant-v0", published), ("CartPoleSwingUp-v0", plain)] {
        goes_on_to_the_same_bits(&config(env, &shac));
    }
}

/// Episodes of the Hopper end long before their time, so there are some to learn from, and some under way.
#[test]
fn a_run_inside_a_model_goes_on_to_the_same_bits() {
    let plain = json!({"num_envs": 12, "horizon": 8, "epochs": 14, "checkpoint_every": 4, "log_every": 1, "replay": 300,
        "model": {"latent": 16, "units": [24], "encoder_units": [16]},
        "model_training": {"batch": 10, "updates": 2, "first_updates": 5},
        "actor": {"hidden": [24, 16]}, "critic": {"hidden": [24, 8], "passes": 2}});
    let mut flow = plain.clone();
    flow["numbers"] = json!("bf16");
    flow["detach"] = json!(false);
    flow["window_end"] = json!("faithful");
    flow["normalise_rewards"] = json!("no");
    flow["model"]["dynamics"] = json!({"kind": "flow", "solver": "euler", "starts": "teacher_forced"});
    let mut real = plain.clone();
    real["rollouts"] = json!("real");
    real["model"]["normalise_observations"] = json!(true);
    real["model"]["normalise_latents"] = json!(true);
    real["model_training"]["unroll"] = json!(2);
    real["critic"]["input_noise"] = json!(0.1);
    let mut projected = real.clone();
    projected["model"]["shown"] = json!("projected");
    let mut read = plain.clone();
    read["model"]["shown"] = json!("observations");
    for pwm in [plain, flow, real, projected, read] {
        let steps = goes_on_to_the_same_bits(&config_of("pwm", "Hopper-v0", &pwm));
        assert!(steps.contains("train/model_reward_loss"), "nothing was learned: {steps}");
    }
}

/// A small world that the last frame shows half of.
fn track(mind: &Value, more: &Value) -> PolicyConfig {
    let world = json!({"world": 16, "window": 10, "digits": 2, "digit_px": 10, "step": 3});
    let mut dream = json!({"mind": mind, "num_envs": 6, "horizon": 5, "epochs": 6, "checkpoint_every": 2, "log_every": 1,
        "reward": {"hidden": [16], "batch": 20, "updates": 2, "replay": 100},
        "actor": {"hidden": [16]}, "critic": {"hidden": [8], "passes": 2}});
    dream.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = json!({"seed": 3, "dream": dream,
        "env": {"id": "MnistWorldTrack-v0", "config": {"world": world, "steps": 12}}});
    serde_json::from_value(config).unwrap()
}

/// Beliefs are in the checkpoint, and the weights of the world model they are of.
#[test]
fn a_run_in_a_belief_goes_on_to_the_same_bits() {
    let flowm = json!({"kind": "flowm", "hidden": 4, "world": 16, "window": 10, "precision": "bf16"});
    let learned = json!({"kind": "learned", "model": flowm});
    for mind in [json!({"kind": "last_frame"}), learned] {
        let steps = goes_on_to_the_same_bits(&track(&mind, &json!({"detach": mind["kind"] == "learned"})));
        assert!(steps.contains("train/model_reward_loss"), "nothing was learned: {steps}");
    }
}

/// One that looks at every observation plays what it has learned; one that looks seldom imagines what is between, and plays otherwise.
/// Neither depends on how many envs are played at a time.
#[test]
fn a_policy_in_a_belief_plays_with_its_eyes_open_or_shut() {
    let run = tempfile::tempdir().unwrap();
    let checkpoint = trained(run.path(), &track(&json!({"kind": "last_frame"}), &json!({"epochs": 20})), None);
    let played = |look_every: u32, num_envs: usize| {
        let mut policy = Learned::open(&checkpoint, Manner { look_every, ..Manner::default() }).unwrap();
        let task = policy.config().env.clone();
        evaluate(&task.id, &task.config, &mut policy, 100, Seed(11), num_envs).unwrap()
    };
    let [open, seldom] = [1, 6].map(|look_every| played(look_every, 100));
    assert_ne!(open, seldom);
    for num_envs in [1, 7] {
        assert_eq!((played(1, num_envs), played(6, num_envs)), (open.clone(), seldom.clone()), "{num_envs} at a time");
    }
    let other = json!({"kind": "learned", "model": {"kind": "flowm", "hidden": 4, "world": 16, "window": 11}});
    let folder = Folder { run: run.path(), storage: &Disk };
    let stop = AtomicBool::new(false);
    let error = train(folder, &track(&other, &json!({})), From::default(), &stop, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("needs 11 x 11 x 1 pictures of bytes"), "{error}");
}

/// Trains at once, and in parts; returns the log.
fn goes_on_to_the_same_bits(config: &PolicyConfig) -> String {
    let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let expected = trained(whole.path(), config, None);
    for until in [3, 5, 8] {
        trained(parts.path(), config, Some(until));
    }
    let found = trained(parts.path(), config, None);
    for file in ["model/model.safetensors", "training_state/optimizer.safetensors", "training_state/step.json"] {
        assert!(read(&found, file) == read(&expected, file), "{config:?}: {file}");
    }
    let log = |run: &Path| std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(log(parts.path()).lines().count(), log(whole.path()).lines().count());
    log(whole.path())
}

/// One epoch of another seed leaves the model where two updates from the first run's model lead, not where a fresh one would be.
#[test]
fn a_run_begins_with_the_model_of_another() {
    let pwm = |updates: u64, latent: i64| {
        json!({"num_envs": 12, "horizon": 8, "epochs": 12, "model": {"latent": latent, "units": [24], "encoder_units": [16]},
            "model_training": {"batch": 10, "updates": updates, "first_updates": 5, "learning_rate": 1e-6},
            "actor": {"hidden": [16]}, "critic": {"hidden": [8], "passes": 2}})
    };
    let place = tempfile::tempdir().unwrap();
    let first = trained(place.path(), &config_of("pwm", "Hopper-v0", &pwm(2, 16)), None);
    let begun = |config: &PolicyConfig, from: From<'_>| {
        let run = tempfile::tempdir().unwrap();
        let folder = Folder { run: run.path(), storage: &Disk };
        let stop = AtomicBool::new(false);
        train(folder, config, from, &stop, &mut |_| {})?;
        Ok::<_, TrainError>(weights(&Checkpoint::newest(&run.path().join("checkpoints")).unwrap()))
    };
    let mut own = config_of("pwm", "Hopper-v0", &pwm(2, 16));
    own.seed = Seed(8);
    let alone = begun(&own, From::default()).unwrap();
    let from = From { start_from: Some(&first), ..From::default() };
    let found = begun(&own, from).unwrap();
    let given = weights(&first);
    let distance = |other: &Tensor| (other - &given).abs().max().double_value(&[]);
    assert!(distance(&found) > 0.0 && distance(&found) < 1e-3, "{}", distance(&found));
    assert!(distance(&alone) > 1e-2, "{}", distance(&alone));

    let refused = |config: &PolicyConfig| begun(config, from).unwrap_err().to_string();
    let other = refused(&config_of("pwm", "Hopper-v0", &pwm(2, 24)));
    assert!(other.contains("its world model is another one") && other.contains("latent: 24"), "{other}");
    let mut reading = pwm(2, 16);
    reading["model"]["shown"] = json!("projected");
    let other = refused(&config_of("pwm", "Hopper-v0", &reading));
    assert!(other.contains("shown: Latents") && other.contains("not LatentConfig"), "{other}");
    let other = refused(&config_of("pwm", "Ant-v0", &pwm(2, 16)));
    assert!(other.contains("it is of Hopper-v0, not of Ant-v0"), "{other}");
    let shac = refused(&config("Hopper-v0", &json!({"num_envs": 2, "epochs": 1})));
    assert!(shac.contains("shac has no world model to begin with"), "{shac}");
}

#[test]
fn a_checkpoint_of_another_shape_is_refused() {
    let shac = json!({"num_envs": 4, "horizon": 4, "epochs": 1, "actor": {"hidden": [8]}, "critic": {"hidden": [8]}});
    let run = tempfile::tempdir().unwrap();
    let checkpoint = trained(run.path(), &config("Hopper-v0", &shac), None);
    let refused = |config: &PolicyConfig| {
        let other = tempfile::tempdir().unwrap();
        let folder = Folder { run: other.path(), storage: &Disk };
        let stop = AtomicBool::new(false);
        train(folder, config, From { resume: Some(&checkpoint), ..From::default() }, &stop, &mut |_| {}).unwrap_err()
    };
    let more = json!({"num_envs": 5, "horizon": 4, "epochs": 2, "actor": {"hidden": [8]}, "critic": {"hidden": [8]}});
    for config in [config("Hopper-v0", &more), config("CartPoleSwingUp-v0", &shac)] {
        let error = refused(&config);
        assert!(matches!(error, TrainError::Checkpoint(_)), "{error}");
        assert!(error.to_string().contains("step.json: its envs are of another number or kind"), "{error}");
    }
    let pwm = json!({"num_envs": 4, "horizon": 4, "epochs": 1});
    let error = refused(&config_of("pwm", "Hopper-v0", &pwm)).to_string();
    assert!(error.contains("step.json: invalid length 2, expected an array of length 3"), "{error}");
}

fn played(checkpoint: &Checkpoint, stochastic: bool, num_envs: usize) -> Evaluation {
    let mut policy = Learned::open(checkpoint, Manner { stochastic, ..Manner::default() }).unwrap();
    let task = policy.config().env.clone();
    evaluate(&task.id, &task.config, &mut policy, 100, Seed(11), num_envs).unwrap()
}

/// The canary: some minutes of the whole recipe in small.
#[test]
fn the_cart_pole_learns_to_swing_up() {
    let shac = json!({"num_envs": 64, "epochs": 130, "actor": {"hidden": [64, 64], "learning_rate": 1e-2},
        "critic": {"hidden": [64, 64], "learning_rate": 1e-3, "passes": 8}});
    let run = tempfile::tempdir().unwrap();
    let checkpoint = trained(run.path(), &config("CartPoleSwingUp-v0", &shac), None);
    let likeliest = played(&checkpoint, false, 64);
    // Random play has -1,850; hanging still for all of an episode would cost 240 π² = 2,370, staying up from half on less than half.
    assert!(likeliest.mean > -900.0, "{likeliest:?}");
    let exploring = played(&checkpoint, true, 64);
    assert!(exploring.mean > -1000.0 && exploring != likeliest, "{exploring:?}");
    for num_envs in [1, 7, 100] {
        assert_eq!(played(&checkpoint, false, num_envs), likeliest, "{num_envs} at a time");
        assert_eq!(played(&checkpoint, true, num_envs), exploring, "{num_envs} at a time");
    }
}
