//! `mindseye train shac` and `pwm` from outside: a run, its end and its going on, what it leaves for `eval policy`, and refusals.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

const SMALL: &str = "train shac --env cartpole-swing-up --out run --set shac.num_envs=8 --set shac.horizon=4 \
                     --set shac.actor.hidden=[8] --set shac.critic.hidden=[8] --set shac.epochs=6 --set shac.log_every=2";

/// Exit code, output and errors of a command line run in `place`.
fn mindseye(place: &TempDir, line: &str) -> (i32, String, String) {
    let run = Command::new(cargo_bin("mindseye")).current_dir(place).args(line.split_whitespace()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (run.status.code().unwrap(), text(run.stdout), text(run.stderr))
}

#[test]
fn a_run_is_trained_goes_on_and_is_evaluated() {
    let place = tempfile::tempdir().unwrap();
    let (code, out, err) = mindseye(&place, &format!("{SMALL} --json"));
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&said["epochs"], &said["env_steps"]), (&6.into(), &192.into()), "{said}");
    let log = std::fs::read_to_string(place.path().join("run/metrics.jsonl")).unwrap();
    let steps: Vec<u64> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [64, 128, 192]);

    let (code, out, err) = mindseye(&place, "train shac --env CartPoleSwingUp-v0 --out run --resume");
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("run: 6 epochs, 192 steps"), "it was complete already: {out}");
    let (code, _, err) = mindseye(&place, "train shac --env cartpole-swing-up --out run --resume --set shac.gamma=0.9");
    assert_eq!(code, 2);
    assert!(err.contains("was begun with another configuration") && err.contains("shac.gamma: 0.99 -> 0.9"), "{err}");
    let (code, _, err) = mindseye(&place, "train shac --env ant --out run --resume");
    assert_eq!(code, 2);
    assert!(err.contains("env.id = \"CartPoleSwingUp-v0\": the command line asks for Ant-v0"), "{err}");

    for (more, same) in [("", true), (" --stochastic", false)] {
        let line = format!("eval policy cartpole-swing-up --policy run --json{more}");
        let found: Value = serde_json::from_str(&mindseye(&place, &line).1).unwrap();
        assert_eq!((&found["episodes"], &found["mean_length"]), (&100.into(), &240.0.into()));
        let likeliest: Value =
            serde_json::from_str(&mindseye(&place, "eval policy cartpole-swing-up --policy run --json --envs 3").1)
                .unwrap();
        assert_eq!(found["mean"] == likeliest["mean"], same, "{found} {likeliest}");
    }
    let (code, _, err) = mindseye(&place, "eval policy hopper --policy run");
    assert_eq!(code, 2);
    assert!(err.contains("it acts in CartPoleSwingUp-v0, not in Hopper-v0"), "{err}");
}

