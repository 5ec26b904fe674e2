//! Parts recorded apart, by `collect_part`, merge into the bytes of a dataset recorded at once, or it is said why not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use envs::dataset::{
    Bounds, Control, Dataset, DatasetError, Manifest, Merged, Outcome, Progress, ShardOf, collect_part, merge, verify,
};
use envs::storage::{Disk, Faults, Storage};
use rand::Rng as _;
use simulators::rng::{Purpose, Seed, stream};

use crate::quick::Quick;
use crate::toy::{Toy, collect_toy, contents, request, undisturbed};

static NEVER: AtomicBool = AtomicBool::new(false);

fn unwatched() -> Control<'static> {
    Control { stop: &NEVER, progress: &|_: Progress| {} }
}

fn record(source: &Toy, dir: &Path, episodes: u64, part: &str) -> Outcome {
    let bounds = Bounds { part: part.parse().unwrap(), min_free: Some(0) };
    collect_part(&Quick::default(), source, dir, request(episodes), bounds, unwatched()).unwrap()
}

/// Directories with parts 0 to `count` of a dataset of `episodes` episodes.
fn parts(root: &Path, source: &Toy, episodes: u64, count: u64) -> Vec<PathBuf> {
    let dirs = (0..count).map(|index| {
        let dir = root.join(format!("{count}-{index}"));
        record(source, &dir, episodes, &format!("{index}/{count}"));
        dir
    });
    dirs.collect()
}

fn merged(parts: &[PathBuf], out: &Path) -> Result<Merged, DatasetError> {
    merge(&Quick::default(), parts, out, false, unwatched())
}

/// What is in `dir`, which may not be there.
fn contents_of(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map_or_else(|_| Vec::new(), |items| items.map(|item| item.unwrap().path()).collect())
}

#[test]
fn parts_merged_in_any_order_are_the_whole() {
    for source in Toy::varied().in_both_codecs() {
        assert_parts_are_the_whole(&source);
    }
}

fn assert_parts_are_the_whole(source: &Toy) {
    let truth = undisturbed(source, 42);
    let root = tempfile::tempdir().unwrap();
    let mut rng = stream(Seed(1), Purpose::World, 0);
    for count in [1, 2, 3, 16] {
        let mut dirs = parts(root.path(), source, 42, count);
        // One of them has been run again elsewhere.
        let again = root.path().join(format!("{count}-again"));
        record(source, &again, 42, &format!("{}/{count}", count / 2));
        dirs.push(again);
        for round in 0..6 {
            for left in (1..dirs.len()).rev() {
                dirs.swap(left, (rng.next_u64() % (left as u64 + 1)) as usize);
            }
            let out = root.path().join(format!("{count}-out-{round}"));
            let merged = merged(&dirs, &out).unwrap();
            assert!(contents(&out) == truth, "{count} parts as {dirs:?}");
            assert_eq!((merged.episodes, merged.copied, merged.missing.len()), (42, 11, 0));
            assert_eq!(merged.digest, Dataset::open(&out).unwrap().digest());
            assert_eq!(merged.duplicates.len(), 1, "of the part that was run twice");
        }
    }
}

#[test]
fn a_part_has_its_shards_and_nothing_else_and_is_recorded_once() {
    let root = tempfile::tempdir().unwrap();
    for (part, episodes, missing) in [("0/3", 16, 4), ("1/3", 14, 4), ("2/3", 12, 4), ("13/16", 0, 1)] {
        let dir = root.path().join(part.replace('/', "-"));
        let outcome = record(&Toy::varied(), &dir, 42, part);
        assert_eq!((outcome.now.episodes, outcome.now.requested), (episodes, episodes), "{part}");
        let before = contents(&dir);
        let again = record(&Toy::varied(), &dir, 42, part);
        assert_eq!((again.before, again.now, again.stopped), (outcome.now, outcome.now, false));
        assert!(contents(&dir) == before);
        let report = verify(&dir, true).unwrap();
        assert!(report.damage.is_empty() && report.missing.len() == missing, "{part}: {:?}", report.missing);
        if episodes > 0 {
            let info = Dataset::open(&dir).unwrap().info();
            assert_eq!(info.part.as_deref(), Some(part));
        }
    }
    let whole = root.path().join("whole");
    record(&Toy::varied(), &whole, 42, "0/1");
    assert_eq!(Dataset::open(&whole).unwrap().info().part, None);
    // Whoever has a part can make a whole of it.
    let part = root.path().join("1-3");
    let outcome = collect_toy(&Toy::varied(), &part, 42).unwrap();
    assert_eq!((outcome.before.episodes, outcome.now.episodes), (14, 42));
    assert!(contents(&part) == contents(&whole));
}

