//! `metrics.jsonl` of any bytes: what is kept are whole lines, and keeping them again changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use world_models::metrics::lines_kept;

fuzz_target!(|bytes: &[u8]| {
    let known = |line: &Value| line["step"].as_u64().is_some_and(|step| step <= 100);
    let kept = lines_kept(bytes, known).expect("memory does not fail");
    assert!(kept.len() <= bytes.len() && (kept.is_empty() || kept.ends_with(b"\n")));
    assert_eq!(lines_kept(kept.as_slice(), known).expect("memory does not fail"), kept);
});
