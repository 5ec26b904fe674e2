//! A shard of any bytes under a manifest line that fits its size, quickly and in full.
#![no_main]

use envs::dataset::damage_of_shard;
use libfuzzer_sys::fuzz_target;
use mindseye_fuzz::FILES;

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, file)) = bytes.split_first() else { return };
    let mut entry = FILES.manifest.entries[usize::from(which) % FILES.manifest.entries.len()].clone();
    entry.bytes = file.len() as u64;
    let columns = &FILES.description.columns;
    let quick = damage_of_shard(file, &entry, columns, false);
    let full = damage_of_shard(file, &entry, columns, true);
    let original = FILES.shards.iter().any(|(name, good)| *name == entry.shard && good == file);
    assert_eq!(full.is_empty(), original, "{full:?}");
    assert!(quick.is_empty() || !full.is_empty());
});
