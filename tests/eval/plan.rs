//! `mindseye eval plan`, from outside: a small FloWM 3D that was trained a little plans in a small room; what it says, what it leaves, refusals.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{done, mindseye};

fn refused(place: &TempDir, line: &str, says: &[&str]) {
    let (code, out, err) = mindseye(place, line);
    assert_eq!((code, out.as_str()), (2, ""), "{line}: {err}");
    assert!(says.iter().all(|part| err.contains(part)), "{line} should say {says:?}, says: {err}");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const TRAIN: &str = "--set train.updates=2 --set train.batch_size=1 --set train.context=3 --set train.horizon=2 --set train.device=cpu \
                     --threads 1";

/// A dataset `data` of a small room, and a run `run` of a model of it.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    done(&place, "collect block-world --preset tiny --set frames=8 --truth none --episodes 4 --seed 3 --out data");
    done(&place, &format!("train flowm3d --data data --preset tiny {TRAIN} --out run"));
    place
}

#[test]
fn plans_are_made_carried_out_and_reported() {
    let place = place();
    let plan = "eval plan run --data data --episodes 2 --context 5 --horizon 6 --candidates 20 --iterations 2";
    let table = done(&place, plan);
    for part in ["error", "run", "oracle", "random", "still", "2 episodes of seed 3", "report: run/plan/report.json"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let report = json(&fs::read_to_string(place.path().join("run/plan/report.json")).unwrap());
    assert_eq!((&report["schema"], &report["optimum"]), (&1.into(), &2.0.into()));
    assert_eq!((&report["env"]["world"]["room"], &report["config"]["seed"]), (&8.into(), &3.into()), "as recorded");
    let [run, oracle, random, still] = report["rows"].as_array().unwrap().as_slice() else {
        panic!("four rows: {table}")
    };
    let names = [run, oracle, random, still].map(|row| row["name"].as_str().unwrap());
    assert_eq!(names, ["run", "oracle", "random", "still"]);
    assert_eq!(oracle["red"], oracle["expected"]);
    assert!(random["red"].as_f64() <= oracle["red"].as_f64(), "what chance does is the first that is tried: {table}");
    let episodes = report["episodes"].as_array().unwrap();
    let steps = |tried: usize| episodes[0]["tries"][tried]["plan"].as_array().unwrap().len();
    assert!(episodes.len() == 2 && (1..=6).contains(&steps(0)) && steps(3) == 6);
    let bytes = |name: &str| fs::read(place.path().join("run/plan").join(name)).unwrap();
    assert!(bytes("plan.png").starts_with(b"\x89PNG") && bytes("plan.gif").starts_with(b"GIF89a"));

    for threads in [1, 2] {
        let again = json(&done(&place, &format!("{plan} --threads {threads} --out elsewhere --json")));
        assert_eq!(again, report, "the same question gets the same answer, with {threads} threads");
    }
    assert_eq!(fs::read(place.path().join("elsewhere/plan.png")).unwrap(), bytes("plan.png"));
    let other = json(&done(&place, &format!("{plan} --seed 4 --set world.moving=false --json")));
    assert_eq!((&other["config"]["seed"], &other["env"]["world"]["moving"]), (&4.into(), &false.into()));
    assert_eq!(other["env"]["world"]["room"], 8);
    assert_ne!(other["episodes"], report["episodes"]);
    let whole = json(&done(&place, &format!("{plan} --worth total --json")));
    assert_eq!((&whole["config"]["planner"]["worth"], &whole["rows"][0]["steps"]), (&"total".into(), &6.0.into()));
}

#[test]
fn without_a_model_there_is_what_search_and_chance_reach() {
    let place = tempfile::tempdir().unwrap();
    let plan = "eval plan --preset static --set world.image=16 --episodes 1 --context 3 --horizon 4 --candidates 4";
    let report = json(&done(&place, &format!("{plan} --json")));
    let names: Vec<&str> = report["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["oracle", "random", "still"]);
    assert_eq!(report["rows"][0]["stderr"], Value::Null, "there is none of a single episode");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is written where nobody says where");
    done(&place, &format!("{plan} --out plans"));
    assert!(place.path().join("plans/plan.gif").exists());
    assert!(done(&place, "eval plan --preset static --print-config").contains("moving = false"));
    assert!(done(&place, "eval plan --help").contains("Examples:\n  mindseye eval plan runs/"));
}

#[test]
fn what_cannot_plan_is_refused_by_name() {
    let place = place();
    done(&place, "collect mnist-world --preset tiny --set horizon=6 --episodes 4 --out digits");
    let flowm = "--preset tiny --set model.hidden=4 --set model.v_range=0";
    done(&place, &format!("train flowm --data digits {flowm} {TRAIN} --out flowm"));
    done(
        &place,
        "train shac --env cartpole-swing-up --set shac.num_envs=2 --set shac.horizon=2 --set shac.epochs=1 --out policy",
    );
    refused(&place, "eval plan flowm", &["flowm", "its actions are 2 numbers", "allowed", "train flowm3d"]);
    refused(&place, "eval plan policy", &["policy", "of a policy (shac)", "train flowm3d"]);
    refused(&place, "eval plan nothing", &["nothing", "no run"]);
    refused(&place, "eval plan run --data digits", &["--data digits", "MnistWorld-v0", "allowed: BlockWorld-v0"]);
    refused(&place, "eval plan run --set world.image=64", &["world.image = 64", "32 x 32", "--set world.image=32"]);
    refused(&place, "eval plan run --set world.rooms=9", &["world.rooms", "did you mean `room`"]);
    refused(&place, "eval plan run --preset dynamics", &["--preset dynamics", "dynamic"]);
    for (argument, allowed) in [
        ("--horizon 1001", "1..=1000"),
        ("--candidates 0", "1..=65536"),
        ("--iterations 1001", "1..=1000"),
        ("--episodes 0", "1..=1000000"),
        ("--context 0", "1..=100000"),
    ] {
        refused(&place, &format!("eval plan run {argument}"), &[argument, allowed]);
    }
    assert!(!place.path().join("run/plan").exists(), "what is refused leaves nothing behind");
}
