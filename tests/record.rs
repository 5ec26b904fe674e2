//! `mindseye record` from outside: what it writes, that it is the episode of an evaluation, and what it refuses.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::policy::{Policy as _, RandomWalk};
use envs::registry::find;
use envs::vector::{AutoresetMode, Reset, VectorConfig};
use rayon::prelude::*;
use serde_json::{Value, json};
use simulators::rng::Seed;

/// Runs the program in `place`; its exit code, standard output and standard error.
fn record(place: &Path, line: &str) -> (i32, String, String) {
    let arguments = ["record"].into_iter().chain(line.split_whitespace());
    let output = Command::new(cargo_bin("mindseye")).args(arguments).current_dir(place).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn recorded(place: &Path, line: &str) -> Value {
    let (code, out, err) = record(place, &format!("{line} --json"));
    assert_eq!(code, 0, "{line}: {err}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn a_gif_has_the_frames_that_were_asked_for_whatever_the_threads() {
    let place = tempfile::tempdir().unwrap();
    let line = "ant --steps 20 --every 4 --size 64x48 --seed 5";
    let said = recorded(place.path(), &format!("{line} --threads 1 --out one.gif"));
    assert_eq!((&said["frames"], &said["length"], &said["truncated"]), (&json!(6), &json!(20), &json!(false)));
    recorded(place.path(), &format!("{line} --threads 4 --out four.gif"));
    let bytes = fs::read(place.path().join("one.gif")).unwrap();
    assert!(bytes == fs::read(place.path().join("four.gif")).unwrap());
    let mut gif = gif::DecodeOptions::new().read_info(&bytes[..]).unwrap();
    assert_eq!((gif.width(), gif.height()), (64, 48));
    let mut delays = 0;
    for _ in 0..6 {
        delays += gif.read_next_frame().unwrap().unwrap().delay;
    }
    assert!(gif.read_next_frame().unwrap().is_none());
    assert_eq!(delays, 40, "every fourth of 60 steps a second, in hundredths of a second");
}

#[test]
fn a_folder_gets_numbered_pictures() {
    let place = tempfile::tempdir().unwrap();
    for env in ["mnist-world", "cartpole-swing-up"] {
        let said = recorded(place.path(), &format!("{env} --policy zero --steps 3 --every 1 --size 32 --out {env}/"));
        assert_eq!(said["frames"], 4);
        let pictures: Vec<Vec<u8>> = (0..4)
            .map(|i| {
                let file = fs::File::open(place.path().join(format!("{env}/{i:06}.png"))).unwrap();
                let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
                assert_eq!(reader.info().size(), (32, 32));
                let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
                reader.next_frame(&mut pixels).unwrap();
                pixels
            })
            .collect();
        assert!(pictures.windows(2).all(|pair| pair[0] != pair[1]), "{env} moves");
        assert_eq!(fs::read_dir(place.path().join(env)).unwrap().count(), 4);
    }
}

/// Return and length of episode `wanted` as an evaluation plays it: many side by side.
fn evaluated(env: &str, seed: u64, wanted: u64) -> (f64, u32) {
    let vector =
        VectorConfig { num_envs: 4, seed: Seed(seed), autoreset: AutoresetMode::SameStep, ..Default::default() };
    let mut envs = find(env).unwrap().make(&json!({}), &vector).unwrap();
    let mut out = StepBatch::for_spec(envs.spec(), 4);
    let mut actions = Buffer::zeros(envs.spec().action.dtype(), 4 * envs.spec().action.size());
    let mut policy = RandomWalk::default();
    envs.reset(Reset::Next, out.obs_mut()).unwrap();
    let (mut total, mut length) = (0.0, 0);
    loop {
        policy.act(&*envs, out.obs(), &mut actions).unwrap();
        envs.step(&actions, &mut out).unwrap();
        let row = out.episode().iter().position(|&episode| episode == wanted);
        if let Some(row) = row {
            total += f64::from(out.reward()[row]);
            length += 1;
            if out.stop()[row].any() {
                return (total, length);
            }
        }
    }
}

#[test]
fn the_episode_is_that_of_an_evaluation() {
    let place = tempfile::tempdir().unwrap();
    for (env, episode) in [("hopper", 0), ("hopper", 9), ("mnist-world-track", 6)] {
        let line = format!("{env} --seed 3 --episode {episode} --every 1000000 --size 16 --out {env}{episode}.gif");
        let said = recorded(place.path(), &line);
        let (total, length) = evaluated(env, 3, episode);
        assert_eq!((said["return"].as_f64(), &said["length"]), (Some(total), &json!(length)), "{line}");
        assert!(said["terminated"] == true || said["truncated"] == true);
    }
}

#[test]
fn what_cannot_be_recorded_is_refused_before_anything_is_written() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("old.gif"), "mine").unwrap();
    fs::create_dir(place.path().join("full")).unwrap();
    fs::write(place.path().join("full/mine"), "mine").unwrap();
    let cases = [
        ("aant --out new.gif", "did you mean ant?"),
        ("ant --policy clever --out new.gif", "--policy clever: there is no such policy; allowed: random, zero"),
        ("ant --policy oracle --out new.gif", "TrackOracle acts in MnistWorldTrack-v0 only"),
        ("ant --out old.gif", "--out old.gif: it is there already; give another name"),
        ("ant --out full", "--out full: the folder is not empty"),
        ("ant --out none/new.gif", "--out none/new.gif: there is no folder none"),
        ("ant --out new.mp4", "--out new.mp4: it is neither a .gif nor a folder; end it in .gif, or in /"),
        ("ant --out new/ --fps 10", "--fps 10: PNG files have no speed"),
        ("ant --out new.gif --fps 51", "--fps 51: out of range; allowed: 1..=50"),
        ("ant --out new.gif --size 9x9", "--size 9x9: pixels are expected, width x height such as 480x360"),
        ("ant --out new.gif --steps 0", "--steps 0: out of range"),
        ("ant --out new.gif --every 0", "--every 0: out of range"),
        ("ant --out new.gif --episode -1", "--episode -1: out of range"),
        ("ant --out new.gif --set physics.precison=f64", "did you mean `precision`?"),
        ("ant --out new.gif --set termination_height=2", "termination_height = 2"),
    ];
    cases.par_iter().for_each(|(line, expected)| {
        let (code, out, err) = record(place.path(), line);
        assert_eq!((code, out.as_str()), (2, ""), "{line}: {err}");
        assert!(err.contains(expected), "{line} should say `{expected}`, says: {err}");
    });
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    assert_eq!(fs::read(place.path().join("old.gif")).unwrap(), b"mine");
}
