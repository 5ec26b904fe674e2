//! Flipped, cut and lost bytes are found and named.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use envs::collect::{CollectConfig, Truth};
use envs::dataset::{Codec, ColumnSpec, Control, Damage, Dataset, Request, Zstd, collect, verify};
use envs::registry::find;
use rand::{Rng as _, RngExt as _};
use safetensors::SafeTensors;
use serde_json::json;
use simulators::rng::{Purpose, Seed, stream};

use crate::toy::{COLUMNS, Toy, collect_toy};

/// A dataset of three shards, and the path of the second.
fn dataset() -> (tempfile::TempDir, PathBuf) {
    dataset_of(&Toy::fixed(6))
}

fn dataset_of(source: &Toy) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    collect_toy(source, dir.path(), 12).unwrap();
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
fn a_flipped_bit_in_packed_rows_is_named_too() {
    // Seven frames an episode: blocks of three, three and one.
    let (dir, shard) = dataset_of(&Toy::fixed(6).packed());
    let bytes = fs::read(&shard).unwrap();
    let (table, frames) = (place(&bytes, "observations.blocks"), place(&bytes, "observations.zstd"));
    assert_eq!(table.len(), 12 * 16);
    for block in 0..12 {
        // Its end, its check, and itself.
        let line = table.start + 16 * block;
        let end = u64::from_le_bytes(*bytes[line..].first_chunk().unwrap()) as usize;
        for at in [line, line + 8, frames.start + end - 1] {
            let damage = flipped(dir.path(), &shard, at, 2);
            let expected = (Some(4 + block as u64 / 3), Some("observations"));
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert_eq!((damage[0].episode, damage[0].column.as_deref()), expected, "{damage:?}");
        }
    }
    let damage = flipped(dir.path(), &shard, table.start, 2)[0].to_string();
    assert!(damage.ends_with("its blocks or their table are damaged, its rows are whole"), "{damage}");
    // What is damaged is refused by whoever reads it, and the rest is read.
    let mut bad = bytes.clone();
    bad[frames.end - 1] ^= 4;
    fs::write(&shard, bad).unwrap();
    let dataset = Dataset::open(dir.path()).unwrap();
    let text = dataset.episode(7).unwrap().bytes(0).unwrap_err().to_string();
    assert!(text.contains("000001.safetensors: episode 7, column `observations`: block 2: it does not fit"), "{text}");
    let mut frame = [0; 16];
    dataset.episode(7).unwrap().read(0, 5..6, &mut frame).unwrap();
    assert!(dataset.episode(7).unwrap().read(0, 6..7, &mut frame).is_err());
    assert_eq!(dataset.episodes().filter(|episode| episode.bytes(0).is_ok()).count(), 11);
}

#[test]
fn no_flipped_bit_is_missed() {
    for source in Toy::fixed(6).in_both_codecs() {
        assert_no_flipped_bit_is_missed(&source);
    }
}

fn assert_no_flipped_bit_is_missed(source: &Toy) {
    let (dir, shard) = dataset_of(source);
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
    /// What each place in the shard belongs to: a column of an episode.
    places: Vec<(Range<usize>, String, u64)>,
}

/// Frames of 12 x 12, of which six make a block.
const BLOCKS: Codec = Codec::Zstd(Zstd { level: 1, block_bytes: 900 });

impl World {
    fn in_both_codecs() -> [Self; 2] {
        [Codec::Raw, BLOCKS].map(Self::new)
    }

    fn new(codec: Codec) -> Self {
        let config = json!({"world": {"world": 24, "window": 12, "digit_px": 12, "digits": 3}, "context": 20, "horizon": 8,
                            "digits": {"kind": "drawn", "per_label": 2}});
        let collected = CollectConfig { seed: Seed(5), truth: Truth::Full };
        let source = find("mnist-world").unwrap().source(&config, &collected).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
        let request = Request { episodes: 12, episodes_per_shard: Some(4), codec: Some(codec) };
        collect(source.as_ref(), dir.path(), request, control).unwrap();
        let shard = dir.path().join("shards/000001.safetensors");
        let good = fs::read(&shard).unwrap();
        let dataset = Dataset::open(dir.path()).unwrap();
        // All episodes are equally long.
        let quarters = |name: &str| {
            let place = place(&good, name);
            let quarter = |k: usize| place.start + k * place.len() / 4..place.start + (k + 1) * place.len() / 4;
            (0..4).map(move |k| (quarter(k), name.to_owned(), 4 + k as u64)).collect::<Vec<_>>()
        };
        let mut places: Vec<_> = ["lengths", "checks"].into_iter().flat_map(quarters).collect();
        for column in dataset.columns() {
            places.extend(if codec.packs(column) { blocks(&good, column) } else { quarters(&column.name) });
        }
        assert_eq!(
            dataset.columns().iter().filter(|column| codec.packs(column)).count(),
            if codec == BLOCKS { 2 } else { 0 }
        );
        Self { dir, shard, good, places }
    }

    /// Columns and episodes in which `bad` differs from the good shard.
    fn changed(&self, bad: &[u8]) -> BTreeSet<(Option<&str>, Option<u64>)> {
        let differs = |&at: &usize| self.good[at] != bad[at];
        let place = |at: usize| {
            let found = self.places.iter().find(|(place, ..)| place.contains(&at));
            found.map_or((None, None), |(_, name, episode)| (Some(name.as_str()), Some(*episode)))
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

/// What the lines and the frames of a packed column in a shard of four equal episodes belong to.
fn blocks(shard: &[u8], column: &ColumnSpec) -> Vec<(Range<usize>, String, u64)> {
    let (table, frames) =
        (place(shard, &format!("{}.blocks", column.name)), place(shard, &format!("{}.zstd", column.name)));
    let (mut places, mut begin) = (Vec::new(), frames.start);
    for line in table.clone().step_by(16) {
        let episode = 4 + ((line - table.start) * 4 / table.len()) as u64;
        let end = frames.start + u64::from_le_bytes(*shard[line..].first_chunk().unwrap()) as usize;
        places.extend([line..line + 16, begin..end].map(|place| (place, column.name.clone(), episode)));
        begin = end;
    }
    assert_eq!(begin, frames.end);
    places
}

#[test]
fn every_flipped_bit_is_named_by_file_episode_and_column() {
    let mut rng = stream(Seed(21), Purpose::World, 0);
    for world in World::in_both_codecs() {
        for case in 0..World::cases(300, 2000) {
            let (at, bit) = (rng.random_range(0..world.good.len()), rng.random_range(0..8));
            let mut bad = world.good.clone();
            bad[at] ^= 1 << bit;
            world.check(&bad, &format!("flip {case}: byte {at}, bit {bit}"));
        }
    }
}

#[test]
fn every_swapped_block_is_named() {
    let mut rng = stream(Seed(22), Purpose::World, 0);
    for world in World::in_both_codecs() {
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
}

#[test]
fn every_lost_page_is_named() {
    let mut rng = stream(Seed(23), Purpose::World, 0);
    for world in World::in_both_codecs() {
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
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for world in World::in_both_codecs() {
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
