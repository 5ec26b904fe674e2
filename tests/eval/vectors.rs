//! `mindseye eval memory` of a run of `train pwm`, from outside: every kind of model, equal bits whatever the threads, refusals.

use serde_json::Value;
use tempfile::TempDir;

use super::{done, mindseye};

fn refused(place: &TempDir, line: &str, says: &str) {
    let (code, out, err) = mindseye(place, line);
    assert_eq!((code, out.as_str()), (2, ""), "{line}: {err}");
    assert!(err.contains(says), "{line}: {err}");
}

const TRAIN: &str = "train pwm --env cartpole-swing-up --data data --set pwm.num_envs=4 --set pwm.horizon=4 --set pwm.epochs=1 \
                     --set pwm.model.units=[32] --set pwm.model.latent=32 --set pwm.model.encoder_units=[32] \
                     --set pwm.model_training.batch=32 --set pwm.model_training.first_updates=1 \
                     --set pwm.model_training.updates=1 --set pwm.diagnosis_rollouts=0 --set pwm.actor.hidden=[8] \
                     --set pwm.critic.hidden=[8]";

fn train(place: &TempDir, out: &str, updates: u32, more: &str) {
    done(place, &format!("{TRAIN} --set pwm.model_training.pretraining_updates={updates} {more} --out {out}"));
}

/// A dataset `data` of the cart-pole, to learn from and to be measured on.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    done(&place, "collect cartpole-swing-up --policy random --episodes 12 --out data");
    place
}

#[test]
fn what_a_model_foresees_is_measured_and_reported() {
    let place = place();
    train(&place, "early", 1, "");
    train(&place, "late", 600, "");
    done(&place, "eval memory early --data data --horizon 8");
    let table = done(&place, "eval memory late --data data --horizon 8 --beside early/memory/report.json");
    for part in [
        "late",
        "early",
        "copy last",
        "readout",
        "correlation",
        "6 episodes of CartPoleSwingUp-v0",
        "report: late/memory",
    ] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let report = std::fs::read_to_string(place.path().join("late/memory/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["observations"], &report["context"], &report["horizon"]),
        (&"vectors".into(), &1.into(), &8.into())
    );
    let [late, early] = report["models"].as_array().unwrap().as_slice() else { panic!("two models: {table}") };
    assert_eq!((&late["name"], &early["name"]), (&"late".into(), &"early".into()));
    let last = |of: &Value| of.as_array().unwrap().last().unwrap().as_f64().unwrap();
    let removed =
        |model: &Value| last(&model["observations"]["steps"]) / last(&report["baselines"]["copy_last"]["steps"]);
    assert!(removed(late) < removed(early), "training helps: {table}");
    let rewards = |model: &Value| last(&model["rewards"]["seeing"]);
    assert!(rewards(late) < 0.5 * rewards(early) && rewards(late) < 0.5, "{table}");
    let page = std::fs::read_to_string(place.path().join("late/memory/report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("://"), "it needs no network");
    let longer = done(&place, "eval memory late --data data --horizon 64 --context 3 --clips 7 --out elsewhere --json");
    let longer: Value = serde_json::from_str(&longer).unwrap();
    assert_eq!((&longer["clips"], &longer["horizons"]), (&7.into(), &serde_json::json!([1, 2, 4, 8, 16, 32, 64])));
    assert!(place.path().join("elsewhere/report.html").exists());
}

#[test]
fn threads_change_no_bit_of_any_kind_of_model() {
    let place = place();
    let two_hot = "--set pwm.model.reward.kind=two_hot --set pwm.normalise_rewards=no";
    let residual = format!("--set pwm.model.dynamics.kind=residual --set pwm.model.dynamics.blocks=2 {two_hot}");
    for (out, more) in [("mlp", ""), ("flow", "--set pwm.model.dynamics.kind=flow"), ("residual", &residual)] {
        train(&place, out, 3, more);
        let report = |threads: u32| {
            done(&place, &format!("eval memory {out} --data data --threads {threads}"));
            std::fs::read(place.path().join(out).join("memory/report.json")).unwrap()
        };
        let one = report(1);
        assert!(one == report(3), "{out}");
        assert!(one == report(1), "{out}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let place = place();
    train(&place, "run", 1, "");
    done(&place, "collect hopper --policy random --episodes 2 --out other");
    done(&place, "collect mnist-world --preset tiny --episodes 2 --out pictures");
    done(&place, "collect cartpole-swing-up --policy random --episodes 1 --out one");
    done(
        &place,
        "train shac --env cartpole-swing-up --set shac.num_envs=4 --set shac.horizon=4 --set shac.epochs=1 --set shac.actor.hidden=[8] \
         --set shac.critic.hidden=[8] --out shac",
    );
    for (line, says) in [
        (
            "run --data other",
            "--data other: its episodes are of Hopper-v0, the model is of CartPoleSwingUp-v0; allowed: CartPoleSwingUp-v0",
        ),
        ("run --data pictures", "its episodes are of MnistWorld-v0"),
        ("run --data one", "the number of episodes is 1; allowed: 2 or more"),
        ("run --data none", "no dataset at none"),
        (
            "run --data data --horizon 400",
            "--context 1 --horizon 400: 401 observations in all, but the longest episode of data has 241",
        ),
        ("run --data data --context 300", "allowed: 241 observations together"),
        (
            "run --data data --batch-size 4",
            "--batch-size 4: a model of vectors takes a fixed number of clips at a time",
        ),
        ("shac --data data", "shac has no world model of vectors; allowed: a run of `train pwm`, or of a world model"),
        ("nowhere --data data", "no run here"),
    ] {
        refused(&place, &format!("eval memory {line}"), says);
    }
    assert!(!place.path().join("run/memory").exists());
}
