//! Same seed, same bits: whatever the number of threads, the platform, or the detour through a snapshot.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rand::RngExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use simulators::digits::DigitBank;
use simulators::mnist_world::{MnistWorld, MnistWorldConfig, MnistWorldSnapshot};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::{World, step_and_render};

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// FNV-1a, to write a whole history down as one number.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn random_action(rng: &mut simulators::rng::Rng) -> [i8; 2] {
    [rng.random_range(-10..=10), rng.random_range(-10..=10)]
}

/// Every frame of 100 worlds over 40 steps.
fn history() -> Vec<u8> {
    let bank = Arc::new(DigitBank::draw(Seed(5), 10, 28));
    let config = MnistWorldConfig::default();
    let mut worlds: Vec<_> = (0..100)
        .map(|i| {
            let mut world = MnistWorld::new(config.clone(), Arc::clone(&bank)).unwrap();
            world.reset(&mut stream(Seed(5), Purpose::World, i));
            world
        })
        .collect();
    let mut policy = stream(Seed(5), Purpose::Policy, 0);
    let mut all = Vec::new();
    let mut frames = vec![0; worlds.len() * 32 * 32];
    for _ in 0..40 {
        let actions: Vec<_> = worlds.iter().map(|_| random_action(&mut policy)).collect();
        step_and_render(&mut worlds, &actions, &mut frames);
        all.extend_from_slice(&frames);
    }
    all
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let alone = in_pool(1, history);
    for threads in [2, 3, 4, 8, 16] {
        assert!(in_pool(threads, history) == alone, "{threads} threads differ from one");
    }
}

/// Pinned so that another machine, compiler or version of a dependency that changes a bit is noticed. A change that is
/// meant raises the version of every environment over this world.
#[test]
fn bits_are_those_of_every_other_machine() {
    let bank = DigitBank::draw(Seed(5), 10, 28);
    let patches: Vec<u8> = (0..bank.len()).flat_map(|i| bank.patch(i).to_vec()).collect();
    assert_eq!(format!("{:016x} {:016x}", hash(&patches), hash(&history())), "c178161f3bee4b35 7fd3a7238115293b");
}

#[test]
fn a_longer_bank_begins_with_the_same_digits() {
    let (short, long) = (DigitBank::draw(Seed(8), 2, 16), DigitBank::draw(Seed(8), 5, 16));
    for label in 0..10 {
        for i in 0..2 {
            assert_eq!(short.patch(label * 2 + i), long.patch(label * 5 + i));
            assert_eq!(usize::from(short.label(label * 2 + i)), label);
        }
    }
    assert_ne!(short, DigitBank::draw(Seed(9), 2, 16));
}

fn world(config: MnistWorldConfig) -> MnistWorld {
    let bank = Arc::new(DigitBank::draw(Seed(1), 4, config.digit_px));
    MnistWorld::new(config, bank).unwrap()
}

fn frame_of(world: &MnistWorld) -> Vec<u8> {
    let mut frame = vec![0; world.frame_shape().iter().product()];
    world.render(&mut frame);
    frame
}

/// Snapshots of a world, for another to go on from.
#[derive(Serialize, Deserialize)]
struct Saved {
    config: MnistWorldConfig,
    /// Of every step.
    actions: Vec<[i8; 2]>,
    /// Taken before steps 0, 1, 2, ...
    snapshots: Vec<MnistWorldSnapshot>,
}

/// What followed a snapshot: the hash of all frames, and the state and labels at the end.
type Followed = (u64, MnistWorldSnapshot, Vec<u8>);

/// Steps that are compared after each snapshot.
const AHEAD: usize = 200;
/// The file in which another process finds its work; unset, it has none.
const WORK: &str = "MINDSEYE_SNAPSHOT_WORK";

fn follow(world: &mut MnistWorld, actions: &[[i8; 2]]) -> Followed {
    let mut frames = Vec::new();
    for &action in actions {
        world.step(action);
        frames.extend(frame_of(world));
    }
    (hash(&frames), world.snapshot(), world.digit_labels().to_vec())
}

/// Goes on from each snapshot, in a world that was then wherever the last one led.
fn continued(saved: &Saved) -> Vec<Followed> {
    let mut world = world(saved.config.clone());
    let follow = |(n, snapshot)| {
        world.restore(snapshot).unwrap();
        follow(&mut world, &saved.actions[n..][..AHEAD])
    };
    saved.snapshots.iter().enumerate().map(follow).collect()
}

