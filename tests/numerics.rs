//! A training run that diverges in earnest, from outside: it ends by itself, names its clips, and says what to change.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use std::fs;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// Runs the program; its exit code and standard error.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(cargo_bin("mindseye")).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_run_that_diverges_ends_names_its_clips_and_says_what_to_change() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (data, out) = (at("data"), at("run"));
    let collected = run(&["collect", "mnist-world", "--preset", "tiny", "--episodes", "8", "--out", &data]);
    assert_eq!(collected.0, 0, "{}", collected.1);
    let train = ["train", "flowm", "--data", &data, "--out", &out, "--seed", "7", "--threads", "1", "--json"];
    // Steps of ten in every weight: each of 20 recurrences multiplies the map by far more.
    let settings = [
        "model.hidden=4",
        "model.v_range=0",
        "train.batch_size=2",
        "train.context=15",
        "train.horizon=5",
        "train.learning_rate=10",
        "train.warmup=0",
        "train.updates=50",
        "train.checkpoint_every=10",
        "train.device=cpu",
    ];
    let train: Vec<&str> = train.into_iter().chain(settings.iter().flat_map(|s| ["--set", s])).collect();
    for resume in [false, true] {
        let (code, err) = run(&[&train[..], if resume { &["--resume"] } else { &[] }].concat());
        assert_eq!(code, 1, "{err}");
        assert_eq!(err.matches("left out update").count(), 3, "each is warned of: {err}");
        let said: Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
        assert_eq!(said["exit"], 1);
        let message = said["error"].as_str().unwrap();
        for part in [
            "3 in a row; seed 7, clips (episode, frame) (",
            "train.nonfinite_limit is 3",
            "nonfinite.jsonl has every update left out",
            "No checkpoint had been written yet: begin anew with a lower train.learning_rate (it is 10) or another --seed",
        ] {
            assert!(message.contains(part), "no {part:?} in: {message}");
        }
        // Resumed, it begins again and meets the same numbers; no line is there twice.
        let lines = fs::read_to_string(place.path().join("run/nonfinite.jsonl")).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let in_a_row: Vec<_> = lines.iter().map(|line| line["in_a_row"].as_u64().unwrap()).collect();
        assert_eq!(in_a_row[in_a_row.len() - 3..], [1, 2, 3]);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line["seed"] == 7 && line["clips"].as_array().unwrap().len() == 2));
    }
}
