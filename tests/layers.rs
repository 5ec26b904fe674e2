//! Imports go down the layers: what each crate of the workspace may depend on, of the others and of libtorch.

use std::process::Command;

use serde_json::Value;

/// From the bottom up; a crate may use those above it in this list that its line names.
const MAY_USE: [(&str, &[&str]); 5] = [
    ("simulators", &[]),
    ("envs", &["simulators"]),
    ("world_models", &["simulators", "envs", "tch", "torch-sys"]),
    ("agents", &["simulators", "envs", "world_models", "tch"]),
    ("mindseye", &["simulators", "envs", "world_models", "agents"]),
];

#[test]
fn imports_go_down_the_layers() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), MAY_USE.len(), "a new crate needs a line here");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = MAY_USE.iter().find(|(known, _)| *known == name).expect("a new crate needs a line here");
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            let layered = ["tch", "torch-sys"].contains(&dependency) || MAY_USE.iter().any(|(n, _)| *n == dependency);
            assert!(!layered || allowed.contains(&dependency), "{name} uses {dependency}; it may use {allowed:?}");
        }
    }
}
