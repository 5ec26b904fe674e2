//! Signals: what is done is saved, the exit code says so, and the same command goes on.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{Place, Running, Work, data, random, scale, share};

/// Stops `work` by each signal, so many times each.
fn stopped_and_resumed(work: &Work, place: &Place, seed: u64) {
    let whole = work.whole(&place.at("whole"));
    let mut rng = random(seed);
    let times = scale(3, 50);
    for signal in [Signal::TERM, Signal::USR1, Signal::INT] {
        let mut caught = 0;
        for number in 0..times {
            let case = format!("{signal:?} number {number}");
            let out = place.at(&format!("{signal:?}{number}"));
            let running = Running::start(&mut work.begin(&out));
            running.at_work();
            std::thread::sleep(Duration::from_secs_f64(0.03 * share(&mut rng)));
            running.signal(signal);
            let begin = Instant::now();
            let ended = running.ended();
            assert!(begin.elapsed() < Duration::from_secs(10), "{case}: it took {:?}", begin.elapsed());
            if ended.code == Some(75) {
                assert!(ended.err.contains("error: stopped; "), "{case}: {ended:?}");
                caught += 1;
            } else {
                // It had come to its end already, and may have said so.
                assert!(ended.code == Some(0) || ended.signal == Some(signal.as_raw()), "{case}: {ended:?}");
                assert!(!ended.out.is_empty(), "{case}: {ended:?}");
            }
            work.ends_as(&out, &whole, &case);
            std::fs::remove_dir_all(&out).unwrap();
        }
        assert!(caught * 2 > times, "{signal:?}: only {caught} of {times} came before the end");
    }
}

/// Interrupts `work` twice; how often that ended it at once.
fn interrupted_twice(work: &Work, place: &Place, times: usize) -> usize {
    let whole = work.whole(&place.at("whole twice"));
    let mut at_once = 0;
    for number in 0..times {
        let out = place.at(&format!("twice {number}"));
        let running = Running::start(&mut work.begin(&out));
        running.at_work();
        running.signal(Signal::INT);
        // Sent at once, the two would be one.
        std::thread::sleep(Duration::from_millis(3));
        running.signal(Signal::INT);
        let ended = running.ended();
        assert!([Some(130), Some(75)].contains(&ended.code), "{ended:?}");
        at_once += usize::from(ended.code == Some(130));
        work.ends_as(&out, &whole, "interrupted twice");
        std::fs::remove_dir_all(&out).unwrap();
    }
    at_once
}

#[test]
fn a_collection_stopped_by_a_signal_goes_on_to_the_same_bytes() {
    let (place, work) = (Place::new(), Work::collect("mnist-world", 400));
    stopped_and_resumed(&work, &place, 10);
    interrupted_twice(&work, &place, scale(3, 50));
}

#[test]
fn a_training_stopped_by_a_signal_goes_on_to_the_same_bits() {
    let place = Place::new();
    stopped_and_resumed(&Work::train("flowm", &data(&place), 60), &place, 11);
}

#[test]
fn a_second_interrupt_ends_a_training_at_once() {
    let place = Place::new();
    // Updates that take long enough to be interrupted twice.
    let work =
        Work::train("flowm", &data(&place), 3).with(&["--set", "train.batch_size=200", "--set", "model.hidden=24"]);
    let times = scale(3, 50);
    assert!(interrupted_twice(&work, &place, times) * 2 > times, "most ended before the second came");
}
