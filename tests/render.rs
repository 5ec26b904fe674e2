//! `mindseye render`: states of Blockworld's original generator become pictures, and beside its own they hardly differ.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs `mindseye render block-world --json`; exit code, what it says, and its errors.
fn render(states: &Path, textures: &Path, out: &Path, more: &[&str]) -> (i32, Value, String) {
    let path = |path: &Path| path.display().to_string();
    let arguments = [
        ["render", "block-world"].map(str::to_owned).to_vec(),
        vec!["--states".into(), path(states), "--textures".into(), path(textures), "--out".into(), path(out)],
        more.iter().map(|&text| text.to_owned()).collect(),
    ];
    let output = Command::new(cargo_bin("mindseye")).args(arguments.concat()).arg("--json").output().unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), said, String::from_utf8(output.stderr).unwrap())
}

/// A PNG file of `side` by `side` pixels of one colour.
fn plain(file: &Path, side: u32, rgb: [u8; 3]) {
    let mut encoder = png::Encoder::new(fs::File::create(file).unwrap(), side, side);
    encoder.set_color(png::ColorType::Rgb);
    let pixels = rgb.repeat((side * side) as usize);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

/// A state whose agent stands before a red box in a room of the texture `grey`.
fn state(frame: &str) -> Value {
    json!({
        "frame": frame,
        "agent": { "x": 8.0, "z": 8.0, "heading_deg": 90.0, "eye_height": 1.5 },
        "room": { "wall_tex": "grey", "floor_tex": "grey", "ceil_tex": "grey", "wall_height": 2.74 },
        "entities": [{ "kind": "box", "color": "red", "x": 8.0, "z": 5.0, "size": [0.7, 1.5, 0.7], "texture": null,
                       "velocity": [0.0, -1.0] }],
    })
}

/// A folder with the texture `grey` and these states.
fn folder(states: &Value) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    plain(&folder.path().join("grey_1.png"), 16, [128; 3]);
    let file = folder.path().join("states.json");
    fs::write(&file, states.to_string()).unwrap();
    (folder, file)
}

#[test]
fn each_state_becomes_a_picture() {
    let (folder, states) = folder(&json!([state("a.png"), state("b.png")]));
    let out = folder.path().join("out");
    let (code, said, err) = render(&states, folder.path(), &out, &["--size", "64x48"]);
    assert_eq!((code, &said["frames"], &said["width"]), (0, &json!(2), &json!(64)), "{err}");
    let a = fs::read(out.join("a.png")).unwrap();
    assert_eq!(a, fs::read(out.join("b.png")).unwrap());
    let image = simulators::image::Image::from_png(&a).unwrap();
    // The box has gone a step on since the picture: it is drawn two metres ahead, and shows the side that is lit.
    assert_eq!((image.width, image.height, image.pixel(32, 26)), (64, 48, [213, 0, 0]));
    assert_eq!(image.pixel(32, 2), [83; 3], "the ceiling");
}

#[test]
fn states_that_cannot_be_drawn_leave_nothing_behind() {
    let mut far = state("a.png");
    far["agent"]["x"] = json!(17.0);
    let mut bare = state("a.png");
    bare["room"]["wall_tex"] = json!("marble");
    let mut outside = state("../a.png");
    outside["frame"] = json!("../a.png");
    for (states, said) in [
        (json!([far]), "state 0: agent.x is 17.0, allowed: more than 0, less than 16"),
        (json!([bare]), "it has no texture \\\"marble\\\""),
        (json!([outside]), "frame is \\\"../a.png\\\", allowed: the name of a .png file"),
        (json!([state("a.png"), state("a.png")]), "state 1: frame is \\\"a.png\\\", as that of state 0 is"),
        (json!([]), "there are no states in it"),
        (json!({ "agent": 3 }), "not states of Blockworld"),
    ] {
        let (folder, file) = folder(&states);
        let out = folder.path().join("out");
        let (code, _, err) = render(&file, folder.path(), &out, &[]);
        assert!(code != 0 && err.contains(said), "{states}: {code} {err}");
        assert!(!out.exists());
    }
    let (folder, file) = folder(&json!([state("a.png")]));
    let (code, _, err) = render(&file, folder.path(), folder.path(), &[]);
    assert!(code == 2 && err.contains("it is there already"), "{err}");
}

#[test]
fn pictures_are_those_of_the_original() {
    let shared = std::env::var_os("MINDSEYE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let (frames, textures) = (shared.join("data/blockworld_reference"), shared.join("data/textures"));
    if !frames.exists() {
        eprintln!("SKIPPED: no pictures in {}; MINDSEYE_SHARED can name the folder", frames.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let beside = frames.display().to_string();
    let out = folder.path().join("out");
    let (code, said, err) = render(&frames.join("states.json"), &textures, &out, &["--beside", &beside]);
    assert_eq!(code, 0, "{err}");
    let of = |begin: &str| {
        let frames = said["psnr"]["frames"].as_object().unwrap();
        let each: Vec<f64> =
            frames.iter().filter(|(name, _)| name.starts_with(begin)).map(|(_, x)| x.as_f64().unwrap()).collect();
        each.iter().sum::<f64>() / each.len() as f64
    };
    assert!(of("dynamic") > 55.0 && of("tex") > 30.0, "{} and {}", of("dynamic"), of("tex"));
    assert!(out.join("contact_sheet.png").exists());
}
