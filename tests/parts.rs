//! Parts of a dataset, by the whole program and by the scripts that users are given: recorded apart, merged, repaired.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

/// Eleven shards, the last a short one.
const WORLD: &str = "mnist-world --preset tiny --set horizon=6 --episodes 42 --episodes-per-shard 4";

/// A folder for one test, in which all commands run.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command; its exit code, standard output and standard error.
    fn done(&self, command: &mut Command) -> (i32, String, String) {
        let output = command.current_dir(self.0.path()).env("MINDSEYE", cargo_bin("mindseye")).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn run(&self, arguments: &str) -> (i32, String, String) {
        self.done(Command::new(cargo_bin("mindseye")).args(arguments.split(' ')))
    }

    /// Runs what must succeed; its standard output.
    fn ok(&self, arguments: &str) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments}: {err}");
        out
    }

    /// Runs what must end with `code`, with all of `said` in the message.
    fn refused(&self, code: i32, arguments: &str, said: &[&str]) {
        let (found, _, err) = self.run(arguments);
        assert_eq!(found, code, "{arguments}: {err}");
        assert!(said.iter().all(|part| err.contains(part)), "{arguments} should say {said:?}, says: {err}");
    }

    /// Runs what must succeed; its standard output as JSON.
    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{arguments} --json"))).unwrap()
    }

    /// Every file of a dataset but the lock and what was moved aside.
    fn dataset(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let list = |dir: &Path| fs::read_dir(dir).unwrap().map(|item| item.unwrap().path()).collect::<Vec<_>>();
        let dir = self.at(name);
        let files = list(&dir).into_iter().chain(list(&dir.join("shards")));
        let files = files.filter(|path| path.is_file() && path.file_name().unwrap() != ".lock");
        files.map(|path| (path.strip_prefix(&dir).unwrap().display().to_string(), fs::read(path).unwrap())).collect()
    }
}