#[test]
fn a_part_stays_what_it_is_when_the_dataset_is_extended() {
    let root = tempfile::tempdir().unwrap();
    let source = Toy::varied();
    let dirs = parts(root.path(), &source, 15, 3);
    for (index, dir) in dirs.iter().enumerate() {
        let outcome = record(&source, dir, 42, &format!("{index}/3"));
        assert_eq!(outcome.now.episodes, outcome.now.requested, "a shard that was replaced does not count twice");
    }
    let out = root.path().join("out");
    merged(&dirs, &out).unwrap();
    assert!(contents(&out) == undisturbed(&source, 42));
}

#[test]
fn what_two_parts_have_alike_is_named() {
    let root = tempfile::tempdir().unwrap();
    let dirs = parts(root.path(), &Toy::varied(), 42, 2);
    let given = [dirs[1].clone(), dirs[0].clone(), dirs[1].clone()];
    let duplicates = merged(&given, &root.path().join("out")).unwrap().duplicates;
    assert_eq!(duplicates.len(), 1);
    assert_eq!((&duplicates[0].first, &duplicates[0].second), (&dirs[1], &dirs[1]));
    assert_eq!(duplicates[0].episodes, [[4, 8], [12, 16], [20, 24], [28, 32], [36, 40]]);
}

#[test]
fn what_two_parts_have_differently_is_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let dirs = parts(root.path(), &Toy::varied(), 42, 2);
    // The same description, and yet other episodes: another version recorded it, say.
    let other = root.path().join("other");
    record(&Toy { seed: 4, ..Toy::varied() }, &other, 42, "1/2");
    fs::copy(dirs[0].join("dataset.json"), other.join("dataset.json")).unwrap();
    let out = root.path().join("out");
    let text = merged(&[dirs[0].clone(), dirs[1].clone(), other], &out).unwrap_err().to_string();
    assert!(text.starts_with("episodes 4 to 7 differ in "), "{text}");
    assert!(text.contains("2-1/shards/000001.safetensors and ") && text.contains("other/shards/000001"), "{text}");
    assert!(!out.exists());
}

