//! Flipped, cut and lost bytes are found and named.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use envs::dataset::{Damage, Dataset, verify};
use rand::Rng as _;
use safetensors::SafeTensors;
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

#[test]
fn a_file_cut_anywhere_is_refused() {
    let (dir, shard) = dataset();
    let bytes = fs::read(&shard).unwrap();
    for kept in (0..bytes.len()).step_by(97) {
        fs::write(&shard, &bytes[..kept]).unwrap();
        let text = Dataset::open(dir.path()).err().unwrap().to_string();
        assert!(text.contains("000001.safetensors") && text.contains(&format!("{kept} bytes")), "{text}");
        let damage = verify(dir.path(), false).unwrap().damage;
        assert_eq!(damage.len(), 1);
    }
    fs::remove_file(&shard).unwrap();
    let damage = verify(dir.path(), true).unwrap().damage;
    assert_eq!(damage[0].to_string(), "shards/000001.safetensors: committed, but missing");
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
