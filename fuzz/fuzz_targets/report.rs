//! `report.json` of any bytes: what is accepted can be written, tabled, drawn, and joined with itself.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use world_models::memory::html::page;
use world_models::memory::report::MemoryReport;
use world_models::memory::table::table;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("report.json");
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
