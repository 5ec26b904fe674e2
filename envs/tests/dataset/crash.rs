//! A process may die at any point of a commit. What was committed stays; collecting again gives the bytes of a run that
//! nothing disturbed.

use std::fs;
use std::path::Path;

use envs::dataset::{Dataset, verify};

use crate::toy::{Toy, collect_toy, contents, undisturbed};

/// Puts the directory into the state that a death leaves while the last of its shards is committed: `kept` bytes of the
/// manifest are written.
fn die_at(dir: &Path, kept: usize) {
    let manifest = dir.join("manifest.jsonl");
    let bytes = fs::read(&manifest).unwrap();
    fs::write(&manifest, &bytes[..kept]).unwrap();
}

#[test]
fn a_manifest_cut_anywhere_continues() {
    for source in Toy::varied().in_both_codecs() {
        assert_a_cut_manifest_continues(&source);
    }
}

fn assert_a_cut_manifest_continues(source: &Toy) {
    let truth = undisturbed(source, 14);
    let manifest = &truth["manifest.jsonl"];
    let dir = tempfile::tempdir().unwrap();
    collect_toy(source, dir.path(), 14).unwrap();
    let cuts = (0..manifest.len()).step_by(37).chain(manifest.len() - 3..=manifest.len());
    for kept in cuts {
        die_at(dir.path(), kept);
        let whole = manifest[..kept].split(|&byte| byte == b'\n').count() - 1;
        if whole > 0 {
            let committed = Dataset::open(dir.path()).unwrap().len();
            assert_eq!(committed, (whole * 4).min(14));
            assert!(verify(dir.path(), true).unwrap().damage.is_empty());
        }
        let outcome = collect_toy(source, dir.path(), 14).unwrap();
        assert_eq!(outcome.before.episodes, (whole as u64 * 4).min(14));
        assert!(contents(dir.path()) == truth, "cut at {kept}");
    }
}

#[test]
fn leftovers_of_every_stage_are_swept() {
    let source = Toy::varied();
    let truth = undisturbed(&source, 14);
    let dir = tempfile::tempdir().unwrap();
    collect_toy(&source, dir.path(), 8).unwrap();
    let shards = dir.path().join("shards");
    fs::write(dir.path().join("dataset.json.tmp"), "{").unwrap(); // died before it was renamed
    fs::write(shards.join("000002.safetensors.tmp"), [0; 100]).unwrap(); // died while it was written
    fs::write(shards.join("000003-2.safetensors"), [0; 100]).unwrap(); // died before its line
    fs::write(shards.join("notes.txt"), "mine").unwrap(); // not ours
    let report = verify(dir.path(), true).unwrap();
    assert!(report.damage.is_empty() && report.leftovers.len() == 3, "{report:?}");
    collect_toy(&source, dir.path(), 14).unwrap();
    let mut found = contents(dir.path());
    assert_eq!(found.remove("shards/notes.txt").unwrap(), b"mine");
    assert!(found == truth);
}

#[test]
fn a_last_line_out_of_order_is_recorded_again() {
    // Power loss may leave the end of the last line and not its middle.
    let source = Toy::varied();
    let truth = undisturbed(&source, 14);
    let dir = tempfile::tempdir().unwrap();
    collect_toy(&source, dir.path(), 14).unwrap();
    let path = dir.path().join("manifest.jsonl");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 200;
    bytes[middle..middle + 100].fill(0);
    fs::write(&path, bytes).unwrap();
    assert_eq!(Dataset::open(dir.path()).unwrap().len(), 12);
    assert_eq!(verify(dir.path(), false).unwrap().damage[0].line, Some(4));
    collect_toy(&source, dir.path(), 14).unwrap();
    assert!(contents(dir.path()) == truth);
}

#[test]
fn an_extension_may_die_too() {
    for source in Toy::varied().in_both_codecs() {
        assert_an_extension_may_die(&source);
    }
}

fn assert_an_extension_may_die(source: &Toy) {
    // The longer shard is committed, the shorter one it replaces is still there, the manifest has both lines.
    let truth = undisturbed(source, 14);
    let dir = tempfile::tempdir().unwrap();
    collect_toy(source, dir.path(), 6).unwrap();
    let before = contents(dir.path());
    collect_toy(source, dir.path(), 14).unwrap();
    let mut lines = before["manifest.jsonl"].clone();
    let added = truth["manifest.jsonl"].split_inclusive(|&byte| byte == b'\n').skip(1);
    added.for_each(|line| lines.extend_from_slice(line));
    fs::write(dir.path().join("manifest.jsonl"), lines).unwrap();
    fs::write(dir.path().join("shards/000001-2.safetensors"), &before["shards/000001-2.safetensors"]).unwrap();
    assert_eq!(Dataset::open(dir.path()).unwrap().len(), 14);
    assert!(verify(dir.path(), true).unwrap().damage.is_empty());
    collect_toy(source, dir.path(), 14).unwrap();
    assert!(contents(dir.path()) == truth);
}

#[test]
fn damage_is_not_built_upon() {
    let source = Toy::varied();
    let dir = tempfile::tempdir().unwrap();
    collect_toy(&source, dir.path(), 8).unwrap();
    let shard = dir.path().join("shards/000001.safetensors");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[1..]).unwrap();
    let text = collect_toy(&source, dir.path(), 14).unwrap_err().to_string();
    assert!(text.contains("000001.safetensors") && text.contains("were committed"), "{text}");
    fs::remove_file(&shard).unwrap();
    let text = collect_toy(&source, dir.path(), 14).unwrap_err().to_string();
    assert!(text.contains("committed, but missing"), "{text}");
}