#[test]
fn what_cannot_be_trained_is_refused_before_anything_is_written() {
    let place = tempfile::tempdir().unwrap();
    let cases = [
        ("train shac --env mnist-world --out run", "MnistWorld-v0 has no gradients"),
        ("train shac --env antt --out run", "did you mean ant"),
        ("train shac --out run", "--data <DIR>"),
        ("train shac --data data --out run", "shac learns in an environment"),
        ("train flowm --env ant --out run", "flowm learns from a dataset"),
        ("train pwn --env ant --out run", "did you mean `pwm`?"),
        ("train pwm --data data --out run", "pwm learns in an environment"),
        (
            "train pwm --env mnist-world --out run",
            "MnistWorld-v0: observations and actions must be vectors of 32-bit floats",
        ),
        (
            "train pwm --env ant --out run --set pwm.model.latent=100",
            "pwm.model.latent = 100: out of range; allowed: 96",
        ),
        ("train pwm --env ant --out run --set pwm.model.dynamics.kind=flaw", "allowed: mlp, residual, flow"),
        (
            "train pwm --env ant --out run --set pwm.model_training.batch=0",
            "pwm.model_training.batch = 0: out of range",
        ),
        (
            "train pwm --env ant --out run --set pwm.model_training.unroll=5",
            "pwm.model_training.unroll = 5: out of range; allowed: 4",
        ),
        (
            "train pwm --env ant --out run --set pwm.model_training.unroll=9999999999999",
            "pwm.model_training.unroll = 9999999999999: out of range; allowed: 1..=16",
        ),
        (
            "train pwm --env ant --out run --set pwm.model_training.first_learning_rate=0",
            "pwm.model_training.first_learning_rate = 0: out of range",
        ),
        ("train pwm --env ant --out run --set pwm.model.shown=pictures", "allowed: latents, observations, projected"),
        ("train pwm --env ant --out run --set shac.num_envs=4", "shac"),
        (
            "train pwm --env ant --out run --set pwm.model_training.pretraining_updates=5",
            "pwm.model_training.pretraining_updates = 5: there is nothing to learn from",
        ),
        ("train pwm --env ant --data none --out run", "none"),
        (
            "train dream --env ant --out run",
            "Ant-v0: a policy that lives in this belief needs square pictures of bytes",
        ),
        ("train dream --env mnist-world-track --start-from none --out run", "none"),
        (
            "train dream --env mnist-world-track --set dream.mind.kind=learned --set dream.mind.model.kind=flowm --out run",
            "dream.mind.kind = \"learned\": there is no world model to live in",
        ),
        ("train dream --env mnist-world-track --set dream.mind.kind=none --out run", "allowed: last_frame, learned"),
        ("train shac --env ant --out run --preset hoper", "did you mean `hopper`?"),
        ("train shac --env ant --out run --set shac.num_envs=0", "shac.num_envs = 0: out of range; allowed: 1..=4096"),
        ("train shac --env ant --out run --set shac.actor.hidden=[64,-1]", "shac.actor.hidden = -1: out of range"),
        ("train shac --env ant --out run --set shac.critic.numbers=f16", "allowed: f32, bf16"),
        ("train shac --env ant --out run --set env.config.fizz=1", "env.config.fizz = 1: unknown field `fizz`"),
        (
            "train shac --env ant --out run --set env.config.termination_height=9",
            "env.config.termination_height = 9: out of range",
        ),
        (
            "train shac --env ant --out run --set shac.num_envs=4096 --set shac.horizon=1024 \
             --set shac.critic.hidden=[16384,16384]",
            "training needs about",
        ),
    ];
    for (line, says) in cases {
        let (code, _, err) = mindseye(&place, line);
        assert_eq!(code, 2, "{line}: {err}");
        assert!(err.contains(says), "{line}: {err}");
        assert!(!place.path().join("run").exists(), "{line}");
    }
    let (code, out, err) = mindseye(&place, &format!("{SMALL} --dry-run"));
    assert_eq!((code, place.path().join("run").exists()), (0, false), "{err}");
    assert!(out.contains("6 epochs of 32 steps (8 envs, 4 steps each): 192 steps in all"), "{out}");
}

#[test]
fn every_shipped_preset_is_a_configuration() {
    let place = tempfile::tempdir().unwrap();
    for (trainer, preset, env) in [
        ("shac", "ant", "ant"),
        ("shac", "ant_fast", "ant"),
        ("shac", "ant_diffrl", "ant"),
        ("shac", "hopper", "hopper"),
        ("shac", "cartpole", "cartpole-swing-up"),
        ("pwm", "ant", "ant"),
        ("pwm", "hopper_published", "hopper"),
        ("pwm", "hopper", "hopper"),
        ("pwm", "cartpole", "cartpole-swing-up"),
        ("dream", "tiny", "mnist-world-track"),
    ] {
        let (code, out, err) =
            mindseye(&place, &format!("train {trainer} --env {env} --preset {preset} --print-config --out run"));
        assert_eq!(code, 0, "{preset}: {err}");
        let file = place.path().join("config.toml");
        std::fs::write(&file, &out).unwrap();
        let (code, again, err) =
            mindseye(&place, &format!("train {trainer} --env {env} --config config.toml --print-config --out run"));
        assert_eq!((code, again), (0, out), "{preset}: {err}");
    }
}

/// A world model learns from recorded episodes of the task; then a policy lives in its belief, and plays with its eyes shut.
#[test]
fn a_policy_lives_in_the_belief_of_a_world_model() {
    let place = tempfile::tempdir().unwrap();
    let done = |line: &str| {
        let (code, out, err) = mindseye(&place, line);
        assert_eq!(code, 0, "{line}: {err}");
        out
    };
    let world =
        "--set world.world=16 --set world.window=10 --set world.digits=2 --set world.digit_px=10 --set world.step=3";
    done(&format!("collect mnist-world-track {world} --set steps=20 --episodes 8 --out data"));
    done(
        "train flowm --data data --preset tiny --out flowm --set model.world=16 --set model.window=10 --set model.hidden=4 \
         --set train.updates=2 --set train.batch_size=2 --set train.context=6 --set train.horizon=4 --set train.warmup=0",
    );
    let world = world.replace("--set ", "--set env.config.");
    let small = format!(
        "train dream --env mnist-world-track {world} --set dream.num_envs=4 --set dream.epochs=4 --set dream.log_every=2 \
         --set dream.reward.hidden=[8] --set dream.actor.hidden=[8] --set dream.critic.hidden=[8] --json"
    );
    let said: Value = serde_json::from_str(&done(&format!("{small} --start-from flowm --out run"))).unwrap();
    assert_eq!((&said["epochs"], &said["env_steps"]), (&4.into(), &128.into()), "{said}");
    // The world model is in the run now.
    std::fs::remove_dir_all(place.path().join("flowm")).unwrap();
    done("train dream --env mnist-world-track --out run --resume");
    let played = |more: &str| -> Value {
        serde_json::from_str(&done(&format!("eval policy mnist-world-track --policy run --json {more}"))).unwrap()
    };
    let [open, shut] = ["", "--look-first 5 --look-every 1000"].map(played);
    assert!(open["mean"] != shut["mean"] && open["episodes"] == 100, "{open} {shut}");

    let (code, _, err) = mindseye(&place, "eval policy mnist-world-track --policy run --set world.window=12");
    assert!(code == 2 && err.contains("MnistWorldTrack-v0 with observations of [12, 12, 1]"), "{err}");

    done(&format!("{small} --out blind"));
    let (code, _, err) = mindseye(&place, &format!("{small} --start-from blind --out other"));
    assert!(code != 0 && !place.path().join("other").exists(), "{err}");
}