#[test]
fn parts_of_different_datasets_are_refused_field_by_field() {
    let root = tempfile::tempdir().unwrap();
    let dirs = parts(root.path(), &Toy::varied(), 42, 2);
    let other = root.path().join("other");
    record(&Toy { seed: 4, gain: 0.3, ..Toy::varied() }, &other, 50, "1/2");
    let out = root.path().join("out");
    let text = merged(&[dirs[0].clone(), other], &out).unwrap_err().to_string();
    for line in [
        "source.seed: 3 in the first, 4 in the second",
        "source.config.gain: 0.1 in the first, 0.3 in the second",
        "episodes: 42 in the first, 50 in the second",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(!out.exists());
    let packed = root.path().join("packed");
    record(&Toy::varied().packed(), &packed, 42, "1/2");
    let text = merged(&[dirs[0].clone(), packed], &out).unwrap_err().to_string();
    assert!(
        text.contains("codec: \"raw\" in the first, {\"zstd\":{\"block_bytes\":48,\"level\":1}} in the second"),
        "{text}"
    );
}

#[test]
fn holes_are_named_with_what_would_fill_them() {
    let root = tempfile::tempdir().unwrap();
    let source = Toy::varied();
    let mut dirs = parts(root.path(), &source, 42, 5);
    let (last, _) = (dirs.pop().unwrap(), dirs.remove(1));
    let out = root.path().join("out");
    let text = merged(&dirs, &out).unwrap_err().to_string();
    assert!(text.starts_with("the parts lack 16 of 42 episodes: 4 to 7, 16 to 19, 24 to 27, 36 to 39; "), "{text}");
    assert!(text.contains("with --shard 1/5 and --shard 4/5,"), "{text}");
    assert!(!out.exists());

    let merged_partly = merge(&Quick::default(), &dirs, &out, true, unwatched()).unwrap();
    assert_eq!(merged_partly.missing, [[4, 8], [16, 20], [24, 28], [36, 40]]);
    assert_eq!(Dataset::open(&out).unwrap().len(), 26);
    // A part that comes later is merged into what is there; without it, collecting fills the holes.
    merge(&Quick::default(), &[last], &out, true, unwatched()).unwrap();
    assert_eq!(Dataset::open(&out).unwrap().len(), 34);
    collect_toy(&source, &out, 42).unwrap();
    assert!(contents(&out) == undisturbed(&source, 42));
}

#[test]
fn a_merge_that_fails_anywhere_is_gone_on_with() {
    let source = Toy::varied();
    let truth = undisturbed(&source, 14);
    let root = tempfile::tempdir().unwrap();
    let dirs = parts(root.path(), &source, 14, 2);
    let before: Vec<_> = dirs.iter().map(|dir| contents(dir)).collect();
    let mut failed = 0;
    for at in 1.. {
        let out = root.path().join(format!("out-{at}"));
        let faults = Faults::new(Quick::default(), format!("eio@any:{at}").parse().unwrap());
        match merge(&faults, &dirs, &out, false, unwatched()) {
            Ok(_) if faults.seen() < at => break,
            Ok(_) => {} // only what tidies up failed
            Err(error) => {
                assert!(matches!(error, DatasetError::Io(_)), "{error}");
                failed += 1;
            }
        }
        if out.join("dataset.json").exists()
            && !Manifest::read(&out, &description(&dirs[0])).unwrap().entries.is_empty()
        {
            assert!(verify(&out, true).unwrap().damage.is_empty());
        }
        let second = merged(&dirs, &out).unwrap();
        assert!(second.duplicates.is_empty(), "what the first merge has copied is no duplicate");
        assert!(contents(&out) == truth, "operation {at}");
    }
    assert!(failed > 20, "{failed}");
    assert!(dirs.iter().map(|dir| contents(dir)).eq(before), "merging changes no part");
}

fn description(dir: &Path) -> envs::dataset::Description {
    envs::dataset::Description::read(dir).unwrap()
}

#[test]
fn a_merge_that_is_stopped_says_so() {
    let root = tempfile::tempdir().unwrap();
    let dirs = parts(root.path(), &Toy::varied(), 14, 2);
    let out = root.path().join("out");
    let stop = AtomicBool::new(false);
    let watch = |progress: Progress| {
        assert_eq!(progress.requested, 14);
        stop.store(progress.episodes >= 8, std::sync::atomic::Ordering::Relaxed);
    };
    let control = Control { stop: &stop, progress: &watch };
    let first = merge(&Quick::default(), &dirs, &out, false, control).unwrap();
    assert!(first.stopped && (first.copied, first.episodes) == (2, 8), "{first:?}");
    let second = merged(&dirs, &out).unwrap();
    assert!(!second.stopped && second.copied == 2);
    assert!(contents(&out) == undisturbed(&Toy::varied(), 14));
}

#[test]
fn a_damaged_part_does_not_get_into_the_result() {
    let root = tempfile::tempdir().unwrap();
    let source = Toy::varied();
    let dirs = parts(root.path(), &source, 42, 2);
    let copy = root.path().join("copy");
    record(&source, &copy, 42, "1/2");
    let shard = dirs[1].join("shards/000003.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let out = root.path().join("out");
    let text = merged(&dirs, &out).unwrap_err().to_string();
    assert!(text.contains("2-1/shards/000003.safetensors: its hash is not the committed one"), "{text}");
    assert!(contents(&out).keys().all(|name| !name.contains("000003") && !name.contains("tmp")));
    // Another copy of the part serves.
    merged(&[dirs[0].clone(), dirs[1].clone(), copy], &out).unwrap();
    assert!(contents(&out) == undisturbed(&source, 42));
}

#[test]
fn a_merge_may_go_into_one_of_the_parts() {
    let root = tempfile::tempdir().unwrap();
    let dirs = parts(root.path(), &Toy::varied(), 42, 2);
    merged(&dirs, &dirs[0]).unwrap();
    assert!(contents(&dirs[0]) == undisturbed(&Toy::varied(), 42));
}

#[test]
fn a_full_disk_stops_a_merge_before_it_begins() {
    let root = tempfile::tempdir().unwrap();
    let dirs = parts(root.path(), &Toy::varied(), 42, 2);
    let storage = Quick { root: root.path().to_owned(), room: Some(1_000) };
    let out = root.path().join("out");
    let text = merge(&storage, &dirs, &out, false, unwatched()).unwrap_err().to_string();
    assert!(text.starts_with("cannot write ") && text.contains("out (0 bytes are free there;"), "{text}");
    assert_eq!(contents_of(&out), [] as [PathBuf; 0]);
}

#[test]
fn collecting_leaves_the_room_that_it_was_told_to() {
    let source = Toy::fixed(6);
    let truth = undisturbed(&source, 42);
    let shard = truth["shards/000000.safetensors"].len() as u64;
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let mut storage = Quick { root: root.path().to_owned(), room: Some(10_000 + 6 * shard) };
    let collect = |storage: &Quick, min_free| {
        let bounds = Bounds { part: ShardOf::WHOLE, min_free };
        collect_part(storage, &source, &dir, request(42), bounds, unwatched())
    };
    let error = collect(&storage, Some(shard * 2)).unwrap_err();
    assert!(matches!(error, DatasetError::Io(_)), "{error}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot write {shard} bytes to ")) && text.contains("are free there"), "{text}");
    let space = storage.space(&dir).unwrap();
    assert!(space.free >= shard * 2, "{} bytes were left of {}", space.free, shard * 2);
    let report = verify(&dir, true).unwrap();
    assert!(report.damage.is_empty() && report.leftovers.is_empty(), "{report:?}");
    assert!(report.episodes >= 8 && report.episodes < 42, "{}", report.episodes);
    // By default a hundredth of so small a disk stays free.
    storage.room = Some(100_000);
    assert!(storage.space(&dir).unwrap().free > 1_000);
    collect(&storage, None).unwrap();
    assert!(contents(&dir) == truth);
    // The real disk is asked by default.
    assert!(Disk.space(&dir).unwrap().total >= Disk.space(&dir).unwrap().free);
}
