//! Whatever is damaged, `repair` keeps every episode that is whole, loses nothing else, and collecting again gives the bytes
//! that were there.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use envs::dataset::{
    Control, Dataset, DatasetError, Description, Follows, Progress, Repaired, Verdict, collect_into, repair, verify,
};
use envs::storage::Faults;
use rand::Rng as _;
use safetensors::SafeTensors;
use simulators::rng::{Purpose, Rng as Draws, Seed, stream};
use tempfile::TempDir;

use crate::quick::Quick;
use crate::toy::{COLUMNS, Toy, contents, request, undisturbed};

/// Three whole shards of four episodes, and a short one of two.
const EPISODES: u64 = 14;
static TRUTH: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| undisturbed(&Toy::varied(), EPISODES));
static DATASET: LazyLock<(TempDir, Dataset)> = LazyLock::new(|| {
    let dir = copy();
    let dataset = Dataset::open(dir.path()).unwrap();
    (dir, dataset)
});

/// A dataset as it should be.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("shards")).unwrap();
    TRUTH.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    dir
}

fn repaired(dir: &Path) -> Repaired {
    repair(&Quick::default(), dir, false).unwrap()
}

fn collect(dir: &Path) {
    let control = Control { stop: &AtomicBool::new(false), progress: &|_: Progress| {} };
    collect_into(&Quick::default(), &Toy::varied(), dir, request(EPISODES), control).unwrap();
}

/// What must hold of a dataset after a repair that said `said`. Returns the numbers of its episodes.
fn assert_sound(dir: &Path, said: &Repaired) -> Vec<u64> {
    let report = verify(dir, true).unwrap();
    assert!(report.damage.is_empty(), "{:?} after {said:?}", report.damage);
    assert_eq!((report.episodes, &report.missing), (said.episodes, &said.missing));
    let truth = &DATASET.1;
    let numbers = match Dataset::open(dir) {
        Err(DatasetError::NothingCommitted { .. }) => Vec::new(),
        other => other
            .unwrap()
            .episodes()
            .map(|episode| {
                let recorded = truth.episode(episode.number() as usize).unwrap();
                for column in 0..COLUMNS.len() {
                    assert!(
                        episode.bytes(column) == recorded.bytes(column),
                        "episode {} after {said:?}",
                        episode.number()
                    );
                }
                episode.number()
            })
            .collect(),
    };
    let before = contents(dir);
    let again = repaired(dir);
    assert!(again.files.is_empty() && again.lines.is_empty() && again.lost.is_empty(), "{again:?}");
    assert!(contents(dir) == before, "repairing twice changes nothing");
    numbers
}

/// Collecting after a repair gives what was there.
fn assert_restorable(dir: &Path) {
    collect(dir);
    assert!(contents(dir) == *TRUTH);
}

/// The episodes, from 0, of which all rows lie in the first `kept` bytes of a shard file.
fn whole_in(file: &[u8], kept: usize, first: usize) -> Vec<u64> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let lengths: Vec<usize> = (first..).map_while(|k| Some(DATASET.1.episode(k)?.steps())).take(4).collect();
    let end_of_rows = |column: usize, episode: usize| -> Range<usize> {
        let spec = &DATASET.1.columns()[column];
        let rows = |episodes: usize| lengths[..episodes].iter().map(|&steps| spec.follows.rows(steps)).sum::<usize>();
        let begin = tensors.tensor(&spec.name).unwrap().data().as_ptr() as usize - file.as_ptr() as usize;
        begin + rows(episode) * spec.row_bytes()..begin + rows(episode + 1) * spec.row_bytes()
    };
    let whole = |&episode: &usize| {
        (0..COLUMNS.len()).all(|column| {
            let rows = end_of_rows(column, episode);
            rows.is_empty() || rows.end <= kept
        })
    };
    (0..lengths.len()).filter(whole).map(|episode| (first + episode) as u64).collect()
}

