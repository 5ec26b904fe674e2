//! A configuration: the lines up to an empty one are a file, those after it are `--set` arguments.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use mindseye::cli::Layers;
use mindseye::run_config::{FLOWM, Fault, merged};
use tempfile::NamedTempFile;
use world_models::train::RunConfig;

fn file() -> NamedTempFile {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { NamedTempFile::new_in(memory) } else { NamedTempFile::new() }.expect("a temporary file")
}

thread_local!(static FILE: NamedTempFile = file());

fuzz_target!(|text: &str| {
    let (file, arguments) = text.split_once("\n\n").unwrap_or((text, ""));
    FILE.with(|place| {
        fs::write(place.path(), file).expect("a small file");
        let set = arguments.lines().map(str::to_owned).collect();
        let layers =
            Layers { preset: Some("tiny".to_owned()), config: Some(place.path().to_owned()), set, print_config: false };
        let base = "seed = 0\nmodel.kind = 'flowm'\ntrain = {}".parse().expect("TOML");
        let Ok(layered) = merged(base, &layers, FLOWM) else { return };
        if let Ok(config) = layered.resolve::<RunConfig>(Fault::of, RunConfig::limits) {
            assert!(config.validate().is_ok());
            let _ = (config.bytes(), toml::to_string_pretty(&config).expect("a configuration is plain data"));
        }
    });
});
