//! What the README shows works: its Python reads a shard, its Rust is the example's.

use std::fs;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;

const README: &str = include_str!("../README.md");

/// The one block of the README that is fenced as `language`.
fn block(language: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("```{language}\n")).expect("there is such a block");
    let (block, rest) = rest.split_once("```").expect("it ends");
    assert!(!rest.contains(&format!("```{language}\n")), "there is one {language} block");
    block
}

#[test]
fn the_python_snippet_reads_a_shard() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import numpy, safetensors"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: {python} has no numpy and safetensors, so the README's Python was not run");
        return;
    }
    // As the README's tour records it, but for the number of episodes.
    let place = tempfile::tempdir().unwrap();
    let collect = "collect mnist-world --preset tiny --set horizon=10 --episodes";
    assert!(README.contains(&format!("mindseye {collect} 4000 --out data/tiny")));
    let status = Command::new(cargo_bin("mindseye"))
        .args(collect.split(' '))
        .args(["20", "--episodes-per-shard", "10", "--out", "data/tiny"])
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));

    let snippet = block("python");
    let output = Command::new(&python).args(["-c", snippet]).current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, expected) = snippet.trim_end().rsplit_once("# ").expect("the last line says what it prints");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);
}

#[test]
fn the_rust_snippet_is_the_example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/envs/examples/track.rs");
    assert!(fs::read_to_string(path).unwrap().contains(block("rust")), "README.md and {path} differ");
}
