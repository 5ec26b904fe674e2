//! Flipped, cut and lost bytes are found and named.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use envs::collect::{CollectConfig, Truth};
use envs::dataset::{Control, Damage, Dataset, Request, collect, verify};
use envs::registry::find;
use rand::{Rng as _, RngExt as _};
use safetensors::SafeTensors;
use serde_json::json;
use simulators::rng::{Purpose, Seed, stream};

use crate::toy::{COLUMNS, Toy, collect_toy};

/// A dataset of three shards, and the path of the second.
fn dataset() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    collect_toy(&Toy::fixed(6), dir.path(), 12).unwrap();
    let shard = dir.path().join("shards/000001.safetensors");
    (dir, shard)
}

/// Where a tensor lies in a shard file.
fn place(bytes: &[u8], name: &str) -> Range<usize> {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let data = tensors.tensor(name).unwrap().data();
    let begin = data.as_ptr() as usize - bytes.as_ptr() as usize;
    begin..begin + data.len()
}

fn flipped(dir: &Path, file: &Path, at: usize, bit: u8) -> Vec<Damage> {
    let full = file.extension().is_some_and(|extension| extension == "safetensors");
    let good = fs::read(file).unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1 << bit;
    fs::write(file, bad).unwrap();
    let damage = verify(dir, full).unwrap().damage;
    fs::write(file, good).unwrap();
    damage
}

#[test]
fn an_undamaged_dataset_is_clean() {
    let (dir, _) = dataset();
    for full in [false, true] {
        let report = verify(dir.path(), full).unwrap();
        assert!(report.damage.is_empty() && report.leftovers.is_empty());
        assert_eq!((report.shards, report.episodes), (3, 12));
    }
}

#[test]
fn a_flipped_bit_is_named_by_file_episode_and_column() {
    let (dir, shard) = dataset();
    let bytes = fs::read(&shard).unwrap();
    for column in COLUMNS {
        let place = place(&bytes, column);
        for episode in 0..4 {
            let at = place.start + episode * place.len() / 4 + 1;
            let damage = flipped(dir.path(), &shard, at, 3);
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert_eq!(damage[0].file, "shards/000001.safetensors");
            assert_eq!((damage[0].episode, damage[0].column.as_deref()), (Some(4 + episode as u64), Some(column)));
        }
    }
    let damage = flipped(dir.path(), &shard, place(&bytes, "lengths").start + 8, 0);
    let text = damage[0].to_string();
    assert_eq!(text, "shards/000001.safetensors, episode 5, column `lengths`: 7 stored, 6 committed");
    let damage = flipped(dir.path(), &shard, place(&bytes, "checks").start + 8 * COLUMNS.len() * 2, 0);
    let text = damage[0].to_string();
    assert!(text.contains("episode 6, column `checks`") && text.contains("`observations`"), "{text}");
    let damage = flipped(dir.path(), &shard, 12, 0);
    assert_eq!(damage[0].problem, "the header is damaged");
}

#[test]
fn no_flipped_bit_is_missed() {
    let (dir, shard) = dataset();
    let len = fs::metadata(&shard).unwrap().len();
    let mut rng = stream(Seed(11), Purpose::World, 0);
    for _ in 0..300 {
        let at = (rng.next_u64() % len) as usize;
        let damage = flipped(dir.path(), &shard, at, (rng.next_u32() % 8) as u8);
        assert!(!damage.is_empty() && damage.iter().all(|damage| damage.file.contains("000001")), "byte {at}");
    }
    let manifest = dir.path().join("manifest.jsonl");
    // All but the last line feed: a line without one is torn, and its shard was never committed.
    for at in 0..fs::metadata(&manifest).unwrap().len() as usize - 1 {
        let damage = flipped(dir.path(), &manifest, at, 1);
        assert!(!damage.is_empty(), "byte {at} of the manifest");
        assert!(damage.iter().all(|damage| damage.file == "manifest.jsonl"), "{damage:?}");
    }
}

#[test]
fn a_swapped_block_is_found() {
    let (dir, shard) = dataset();
    let mut bytes = fs::read(&shard).unwrap();
    let observations = place(&bytes, "observations");
    let (left, right) = bytes[observations].split_at_mut(7 * 16);
    left[..32].swap_with_slice(&mut right[..32]);
    fs::write(&shard, bytes).unwrap();
    let damage = verify(dir.path(), true).unwrap().damage;
    let named: Vec<_> = damage.iter().map(|damage| damage.episode.unwrap()).collect();
    assert_eq!(named, [4, 5]);
    // The quick way looks at sizes and headers only.
    assert!(verify(dir.path(), false).unwrap().damage.is_empty());
}

/// A dataset of MNIST World with all its ground truth, in three shards of four episodes.
struct World {
    dir: tempfile::TempDir,
    shard: PathBuf,
    good: Vec<u8>,
    /// Where each tensor lies.
    tensors: Vec<(String, Range<usize>)>,
}

impl World {
    fn new() -> Self {
        let config = json!({"world": {"world": 24, "window": 12, "digit_px": 12, "digits": 3}, "context": 20, "horizon": 8,
                            "digits": {"kind": "drawn", "per_label": 2}});
        let collected = CollectConfig { seed: Seed(5), truth: Truth::Full };
        let source = find("mnist-world").unwrap().source(&config, &collected).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
        let request = Request { episodes: 12, episodes_per_shard: Some(4) };
        collect(source.as_ref(), dir.path(), request, control).unwrap();
        let shard = dir.path().join("shards/000001.safetensors");
        let good = fs::read(&shard).unwrap();
        let columns = Dataset::open(dir.path()).unwrap();
        let names =
            columns.columns().iter().map(|column| column.name.clone()).chain(["lengths".into(), "checks".into()]);
        let tensors = names.map(|name| (name.clone(), place(&good, &name))).collect();
        Self { dir, shard, good, tensors }
    }

