//! SIGKILL at any moment, by the clock or at a chosen operation.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use envs::dataset::{Description, Manifest};
use envs::storage::FAULT;
use world_models::checkpoint::{Checkpoint, complete};

use crate::program::{Ended, Place, Work, data, killed_after, random, run, scale, seconds, share, verified};

/// Every kind of operation of `collect`, on every kind of file.
const OF_COLLECT: [&str; 12] = [
    "create_folder:1",
    "create~dataset.json:1",
    "write~dataset.json:1",
    "append~manifest:1",
    "create~shards:2",
    "write~shards:3",
    "sync~shards:1",
    "rename~shards:2",
    "sync_folder~shards:3",
    "write~manifest:1",
    "sync~manifest:2",
    "remove_file:3",
];

/// Every kind of operation of `train`.
const OF_TRAIN: [&str; 10] = [
    "write~run.json:1",
    "rename~config.json:1",
    "write~metrics:3",
    "write~tfevents:1",
    "write~model.safetensors:2",
    "sync~optimizer:3",
    "create_folder~.tmp:1",
    "rename~checkpoints:2",
    "link:3",
    "remove_folder:1",
];

/// A way to be killed: at an operation, or after a share of the time that all takes.
enum Kill {
    At(String),
    After(f64),
}

impl Kill {
    /// The `named` operations, the walk over all operations up to `walk`, and `by_clock` times.
    fn points(named: &[&str], walk: usize, by_clock: usize, seed: u64) -> Vec<Self> {
        let mut rng = random(seed);
        let named = named.iter().map(|&point| Self::At(point.to_owned()));
        let walk = (1..=walk).map(|n| Self::At(format!("any:{n}")));
        let mut points: Vec<_> = named.chain(walk).collect();
        points.extend((0..by_clock).map(|_| Self::After(share(&mut rng))));
        points
    }

    /// Kills `work` in the folder `out`, which `prepare` makes as it is before; what was done, and how that ended.
    fn strike(&self, work: &Work, out: &str, whole_seconds: f64, prepare: impl Fn()) -> (String, Ended) {
        let (case, ended) = match self {
            Self::At(point) => {
                prepare();
                let plan = format!("kill@{point}");
                let ended = run(work.go_on(out).env(FAULT, &plan));
                (plan, ended)
            }
            Self::After(share) => {
                // The whole may have taken longer than this one, which then has ended before: so again, and sooner.
                let mut after = Duration::from_secs_f64(share * whole_seconds);
                loop {
                    prepare();
                    let ended = killed_after(&mut work.go_on(out), after);
                    if ended.killed() {
                        break (format!("killed after {after:?}"), ended);
                    }
                    assert!(ended.code == Some(0) && !after.is_zero(), "{after:?}: {ended:?}");
                    fs::remove_dir_all(out).unwrap();
                    after /= 2;
                }
            }
        };
        assert!(ended.killed(), "{case}: {ended:?}");
        (case, ended)
    }
}

/// The files that the manifest speaks of, with their bytes, as they are now.
fn committed(out: &str) -> BTreeMap<String, Vec<u8>> {
    let dir = Path::new(out);
    let Ok(description) = Description::read(dir) else { return BTreeMap::new() };
    let manifest = Manifest::read(dir, &description).unwrap();
    let file = |name: &str| fs::read(dir.join("shards").join(name)).unwrap();
    manifest.entries.iter().map(|entry| (entry.shard.clone(), file(&entry.shard))).collect()
}

/// Episodes of which the progress spoke last.
fn reported(err: &str) -> usize {
    let done = |line: &str| line.trim().strip_prefix("collect ")?.split_once('/')?.0.parse().ok();
    err.lines().filter_map(done).max().unwrap_or(0)
}