#[test]
fn a_policy_without_a_model_must_look() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(mindseye(&place, SMALL).0, 0);
    let (code, _, err) = mindseye(&place, "eval policy cartpole-swing-up --policy run --look-every 3");
    assert!(code == 2 && err.contains("shac has no world model") && err.contains("allowed: 1"), "{err}");
}

/// Two policies take turns in a dataset, and a model learns it before a policy is trained inside it.
#[test]
fn a_model_learns_recorded_episodes_before_its_policy() {
    let place = tempfile::tempdir().unwrap();
    let done = |line: &str| {
        let (code, out, err) = mindseye(&place, line);
        assert_eq!(code, 0, "{line}: {err}");
        out
    };
    done(&format!("{SMALL} --set shac.epochs=2"));
    let recorded = "collect cartpole-swing-up --policy run --policy random --stochastic --episodes 6 --out data --json";
    let recorded: Value = serde_json::from_str(&done(recorded)).unwrap();
    assert_eq!((&recorded["episodes"], &recorded["frames"]), (&6.into(), &(6 * 241).into()));
    let small = "--set pwm.num_envs=4 --set pwm.horizon=4 --set pwm.epochs=3 --set pwm.log_every=1 --set pwm.model.latent=16 \
                 --set pwm.model.units=[16] --set pwm.model.encoder_units=[16] --set pwm.model_training.batch=8 \
                 --set pwm.model_training.pretraining_updates=250 --set pwm.replay=1300 --set pwm.actor.hidden=[8] \
                 --set pwm.critic.hidden=[8] --json";
    let (code, _, err) = mindseye(&place, &format!("train pwm --env hopper --data data --out model {small}"));
    assert!(code == 2 && err.contains("its episodes are of CartPoleSwingUp-v0"), "{err}");
    let (code, _, err) = mindseye(&place, "train shac --env cartpole-swing-up --data data --out model");
    assert!(code == 2 && err.contains("shac learns in an environment only"), "{err}");
    for (out, paused) in [("model", false), ("parts", true)] {
        let line = format!("train pwm --env cartpole-swing-up --data data --out {out} {small}");
        if paused {
            // While it writes its second checkpoint.
            let mut killed = Command::new(cargo_bin("mindseye"));
            killed.current_dir(&place).env("MINDSEYE_FAULT", "kill@write~000000:6");
            let ended = killed.args(line.split_whitespace()).output().unwrap().status;
            assert!(!ended.success());
            assert!(place.path().join("parts/checkpoints/000000/manifest.json").exists());
            done(&format!("{line} --resume"));
        } else {
            done(&line);
        }
    }
    let weights = |run: &str| {
        std::fs::read(place.path().join(run).join("checkpoints/last/training_state/optimizer.safetensors")).unwrap()
    };
    assert!(weights("model") == weights("parts"), "a run that was killed before its first epoch went on otherwise");
    let log = std::fs::read_to_string(place.path().join("model/metrics.jsonl")).unwrap();
    assert!(
        log.lines().next().unwrap().contains("train/model_reward_loss"),
        "it learned from its first epoch on: {log}"
    );
    done("eval policy cartpole-swing-up --policy model --json");

    let small = small.replace("pretraining_updates=250", "pretraining_updates=0");
    done(&format!("train pwm --env cartpole-swing-up --data data --start-from model --seed 4 --out other {small}"));
    let about = std::fs::read_to_string(place.path().join("other/run.json")).unwrap();
    assert!(about.contains("\"start_from\": \"model\""), "{about}");
    let line = "train pwm --env cartpole-swing-up --start-from run --out third";
    let (code, _, err) = mindseye(&place, line);
    assert!(code == 2 && err.contains("shac has no world model to begin with"), "{err}");
    assert!(!place.path().join("third").exists());
}
