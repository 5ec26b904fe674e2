//! A long run takes no more memory, files or threads than a short one: seconds here, minutes before a release.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{HANGS, Place, Running, Work, data, scale};

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    resident_kb: u64,
    files: usize,
    threads: usize,
}

impl Held {
    fn by(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let count = |what| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        Self {
            resident_kb: resident.trim().trim_end_matches(" kB").parse().unwrap(),
            files: count("fd"),
            threads: count("task"),
        }
    }

    /// The most of each.
    fn most(self, other: Self) -> Self {
        Self {
            resident_kb: self.resident_kb.max(other.resident_kb),
            files: self.files.max(other.files),
            threads: self.threads.max(other.threads),
        }
    }
}

/// Lets `work`, which would go on for long, write `lines` lines to a log twice, once warm, and compares the second time with
/// the first. What it has done is counted, not how long it took, so that it is the same work on any machine.
fn holds_steady(work: &Work, out: &str, log: &str, lines: usize) {
    let running = Running::start(&mut work.begin(out));
    let log = Path::new(out).join(log);
    let most_until = |lines: usize| {
        let begin = Instant::now();
        let mut most = Held::by(running.pid());
        while fs::read_to_string(&log).map_or(0, |log| log.matches('\n').count()) < lines {
            assert!(begin.elapsed() < HANGS * scale(1, 10) as u32, "it does not come to {lines} lines");
            std::thread::sleep(Duration::from_millis(5));
            most = most.most(Held::by(running.pid()));
        }
        most
    };
    most_until(lines / 2);
    let (first, second) = (most_until(lines * 3 / 2), most_until(lines * 5 / 2));
    running.signal(Signal::TERM);
    let ended = running.ended();
    assert_eq!(ended.code, Some(75), "{ended:?}");
    eprintln!("{first:?}, then {second:?}");
    assert!(second.resident_kb as f64 <= 1.05 * first.resident_kb as f64, "{first:?}, then {second:?}");
    // Looks may miss the moment at which most files are open. What is never closed would be hundreds.
    assert!(second.files <= first.files + 8 && second.threads <= first.threads, "{first:?}, then {second:?}");
}

#[test]
fn a_long_collection_holds_no_more_than_a_short_one() {
    let place = Place::new();
    // Long episodes of tiny frames: work for the processor, and little for the disk.
    let long = ["--set", "steps=400", "--set", "world.window=2", "--set", "world.digits=20"];
    let work = Work::collect("mnist-world-track", 1_000_000).with(&long);
    // A line a shard, for which 2 kB of memory are kept until the end.
    holds_steady(&work, &place.at("data"), "manifest.jsonl", scale(1000, 2000));
}

#[test]
fn a_long_training_holds_no_more_than_a_short_one() {
    let place = Place::new();
    let work = Work::train("flowm", &data(&place), 100_000_000);
    holds_steady(&work, &place.at("run"), "metrics.jsonl", scale(30, 1500));
}
