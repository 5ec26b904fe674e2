//! Folders as FloWM's authors publish them, made of our own episodes, and packed without loss so that every bit can be held
//! against what was recorded.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use envs::collect::{CollectConfig, Truth};
use envs::dataset::{EpisodeSource, RecordedEpisode};
use envs::registry::find;
use serde_json::json;
use simulators::rng::Seed;

use crate::torch_save::{Tensor, file, tensors};

/// Whether videos can be made and decoded here; says so where they cannot.
pub fn has_ffmpeg() -> bool {
    let has = Command::new("ffmpeg").arg("-version").output().is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("SKIPPED: there is no ffmpeg, so no video was imported");
    }
    has
}

/// Without loss: H.264 of red, green and blue as they are, with frames that refer to later ones.
pub const LOSSLESS: [&str; 4] = ["-c:v", "libx264rgb", "-qp", "0"];

/// Writes a video of `rgb`, `[F, side, side, 3]`.
pub fn video(path: &Path, rgb: &[u8], side: usize, encoder: &[&str]) {
    let mut name = std::ffi::OsString::from("file:");
    name.push(path);
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-r", "15"])
        .args(["-s", &format!("{side}x{side}"), "-i", "pipe:0"])
        .args(encoder)
        .args(["-f", "mp4"])
        .arg(name)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rgb).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Our own collector of an environment.
pub fn collector(env: &str) -> Box<dyn EpisodeSource> {
    let (config, collect) = match env {
        "block-world" => (json!({ "frames": 9 }), CollectConfig { seed: Seed(5), truth: Truth::None }),
        _ => (
            json!({ "digits": { "kind": "drawn", "per_label": 1 } }),
            CollectConfig { seed: Seed(5), truth: Truth::None },
        ),
    };
    find(env).unwrap().source(&config, &collect).unwrap()
}

/// Writes episode `k` of our own Blockworld as `stem` in `folder`, which is made where it is missing; returns the episode.
pub fn block_episode(folder: &Path, stem: &str, k: u64) -> RecordedEpisode {
    std::fs::create_dir_all(folder).unwrap();
    let episode = RecordedEpisode::new(&*collector("block-world"), k).unwrap();
    // The generator acts once more after the last frame that it keeps.
    let actions = [episode.column::<i64>("actions"), &[4]].concat();
    block_actions(folder, stem, &actions);
    video(&folder.join(format!("{stem}_rgb.mp4")), episode.column("observations"), 128, &LOSSLESS);
    episode
}

/// Writes the file of actions of an episode of Blockworld.
pub fn block_actions(folder: &Path, stem: &str, actions: &[i64]) -> PathBuf {
    let frames = actions.len();
    let floats = |name, width: usize| Tensor::floats(name, &[frames as i64, width as i64], &vec![0.5; frames * width]);
    let all = [Tensor::ints("actions", &[frames as i64], actions), floats("agent_pos", 3), floats("delta_xz", 2)];
    file(folder, &format!("{stem}_actions.pt"), &tensors(&all))
}

/// Writes episode `k` of our own MNIST World as `stem` in `folder`; returns the episode.
pub fn mnist_episode(folder: &Path, stem: &str, k: u64) -> RecordedEpisode {
    std::fs::create_dir_all(folder).unwrap();
    let episode = RecordedEpisode::new(&*collector("mnist-world"), k).unwrap();
    let moves = episode.column::<i8>("actions").iter().map(|&pixels| i64::from(pixels));
    mnist_actions(folder, stem, &[0, 0].into_iter().chain(moves).collect::<Vec<_>>());
    let grey = episode.column::<u8>("observations");
    let rgb: Vec<u8> = grey.iter().flat_map(|&grey| [grey; 3]).collect();
    video(&folder.join(format!("{stem}.mp4")), &rgb, 32, &LOSSLESS);
    episode
}

/// Writes the file of actions of an episode of MNIST World: `[F, 2]`.
pub fn mnist_actions(folder: &Path, stem: &str, actions: &[i64]) -> PathBuf {
    let all =
        [Tensor::ints("actions", &[actions.len() as i64 / 2, 2], actions), Tensor::ints("digit_labels", &[1], &[7])];
    file(folder, &format!("{stem}.pt"), &tensors(&all))
}
