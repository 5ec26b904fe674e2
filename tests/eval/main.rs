//! `mindseye eval`, from outside: reports, what is left on the disk, refusals.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod plan;
mod probe;
mod vectors;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// Exit code, output and errors of a command line run in `place`.
fn mindseye(place: &TempDir, line: &str) -> (i32, String, String) {
    let run = Command::new(cargo_bin("mindseye")).current_dir(place).args(line.split_whitespace()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (run.status.code().unwrap(), text(run.stdout), text(run.stderr))
}

fn done(place: &TempDir, line: &str) -> String {
    let (code, out, err) = mindseye(place, line);
    assert_eq!(code, 0, "{line}: {err}");
    out
}
