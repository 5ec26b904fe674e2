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

/// A dataset as it should be.
struct Good {
    source: Toy,
    truth: BTreeMap<String, Vec<u8>>,
    dataset: Dataset,
    _dir: TempDir,
}

/// One with rows as they are, one with packed frames.
static GOOD: LazyLock<[Good; 2]> = LazyLock::new(|| Toy::varied().in_both_codecs().map(Good::new));

fn repaired(dir: &Path) -> Repaired {
    repair(&Quick::default(), dir, false).unwrap()
}

impl Good {
    fn new(source: Toy) -> Self {
        let (dir, truth) = (tempfile::tempdir().unwrap(), undisturbed(&source, EPISODES));
        write(&truth, dir.path());
        Self { source, truth, dataset: Dataset::open(dir.path()).unwrap(), _dir: dir }
    }

    fn copy(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        write(&self.truth, dir.path());
        dir
    }

    /// What must hold of a dataset after a repair that said `said`. Returns the numbers of its episodes.
    fn assert_sound(&self, dir: &Path, said: &Repaired) -> Vec<u64> {
        let report = verify(dir, true).unwrap();
        assert!(report.damage.is_empty(), "{:?} after {said:?}", report.damage);
        assert_eq!((report.episodes, &report.missing), (said.episodes, &said.missing));
        let numbers = match Dataset::open(dir) {
            Err(DatasetError::NothingCommitted { .. }) => Vec::new(),
            other => other
                .unwrap()
                .episodes()
                .map(|episode| {
                    let recorded = self.dataset.episode(episode.number() as usize).unwrap();
                    for column in 0..COLUMNS.len() {
                        assert!(
                            episode.bytes(column).unwrap() == recorded.bytes(column).unwrap(),
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
    fn assert_restorable(&self, dir: &Path) {
        let control = Control { stop: &AtomicBool::new(false), progress: &|_: Progress| {} };
        collect_into(&Quick::default(), &self.source, dir, request(EPISODES), control).unwrap();
        assert!(contents(dir) == self.truth);
    }

    /// A dataset to which several bad things have happened.
    fn ruin(&self, rng: &mut Draws) -> TempDir {
        let dir = self.copy();
        let names: Vec<&String> = self.truth.keys().filter(|name| *name != "dataset.json").collect();
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
                4 => fs::copy(
                    dir.path().join("shards/000000.safetensors"),
                    dir.path().join("shards/000002-3.safetensors"),
                )
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
}

fn write(files: &BTreeMap<String, Vec<u8>>, dir: &Path) {
    fs::create_dir(dir.join("shards")).unwrap();
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Where the tensor `name` lies in a shard file.
fn place(file: &[u8], name: &str) -> Range<usize> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let data = tensors.tensor(name).unwrap().data();
    let begin = data.as_ptr() as usize - file.as_ptr() as usize;
    begin..begin + data.len()
}

/// The episodes, from 0, of which all rows lie in the first `kept` bytes of a shard file.
fn whole_in(good: &Good, file: &[u8], kept: usize, first: usize) -> Vec<u64> {
    let lengths: Vec<usize> = (first..).map_while(|k| Some(good.dataset.episode(k)?.steps())).take(4).collect();
    let packed = |column: usize| good.source.codec.packs(&good.dataset.columns()[column]);
    let rows_of = |column: usize, episode: usize| -> Range<usize> {
        let spec = &good.dataset.columns()[column];
        if packed(column) {
            // Blocks of three rows each.
            let blocks = |episodes: usize| lengths[..episodes].iter().map(|&t| spec.follows.rows(t).div_ceil(3)).sum();
            let (table, frames) = (place(file, "observations.blocks"), place(file, "observations.zstd"));
            let end = |blocks: usize| {
                let line = table.start + blocks * 16;
                let before = (blocks > 0).then(|| u64::from_le_bytes(*file[line - 16..].first_chunk().unwrap()));
                frames.start + before.unwrap_or(0) as usize
            };
            return end(blocks(episode))..end(blocks(episode + 1));
        }
        let rows = |episodes: usize| lengths[..episodes].iter().map(|&steps| spec.follows.rows(steps)).sum::<usize>();
        let begin = place(file, &spec.name).start;
        begin + rows(episode) * spec.row_bytes()..begin + rows(episode + 1) * spec.row_bytes()
    };
    let whole = |&episode: &usize| {
        (0..COLUMNS.len()).all(|column| {
            let rows = rows_of(column, episode);
            rows.is_empty() || rows.end <= kept
        })
    };
    (0..lengths.len()).filter(whole).map(|episode| (first + episode) as u64).collect()
}

#[test]
fn of_a_file_cut_anywhere_every_whole_episode_is_kept() {
    for good in &*GOOD {
        assert!(good.dataset.columns().iter().any(|column| column.follows == Follows::Episode));
        let good_file = &good.truth["shards/000001.safetensors"];
        let mut salvaged = 0;
        let step = if std::env::var("MINDSEYE_TEST_SCALE").is_ok_and(|scale| scale == "full") { 1 } else { 11 };
        let last = (0..=4096usize.min(good_file.len())).skip(1).step_by(step).map(|missing| good_file.len() - missing);
        for kept in (0..good_file.len()).step_by(1024).chain(last) {
            let dir = good.copy();
            fs::write(dir.path().join("shards/000001.safetensors"), &good_file[..kept]).unwrap();
            let said = repaired(dir.path());
            let numbers = good.assert_sound(dir.path(), &said);
            let mut expected = whole_in(good, good_file, kept, 4);
            salvaged += expected.len();
            let lost: Vec<u64> = (4..8).filter(|k| !expected.contains(k)).collect();
            assert_eq!(said.lost.iter().flat_map(|range| range[0]..range[1]).collect::<Vec<_>>(), lost);
            expected.extend((0..4).chain(8..EPISODES));
            expected.sort_unstable();
            assert_eq!(numbers, expected, "cut at {kept} of {}", good_file.len());
            assert_eq!(
                fs::read(dir.path().join("damaged/000001.safetensors")).unwrap(),
                good_file[..kept],
                "nothing is deleted"
            );
            if kept % 8 == 0 {
                good.assert_restorable(dir.path());
            }
        }
        assert!(salvaged > 40 / step, "{salvaged}");
    }
}

#[test]
fn of_a_cut_file_without_a_line_every_whole_episode_is_kept_too() {
    for good in &*GOOD {
        let good_file = &good.truth["shards/000002.safetensors"];
        for kept in (0..good_file.len()).step_by(61) {
            let dir = good.copy();
            fs::remove_file(dir.path().join("manifest.jsonl")).unwrap();
            fs::write(dir.path().join("shards/000002.safetensors"), &good_file[..kept]).unwrap();
            let said = repaired(dir.path());
            let mut expected = whole_in(good, good_file, kept, 8);
            expected.extend((0..8).chain(12..EPISODES));
            expected.sort_unstable();
            assert_eq!(good.assert_sound(dir.path(), &said), expected, "cut at {kept}");
            good.assert_restorable(dir.path());
        }
    }
}

#[test]
fn a_flipped_bit_costs_at_most_its_episode() {
    for good in &*GOOD {
        let good_file = &good.truth["shards/000001.safetensors"];
        let packed = good.source.codec.name() == "zstd";
        let rows_begin = place(good_file, if packed { "observations.blocks" } else { "checks" }).end;
        let mut rng = stream(Seed(21), Purpose::World, 0);
        let mut kinds = [0; 2];
        for _ in 0..150 {
            let at = (rng.next_u64() % good_file.len() as u64) as usize;
            let dir = good.copy();
            let mut bad = good_file.clone();
            bad[at] ^= 1 << (rng.next_u32() % 8);
            fs::write(dir.path().join("shards/000001.safetensors"), bad).unwrap();
            let said = repaired(dir.path());
            good.assert_sound(dir.path(), &said);
            assert_eq!(said.files.len(), 1);
            // Header, lengths, checks and tables follow from what is known otherwise, and a damaged frame may have the rows it had.
            let restored = at < rows_begin || packed && said.lost.is_empty();
            kinds[usize::from(restored)] += 1;
            if restored {
                assert_eq!((said.files[0].verdict, said.lost.len()), (Verdict::Restored, 0), "byte {at}");
                assert!(contents(dir.path()) == good.truth && !dir.path().join("damaged").exists());
            } else {
                assert_eq!(said.files[0].verdict, Verdict::Salvaged);
                assert_eq!(said.lost.iter().map(|range| range[1] - range[0]).sum::<u64>(), 1, "byte {at}");
                good.assert_restorable(dir.path());
            }
        }
        assert!(kinds.iter().all(|&count| count > 20), "{kinds:?}");
    }
}

#[test]
fn a_manifest_is_made_anew_from_the_shards() {
    for good in &*GOOD {
        let good_file = &good.truth["manifest.jsonl"];
        let lines: Vec<&[u8]> = good_file.split_inclusive(|&byte| byte == b'\n').collect();
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
            let dir = good.copy();
            let path = dir.path().join("manifest.jsonl");
            match &manifest {
                None => fs::remove_file(&path).unwrap(),
                Some(bytes) => fs::write(&path, bytes).unwrap(),
            }
            let said = repaired(dir.path());
            assert_eq!(good.assert_sound(dir.path(), &said).len() as u64, EPISODES);
            assert!(contents(dir.path()) == good.truth, "{said:?}");
            assert!(said.files.iter().all(|file| file.verdict == Verdict::Adopted) && said.lost.is_empty());
            let kept = dir.path().join("damaged/manifest.jsonl");
            assert_eq!(said.lines.is_empty(), !kept.exists());
            assert!(said.lines.is_empty() || Some(fs::read(kept).unwrap()) == manifest);
        }
    }
}

#[test]
fn without_a_manifest_shards_are_not_swept() {
    let dir = GOOD[0].copy();
    fs::remove_file(dir.path().join("manifest.jsonl")).unwrap();
    let text = crate::toy::collect_toy(&Toy::varied(), dir.path(), EPISODES).unwrap_err().to_string();
    assert!(text.contains("no manifest.jsonl") && text.contains("data repair"), "{text}");
    assert_eq!(
        verify(dir.path(), true).unwrap().damage[0].to_string(),
        "manifest.jsonl: missing, though there are shards"
    );
    repaired(dir.path());
    assert!(contents(dir.path()) == GOOD[0].truth);
}

#[test]
fn what_is_no_shard_of_this_dataset_is_moved_aside() {
    for good in &*GOOD {
        let dir = good.copy();
        let shards = dir.path().join("shards");
        // Noise, another shard under this name, and a shard of another seed, each where a line is missing.
        let lines: Vec<&[u8]> = good.truth["manifest.jsonl"].split_inclusive(|&byte| byte == b'\n').collect();
        fs::write(dir.path().join("manifest.jsonl"), lines[0]).unwrap();
        fs::write(shards.join("000001.safetensors"), [7; 5000]).unwrap();
        fs::write(shards.join("000002.safetensors"), &good.truth["shards/000000.safetensors"]).unwrap();
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
    for good in &*GOOD {
        let dir = good.copy();
        fs::remove_file(dir.path().join("shards/000001.safetensors")).unwrap();
        fs::remove_file(dir.path().join("shards/000003-2.safetensors")).unwrap();
        let said = repaired(dir.path());
        assert_eq!(
            said.files.iter().map(|file| file.problem.as_str()).collect::<Vec<_>>(),
            ["committed, but missing"; 2]
        );
        assert_eq!((said.lost.as_slice(), said.episodes), ([[4, 8], [12, 14]].as_slice(), 8));
        good.assert_sound(dir.path(), &said);
        good.assert_restorable(dir.path());
    }
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    for good in &*GOOD {
        let dir = good.ruin(&mut stream(Seed(5), Purpose::World, 0));
        let before = everything(dir.path());
        let would = repair(&Quick::default(), dir.path(), true).unwrap();
        assert!(everything(dir.path()) == before);
        assert_eq!(would, repaired(dir.path()));
    }
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

#[test]
fn whatever_happened_what_is_left_is_true_and_the_rest_can_be_recorded_again() {
    for good in &*GOOD {
        for round in 0..100 {
            let dir = good.ruin(&mut stream(Seed(6), Purpose::World, round));
            let untouched: Vec<String> = good
                .truth
                .keys()
                .filter(|name| name.starts_with("shards/"))
                .filter(|name| fs::read(dir.path().join(name)).is_ok_and(|bytes| bytes == good.truth[*name]))
                .cloned()
                .collect();
            let said = repaired(dir.path());
            good.assert_sound(dir.path(), &said);
            for name in untouched {
                assert!(contents(dir.path())[&name] == good.truth[&name], "round {round}: {name} was whole; {said:?}");
            }
            good.assert_restorable(dir.path());
        }
    }
}

#[test]
fn a_repair_that_fails_anywhere_is_gone_on_with() {
    for good in &*GOOD {
        let mut failed = 0;
        for round in [0, 3, 4, 7] {
            let ruined = || good.ruin(&mut stream(Seed(7), Purpose::World, round));
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
}

#[test]
fn a_description_that_changed_is_refused_and_none_is_made_up() {
    let good = &GOOD[0].truth["dataset.json"];
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
    let dir = GOOD[0].copy();
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
    let dir = GOOD[0].copy();
    let _lock = envs::storage::Lock::take(dir.path()).unwrap();
    let refused = repair(&Quick::default(), dir.path(), false).unwrap_err();
    assert!(matches!(refused, DatasetError::Locked(_)), "{refused}");
}
