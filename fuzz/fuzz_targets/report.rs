//! `report.json` of any bytes: what is accepted can be written, tabled, drawn, and joined with itself.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use world_models::memory::html::{page, vectors};
use world_models::memory::report::{MemoryReport, Saved as _};
use world_models::memory::table::table;
use world_models::memory::vectors::{VectorReport, table as of_vectors};

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("report.json");
    if let Ok(report) = VectorReport::parse(bytes, path) {
        let both = report.clone().with_models_of(&report).expect("it is of the same clips");
        assert!(!of_vectors::table(&both).contains('\u{1b}'), "a terminal would obey it");
        if report.horizon <= 50 {
            assert_eq!(vectors::page(&both).matches("<script").count(), 0, "a name became markup");
        }
        return;
    }
    let Ok(report) = MemoryReport::parse(bytes, path) else { return };
    let again = MemoryReport::parse(report.to_json().as_bytes(), path).expect("what was accepted is accepted again");
    assert_eq!(again, report);
    let Ok(both) = report.clone().with_models_of(&again) else { return };
    let text = table(&both);
    assert!(!text.contains('\u{1b}'), "a terminal would obey it");
    if report.horizon <= 50 {
        let page = page(&both, &[]);
        assert_eq!(page.matches("<script").count(), 1, "a name became markup");
    }
});
