//! What arrives of the published data of FloWM: frames and actions to the bit, in step with each other, as any dataset.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use envs::dataset::{
    Bounds, Codec, Control, Dataset, EpisodeSource, Length, RecordedEpisode, Request, ShardOf, collect, collect_part,
    merge, verify,
};
use envs::import::flowm::{Flowm, World, actions};
use envs::storage;

use crate::fixture;
use crate::published::{
    LOSSLESS, block_actions, block_episode, collector, has_ffmpeg, mnist_actions, mnist_episode, video,
};

fn open(dir: &Path) -> Flowm {
    Flowm::open(&[dir.to_owned()], None).unwrap()
}

fn read(source: &Flowm, k: u64) -> RecordedEpisode {
    RecordedEpisode::new(source, k).unwrap()
}

#[test]
fn actions_that_python_has_pickled_are_read() {
    assert_eq!(actions(&fixture("flowm_blockworld_actions.pt"), World::Block).unwrap(), [2, 0, 4, 1, 2]);
    assert_eq!(actions(&fixture("flowm_mnist_world.pt"), World::Mnist).unwrap(), [0, 0, -10, 3, 10, 0, 0, -1]);
}

#[test]
fn an_episode_of_blockworld_arrives_to_the_bit() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Names that a program could take for options, patterns and addresses.
    let split = dir.path().join("-y %d https:|");
    let recorded = block_episode(&split.join("2"), "0000", 0);
    let other = block_episode(&split.join("10"), "-i", 1);
    std::fs::write(split.join("2/0000_depth.pt"), "not looked at").unwrap();
    std::fs::write(split.join("2/.DS_Store"), "not looked at").unwrap();
    let source = open(&split);
    assert_eq!((source.episodes(), source.length()), (2, Length::Fixed(8)));
    assert_eq!(source.unread(), ["_depth.pt", "agent_pos", "delta_xz"]);
    for (k, recorded) in [(0, recorded), (1, other)] {
        let read = read(&source, k);
        for column in ["observations", "terminations", "truncations"] {
            assert!(read.column::<u8>(column) == recorded.column::<u8>(column), "{column} of {k}");
        }
        assert_eq!(read.column::<i64>("actions"), recorded.column::<i64>("actions"));
        assert_eq!(read.column::<f32>("rewards"), [0.0; 8]);
    }
    assert!(matches!(source.codec(), Codec::Zstd(_)));
    is_like(&source, "block-world");
}

/// It looks to a model as what we record ourselves.
fn is_like(source: &Flowm, env: &str) {
    let (ours, its) = (collector(env), source.header());
    assert_eq!(source.columns(), ours.columns());
    let ours = ours.header();
    assert_eq!(
        (its.env_id, its.env_version, its.spaces, its.fps),
        (ours.env_id, ours.env_version, ours.spaces, ours.fps)
    );
    assert_eq!(its.config["collector"]["import"], "flowm");
    assert_eq!(its.config["collector"]["world"], env);
    assert!(its.config["collector"]["decoder"].as_str().unwrap().starts_with("ffmpeg "));
}

#[test]
fn an_episode_of_mnist_world_arrives_to_the_bit() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recorded = mnist_episode(dir.path(), "example_000000", 3);
    std::fs::write(dir.path().join("example_000000_fullworld.mp4"), "not looked at").unwrap();
    let source = open(dir.path());
    assert_eq!((source.episodes(), source.length(), source.codec()), (1, Length::Fixed(69), Codec::Raw));
    assert_eq!(source.unread(), ["_fullworld.mp4", "digit_labels"]);
    let read = read(&source, 0);
    // Action t stood with frame t + 1, and leads there.
    assert_eq!(read.column::<i8>("actions"), recorded.column::<i8>("actions"));
    assert!(read.column::<u8>("observations") == recorded.column::<u8>("observations"));
    assert_eq!(read.column::<u8>("truncations"), recorded.column::<u8>("truncations"));
    is_like(&source, "mnist-world");
}

