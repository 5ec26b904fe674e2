//! Without room, without handles, with a broken disk: by injected errors, on a small file system, under a limit.

use std::path::Path;
use std::process::Command;

use envs::storage::FAULT;

use crate::program::{Ended, Place, Work, data, full, result, run, verified};

const ERRORS: [&str; 4] = ["enospc", "eio", "edquot", "emfile"];

/// Operations whose failure must end a collection.
const OF_COLLECT: [&str; 13] = [
    "create_folder:1",
    "create:1",
    "write~dataset.json:1",
    "rename~dataset.json:1",
    "append~manifest:1",
    "create~shards:2",
    "write~shards:3",
    "write~shards:6",
    "sync~shards:1",
    "rename~shards:2",
    "sync_folder~shards:2",
    "write~manifest:2",
    "sync~manifest:3",
];

/// Operations whose failure must end a training.
const OF_TRAIN: [&str; 13] = [
    "create_folder:1",
    "write~run.json:1",
    "rename~config.json:1",
    "append~metrics:1",
    "write~metrics:2",
    "create~tfevents:1",
    "write~tfevents:3",
    "create_folder~.tmp:2",
    "write~model.safetensors:2",
    "sync~optimizer:1",
    "link~last:2",
    "sync_folder~checkpoints:4",
    "remove_folder~old:1",
];

/// The places at which to fail, each with an error, once or from then on. All errors at all places before a release.
fn plans(points: &[&str]) -> Vec<String> {
    let every = points.iter().enumerate().flat_map(|(i, point)| {
        ERRORS.iter().enumerate().flat_map(move |(j, error)| {
            let chosen = full() || i % 4 == j;
            let both = ["", "+"].into_iter().enumerate();
            both.filter(move |(k, _)| chosen && (full() || (i / 4 + k) % 2 == 0))
                .map(move |(_, later)| format!("{error}@{point}{later}"))
        })
    });
    every.collect()
}

/// Holds how a command failed for want of room (or worse) in `out` against what it must say.
fn says_what_it_lacks(ended: &Ended, out: &str, case: &str) {
    assert_eq!(ended.code, Some(74), "{case}: {ended:?}");
    let message = ended.err.lines().rev().find(|line| line.starts_with("error: cannot ")).unwrap_or_default();
    assert!(message.contains(out), "{case}: {message:?} names the path");
    if case.contains("enospc") || case.contains("edquot") {
        assert!(message.contains("bytes are free there"), "{case}: {message}");
        let writes = case.contains("@write");
        assert!(!writes || message.contains("cannot write "), "{case}: {message} says how many bytes it needs");
    }
}

fn fails_and_goes_on(work: &Work, points: &[&str], place: &Place, look: impl Fn(&str, &str)) {
    let whole = work.whole(&place.at("whole"));
    let plans = plans(points);
    for (number, plan) in plans.iter().enumerate() {
        let out = place.at(&format!("{number}"));
        let ended = run(work.begin(&out).env(FAULT, plan));
        says_what_it_lacks(&ended, &out, plan);
        look(&out, plan);
        work.ends_as(&out, &whole, plan);
        std::fs::remove_dir_all(&out).unwrap();
    }
    eprintln!("{} places", plans.len());
}

#[test]
fn a_collection_that_a_disk_refuses_says_so_and_goes_on_later() {
    fails_and_goes_on(&Work::collect("mnist-world", 7), &OF_COLLECT, &Place::new(), verified);
}

#[test]
fn a_training_that_a_disk_refuses_says_so_and_goes_on_later() {
    let place = Place::new();
    let work = Work::train("linear_rnn", &data(&place), 17);
    fails_and_goes_on(&work, &OF_TRAIN, &place, |_, _| {});
}

/// A file system in memory of this many kilobytes, gone when this is dropped.
pub struct Small(pub String);

impl Small {
    /// None, and says so, where file systems may not be mounted.
    pub fn mount(place: &Place, kilobytes: u32) -> Option<Self> {
        let path = place.at("small");
        std::fs::create_dir(&path).unwrap();
        let size = format!("size={kilobytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none", &path]).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(path));
        }
        eprintln!("SKIPPED: only root may mount a small file system");
        None
    }

    fn grow(&self, kilobytes: u32) {
        self.mount_again(&format!("size={kilobytes}k"));
    }

    pub fn make_read_only(&self) {
        self.mount_again("ro");
    }

    fn mount_again(&self, how: &str) {
        let how = format!("remount,{how}");
        assert!(Command::new("mount").args(["-o", &how, &self.0]).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_full_file_system_loses_nothing_and_more_room_lets_it_go_on() {
    let place = Place::new();
    let collect = Work::collect("mnist-world", 30);
    let train = Work::train("flowm", &data(&place), 40);
    for (work, name, kilobytes) in [(&collect, "dataset", 200), (&train, "run", 64)] {
        let whole = work.whole(&place.at(&format!("whole_{name}")));
        let Some(small) = Small::mount(&place, kilobytes) else { return };
        let out = format!("{}/{name}", small.0);
        for attempt in 0..2 {
            let ended = run(&mut work.go_on(&out));
            says_what_it_lacks(&ended, &out, &format!("enospc of {name}, attempt {attempt}"));
        }
        if name == "dataset" {
            verified(&out, name);
            assert!(Path::new(&out).join("shards/000001.safetensors").exists(), "what fitted is committed");
        }
        small.grow(4_000);
        work.ends_as(&out, &whole, name);
        drop(small);
        std::fs::remove_dir(place.at("small")).unwrap();
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_like_any_other() {
    let place = Place::new();
    let collect = Work::collect("mnist-world", 4);
    let train = Work::train("flowm", &data(&place), 7);
    for (work, name) in [(&collect, "dataset"), (&train, "run")] {
        let (out, whole) = (place.at(name), work.whole(&place.at(&format!("whole_{name}"))));
        let program = work.begin(&out);
        let mut limited = Command::new("bash");
        // The second word is in blocks of 1024 bytes.
        limited.args(["-c", "ulimit -f 2; exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            value.map(|value| limited.env(name, value));
        }
        says_what_it_lacks(&run(&mut limited), &out, "a limit");
        work.ends_as(&out, &whole, name);
    }
}

#[test]
fn a_training_outlives_a_terminal_that_cannot_be_written() {
    let place = Place::new();
    let work = Work::train("linear_rnn", &data(&place), 7);
    let whole = work.whole(&place.at("whole"));
    let out = place.at("run");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = work.begin(&out).stdout(std::process::Stdio::null()).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(result(&out) == whole);
}
