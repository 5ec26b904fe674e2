//! A tensor file of any bytes: where each tensor lies, or why none is believed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mindseye_fuzz::shapes;
use world_models::checkpoint::contents::{header_bytes, not_finite, places};

fuzz_target!(|file: &[u8]| {
    let Some((prefix, rest)) = file.split_first_chunk::<8>() else { return };
    let Ok(bytes) = header_bytes(*prefix, file.len() as u64) else { return };
    let header = &rest[..bytes as usize];
    let Ok(places) = places(header, file.len() as u64, &shapes()) else { return };
    let mut at = 8 + header.len();
    for place in places {
        assert_eq!(place.begin as usize, at);
        at += place.bytes as usize;
        let _ = not_finite(&file[place.begin as usize..at]);
    }
    assert_eq!(at, file.len());
});