#[test]
fn grey_is_the_mean_of_what_was_decoded() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rgb: Vec<u8> = (0..2 * 32 * 32 * 3u32).map(|index| (index * index % 251) as u8).collect();
    mnist_actions(dir.path(), "0", &[0, 0, 10, -10]);
    video(&dir.path().join("0.mp4"), &rgb, 32, &LOSSLESS);
    let grey: Vec<u8> = rgb
        .chunks(3)
        .map(|rgb| (rgb.iter().map(|&colour| f64::from(colour)).sum::<f64>() / 3.0).round() as u8)
        .collect();
    let read = read(&open(dir.path()), 0);
    assert!(read.column::<u8>("observations") == grey);
    assert_eq!(read.column::<i8>("actions"), [10, -10]);
}

#[test]
fn videos_as_they_are_published_arrive_with_no_more_than_their_loss() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let recorded = block_episode(dir.path(), "0000", 2);
    let frames = recorded.column::<u8>("observations");
    let published = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-b:v", "8M"];
    video(&dir.path().join("0000_rgb.mp4"), frames, 128, &published);
    let read = read(&open(dir.path()), 0);
    let read = read.column::<u8>("observations");
    assert_eq!(read.len(), frames.len());
    let loss: u64 = read.iter().zip(frames).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    // Colours of half as many places, and numbers of a smaller range, cost about two levels.
    assert!(loss < 4 * frames.len() as u64, "{} a byte", loss as f64 / frames.len() as f64);
}

#[test]
fn episodes_may_be_of_different_lengths() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (stem, frames) in [("0", 2), ("1", 5)] {
        block_actions(dir.path(), stem, &vec![2; frames]);
        let rgb: Vec<u8> = (0..frames).flat_map(|t| vec![10 * t as u8; 128 * 128 * 3]).collect();
        video(&dir.path().join(format!("{stem}_rgb.mp4")), &rgb, 128, &LOSSLESS);
    }
    let source = open(dir.path());
    assert_eq!(source.length(), Length::AtMost(4));
    for (k, frames) in [(0, 2), (1, 5)] {
        let read = read(&source, k);
        assert_eq!((read.steps(), read.column::<i64>("actions")), (frames - 1, &vec![2; frames - 1][..]));
        let firsts: Vec<u8> = read.column::<u8>("observations").chunks(128 * 128 * 3).map(|frame| frame[77]).collect();
        assert_eq!(firsts, (0..frames).map(|t| 10 * t as u8).collect::<Vec<_>>());
    }
}

#[test]
fn it_is_interrupted_resumed_and_shared_out_to_the_same_bytes() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let split = dir.path().join("split");
    for k in 0..4 {
        block_episode(&split, &format!("{k:04}"), k);
    }
    let source = open(&split);
    let request = Request { episodes_per_shard: Some(1), ..Request::episodes(source.episodes()) };
    let run =
        |out: &str, part: &str, stop: &AtomicBool, progress: &(dyn Fn(envs::dataset::Progress) + Sync)| -> PathBuf {
            let out = dir.path().join(out);
            let bounds = Bounds { part: part.parse::<ShardOf>().unwrap(), ..Bounds::default() };
            let control = Control { stop, progress };
            collect_part(storage::of_process().unwrap(), &source, &out, request, bounds, control).unwrap();
            out
        };
    let never = AtomicBool::new(false);
    let whole = run("whole", "0/1", &never, &|_| {});
    assert!(verify(&whole, true).unwrap().damage.is_empty());
    let digest = Dataset::open(&whole).unwrap().digest();
    let stop = AtomicBool::new(false);
    let out = run("stopped", "0/1", &stop, &|done| stop.store(done.episodes > 0, Ordering::Relaxed));
    assert!(Dataset::open(&out).unwrap().info().episodes > 0);
    assert_eq!(Dataset::open(&run("stopped", "0/1", &never, &|_| {})).unwrap().digest(), digest);
    let parts = [run("first", "0/2", &never, &|_| {}), run("second", "1/2", &never, &|_| {})];
    let control = Control { stop: &never, progress: &|_| {} };
    let merged = merge(storage::of_process().unwrap(), &parts, &dir.path().join("merged"), false, control).unwrap();
    assert_eq!(merged.digest, digest);
    // Another video of the same name and actions is another dataset.
    std::fs::copy(split.join("0001_rgb.mp4"), split.join("0000_rgb.mp4")).unwrap();
    let error = collect(&open(&split), &whole, request, control).unwrap_err().to_string();
    assert!(error.contains("folders.0.blake3"), "{error}");
}
