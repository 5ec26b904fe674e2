//! How much ink there is: the check that digits and world are those of the paper.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rand::RngExt;
use simulators::digits::{DigitBank, Split};
use simulators::mnist_world::{MnistWorld, MnistWorldConfig};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::World;
use std::path::PathBuf;
use std::sync::Arc;

/// Mean square pixel over 20 frames after a context of 50, the error of predicting black.
fn all_black_error(bank: &Arc<DigitBank>, sequences: u64) -> f64 {
    let config = MnistWorldConfig::preset("dynamic_po").unwrap();
    let mut world = MnistWorld::new(config.clone(), Arc::clone(bank)).unwrap();
    let mut frame = vec![0; config.window * config.window];
    let mut sum = 0;
    for sequence in 0..sequences {
        world.reset(&mut stream(Seed(11), Purpose::World, sequence));
        let mut policy = stream(Seed(11), Purpose::Policy, sequence);
        for t in 1..70 {
            world.step([policy.random_range(-10..=10), policy.random_range(-10..=10)]);
            if t >= 50 {
                world.render(&mut frame);
                sum += frame.iter().map(|&v| u64::from(v) * u64::from(v)).sum::<u64>();
            }
        }
    }
    sum as f64 / (255.0 * 255.0 * (sequences * 20 * frame.len() as u64) as f64)
}

#[test]
fn drawn_digits_have_the_ink_of_mnist() {
    for seed in 0..3 {
        let ink = DigitBank::draw(Seed(seed), 200, 28).mean_square();
        assert!((ink - 0.112).abs() < 0.006, "mean square {ink} of 2000 digits, MNIST has 0.112");
    }
}

#[test]
fn drawn_digits_stay_inside_their_patch_and_differ() {
    for side in [8, 12, 21, 28, 32] {
        let bank = DigitBank::draw(Seed(4), 100, side);
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..bank.len() {
            let patch = bank.patch(i);
            let rows: Vec<&[u8]> = patch.chunks(32).map(|row| &row[..side]).collect();
            assert!(patch.chunks(32).all(|row| row[side..].iter().all(|&v| v == 0)), "padding is empty");
            let edge =
                rows[0].iter().chain(rows[side - 1]).chain(rows.iter().flat_map(|row| [&row[0], &row[side - 1]]));
            // At 8 pixels a margin of one is all there is, and the soft edge of a stroke needs it.
            let clear = edge.copied().max() <= Some(if side == 8 { 200 } else { 128 });
            assert!(clear, "image {i} of side {side} is cut off");
            assert!(rows.concat().iter().any(|&v| v > 60), "image {i} of side {side} is blank");
            seen.insert(patch.to_vec());
        }
        assert_eq!(seen.len(), bank.len(), "no digit twice at side {side}");
    }
}

#[test]
fn black_errs_on_drawn_digits_about_as_on_the_papers() {
    let error = all_black_error(&Arc::new(DigitBank::draw(Seed(0), 400, 28)), 4000);
    assert!((error - 0.1656).abs() < 0.008, "all-black error {error}, the paper has 0.1656");
}

/// The folder of test data: named by the variable, or beside the workspace.
fn shared() -> PathBuf {
    std::env::var_os("MINDSEYE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from)
}

#[test]
fn black_errs_on_real_digits_as_a_plain_simulation_says() {
    let folder = shared().join("data/mnist");
    let [images, labels] = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"].map(|name| folder.join(name));
    if !images.exists() {
        eprintln!("SKIPPED: no digits in {}; MINDSEYE_SHARED can name the folder", folder.display());
        return;
    }
    let read = |split| Arc::new(DigitBank::from_idx(&images, &labels, 28, split).unwrap());
    let (all, train, validation) = (read(Split::All), read(Split::Train), read(Split::Validation));
    assert_eq!((all.len(), train.len(), validation.len()), (10_000, 5_000, 5_000));
    assert_eq!((all.patch(0), all.patch(1)), (train.patch(0), validation.patch(0)));
    assert_eq!(all.labels()[..4], [train.label(0), validation.label(0), train.label(1), validation.label(1)]);

    let error = all_black_error(&all, 8000);
    assert!((error - 0.169).abs() < 0.003, "all-black error {error}, a plain simulation has 0.169");
    for bank in [train, validation] {
        let error = all_black_error(&bank, 4000);
        assert!((error - 0.169).abs() < 0.005, "all-black error {error} of one split, both have 0.169");
    }
}
