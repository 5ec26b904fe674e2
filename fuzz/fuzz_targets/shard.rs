//! A shard of any bytes, raw or packed, under a manifest line that fits its size, quickly and in full.
#![no_main]

use envs::dataset::damage_of_shard;
use libfuzzer_sys::fuzz_target;
use mindseye_fuzz::{FILES, PACKED};

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, file)) = bytes.split_first() else { return };
    let files = if which < 128 { &*FILES } else { &*PACKED };
    let mut entry = files.manifest.entries[usize::from(which) % files.manifest.entries.len()].clone();
    entry.bytes = file.len() as u64;
    let quick = damage_of_shard(file, &entry, &files.description, false);
    let full = damage_of_shard(file, &entry, &files.description, true);
    let original = files.shards.iter().any(|(name, good)| *name == entry.shard && good == file);
    assert_eq!(full.is_empty(), original, "{full:?}");
    assert!(quick.is_empty() || !full.is_empty());
});
