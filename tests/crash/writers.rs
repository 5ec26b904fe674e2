//! Two at once: a second writer is refused by name, a reader sees what is committed and nothing else.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use envs::dataset::{Dataset, verify};

use crate::program::{Ended, Place, Running, Work, data, ok, random, run, scale, share};

/// `end` is of one who found `other` writing.
fn refused(end: &Ended, other: u32) {
    assert_eq!(end.code, Some(2), "{end:?}");
    assert!(end.err.contains(&format!("is being written by process {other} on ")), "not by {other}: {end:?}");
}

/// Starts `work` twice in one folder: while the first pauses at these operations, and so that the two race.
fn twice_at_once(work: &Work, place: &Place, operations: &[&str]) {
    let whole = work.whole(&place.at("whole"));
    for operation in operations {
        let out = place.at("paused");
        let first = Running::paused(&mut work.go_on(&out), operation);
        refused(&run(&mut work.go_on(&out)), first.pid());
        first.goes_on();
        let first = first.ended();
        assert_eq!(first.code, Some(0), "{first:?}");
        work.ends_as(&out, &whole, operation);
        std::fs::remove_dir_all(&out).unwrap();
    }
    let mut rng = random(20);
    for number in 0..scale(3, 50) {
        let out = place.at(&format!("{number}"));
        let first = Running::start(&mut work.go_on(&out));
        std::thread::sleep(Duration::from_secs_f64(0.05 * share(&mut rng)));
        let second = Running::start(&mut work.go_on(&out));
        let pids = [first.pid(), second.pid()];
        let ends = [first.ended(), second.ended()];
        assert!(ends.iter().any(|end| end.code == Some(0)), "{ends:?}");
        for (end, other) in ends.iter().zip([pids[1], pids[0]]).filter(|(end, _)| end.code != Some(0)) {
            refused(end, other);
        }
        work.ends_as(&out, &whole, &format!("race {number}"));
        std::fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn a_second_collection_is_refused_with_the_number_of_the_first() {
    let operations = ["append~manifest:1", "write~shards:9", "sync~manifest:60"];
    twice_at_once(&Work::collect("mnist-world", 120), &Place::new(), &operations);
}

#[test]
fn a_second_training_is_refused_with_the_number_of_the_first() {
    let (place, operations) = (Place::new(), ["write~config.json:1", "write~metrics:9", "rename~checkpoints:3"]);
    twice_at_once(&Work::train("flowm", &data(&place), 60), &place, &operations);
}

#[test]
fn a_reader_sees_committed_episodes_only() {
    let place = Place::new();
    let (whole, grows) = (place.at("whole"), place.at("grows"));
    let last = scale(31, 121) as u32;
    Work::collect("mnist-world", last).whole(&whole);
    Work::collect("mnist-world", 5).whole(&grows);
    let (truth, done) = (Dataset::open(Path::new(&whole)).unwrap(), AtomicBool::new(false));
    let mut looks = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Every odd number has a short last shard, which the next replaces.
            for episodes in (7..=last).step_by(2) {
                Work::collect("mnist-world", episodes).whole(&grows);
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut before = 5;
        while !done.load(Ordering::Relaxed) {
            let dataset = Dataset::open(Path::new(&grows)).unwrap_or_else(|error| panic!("look {looks}: {error}"));
            assert!(dataset.len() >= before, "look {looks}: {} episodes, {before} before", dataset.len());
            before = dataset.len();
            for (found, truth) in dataset.episodes().zip(truth.episodes()) {
                let same = (0..dataset.columns().len())
                    .all(|column| found.bytes(column).unwrap() == truth.bytes(column).unwrap());
                assert!(found.number() == truth.number() && same, "look {looks}: episode {}", found.number());
            }
            let report = verify(Path::new(&grows), true).unwrap();
            assert!(report.damage.is_empty(), "look {looks}: {:?}", report.damage);
            looks += 1;
        }
    });
    eprintln!("{looks} looks");
    assert!(looks > 20);
    ok(&["data", "verify", &grows]);
}