    /// Columns and episodes in which `bad` differs from the good shard. All episodes are equally long.
    fn changed(&self, bad: &[u8]) -> BTreeSet<(Option<&str>, Option<u64>)> {
        let differs = |&at: &usize| self.good[at] != bad[at];
        let place = |at: usize| {
            let found = self.tensors.iter().find(|(_, place)| place.contains(&at));
            found.map_or((None, None), |(name, place)| {
                (Some(name.as_str()), Some(4 + ((at - place.start) * 4 / place.len()) as u64))
            })
        };
        (0..bad.len()).filter(differs).map(place).collect()
    }

    /// Puts `bad` in the shard's place, and holds what is found against what was changed.
    fn check(&self, bad: &[u8], case: &str) {
        let changed = self.changed(bad);
        fs::write(&self.shard, bad).unwrap();
        let damage = verify(self.dir.path(), true).unwrap().damage;
        assert!(damage.iter().all(|damage| damage.file == "shards/000001.safetensors"), "{case}: {damage:?}");
        let found: BTreeSet<_> = damage.iter().map(|damage| (damage.column.as_deref(), damage.episode)).collect();
        let rows = |set: &BTreeSet<(Option<&str>, Option<u64>)>| -> BTreeSet<String> {
            set.iter().filter(|(column, _)| *column != Some("checks")).map(|place| format!("{place:?}")).collect()
        };
        if changed.iter().any(|(column, _)| *column == Some("checks")) {
            // A column with a damaged check and damaged rows elsewhere is named with both.
            assert!(
                rows(&found).is_superset(&rows(&changed)) && !found.is_empty(),
                "{case}: {changed:?}, found {found:?}"
            );
        } else {
            assert_eq!(found, changed, "{case}");
        }
    }

    fn cases(ordinary: usize, full: usize) -> usize {
        if std::env::var("MINDSEYE_TEST_SCALE").is_ok_and(|scale| scale == "full") { full } else { ordinary }
    }
}

#[test]
fn every_flipped_bit_is_named_by_file_episode_and_column() {
    let (world, mut rng) = (World::new(), stream(Seed(21), Purpose::World, 0));
    for case in 0..World::cases(300, 2000) {
        let (at, bit) = (rng.random_range(0..world.good.len()), rng.random_range(0..8));
        let mut bad = world.good.clone();
        bad[at] ^= 1 << bit;
        world.check(&bad, &format!("flip {case}: byte {at}, bit {bit}"));
    }
}

#[test]
fn every_swapped_block_is_named() {
    let (world, mut rng) = (World::new(), stream(Seed(22), Purpose::World, 0));
    let mut cases = 0;
    while cases < World::cases(30, 200) {
        let block = rng.random_range(8..2048);
        let [first, second] = [0, 1].map(|_| rng.random_range(0..world.good.len() / block) * block);
        let mut bad = world.good.clone();
        bad.copy_within(first..first + block, second);
        bad[first..first + block].copy_from_slice(&world.good[second..second + block]);
        if bad != world.good {
            world.check(&bad, &format!("blocks of {block} bytes at {first} and {second}"));
            cases += 1;
        }
    }
}

#[test]
fn every_lost_page_is_named() {
    let (world, mut rng) = (World::new(), stream(Seed(23), Purpose::World, 0));
    let pages = world.good.len().div_ceil(4096);
    for _ in 0..World::cases(30, 200) {
        let begin = rng.random_range(0..pages) * 4096;
        let end = (begin + 4096).min(world.good.len());
        let mut bad = world.good.clone();
        bad[begin..end].fill(0);
        if bad != world.good {
            world.check(&bad, &format!("bytes {begin} to {end} are zero"));
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let world = World::new();
    let len = world.good.len();
    for kept in (0..len).step_by(1024).chain(len - 4096..len) {
        fs::write(&world.shard, &world.good[..kept]).unwrap();
        let text = Dataset::open(world.dir.path()).err().unwrap().to_string();
        assert!(text.contains("000001.safetensors") && text.contains(&format!("{kept} bytes")), "{text}");
        let damage = verify(world.dir.path(), false).unwrap().damage;
        assert_eq!(damage.len(), 1);
    }
    fs::remove_file(&world.shard).unwrap();
    let damage = verify(world.dir.path(), true).unwrap().damage;
    assert_eq!(damage[0].to_string(), "shards/000001.safetensors: committed, but missing");
}

#[test]
fn a_description_cut_anywhere_is_refused() {
    let (dir, _) = dataset();
    let path = dir.path().join("dataset.json");
    let good = fs::read(&path).unwrap();
    // Without its last line feed it is still whole.
    for kept in 0..good.len() - 1 {
        fs::write(&path, &good[..kept]).unwrap();
        let text = Dataset::open(dir.path()).err().unwrap().to_string();
        assert!(text.contains("dataset.json"), "{kept}: {text}");
    }
}

#[test]
fn a_file_of_noise_is_refused() {
    let (dir, shard) = dataset();
    let bytes = fs::metadata(&shard).unwrap().len() as usize;
    let mut noise = vec![0; bytes];
    let mut rng = stream(Seed(12), Purpose::World, 0);
    for round in 0..50 {
        rng.fill_bytes(&mut noise);
        if round % 2 == 0 {
            noise[..8].copy_from_slice(&64u64.to_le_bytes()); // a header length that could be
        }
        fs::write(&shard, &noise).unwrap();
        assert!(Dataset::open(dir.path()).is_err());
        assert!(!verify(dir.path(), true).unwrap().damage.is_empty());
    }
}
