//! A dataset on disk with one of its files replaced by the input: opened, read through, verified, and its repair planned.
#![no_main]

use std::fs;

use envs::dataset::{Dataset, repair, verify};
use envs::storage::Disk;
use libfuzzer_sys::fuzz_target;
use mindseye_fuzz::{FILES, memory_dir};
use tempfile::TempDir;

/// The good dataset.
fn place() -> TempDir {
    let dir = memory_dir();
    fs::create_dir(dir.path().join("shards")).expect("a new folder");
    for (name, bytes) in files() {
        fs::write(dir.path().join(name), bytes).expect("a small file");
    }
    dir
}

fn files() -> Vec<(String, &'static [u8])> {
    let head = [("dataset.json", &FILES.description_text), ("manifest.jsonl", &FILES.manifest_text)];
    let head = head.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.as_slice()));
    head.chain(FILES.shards.iter().map(|(name, bytes)| (format!("shards/{name}"), bytes.as_slice()))).collect()
}

thread_local!(static PLACE: TempDir = place());

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else { return };
    let files = files();
    let (name, good) = &files[usize::from(which) % files.len()];
    PLACE.with(|dir| {
        let file = dir.path().join(name);
        fs::write(&file, content).expect("a small file");
        if let Ok(dataset) = Dataset::open(dir.path()) {
            for episode in dataset.episodes() {
                for column in 0..dataset.columns().len() {
                    let _ = episode.bytes(column).iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
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
