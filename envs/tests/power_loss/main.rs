//! The power goes at any moment of a collection: what was reported as committed is there, whole, and collecting again gives
//! the bytes of a collection that nothing disturbed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "other tests use more of it")]
#[path = "../dataset/toy.rs"]
mod toy;

mod recorder;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use envs::dataset::{Control, Dataset, DatasetError, Outcome, Progress, collect_into, verify};
use rand::Rng as _;
use recorder::{Luck, Recorder};
use simulators::rng::{Purpose, Seed, stream};
use toy::{Toy, contents, request, undisturbed};

/// Four shards of four episodes, the last one short.
const EPISODES: u64 = 14;

/// Images of each test; ten times as many with `MINDSEYE_TEST_SCALE=full`.
fn images(small: u64) -> u64 {
    if std::env::var("MINDSEYE_TEST_SCALE").is_ok_and(|scale| scale == "full") { 10 * small } else { small }
}

/// Collects, and marks what is reported as committed.
fn collect(source: &Toy, recorder: &Recorder, episodes: u64) -> Result<Outcome, DatasetError> {
    let progress = |progress: Progress| recorder.mark(progress.episodes);
    let control = Control { stop: &AtomicBool::new(false), progress: &progress };
    collect_into(recorder, source, &recorder.root().join("data"), request(episodes), control)
}

/// The rows of every episode of a dataset, by number.
fn rows(dir: &Path, case: &str) -> BTreeMap<u64, Vec<Vec<u8>>> {
    let dataset = Dataset::open(dir).unwrap_or_else(|error| panic!("{case}: {error}"));
    let columns = 0..dataset.columns().len();
    dataset
        .episodes()
        .map(|e| (e.number(), columns.clone().map(|c| e.bytes(c).unwrap().into_owned()).collect()))
        .collect()
}

