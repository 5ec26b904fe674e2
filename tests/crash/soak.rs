//! A long run takes no more memory, files or threads than a short one: seconds here, minutes before a release.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{Place, Running, Work, data, full};

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

/// Lets `work`, which never ends, run for `soak`, and compares its second half with its first.
fn holds_steady(work: &Work, out: &str, soak: Duration) {
    let running = Running::start(&mut work.begin(out));
    running.at_work();
    let most = || {
        let begin = Instant::now();
        let mut most = Held::by(running.pid());
        while begin.elapsed() < soak / 2 {
            std::thread::sleep(Duration::from_millis(20));
            most = most.most(Held::by(running.pid()));
        }
        most
    };
    let (first, second) = (most(), most());
    running.signal(Signal::TERM);
    let ended = running.ended();
    assert_eq!(ended.code, Some(75), "{ended:?}");
    eprintln!("{first:?}, then {second:?}");
    assert!(second.resident_kb as f64 <= 1.05 * first.resident_kb as f64, "{first:?}, then {second:?}");
    // A moment's look may miss that a shard is open while the next is written.
    assert!(second.files <= first.files + 2 && second.threads <= first.threads, "{first:?}, then {second:?}");
}

#[test]
fn a_long_collection_holds_no_more_than_a_short_one() {
    let place = Place::new();
    let soak = Duration::from_secs(if full() { 150 } else { 3 });
    // Long episodes of tiny frames: work for the processor, and little for the disk.
    let long = ["--set", "steps=400", "--set", "world.window=2", "--set", "world.digits=20"];
    holds_steady(
        &Work::collect("mnist-world-track", if full() { 1_000_000 } else { 100_000 }).with(&long),
        &place.at("data"),
        soak,
    );
}

#[test]
fn a_long_training_holds_no_more_than_a_short_one() {
    let place = Place::new();
    let soak = Duration::from_secs(if full() { 150 } else { 3 });
    let work = Work::train("flowm", &data(&place), 100_000_000);
    holds_steady(&work, &place.at("run"), soak);
}
