//! A batch put back to a snapshot goes on as if nothing had happened: at every step, and in a process that never saw the
//! batch the snapshot was taken of.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use envs::batch::StepBatch;
use envs::buffer::{Buffer, Scalar};
use envs::space::Space;
use envs::vector::{AutoresetMode, BatchEnv, Reset, VectorConfig, VectorSnapshot};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use simulators::rng::{Purpose, Rng, Seed, stream};

use crate::scaled;
use crate::subject::{MODES, Subject, subjects};

const ROWS: usize = 3;
/// Steps that are compared after each snapshot.
const AHEAD: usize = 200;
/// Where a child process finds its work; unset, it has none.
const WORK: &str = "MINDSEYE_SNAPSHOT_WORK";

/// Snapshots of one batch, for another to go on from.
#[derive(Serialize, Deserialize)]
struct Saved {
    subject: usize,
    autoreset: AutoresetMode,
    /// Taken before steps 0, 1, 2, ...
    snapshots: Vec<VectorSnapshot>,
}

/// What followed a snapshot.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Followed {
    /// blake3 over all columns of all steps.
    steps: String,
    /// The state at the end, with the position of every generator.
    end: VectorSnapshot,
}

/// The actions of step number `step`: a function of that number, so that whoever goes on knows them.
fn actions(space: &Space, step: usize) -> Buffer {
    fn fill<T: Scalar>(space: &Space, rng: &mut Rng, all: &mut [T]) {
        all.chunks_exact_mut(space.size()).for_each(|action| space.sample(rng, action));
    }
    let rng = &mut stream(Seed(21), Purpose::Policy, step as u64);
    let mut buffer = Buffer::zeros(space.dtype(), ROWS * space.size());
    match &mut buffer {
        Buffer::U8(all) => fill(space, rng, all),
        Buffer::I8(all) => fill(space, rng, all),
        Buffer::I64(all) => fill(space, rng, all),
        Buffer::F32(all) => fill(space, rng, all),
    }
    buffer
}

/// Takes step number `step`, after the reset that disabled mode may need; the hash of everything that came of it.
fn step(envs: &mut dyn BatchEnv, autoreset: AutoresetMode, out: &mut StepBatch, step: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let obs_len = envs.spec().observation.size();
    let over: Vec<bool> = (0..ROWS).map(|row| envs.row(row).over).collect();
    if autoreset == AutoresetMode::Disabled && over.contains(&true) {
        envs.reset(Reset::Rows(&over), out.obs_mut()).unwrap();
        for row in (0..ROWS).filter(|&row| over[row]) {
            hasher.update(out.obs().bytes(row * obs_len, obs_len));
        }
    }
    envs.step(&actions(&envs.spec().action, step), out).unwrap();
    hasher.update(out.obs().bytes(0, ROWS * obs_len));
    hasher.update(out.final_obs().bytes(0, ROWS * obs_len));
    for row in 0..ROWS {
        let stop = out.stop()[row];
        hasher.update(&out.reward()[row].to_le_bytes());
        hasher.update(&[stop.terminated, stop.truncated, out.ignored()[row]].map(u8::from));
        hasher.update(&out.episode()[row].to_le_bytes());
    }
    hasher.finalize().into()
}

fn vector(autoreset: AutoresetMode, seed: Seed) -> VectorConfig {
    VectorConfig { num_envs: ROWS, seed, autoreset, max_steps: None }
}

/// Plays on without a break: the snapshots on the way, and what followed each of them.
fn straight(number: usize, subject: Subject, autoreset: AutoresetMode, count: usize) -> (Saved, Vec<Followed>) {
    let (mut envs, mut out) = subject.started(&vector(autoreset, Seed(2)));
    let (mut snapshots, mut steps) = (Vec::new(), Vec::new());
    for n in 0..count + AHEAD {
        snapshots.push(envs.snapshot());
        steps.push(step(&mut *envs, autoreset, &mut out, n));
    }
    let followed = |n: usize| Followed {
        steps: blake3::hash(steps[n..n + AHEAD].as_flattened()).to_string(),
        end: snapshots[n + AHEAD].clone(),
    };
    let followed = (0..count).map(followed).collect();
    snapshots.truncate(count);
    (Saved { subject: number, autoreset, snapshots }, followed)
}

/// Goes on from each snapshot, in a batch that began with another seed and was then wherever the last one led.
fn continued(saved: &Saved) -> Vec<Followed> {
    let (mut envs, mut out) = subjects()[saved.subject].started(&vector(saved.autoreset, Seed(99)));
    let follow = |(n, snapshot)| {
        envs.restore(snapshot).unwrap();
        let ahead = (n..n + AHEAD).map(|n| step(&mut *envs, saved.autoreset, &mut out, n));
        let steps: Vec<[u8; 32]> = ahead.collect();
        Followed { steps: blake3::hash(steps.as_flattened()).to_string(), end: envs.snapshot() }
    };
    saved.snapshots.iter().enumerate().map(follow).collect()
}

fn write<T: Serialize>(path: &Path, value: &T) {
    serde_json::to_writer(BufWriter::new(File::create(path).unwrap()), value).unwrap();
}

fn read<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The files of piece number `i` of the work: what the child is given, and what it answers.
fn files(folder: &Path, i: usize) -> [PathBuf; 2] {
    ["saved", "followed"].map(|name| folder.join(format!("{i}.{name}.json")))
}

#[test]
fn a_restored_batch_goes_on_to_the_bit_here_and_in_a_new_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for (number, &subject) in subjects().iter().enumerate() {
        for autoreset in MODES {
            let (saved, followed) = straight(number, subject, autoreset, scaled(60, 500));
            write(&files(folder.path(), expected.len())[0], &saved);
            expected.push((format!("{}, {autoreset:?}", subject.id()), followed));
        }
    }
    let compare = |place: &str, found: &dyn Fn(&[PathBuf; 2]) -> Vec<Followed>| {
        for (i, (what, expected)) in expected.iter().enumerate() {
            let found = found(&files(folder.path(), i));
            assert_eq!(found.len(), expected.len(), "{what}, {place}");
            for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_eq!(found, expected, "{what}: from the snapshot before step {n} on, {place}");
            }
        }
    };
    compare("here", &|[saved, _]| continued(&read(saved)));
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "snapshots::goes_on_from_what_another_process_saved", "--ignored"])
        .env(WORK, folder.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    compare("in a new process", &|[_, followed]| read(followed));
}

#[test]
#[ignore = "the other process of the test above, which starts it"]
fn goes_on_from_what_another_process_saved() {
    let Some(folder) = std::env::var_os(WORK).map(PathBuf::from) else { return };
    for i in 0.. {
        let [saved, followed] = files(&folder, i);
        if !saved.exists() {
            break;
        }
        write(&followed, &continued(&read(&saved)));
    }
}
