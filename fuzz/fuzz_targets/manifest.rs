//! `manifest.jsonl` of any bytes. Inputs whose first byte is odd get good checks, so that what is behind them is reached.
#![no_main]

use envs::dataset::Manifest;
use libfuzzer_sys::fuzz_target;
use mindseye_fuzz::FILES;

/// Lines whose check fits whatever they say.
fn sealed(lines: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * lines.len());
    for line in lines.split(|&byte| byte == b'\n') {
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(format!(",\"check\":\"{:08x}\"}}\n", crc32fast::hash(line)).as_bytes());
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let text = if first % 2 == 1 { sealed(rest) } else { rest.to_vec() };
    let manifest = Manifest::parse(&text, &FILES.description);
    assert!(manifest.whole_bytes <= text.len());
    assert!(manifest.entries.windows(2).all(|pair| pair[0].episodes[1] <= pair[1].episodes[0]));
    for entry in &manifest.entries {
        assert_eq!(entry.lengths.iter().map(|run| run[1]).sum::<u64>(), entry.count());
    }
    let _ = (manifest.digest(), manifest.entries.iter().map(|entry| entry.bytes + entry.steps).sum::<u64>());
});
