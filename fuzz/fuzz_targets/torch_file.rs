//! A file to import on disk, which is the input, or an archive around the input as its pickle: opened, and every
//! episode or action read.
#![no_main]

use std::fs;

use envs::dataset::RecordedEpisode;
use envs::import::flowm::{World, actions};
use envs::import::pickle::Pickle;
use envs::import::tdmpc2::{Keep, Tdmpc2};
use libfuzzer_sys::fuzz_target;
use mindseye_fuzz::memory_dir;
use tempfile::TempDir;

/// Episodes that are read of a file that opens.
const READ: u64 = 16;

thread_local!(static PLACE: TempDir = memory_dir());

fuzz_target!(|bytes: &[u8]| {
    let Some((which, content)) = bytes.split_first() else { return };
    if which % 2 == 1 {
        if let Ok(pickle) = Pickle::parse(content) {
            let _ = pickle.items();
        }
        return;
    }
    PLACE.with(|dir| {
        let file = dir.path().join("file.pt");
        fs::write(&file, content).expect("a small file");
        for world in [World::Block, World::Mnist] {
            let _ = actions(&file, world);
        }
        for task in [None, Some(1)] {
            let keep = Keep { task, ..Keep::default() };
            if let Ok(source) = Tdmpc2::open(std::slice::from_ref(&file), keep) {
                for k in 0..source.episodes().min(READ) {
                    let _ = RecordedEpisode::new(&source, k);
                }
            }
        }
    });
});