/// Kills collecting at these points, from the beginning or while it extends a dataset of `begin_with` episodes.
fn collect_killed(env: &str, codec: &str, begin_with: Option<u32>, points: &[Kill]) {
    const EPISODES: u32 = 12;
    let collect = |episodes| Work::collect(env, episodes).with(&["--codec", codec]);
    let (place, work) = (Place::new(), collect(EPISODES));
    let mut whole = BTreeMap::new();
    let whole_seconds = seconds(|| whole = work.whole(&place.at("whole")));
    for (number, point) in points.iter().enumerate() {
        let out = place.at(&format!("{number}"));
        let (case, ended) = point.strike(&work, &out, whole_seconds, || {
            if let Some(episodes) = begin_with {
                collect(episodes).whole(&out);
            }
        });
        let case = format!("{env}, {codec}, {case}");
        verified(&out, &case);
        let there = committed(&out);
        let episodes: usize = there.keys().map(|name| if name.contains('-') { 1 } else { 2 }).sum();
        assert!(
            episodes >= reported(&ended.err).max(begin_with.unwrap_or(0) as usize),
            "{case}: {episodes}, {ended:?}"
        );
        for (name, bytes) in &there {
            let short = name.contains('-');
            assert!(short || whole[&format!("shards/{name}")] == *bytes, "{case}: {name} has other bytes");
        }
        work.ends_as(&out, &whole, &case);
        fs::remove_dir_all(&out).unwrap();
    }
    eprintln!("{env}: killed {} times", points.len());
}

#[test]
fn a_killed_collection_loses_nothing_and_goes_on_to_the_same_bytes() {
    for (env, codec, seed, from) in [
        ("mnist-world", "raw", 1, 0),
        ("mnist-world-track", "raw", 2, scale(9, 0)),
        ("mnist-world", "zstd", 5, scale(5, 0)),
    ] {
        let points = Kill::points(&OF_COLLECT[from..], scale(0, 60), scale(2, 113), seed);
        collect_killed(env, codec, None, &points);
    }
}

#[test]
fn a_killed_extension_loses_nothing_and_goes_on_to_the_same_bytes() {
    for (env, seed) in [("mnist-world", 3), ("mnist-world-track", 4)].into_iter().take(scale(1, 2)) {
        let named = ["write~manifest:1", "sync~manifest:2", "remove_file:3"];
        collect_killed(env, "raw", Some(5), &Kill::points(&named, scale(0, 50), scale(1, 20), seed));
    }
}

/// Kills training a world model at these points.
fn train_killed(model: &str, points: &[Kill]) {
    let place = Place::new();
    updates_killed(&place, model, &Work::train(model, &data(&place), 17), points);
}

/// Kills 17 updates at these points.
fn updates_killed(place: &Place, model: &str, work: &Work, points: &[Kill]) {
    let mut whole = BTreeMap::new();
    let whole_seconds = seconds(|| whole = work.whole(&place.at("whole")));
    for (number, point) in points.iter().enumerate() {
        let out = place.at(&format!("{number}"));
        let (case, _) = point.strike(work, &out, whole_seconds, || {});
        let case = format!("{model}, {case}");
        let checkpoints = Path::new(&out).join("checkpoints");
        for number in complete(&checkpoints).unwrap_or_default() {
            let checkpoint = Checkpoint::open(&checkpoints.join(format!("{number:06}")));
            let checkpoint = checkpoint.unwrap_or_else(|error| panic!("{case}: {error}"));
            let state: serde_json::Value = checkpoint.state().unwrap();
            let update = state.get("update").or(state.get("epoch")).and_then(serde_json::Value::as_u64);
            assert_eq!(update, Some(number), "{case}");
        }
        work.ends_as(&out, &whole, &case);
        assert_eq!(complete(&checkpoints).unwrap(), [15, 17], "{case}: two are kept");
        fs::remove_dir_all(&out).unwrap();
    }
    eprintln!("{model}: killed {} times", points.len());
}

#[test]
fn a_killed_training_goes_on_to_the_same_bits() {
    for (model, seed) in [("flowm", 5), ("linear_rnn", 6)].into_iter().take(scale(1, 2)) {
        let points = Kill::points(&OF_TRAIN, scale(0, 60), scale(2, 30), seed);
        train_killed(model, &points);
    }
}

#[test]
fn a_killed_policy_s_training_goes_on_to_the_same_bits() {
    let points = Kill::points(&OF_TRAIN[scale(5, 0)..], scale(0, 60), scale(1, 30), 7);
    updates_killed(&Place::new(), "shac", &Work::policy(17), &points);
}

#[test]
fn a_training_killed_while_it_saves_goes_on_to_the_same_bits() {
    for model in ["linear_rnn", "flowm"].into_iter().take(scale(1, 2)) {
        // The second save and the clearing up after it.
        let points: Vec<_> = (0..scale(4, 20)).map(|i| Kill::At(format!("any~checkpoints:{}", 26 + i))).collect();
        train_killed(model, &points);
    }
}
