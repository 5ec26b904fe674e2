//! Same seed, same bits: whatever the number of threads, the platform, or the detour through a snapshot.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rand::RngExt;
use simulators::digits::DigitBank;
use simulators::mnist_world::{MnistWorld, MnistWorldConfig, MnistWorldSnapshot};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::{World, step_and_render};
use std::sync::Arc;

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
    for threads in [2, 3, 8] {
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

#[test]
fn a_restored_world_continues_byte_for_byte() {
    let config = MnistWorldConfig { distractor_ink: 0.3, ..Default::default() };
    let mut original = world(config.clone());
    original.reset(&mut stream(Seed(3), Purpose::World, 4));
    let mut policy = stream(Seed(3), Purpose::Policy, 4);
    let actions: Vec<_> = (0..80).map(|_| random_action(&mut policy)).collect();
    for t in 0..50 {
        original.step(actions[t]);
        let text = serde_json::to_string(&original.snapshot()).unwrap();
        let mut restored = world(config.clone());
        restored.restore(&serde_json::from_str(&text).unwrap()).unwrap();
        let mut ahead = original.clone();
        for &action in &actions[t + 1..][..20] {
            ahead.step(action);
            restored.step(action);
            assert_eq!(frame_of(&ahead), frame_of(&restored));
        }
        assert_eq!(ahead.snapshot(), restored.snapshot());
        assert_eq!(ahead.digit_labels(), restored.digit_labels());
    }
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
