//! `mindseye eval probe`, and recall of Blockworld by `eval memory`, from outside: reports, refusals.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{done, mindseye};

const COLLECT: &str = "collect block-world --preset tiny --set world.image=16";
const TRAIN: &str = "train flowm3d --preset tiny --threads 1 --set model.hidden=8 --set model.heads=1 --set model.map_side=13 \
                     --set train.updates=2 --set train.batch_size=1 --set train.context=8 --set train.horizon=2 \
                     --set train.device=cpu";

/// A dataset `data` of Blockworld, and a run `run` of FloWM 3D on it.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    done(&place, &format!("{COLLECT} --episodes 6 --out data"));
    done(&place, &format!("{TRAIN} --data data --out run"));
    place
}

#[test]
fn places_are_probed_and_reported() {
    let place = place();
    let table = done(&place, "eval probe run --data data --threads 1");
    for part in [
        "steps",
        "in view",
        "out of view",
        "last seen",
        "usual",
        "chance",
        "run: 3 clips of 3 episodes of BlockWorld-v0, 8 frames seen",
        "of 3 other episodes that are not evaluated, reads each of 13 x 13 cells by its 8 features",
        "maps of the first clip: run/probe/maps.png",
    ] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let report = std::fs::read(place.path().join("run/probe/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!((&report["schema"], &report["probe"], &report["context"]), (&json!(1), &json!("positions"), &json!(8)));
    let horizons: Vec<&Value> = report["horizons"].as_array().unwrap().iter().map(|score| &score["horizon"]).collect();
    assert_eq!(horizons, [&json!(0), &json!(10), &json!(20)], "those that fit into 40 frames");
    for score in report["horizons"].as_array().unwrap() {
        let groups = ["in_view", "out_of_view", "never_seen"].map(|group| score[group]["blocks"].as_u64().unwrap());
        assert_eq!(groups.iter().sum::<u64>(), 3 * 3, "every block once: {score}");
    }
    let png = std::fs::read(place.path().join("run/probe/maps.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let again = done(&place, "eval probe run --data data --threads 1 --out again --json");
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), report, "the same question gets the same answer");
    let asked =
        done(&place, "eval probe run --data data --context 12 --horizons 28,3,3 --clips 2 --name a --out b --json");
    let asked: Value = serde_json::from_str(&asked).unwrap();
    let horizons: Vec<&Value> = asked["horizons"].as_array().unwrap().iter().map(|score| &score["horizon"]).collect();
    assert_eq!((&asked["model"], &asked["clips"], horizons), (&json!("a"), &json!(2), vec![&json!(3), &json!(28)]));
}

#[test]
fn memory_of_blockworld_has_recall_where_the_truth_was_recorded() {
    let place = place();
    let table = done(&place, "eval memory run --data data --out with");
    for part in ["oracle", "copy last frame", "recall: share of the copy-last error removed"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let report = std::fs::read(place.path().join("with/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let row = |name: &str| report["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
    assert_eq!((&row("oracle")["recall"], &row("copy last frame")["recall"]), (&json!(1.0), &json!(0.0)));
    assert!(row("run")["recall_background"].is_number() && report["pixels"]["beyond_threshold"].as_u64().unwrap() > 0);
    done(&place, &format!("{COLLECT} --truth state --episodes 2 --out plain"));
    let table = done(&place, "eval memory run --data plain --out without");
    assert!(table.contains("`collect --truth full` records") && !table.contains("oracle"), "{table}");
}

#[test]
fn what_cannot_be_probed_is_refused_by_name() {
    let place = place();
    done(&place, &format!("{COLLECT} --truth state --episodes 2 --out plain"));
    done(&place, &format!("{COLLECT} --episodes 1 --out one"));
    done(&place, "collect block-world --preset tiny --episodes 2 --out large");
    done(&place, "collect mnist-world --preset tiny --episodes 2 --out digits");
    done(
        &place,
        "train shac --env cartpole-swing-up --set shac.num_envs=4 --set shac.horizon=4 --set shac.epochs=1 --set shac.actor.hidden=[8] \
         --set shac.critic.hidden=[8] --out shac",
    );
    done(
        &place,
        "train flowm --data digits --preset tiny --set train.updates=1 --set train.batch_size=1 --set train.device=cpu --out flat",
    );
    for (line, says) in [
        (
            "run --data data --horizons 99",
            "--horizons 99: 8 frames are seen, and the longest episode of data has 40; allowed: 0..=32",
        ),
        ("run --data data --horizons 1,ten", "a whole number is expected"),
        ("run --data data --horizons -1", "out of range"),
        ("run --data data --context 41", "--context 41: the longest episode of data has 40 frames; allowed: 1..=40"),
        ("run --data one", "the number of episodes is 1; allowed: 2 or more"),
        ("run --data plain", "it has no truth.entity; `mindseye collect block-world --truth full` records them"),
        (
            "run --data digits",
            "--data digits: its episodes are of MnistWorld-v0, which has no blocks; allowed: BlockWorld-v0",
        ),
        ("run --data large", "the observations of large are [32, 32, 3], but run was trained on [16, 16, 3]"),
        ("flat --data data", "the observations of data are [16, 16, 3], but flat was trained on [16, 16, 1]"),
        ("shac --data data", "shac: a run of `train shac` has no belief about blocks"),
        ("nowhere --data data", "no run here"),
    ] {
        let (code, out, err) = mindseye(&place, &format!("eval probe {line}"));
        assert_eq!((code, out.as_str()), (2, ""), "{line}: {err}");
        assert!(err.contains(says), "{line}: {err}");
    }
    assert!(!place.path().join("run/probe").exists());
}
