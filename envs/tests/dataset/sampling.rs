//! Clips are windows of episodes, drawn with equal chance, the same for the same seed and number.

use std::collections::BTreeMap;
use std::sync::Arc;

use envs::dataset::{Clips, Dataset, Window};
use simulators::rng::Seed;

use crate::toy::{Toy, collect_toy};

fn clips(source: &Toy, episodes: u64, frames: usize) -> Clips {
    let dir = tempfile::tempdir().unwrap();
    collect_toy(source, dir.path(), episodes).unwrap();
    // The maps outlive the directory.
    Clips::new(Arc::new(Dataset::open(dir.path()).unwrap()), frames, Seed(5)).unwrap()
}

#[test]
fn every_window_is_drawn_equally_often() {
    let clips = clips(&Toy::varied(), 30, 4);
    let mut counts: BTreeMap<(usize, usize), u32> = BTreeMap::new();
    let per_window = 400;
    for window in clips.draws(0, clips.windows() as usize * per_window) {
        let episode = clips.dataset().episode(window.episode).unwrap();
        assert!(window.start + 4 <= episode.frames());
        *counts.entry((window.episode, window.start)).or_default() += 1;
    }
    let windows: usize = clips.dataset().episodes().map(|episode| (episode.frames() + 1).saturating_sub(4)).sum();
    assert_eq!((counts.len(), clips.windows()), (windows, windows as u64));
    // Binomial with mean 400: the standard deviation is 20, and six of them are not met by chance.
    assert!(counts.values().all(|&count| count.abs_diff(400) < 120), "{counts:?}");
}

#[test]
fn an_episode_of_the_window_has_one_window() {
    let clips = clips(&Toy::fixed(6), 9, 7);
    assert_eq!(clips.windows(), 9);
    assert!(clips.draws(0, 200).iter().all(|window| window.start == 0));
    assert_eq!(clips.in_order().count(), 9);
}

#[test]
fn a_batch_holds_the_rows_of_its_windows() {
    for source in Toy::varied().in_both_codecs() {
        assert_batches_hold_their_rows(&clips(&source, 30, 4));
    }
}

fn assert_batches_hold_their_rows(clips: &Clips) {
    let windows = clips.draws(77, 16);
    assert_eq!(windows, clips.draws(70, 23)[7..]);
    let (mut observations, mut actions) = (vec![1; 3], Vec::new());
    clips.batch(&windows, &mut observations, &mut actions).unwrap();
    assert_eq!((observations.len(), actions.len()), (16 * 4 * 16, 16 * 3 * 2));
    let (mut cameras, mut goals) = (Vec::new(), Vec::new());
    clips.gather(clips.dataset().column_index("truth.camera").unwrap(), &windows, &mut cameras).unwrap();
    clips.gather(clips.dataset().column_index("episode.goal").unwrap(), &windows, &mut goals).unwrap();
    for (row, &Window { episode, start }) in windows.iter().enumerate() {
        let truth = clips.dataset().episode(episode).unwrap();
        let pixels = &truth.column::<u8>("observations").unwrap()[start * 16..(start + 4) * 16];
        let mut read = [1; 64];
        truth.read(0, start..start + 4, &mut read).unwrap();
        assert_eq!(&read, pixels);
        assert_eq!(&observations[row * 64..(row + 1) * 64], pixels);
        let moves = &truth.bytes(1).unwrap()[start * 2..(start + 3) * 2];
        assert_eq!(&actions[row * 6..(row + 1) * 6], moves);
        // Row t of the camera holds (t, k, -1), so it tells by itself where it comes from.
        let camera = [start as i16, truth.number() as i16, -1];
        assert_eq!(&cameras[row * 24..row * 24 + 6], bytemuck::bytes_of(&camera));
        assert_eq!(&goals[row * 12..(row + 1) * 12], &truth.bytes(6).unwrap()[..]);
    }
}

#[test]
fn evaluation_goes_through_the_episodes_in_order() {
    let clips = clips(&Toy::varied(), 30, 4);
    let long_enough: Vec<usize> = (0..30).filter(|&k| clips.dataset().episode(k).unwrap().frames() >= 4).collect();
    assert!(long_enough.len() < 30);
    let windows: Vec<Window> = clips.in_order().collect();
    assert!(windows.iter().all(|window| window.start == 0));
    assert_eq!(windows.iter().map(|window| window.episode).collect::<Vec<_>>(), long_enough);
}

#[test]
fn a_window_too_long_is_refused_with_the_longest_episode() {
    let dir = tempfile::tempdir().unwrap();
    collect_toy(&Toy::fixed(6), dir.path(), 4).unwrap();
    let dataset = Arc::new(Dataset::open(dir.path()).unwrap());
    let text = Clips::new(dataset.clone(), 8, Seed(0)).err().unwrap().to_string();
    assert!(text.contains("windows of 8 frames") && text.contains("has 7"), "{text}");
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    assert!(Clips::new(dataset, 0, Seed(0)).is_err());
}