#[test]
fn of_a_file_cut_anywhere_every_whole_episode_is_kept() {
    assert!(DATASET.1.columns().iter().any(|column| column.follows == Follows::Episode));
    let good = &TRUTH["shards/000001.safetensors"];
    let mut salvaged = 0;
    let step = if std::env::var("MINDSEYE_TEST_SCALE").is_ok_and(|scale| scale == "full") { 1 } else { 11 };
    let last = (0..=4096usize.min(good.len())).skip(1).step_by(step).map(|missing| good.len() - missing);
    for kept in (0..good.len()).step_by(1024).chain(last) {
        let dir = copy();
        fs::write(dir.path().join("shards/000001.safetensors"), &good[..kept]).unwrap();
        let said = repaired(dir.path());
        let numbers = assert_sound(dir.path(), &said);
        let mut expected = whole_in(good, kept, 4);
        salvaged += expected.len();
        let lost: Vec<u64> = (4..8).filter(|k| !expected.contains(k)).collect();
        assert_eq!(said.lost.iter().flat_map(|range| range[0]..range[1]).collect::<Vec<_>>(), lost);
        expected.extend((0..4).chain(8..EPISODES));
        expected.sort_unstable();
        assert_eq!(numbers, expected, "cut at {kept} of {}", good.len());
        assert_eq!(
            fs::read(dir.path().join("damaged/000001.safetensors")).unwrap(),
            good[..kept],
            "nothing is deleted"
        );
        if kept % 8 == 0 {
            assert_restorable(dir.path());
        }
    }
    assert!(salvaged > 40 / step, "{salvaged}");
}

#[test]
fn of_a_cut_file_without_a_line_every_whole_episode_is_kept_too() {
    let good = &TRUTH["shards/000002.safetensors"];
    for kept in (0..good.len()).step_by(61) {
        let dir = copy();
        fs::remove_file(dir.path().join("manifest.jsonl")).unwrap();
        fs::write(dir.path().join("shards/000002.safetensors"), &good[..kept]).unwrap();
        let said = repaired(dir.path());
        let mut expected = whole_in(good, kept, 8);
        expected.extend((0..8).chain(12..EPISODES));
        expected.sort_unstable();
        assert_eq!(assert_sound(dir.path(), &said), expected, "cut at {kept}");
        assert_restorable(dir.path());
    }
}

#[test]
fn a_flipped_bit_costs_at_most_its_episode() {
    let good = &TRUTH["shards/000001.safetensors"];
    let tensors = SafeTensors::deserialize(good).unwrap();
    let checks = tensors.tensor("checks").unwrap().data();
    let rows_begin = checks.as_ptr() as usize - good.as_ptr() as usize + checks.len();
    let mut rng = stream(Seed(21), Purpose::World, 0);
    let mut kinds = [0; 2];
    for _ in 0..150 {
        let at = (rng.next_u64() % good.len() as u64) as usize;
        let dir = copy();
        let mut bad = good.clone();
        bad[at] ^= 1 << (rng.next_u32() % 8);
        fs::write(dir.path().join("shards/000001.safetensors"), bad).unwrap();
        let said = repaired(dir.path());
        assert_sound(dir.path(), &said);
        assert_eq!(said.files.len(), 1);
        // Header, lengths and checks follow from what is known otherwise.
        let restored = at < rows_begin;
        kinds[usize::from(restored)] += 1;
        if restored {
            assert_eq!((said.files[0].verdict, said.lost.len()), (Verdict::Restored, 0), "byte {at}");
            assert!(contents(dir.path()) == *TRUTH && !dir.path().join("damaged").exists());
        } else {
            assert_eq!(said.files[0].verdict, Verdict::Salvaged);
            assert_eq!(said.lost.iter().map(|range| range[1] - range[0]).sum::<u64>(), 1, "byte {at}");
            assert_restorable(dir.path());
        }
    }
    assert!(kinds.iter().all(|&count| count > 20), "{kinds:?}");
}

