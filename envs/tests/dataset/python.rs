//! Python's safetensors package reads a shard, where that package is installed; with zstandard, also a packed one.

use std::process::Command;

use envs::dataset::{Dataset, RecordedEpisode};

use crate::toy::{Toy, collect_toy};

const SCRIPT: &str = "
import sys
import numpy
from safetensors import safe_open
with safe_open(sys.argv[1], framework='numpy') as shard:
    assert shard.metadata()['format'] == 'pt'
    lengths = shard.get_tensor('lengths')
    if 'observations' in shard.keys():
        frames = shard.get_tensor('observations')
    else:
        import zstandard
        packed, unpack = shard.get_tensor('observations.zstd').tobytes(), zstandard.ZstdDecompressor().decompress
        ends = [0, *shard.get_tensor('observations.blocks')[:, 0]]
        rows = b''.join(unpack(packed[begin:end]) for begin, end in zip(ends, ends[1:]))
        frames = numpy.frombuffer(rows, 'u1').reshape(-1, 4, 4, 1)
    actions = shard.get_tensor('actions')
    assert frames.shape == (lengths.sum() + len(lengths), 4, 4, 1), frames.shape
    first = frames[:lengths[0] + 1]
    print(len(lengths), lengths.sum(), int(first.sum()), int(actions.sum(dtype='int64')))
";

#[test]
fn python_reads_a_shard() {
    assert_python_reads_a_shard(&Toy::varied(), "numpy, safetensors");
}

#[test]
fn python_reads_a_packed_shard() {
    assert_python_reads_a_shard(&Toy::varied().packed(), "numpy, safetensors, zstandard");
}

fn assert_python_reads_a_shard(source: &Toy, packages: &str) {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", &format!("import {packages}")]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: {python} has not all of {packages}, so no shard was read with Python");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    collect_toy(source, dir.path(), 4).unwrap();
    let shard = dir.path().join("shards/000000.safetensors");
    let output = Command::new(&python).args(["-c", SCRIPT]).arg(&shard).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let first = RecordedEpisode::new(source, 0).unwrap();
    let ink: u64 = first.column::<u8>("observations").iter().map(|&pixel| u64::from(pixel)).sum();
    let dataset = Dataset::open(dir.path()).unwrap();
    let moves: i64 = dataset
        .episodes()
        .flat_map(|episode| episode.column::<i8>("actions").unwrap().into_owned())
        .map(i64::from)
        .sum();
    let expected = format!("4 {} {ink} {moves}", dataset.steps());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);
}
