//! A dataset on disk with one of its files replaced by the input: opened, read through, verified, and its repair planned.
#![no_main]

use std::fs;

use envs::dataset::{Dataset, repair, verify};
use envs::storage::Disk;
use libfuzzer_sys::fuzz_target;
use mindseye_fuzz::{FILES, Files, PACKED, memory_dir};
use tempfile::TempDir;

/// The good dataset.
fn place(files: &'static Files) -> TempDir {
    let dir = memory_dir();
    fs::create_dir(dir.path().join("shards")).expect("a new folder");
    for (name, bytes) in all(files) {
        fs::write(dir.path().join(name), bytes).expect("a small file");
    }
    dir
}

fn all(files: &'static Files) -> Vec<(String, &'static [u8])> {
    let head = [("dataset.json", &files.description_text), ("manifest.jsonl", &files.manifest_text)];
    let head = head.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.as_slice()));
    head.chain(files.shards.iter().map(|(name, bytes)| (format!("shards/{name}"), bytes.as_slice()))).collect()
}

thread_local!(static PLACES: [TempDir; 2] = [place(&FILES), place(&PACKED)]);

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else { return };
    let packed = which >= 128;
    let files = all(if packed { &PACKED } else { &FILES });
    let (name, good) = &files[usize::from(which % 128) % files.len()];
    PLACES.with(|dirs| {
        let dir = &dirs[usize::from(packed)];
        let file = dir.path().join(name);
        fs::write(&file, content).expect("a small file");
        if let Ok(dataset) = Dataset::open(dir.path()) {
            for episode in dataset.episodes() {
                for column in 0..dataset.columns().len() {
                    let rows = episode.bytes(column);
                    assert!(rows.is_ok() || packed);
                    let _ = rows.map(|rows| rows.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
                }
            }
            let _ = dataset.info();
        }
        if let Ok(report) = verify(dir.path(), true) {
            let text = serde_json::to_string(&report).expect("a report is plain data");
            let _: serde_json::Value = serde_json::from_str(&text).expect("and valid JSON");
        }
        if let Ok(repaired) = repair(&Disk, dir.path(), true) {
            assert!(repaired.episodes <= repaired.requested);
        }
        fs::write(&file, good).expect("a small file");
    });
});