#[test]
fn a_manifest_is_made_anew_from_the_shards() {
    let good = &TRUTH["manifest.jsonl"];
    let lines: Vec<&[u8]> = good.split_inclusive(|&byte| byte == b'\n').collect();
    let mut bad: Vec<Option<Vec<u8>>> = vec![None, Some(Vec::new()), Some(b"{}\n[]\n\n".to_vec())];
    for line in 0..lines.len() {
        let mut flipped = lines.clone();
        let mut damaged = lines[line].to_vec();
        damaged[20] ^= 4;
        flipped[line] = &damaged;
        bad.push(Some(flipped.concat()));
        bad.push(Some([lines[..line].concat(), lines[line][..50].to_vec()].concat()));
        bad.push(Some([lines[line..].concat(), lines[line].to_vec()].concat()));
    }
    for manifest in bad {
        let dir = copy();
        let path = dir.path().join("manifest.jsonl");
        match &manifest {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
        let said = repaired(dir.path());
        assert_eq!(assert_sound(dir.path(), &said).len() as u64, EPISODES);
        assert!(contents(dir.path()) == *TRUTH, "{said:?}");
        assert!(said.files.iter().all(|file| file.verdict == Verdict::Adopted) && said.lost.is_empty());
        let kept = dir.path().join("damaged/manifest.jsonl");
        assert_eq!(said.lines.is_empty(), !kept.exists());
        assert!(said.lines.is_empty() || Some(fs::read(kept).unwrap()) == manifest);
    }
}

#[test]
fn without_a_manifest_shards_are_not_swept() {
    let dir = copy();
    fs::remove_file(dir.path().join("manifest.jsonl")).unwrap();
    let text = crate::toy::collect_toy(&Toy::varied(), dir.path(), EPISODES).unwrap_err().to_string();
    assert!(text.contains("no manifest.jsonl") && text.contains("data repair"), "{text}");
    assert_eq!(
        verify(dir.path(), true).unwrap().damage[0].to_string(),
        "manifest.jsonl: missing, though there are shards"
    );
    repaired(dir.path());
    assert!(contents(dir.path()) == *TRUTH);
}

#[test]
fn what_is_no_shard_of_this_dataset_is_moved_aside() {
    let dir = copy();
    let shards = dir.path().join("shards");
    // Noise, another shard under this name, and a shard of another seed, each where a line is missing.
    let lines: Vec<&[u8]> = TRUTH["manifest.jsonl"].split_inclusive(|&byte| byte == b'\n').collect();
    fs::write(dir.path().join("manifest.jsonl"), lines[0]).unwrap();
    fs::write(shards.join("000001.safetensors"), [7; 5000]).unwrap();
    fs::write(shards.join("000002.safetensors"), &TRUTH["shards/000000.safetensors"]).unwrap();
    fs::write(shards.join("000009.safetensors"), [7; 10]).unwrap();
    fs::write(shards.join("notes.txt"), "mine").unwrap();
    let said = repaired(dir.path());
    let verdicts: Vec<_> = said.files.iter().map(|file| (file.file.as_str(), file.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            ("shards/000001.safetensors", Verdict::Lost),
            ("shards/000002.safetensors", Verdict::Lost),
            ("shards/000003-2.safetensors", Verdict::Adopted),
        ]
    );
    assert_eq!(said.lost, [] as [[u64; 2]; 0], "no line says that they were ever committed");
    assert_eq!(said.missing, [[4, 12]]);
    assert_eq!(fs::read(dir.path().join("damaged/000001.safetensors")).unwrap(), [7; 5000]);
    assert_eq!(fs::read(shards.join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn a_shard_of_another_seed_is_not_taken_for_this_ones() {
    // Every check in it is right, but the manifest knows their hash.
    let source = Toy::fixed(6);
    let truth = undisturbed(&source, 8);
    let dir = tempfile::tempdir().unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_: Progress| {} };
    collect_into(&Quick::default(), &source, dir.path(), request(8), control).unwrap();
    let other = undisturbed(&Toy { seed: 4, ..source.clone() }, 8);
    let shard = dir.path().join("shards/000001.safetensors");
    assert_eq!(truth["shards/000001.safetensors"].len(), other["shards/000001.safetensors"].len());
    fs::write(&shard, &other["shards/000001.safetensors"]).unwrap();
    let said = repaired(dir.path());
    assert_eq!((said.files[0].verdict, &said.lost[..]), (Verdict::Lost, &[[4, 8]][..]));
    collect_into(&Quick::default(), &source, dir.path(), request(8), control).unwrap();
    assert!(contents(dir.path()) == truth);
}

#[test]
fn a_lost_file_is_named_with_its_episodes() {
    let dir = copy();
    fs::remove_file(dir.path().join("shards/000001.safetensors")).unwrap();
    fs::remove_file(dir.path().join("shards/000003-2.safetensors")).unwrap();
    let said = repaired(dir.path());
    assert_eq!(said.files.iter().map(|file| file.problem.as_str()).collect::<Vec<_>>(), ["committed, but missing"; 2]);
    assert_eq!((said.lost.as_slice(), said.episodes), ([[4, 8], [12, 14]].as_slice(), 8));
    assert_sound(dir.path(), &said);
    assert_restorable(dir.path());
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let dir = ruin(&mut stream(Seed(5), Purpose::World, 0));
    let before = everything(dir.path());
    let would = repair(&Quick::default(), dir.path(), true).unwrap();
    assert!(everything(dir.path()) == before);
    assert_eq!(would, repaired(dir.path()));
}

/// Every file under `dir`.
fn everything(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let items = fs::read_dir(dir).unwrap().map(|item| item.unwrap().path());
    items
        .flat_map(
            |path| if path.is_dir() { everything(&path) } else { [(path.clone(), fs::read(&path).unwrap())].into() },
        )
        .collect()
}

/// A dataset to which several bad things have happened.
fn ruin(rng: &mut Draws) -> TempDir {
    let dir = copy();
    let names: Vec<&String> = TRUTH.keys().filter(|name| *name != "dataset.json").collect();
    for _ in 0..=rng.next_u64() % 4 {
        let name = names[(rng.next_u64() % names.len() as u64) as usize];
        let path = dir.path().join(name);
        let Ok(mut bytes) = fs::read(&path) else { continue };
        let at = (rng.next_u64() % (bytes.len() as u64 + 1)) as usize;
        let end = (at + 1 + (rng.next_u64() % 300) as usize).min(bytes.len());
        match rng.next_u64() % 6 {
            0 => bytes.truncate(at),
            1 => bytes[at..end].fill(0),
            2 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << (at % 8)),
            3 => bytes.extend_from_within(at..end),
            4 => fs::copy(dir.path().join("shards/000000.safetensors"), dir.path().join("shards/000002-3.safetensors"))
                .map_or((), |_| ()),
            _ => {
                fs::remove_file(&path).unwrap();
                continue;
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    dir
}

#[test]
fn whatever_happened_what_is_left_is_true_and_the_rest_can_be_recorded_again() {
    for round in 0..100 {
        let dir = ruin(&mut stream(Seed(6), Purpose::World, round));
        let untouched: Vec<String> = TRUTH
            .keys()
            .filter(|name| name.starts_with("shards/"))
            .filter(|name| fs::read(dir.path().join(name)).is_ok_and(|bytes| bytes == TRUTH[*name]))
            .cloned()
            .collect();
        let said = repaired(dir.path());
        assert_sound(dir.path(), &said);
        for name in untouched {
            assert!(contents(dir.path())[&name] == TRUTH[&name], "round {round}: {name} was whole; {said:?}");
        }
        assert_restorable(dir.path());
    }
}

#[test]
fn a_repair_that_fails_anywhere_is_gone_on_with() {
    let mut failed = 0;
    for round in [0, 3, 4, 7] {
        let ruined = || ruin(&mut stream(Seed(7), Purpose::World, round));
        let whole = ruined();
        repaired(whole.path());
        let truth = contents(whole.path());
        for at in 1.. {
            let dir = ruined();
            let faults = Faults::new(Quick::default(), format!("eio@any:{at}").parse().unwrap());
            let outcome = repair(&faults, dir.path(), false);
            if outcome.is_ok() && faults.seen() < at {
                break;
            }
            failed += usize::from(outcome.is_err());
            repaired(dir.path());
            assert!(contents(dir.path()) == truth, "round {round}, operation {at}: {outcome:?}");
        }
    }
    assert!(failed > 40, "{failed}");
}

#[test]
fn a_description_that_changed_is_refused_and_none_is_made_up() {
    let good = &TRUTH["dataset.json"];
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(Description::parse(&bad, Path::new("dataset.json")).is_err(), "byte {at}");
    }
    let refused = |dir: &Path, said: &str| {
        let before = everything(dir);
        let text = repair(&Quick::default(), dir, false).unwrap_err().to_string();
        assert!(text.contains(said) && text.contains("copy it from another part of this dataset"), "{text}");
        let mut after = everything(dir);
        after.remove(&dir.join(".lock"));
        assert!(after == before);
    };
    let dir = copy();
    let path = dir.path().join("dataset.json");
    let mut bad = good.clone();
    let seed = String::from_utf8_lossy(good).find("\"seed\": 3").unwrap();
    bad[seed + 8] = b'4';
    fs::write(&path, &bad).unwrap();
    refused(dir.path(), "its check does not fit");
    fs::remove_file(&path).unwrap();
    refused(dir.path(), "no dataset.json");
    // That of another dataset: the manifest's lines are whole, and not of it.
    fs::write(&path, &undisturbed(&Toy::varied(), 8)["dataset.json"]).unwrap();
    refused(dir.path(), "line 3 of manifest.jsonl is whole, but episodes 8 to 12 are no shard of 4 of 8");
}

#[test]
fn a_dataset_that_is_being_written_is_left_alone() {
    let dir = copy();
    let _lock = envs::storage::Lock::take(dir.path()).unwrap();
    let refused = repair(&Quick::default(), dir.path(), false).unwrap_err();
    assert!(matches!(refused, DatasetError::Locked(_)), "{refused}");
}
