//! Going on with another configuration, another dataset, or again and again.

use std::fs;
use std::path::Path;

use envs::storage::FAULT;
use rustix::process::Signal;
use serde_json::Value;
use world_models::checkpoint::complete;

use crate::program::{Ended, Place, Running, Work, copy, data, mindseye, result, run};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn refused(ended: &Ended, said: &[&str]) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(said.iter().all(|part| ended.err.contains(part)), "{said:?} in {ended:?}");
}

/// A run of 17 updates that was killed after its checkpoint at 10.
fn begun(work: &Work, out: &str) {
    let ended = run(work.begin(out).env(FAULT, "kill@write~metrics:4"));
    assert!(ended.killed(), "{ended:?}");
    assert!(Path::new(out).join("checkpoints/000010").exists());
}

#[test]
fn what_would_make_another_run_of_it_is_refused_field_by_field() {
    let place = Place::new();
    let data = data(&place);
    let (work, out) = (Work::train("flowm", &data, 17), place.at("run"));
    begun(&work, &out);
    let before = result(&out);
    for (setting, field, old, new) in [
        ("train.batch_size=3", "train.batch_size", "2", "3"),
        ("train.learning_rate=0.5", "train.learning_rate", "0.001", "0.5"),
        ("train.updates=18", "train.updates", "17", "18"),
        ("train.adam.beta1=0.5", "train.adam.beta1", "0.9", "0.5"),
        ("model.hidden=8", "model.hidden", "4", "8"),
        ("seed=7", "seed", "0", "7"),
    ] {
        let changed = work.clone().with(&["--set", setting]);
        refused(&run(&mut changed.go_on(&out)), &["--resume", &out, &format!("{field}: {old} -> {new}")]);
    }
    let two = work.clone().with(&["--set", "train.horizon=2", "--set", "train.warmup=1"]);
    refused(&run(&mut two.go_on(&out)), &["train.horizon: 3 -> 2", "train.warmup: 50 -> 1"]);
    assert!(result(&out) == before, "what is refused changes nothing");
}

#[test]
fn another_dataset_is_refused_with_both_digests() {
    let place = Place::new();
    let data = data(&place);
    let (work, out) = (Work::train("linear_rnn", &data, 17), place.at("run"));
    begun(&work, &out);
    let (other, grown) = (place.at("other"), place.at("grown"));
    Work::collect("mnist-world", 8).with(&["--seed", "1"]).whole(&other);
    copy(Path::new(&data), Path::new(&grown));
    Work::collect("mnist-world", 10).whole(&grown);
    let digest = |data: &str| {
        let info = crate::program::ok(&["data", "info", data, "--json"]).out;
        serde_json::from_str::<Value>(&info).unwrap()["digest"].as_str().unwrap().to_owned()
    };
    for another in [&other, &grown] {
        let ended = run(&mut Work::train("linear_rnn", another, 17).go_on(&out));
        refused(&ended, &["--resume", &out, &format!("dataset.digest: {} -> {}", digest(&data), digest(another))]);
    }
    // The same episodes in another folder are the same.
    let moved = place.at("moved");
    fs::rename(&data, &moved).unwrap();
    assert_eq!(run(&mut Work::train("linear_rnn", &moved, 17).go_on(&out)).code, Some(0));
}

#[test]
fn what_may_change_does_and_is_said_and_changes_no_weight() {
    let place = Place::new();
    let data = data(&place);
    let work = Work::train("linear_rnn", &data, 17);
    let (out, whole) = (place.at("run"), work.whole(&place.at("whole")));
    begun(&work, &out);
    let changes = [
        ("train.log_every", "3", "1"),
        ("train.checkpoint_every", "5", "4"),
        ("train.keep_checkpoints", "2", "1"),
        ("train.nonfinite_limit", "3", "5"),
    ];
    let settings: Vec<_> =
        changes.iter().flat_map(|(field, _, new)| ["--set".into(), format!("{field}={new}")]).collect();
    let changed = work.clone().with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let ended = run(&mut changed.go_on(&out));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (field, old, new) in changes {
        assert!(ended.err.contains(&format!("going on with another {field}: {old} -> {new}")), "{ended:?}");
    }
    let result = result(&out);
    for file in ["model/model.safetensors", "training_state/optimizer.safetensors", "training_state/step.json"] {
        let weights =
            |files: &std::collections::BTreeMap<_, Vec<u8>>| files[&format!("checkpoints/000017/{file}")].clone();
        // What the log has not said yet depends on when it speaks.
        assert!(file.ends_with("step.json") || weights(&result) == weights(&whole), "{file}");
    }
    assert_eq!(complete(&Path::new(&out).join("checkpoints")).unwrap(), [17], "one is kept");
    assert_eq!(json(&Path::new(&out).join("config.json"))["train"]["log_every"], 1, "the run now has it");
    // So whoever goes on without a word goes on as changed.
    let ended =
        run(&mut mindseye(&["train", "linear_rnn", "--data", &data, "--out", &out, "--resume", "--threads", "2"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.err.contains("going on with another threads: 1 -> 2") && !ended.err.contains("log_every"),
        "{ended:?}"
    );
}

#[test]
fn what_another_version_wrote_is_refused_by_name() {
    let place = Place::new();
    let data = data(&place);
    let (work, out) = (Work::train("linear_rnn", &data, 17), place.at("run"));
    begun(&work, &out);
    for checkpoint in ["000005", "000010"] {
        let path = Path::new(&out).join("checkpoints").join(checkpoint).join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    }
    let ended = run(&mut work.go_on(&out));
    assert!(ended.code != Some(0) && ended.err.contains("format 2") && ended.err.contains("format 1"), "{ended:?}");
    let path = Path::new(&data).join("dataset.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    refused(&run(&mut Work::collect("mnist-world", 12).begin(&data)), &["dataset.json", "format 2", "up to 1"]);
    refused(&run(&mut work.begin(&place.at("new"))), &["dataset.json", "format 2", "up to 1"]);
}

/// The most memory that a process has held so far.
fn peak_kb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_run_killed_and_resumed_five_times_is_as_large_as_any_and_ends_the_same() {
    let place = Place::new();
    let work = Work::train("flowm", &data(&place), 60);
    let (out, whole) = (place.at("run"), work.whole(&place.at("whole")));
    let (mut sizes, mut peaks) = (Vec::new(), Vec::new());
    for link in 0..5 {
        let running = Running::paused(&mut work.go_on(&out), "write~metrics:4");
        peaks.push(peak_kb(running.pid()));
        running.signal(Signal::KILL);
        let ended = running.ended();
        assert!(ended.killed(), "{link}: {ended:?}");
        let files = result(&out);
        let newest = files["checkpoints/last"].clone();
        let newest = format!("checkpoints/{}/", String::from_utf8(newest).unwrap());
        let of_newest = files.iter().filter(|(name, _)| name.starts_with(&newest));
        sizes.push(of_newest.map(|(_, bytes)| bytes.len()).sum::<usize>() as f64);
        assert!(complete(&Path::new(&out).join("checkpoints")).unwrap().len() <= 2, "two are kept");
    }
    eprintln!("checkpoints of {sizes:?} bytes, peaks of {peaks:?} kB");
    assert!(sizes.iter().all(|size| (size / sizes[0] - 1.0).abs() < 0.01), "{sizes:?}");
    assert!(peaks.iter().all(|peak| peak / peaks[0] < 1.05), "{peaks:?}");
    work.ends_as(&out, &whole, "five times");
}