fn read<T: DeserializeOwned>(path: impl AsRef<Path>) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn write<T: Serialize>(path: impl AsRef<Path>, value: &T) {
    fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}

#[test]
fn a_restored_world_continues_byte_for_byte_here_and_in_a_new_process() {
    let count = if std::env::var_os("MINDSEYE_TEST_SCALE").is_some_and(|scale| scale == "full") { 500 } else { 60 };
    let config = MnistWorldConfig { distractor_ink: 0.3, ..Default::default() };
    let mut original = world(config.clone());
    original.reset(&mut stream(Seed(3), Purpose::World, 4));
    let mut policy = stream(Seed(3), Purpose::Policy, 4);
    let actions: Vec<_> = (0..count + AHEAD).map(|_| random_action(&mut policy)).collect();
    let (mut snapshots, mut expected) = (Vec::new(), Vec::new());
    for n in 0..count {
        snapshots.push(original.snapshot());
        expected.push(follow(&mut original.clone(), &actions[n..][..AHEAD]));
        original.step(actions[n]);
    }
    let folder = tempfile::tempdir().unwrap();
    let (given, answer) = (folder.path().join("given.json"), folder.path().join("given.json.answer"));
    write(&given, &Saved { config, actions, snapshots });

    let compare = |place: &str, found: Vec<Followed>| {
        assert_eq!(found.len(), count, "{place}");
        for (n, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "from the snapshot before step {n} on, {place}");
        }
    };
    compare("here", continued(&read(&given)));
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "goes_on_from_what_another_process_saved", "--ignored"])
        .env(WORK, &given)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    compare("in a new process", read(&answer));
}

#[test]
#[ignore = "the other process of the test above, which starts it"]
fn goes_on_from_what_another_process_saved() {
    let Some(given) = std::env::var_os(WORK).map(PathBuf::from) else { return };
    write(given.with_extension("json.answer"), &continued(&read(&given)));
}

type Spoil = fn(&mut MnistWorldSnapshot);

#[test]
fn a_snapshot_of_another_world_is_refused_and_changes_nothing() {
    let mut world = world(MnistWorldConfig::default());
    let good = world.snapshot();
    let cases: [(&str, Spoil); 6] = [
        ("positions` is 4 entries", |s| _ = s.positions.pop()),
        ("positions` is [50, 0]", |s| s.positions[2] = [50, 0]),
        ("camera` is [-1, 3]", |s| s.camera = [-1, 3]),
        ("velocities` is [0, -2]", |s| s.velocities[4] = [0, -2]),
        ("velocities` is 6 entries", |s| s.velocities.push([0, 0])),
        ("images` is 40, allowed: 0..40", |s| s.images[0] = 40),
    ];
    for (message, spoil) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        let refused = world.restore(&bad).unwrap_err().to_string();
        assert!(refused.contains(message), "{refused}");
        assert_eq!(world.snapshot(), good);
    }
}

#[test]
fn a_bank_of_another_size_is_refused() {
    let bank = Arc::new(DigitBank::draw(Seed(1), 1, 12));
    let refused = MnistWorld::new(MnistWorldConfig::default(), bank).unwrap_err().to_string();
    assert_eq!(refused, "`digit_px` is 28, but the digit bank holds patches of 12 x 12 pixels");
}

#[test]
fn velocities_and_labels_are_uniform() {
    let mut world = world(MnistWorldConfig::default());
    let (mut labels, mut speeds) = ([0_u32; 10], [0_u32; 9]);
    for i in 0..4000 {
        world.reset(&mut stream(Seed(2), Purpose::World, i));
        world.digit_labels().iter().for_each(|&label| labels[usize::from(label)] += 1);
        world.velocities().iter().for_each(|&[x, y]| speeds[((x + 1) * 3 + y + 1) as usize] += 1);
    }
    // 20 000 draws: four standard deviations are 170 and 178.
    assert!(labels.iter().all(|&n| n.abs_diff(2000) < 170), "{labels:?}");
    assert!(speeds.iter().all(|&n| n.abs_diff(2222) < 178), "{speeds:?}");
}
