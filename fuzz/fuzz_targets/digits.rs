//! Two idx files, cut out of the input at the place that its first two bytes say; packed or not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use simulators::digits::{DigitBank, Split};

fuzz_target!(|bytes: &[u8]| {
    let Some((at, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (images, labels) = rest.split_at(usize::from(u16::from_le_bytes(*at)).min(rest.len()));
    if let Ok(bank) = DigitBank::from_idx_bytes(images, labels, 8, Split::All) {
        assert!(bank.labels().iter().all(|&label| label < 10));
        assert_eq!(bank.patch(bank.len() - 1).len(), 8 * 32);
    }
});