/// The dataset as it should be.
struct Truth {
    source: Toy,
    rows: BTreeMap<u64, Vec<Vec<u8>>>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Truth {
    fn new(source: Toy) -> Self {
        let recorder = Recorder::new();
        collect(&source, &recorder, EPISODES).unwrap();
        let data = recorder.root().join("data");
        let files = undisturbed(&source, EPISODES);
        assert!(contents(&data) == files, "being recorded changes nothing");
        Self { source, rows: rows(&data, "whole"), files }
    }

    /// Takes the power away once, lets collecting go on, takes it away again in the midst of that, and lets collecting
    /// come to its end.
    fn twice(&self, first: &Recorder, from: usize, image: u64, case: &str) {
        let mut rng = stream(Seed(0), Purpose::World, image);
        let mut cut = |recorder: &Recorder, from: usize| from + rng.next_u64() as usize % (recorder.len() - from + 1);
        let at = cut(first, from);
        let (case, mut promised) = (format!("{case}, image {image}, cut at {at} of {}", first.len()), 0);
        let second = self.left_by(first, at, &mut drawn(at, image), &mut promised, &case);
        let from = second.len();
        collect(&self.source, &second, EPISODES).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(contents(&second.root().join("data")) == self.files, "{case}: other bytes");
        let at = cut(&second, from);
        let case = format!("{case}, then at {} of {}", at - from, second.len() - from);
        let third = self.left_by(&second, at, &mut drawn(at, image), &mut promised, &case);
        collect(&self.source, &third, EPISODES).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(contents(&third.root().join("data")) == self.files, "{case}: other bytes");
    }

    /// A disk after a power loss, held against what had been promised before it.
    fn left_by(&self, disk: &Recorder, cut: usize, luck: &mut Luck, promised: &mut u64, case: &str) -> Recorder {
        let left = recorder::folder();
        let mark = disk.power_loss(cut, luck, left.path()).unwrap_or(0);
        *promised = mark.max(*promised);
        let data = left.path().join("data");
        if *promised > 0 {
            let found = rows(&data, case);
            for k in 0..*promised {
                assert!(found.get(&k) == self.rows.get(&k), "{case}: of {promised} episodes, {k} is lost or another");
            }
            let manifest = fs::read(data.join("manifest.jsonl")).unwrap();
            let last = manifest.split_inclusive(|&byte| byte == b'\n').count();
            let report = verify(&data, true).unwrap();
            assert!(report.damage.iter().all(|damage| damage.line == Some(last)), "{case}: {:?}", report.damage);
        }
        Recorder::of(left)
    }
}

/// Images so far.
fn counted() -> u64 {
    let images = recorder::IMAGES.load(Ordering::Relaxed);
    eprintln!("{images} images");
    images
}

/// Other luck at every cut of every image.
fn drawn(cut: usize, image: u64) -> Luck {
    Luck::Drawn(Box::new(stream(Seed(1 + cut as u64), Purpose::World, image)))
}

#[test]
fn a_collection_survives_a_power_loss() {
    for source in Toy::varied().in_both_codecs() {
        let (truth, recorder) = (Truth::new(source), Recorder::new());
        collect(&truth.source, &recorder, EPISODES).unwrap();
        (0..images(125)).for_each(|image| truth.twice(&recorder, 0, image, "new"));
    }
    assert!(counted() >= 500);
}

#[test]
fn an_extension_survives_a_power_loss() {
    let (truth, recorder) = (Truth::new(Toy::varied().packed()), Recorder::new());
    collect(&truth.source, &recorder, 6).unwrap();
    let begun = recorder.len();
    let outcome = collect(&truth.source, &recorder, EPISODES).unwrap();
    assert_eq!((outcome.before.episodes, outcome.now.episodes), (6, EPISODES), "what was replaced counts once");
    (0..images(125)).for_each(|image| truth.twice(&recorder, begun, image, "extended"));
    assert!(counted() >= 250);
}

/// Where a collection can die: every kind of operation, on every kind of file.
const DEATHS: [(&str, &str); 13] = [
    ("create_folder", ""),
    ("sync_folder", ""),
    ("create", "dataset.json"),
    ("write", "dataset.json"),
    ("sync", "dataset.json"),
    ("create", "shards"),
    ("write", "shards"),
    ("sync", "shards"),
    ("rename", ""),
    ("append", "manifest"),
    ("write", "manifest"),
    ("sync", "manifest"),
    ("remove_file", "shards"),
];

/// A process that dies leaves what it wrote to the system, which is not yet the disk: the next one must not take it for
/// safe. So it dies at each of its operations, the next process goes on, and then the power goes.
fn died_and_went_on(begin_with: Option<u64>) {
    let truth = Truth::new(Toy::varied());
    let mut image = 0;
    for (kind, part) in DEATHS {
        for n in 1.. {
            let case = format!("died at {kind}~{part}:{n}");
            let recorder = Recorder::new();
            begin_with.map(|episodes| collect(&truth.source, &recorder, episodes).unwrap());
            let died = recorder.dying(kind, part, n, || drop(collect(&truth.source, &recorder, EPISODES)));
            if !died {
                assert!(n > 1 || begin_with.is_some(), "{case}: there is no such operation");
                break;
            }
            let from = recorder.len();
            collect(&truth.source, &recorder, EPISODES).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert!(contents(&recorder.root().join("data")) == truth.files, "{case}: other bytes");
            for (cut, mut luck) in recorder.worst(from) {
                let case = format!("{case}, cut at {cut}, {luck:?}");
                truth.left_by(&recorder, cut, &mut luck, &mut 0, &case);
            }
            for _ in 0..images(2) {
                truth.twice(&recorder, from, image, &case);
                image += 1;
            }
        }
    }
    assert!(counted() >= 250);
}

#[test]
fn a_collection_that_went_on_after_a_death_survives_a_power_loss() {
    died_and_went_on(None);
}

#[test]
fn an_extension_that_went_on_after_a_death_survives_a_power_loss() {
    died_and_went_on(Some(6));
}
