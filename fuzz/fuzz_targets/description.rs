//! `dataset.json` of any bytes: a description that can be written and read again, or a reason.
#![no_main]

use std::path::Path;

use envs::dataset::Description;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("dataset.json");
    if let Ok(description) = Description::parse(bytes, path) {
        let text = serde_json::to_vec(&description).expect("a description is plain data");
        let again = Description::parse(&text, path).expect("what was accepted is accepted again");
        assert_eq!(again.columns, description.columns);
    }
});