fn script(name: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.arg(format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR")));
    bash
}

#[test]
fn a_job_array_records_what_one_process_would() {
    let place = Place::new();
    place.ok(&format!("collect {WORLD} --out whole"));
    let task = |index: u32, more: &[(&str, &str)]| {
        let mut task = script("collect_array.slurm");
        task.arg("train").args(WORLD.split(' ')).env_remove("PARTS");
        task.env("SLURM_ARRAY_TASK_ID", index.to_string()).env("SLURM_CPUS_PER_TASK", "2");
        task.env("SLURM_ARRAY_TASK_COUNT", "3").env("SLURM_ARRAY_TASK_MIN", "0").envs(more.iter().copied());
        place.done(&mut task)
    };
    for index in [2, 0] {
        let (code, out, err) = task(index, &[]);
        assert!(code == 0 && out.contains(&format!("part {index}/3 of 42 episodes")), "{out} {err}");
    }
    place.refused(2, "data merge train.parts/0 train.parts/2 --out train", &["lack 14 of 42 episodes", "--shard 1/3"]);
    assert!(!place.at("train").exists());
    // A single task, run again: the array does not say of how many it is one.
    let single = [("SLURM_ARRAY_TASK_COUNT", "1"), ("SLURM_ARRAY_TASK_MIN", "1")];
    let (code, _, err) = task(1, &single);
    assert!(code == 2 && err.contains("PARTS"), "{err}");
    let (code, out, err) = task(1, &[single[0], single[1], ("PARTS", "3")]);
    assert!(code == 0 && out.contains("part 1/3 of 42 episodes: 14 episodes"), "{out} {err}");
    let (code, out, err) = task(1, &[]);
    assert!(code == 0 && out.contains("nothing to do"), "{out} {err}");

    let merged = place.json("data merge train.parts/1 train.parts/2 train.parts/0 train.parts/1 --out train");
    assert!(place.dataset("train") == place.dataset("whole"));
    assert_eq!((&merged["episodes"], &merged["copied"]), (&42.into(), &11.into()));
    assert_eq!(merged["duplicates"][0]["first"], merged["duplicates"][0]["second"]);
    let out = place.ok("data merge train.parts/0 train.parts/1 train.parts/2 train.parts/1 --out train");
    assert!(out.contains("note: train.parts/1 and train.parts/1 have the same episodes 4 to 7, 16 to 19"), "{out}");
    assert!(place.dataset("train") == place.dataset("whole"));
}

#[test]
fn xargs_records_what_one_process_would() {
    let place = Place::new();
    place.ok(&format!("collect {WORLD} --out whole"));
    let parts = |count: &str| place.done(script("collect_parts").args([count, "train"]).args(WORLD.split(' ')));
    // More parts than shards: the last have none.
    for _ in 0..2 {
        let (code, out, err) = parts("13");
        assert!(code == 0 && out.contains("train: 42 of 42 episodes from 13 parts"), "{out} {err}");
        assert!(place.dataset("train") == place.dataset("whole"));
    }
    let (code, _, err) = place.done(&mut script("collect_parts"));
    assert!(code != 0 && err.contains("usage: scripts/collect_parts PARTS OUT"), "{err}");
}

#[test]
fn what_is_no_part_is_refused_before_anything_is_made() {
    let place = Place::new();
    for shard in ["4/4", "5/3", "a/b", "0/0", "1"] {
        let arguments = format!("collect {WORLD} --shard {shard} --out out");
        place.refused(2, &arguments, &["--shard", shard, "i in 0..n, zero-based"]);
        place.refused(2, &format!("{arguments} --json"), &["--shard", shard, "i in 0..n, zero-based"]);
    }
    place.refused(2, &format!("collect {WORLD} --min-free lots --out out"), &["--min-free", "lots", "500MB"]);
    assert!(!place.at("out").exists());
}

#[test]
fn a_part_says_what_it_lacks_and_parts_of_others_are_refused() {
    let place = Place::new();
    place.ok(&format!("collect {WORLD} --shard 1/4 --out part"));
    let info = place.ok("data info part");
    for said in ["episodes     12 of 42", "missing      0 to 3, 8 to 19, 24 to 35, 40 to 41", "part 1/4"] {
        assert!(info.contains(said), "{said} in {info}");
    }
    let verified = place.ok("data verify part");
    assert!(
        verified.contains("12 of 42 episodes") && verified.contains("not recorded yet: episodes 0 to 3"),
        "{verified}"
    );
    let other = place.json(&format!("collect {WORLD} --seed 1 --shard 0/4 --out other"));
    assert_eq!((&other["shard"], &other["episodes"], &other["requested"]), (&"0/4".into(), &12.into(), &42.into()));
    place.refused(2, "data merge part other --out out", &["source.seed: 0 in the first, 1 in the second"]);
    assert!(!place.at("out").exists());
    let merged = place.ok("data merge part --partial --out out");
    assert!(merged.contains("12 of 42 episodes") && merged.contains("missing: episodes 0 to 3"), "{merged}");
    place.ok(&format!("collect {WORLD} --out out"));
    place.ok(&format!("collect {WORLD} --out whole"));
    assert!(place.dataset("out") == place.dataset("whole"));
}

#[test]
fn a_damaged_dataset_is_repaired_and_recorded_again_where_it_must() {
    let place = Place::new();
    let collect = format!("collect {WORLD} --out data");
    place.ok(&collect);
    let truth = place.dataset("data");
    let shard = place.at("data/shards/000002.safetensors");
    let good = fs::read(&shard).unwrap();
    fs::write(&shard, &good[..good.len() - 1]).unwrap();
    fs::write(place.at("data/manifest.jsonl"), &truth["manifest.jsonl"][..truth["manifest.jsonl"].len() - 9]).unwrap();

    place.refused(1, "data verify data", &["1 place is damaged", "mindseye data repair data"]);
    place.refused(2, &collect, &["000002.safetensors", "were committed", "data repair"]);
    let would = place.ok("data repair data --dry-run");
    assert!(would.contains("episodes 8 to 10 would be kept") && would.contains("nothing was changed"), "{would}");
    assert_eq!(fs::read(&shard).unwrap().len(), good.len() - 1);
    let said = place.ok("data repair data");
    for part in [
        "shards/000002.safetensors: ",
        "episodes 8 to 10 kept; moved to damaged/000002.safetensors",
        "shards/000010-2.safetensors: no line of the manifest speaks of it: whole, given its line again",
        "data: repaired, 41 of 42 episodes",
        "lost: episodes 11",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    place.ok("data verify data");
    let again = place.json("data repair data");
    assert_eq!((&again["files"], &again["episodes"]), (&Value::Array(Vec::new()), &41.into()));
    place.ok(&collect);
    assert!(place.dataset("data") == truth);
    fs::remove_file(place.at("data/dataset.json")).unwrap();
    place.refused(2, "data repair data", &["no dataset.json", "copy it from another part"]);
}

#[test]
fn collecting_stops_where_the_disk_gets_short() {
    let place = Place::new();
    let (code, _, err) = place.run(&format!("collect {WORLD} --min-free 5000TB --out data"));
    assert_eq!(code, 74, "{err}");
    for said in
        ["it will stop before the end", "cannot write", "bytes are free there", "5000000000000000 bytes are to stay"]
    {
        assert!(err.contains(said), "{said} in {err}");
    }
    place.ok(&format!("collect {WORLD} --min-free 0 --out data"));
    place.ok("data verify data");
}
