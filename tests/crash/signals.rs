//! Signals: what is done is saved, the exit code says so, and the same command goes on.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{Ended, Place, Running, Work, data, random, scale, share};

/// How it ended after a signal, which takes it a fraction of a second.
fn ended_soon(running: Running, case: &str) -> Ended {
    let begin = Instant::now();
    let ended = running.ended();
    assert!(begin.elapsed() < Duration::from_secs(10), "{case}: it took {:?}", begin.elapsed());
    ended
}

/// Stops `work` by each signal: at these operations, for which it pauses, and a few times by the clock.
fn stopped_and_resumed(work: &Work, place: &Place, operations: &[&str], seed: u64) {
    let whole = work.whole(&place.at("whole"));
    let mut rng = random(seed);
    for signal in [Signal::TERM, Signal::USR1, Signal::INT] {
        for operation in operations {
            let case = format!("{signal:?} at {operation}");
            let out = place.at(&format!("{signal:?}"));
            let running = Running::paused(&mut work.begin(&out), operation);
            running.signal(signal);
            running.goes_on();
            let ended = ended_soon(running, &case);
            assert!(ended.code == Some(75) && ended.err.contains("error: stopped; "), "{case}: {ended:?}");
            work.ends_as(&out, &whole, &case);
            std::fs::remove_dir_all(&out).unwrap();
        }
        for number in 0..scale(1, 50) {
            let case = format!("{signal:?} number {number}");
            let out = place.at(&format!("{signal:?}"));
            let running = Running::start(&mut work.begin(&out));
            running.at_work();
            std::thread::sleep(Duration::from_secs_f64(0.03 * share(&mut rng)));
            running.signal(signal);
            let ended = ended_soon(running, &case);
            if ended.code == Some(75) {
                assert!(ended.err.contains("error: stopped; "), "{case}: {ended:?}");
            } else {
                // It had come to its end already, and may have said so.
                assert!(ended.code == Some(0) || ended.signal == Some(signal.as_raw()), "{case}: {ended:?}");
                assert!(!ended.out.is_empty(), "{case}: {ended:?}");
            }
            work.ends_as(&out, &whole, &case);
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
}

#[test]
fn a_collection_stopped_by_a_signal_goes_on_to_the_same_bytes() {
    let (place, work) = (Place::new(), Work::collect("mnist-world", 2000));
    let operations = ["create~shards:2", "write~shards:20", "rename~shards:50", "sync~manifest:100"];
    stopped_and_resumed(&work, &place, &operations[..scale(2, 4)], 10);
}

#[test]
fn a_training_stopped_by_a_signal_goes_on_to_the_same_bits() {
    let (place, operations) = (Place::new(), ["write~metrics:3", "sync~optimizer:2", "rename~checkpoints:1", "link:3"]);
    let work = Work::train("flowm", &data(&place), 60);
    stopped_and_resumed(&work, &place, &operations[..scale(2, 4)], 11);
}

#[test]
fn a_policy_s_training_stopped_by_a_signal_goes_on_to_the_same_bits() {
    let operations = ["write~metrics:3", "sync~optimizer:2", "rename~checkpoints:1", "link:3"];
    stopped_and_resumed(&Work::policy(60), &Place::new(), &operations[..scale(1, 4)], 12);
}

/// Interrupts `work`, which looks for signals only now and then, twice in between: that ends it at once.
fn interrupted_twice(work: &Work, place: &Place, begins_with: &str) {
    let (whole, out) = (work.whole(&place.at("whole")), place.at("twice"));
    let times = scale(3, 50);
    let mut at_once = 0;
    for tried in 0.. {
        // The work may look between the two after all, the likelier the longer this process waits for its turn.
        assert!(tried < 10 * times, "{at_once} of {tried} times the second came before the work looked");
        let running = Running::start(&mut work.begin(&out));
        running.says(begins_with);
        std::thread::sleep(Duration::from_millis(5));
        running.signal_taken(Signal::INT);
        running.signal(Signal::INT);
        let ended = running.ended();
        assert!([Some(130), Some(75)].contains(&ended.code), "{ended:?}");
        work.ends_as(&out, &whole, "interrupted twice");
        std::fs::remove_dir_all(&out).unwrap();
        at_once += usize::from(ended.code == Some(130));
        if at_once == times {
            break;
        }
    }
}

#[test]
fn a_second_interrupt_ends_a_collection_at_once() {
    let long = ["--set", "steps=300000", "--set", "world.window=2", "--set", "world.digits=20"];
    interrupted_twice(&Work::collect("mnist-world-track", 8).with(&long), &Place::new(), "collect 2/8");
}

#[test]
fn a_second_interrupt_ends_a_training_at_once() {
    let place = Place::new();
    let slow = ["--set", "train.batch_size=200", "--set", "model.hidden=24", "--set", "train.log_every=1"];
    interrupted_twice(&Work::train("flowm", &data(&place), 3).with(&slow), &place, "train 1/3");
}
