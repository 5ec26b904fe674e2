//! Pictures of rooms beside those of Blockworld's original generator.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use simulators::block_world::Recorded;
use simulators::image::Image;
use simulators::room::{Around, Eye, Field, Form, Painter, Picture, Room, Scene, Texture, Thing};

/// The folder of test data: named by the variable, or beside the workspace.
fn shared() -> PathBuf {
    std::env::var_os("MINDSEYE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from)
}

fn picture(file: &Path) -> Image {
    Image::from_png(&fs::read(file).expect("a file")).expect("a picture")
}

/// Which pixels show something coloured: neither room nor grey block.
fn coloured(rgb: &[u8]) -> Vec<bool> {
    let spread = |[r, g, b]: &[u8; 3]| r.max(g).max(b) - r.min(g).min(b);
    rgb.as_chunks::<3>().0.iter().map(|pixel| spread(pixel) > 60).collect()
}

/// Whether the mask has a pixel within one of pixel `at`.
fn near(mask: &[bool], at: usize) -> bool {
    let around = |at: usize| at.saturating_sub(1)..=(at + 1).min(127);
    around(at / 128).any(|row| around(at % 128).any(|column| mask[row * 128 + column]))
}

fn psnr(ours: &[u8], theirs: &[u8]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let squares: f64 = ours.iter().zip(theirs).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 / (squares / ours.len() as f64).max(1e-6)).log10()
}

#[test]
fn pictures_are_those_of_the_original() {
    let (frames, textures) = (shared().join("data/blockworld_reference"), shared().join("data/textures"));
    if !frames.exists() {
        eprintln!("SKIPPED: no pictures in {}; MINDSEYE_SHARED can name the folder", frames.display());
        return;
    }
    let states: Vec<Recorded> = serde_json::from_slice(&fs::read(frames.join("states.json")).unwrap()).unwrap();
    let named = |name: &str| Arc::new(Texture::of(&picture(&textures.join(format!("{name}_1.png")))));
    let mut found: BTreeMap<bool, Vec<f64>> = BTreeMap::new();
    let mut painter = Painter::new(128, 128);
    for state in &states {
        let (room, things, eye) = state.look(named).unwrap();
        let mut rgb = vec![0; 128 * 128 * 3];
        painter.draw(
            &Scene { around: Around::Room(&room), things: &things, eye },
            Picture { rgb: &mut rgb, depth: None, ids: None },
        );
        let theirs = picture(&frames.join(&state.frame)).rgb;
        let textured = state.frame.starts_with("tex");
        if !textured {
            let [ours, theirs] = [&rgb, &theirs].map(|rgb| coloured(rgb));
            let apart = |a: &[bool], b: &[bool]| (0..128 * 128).filter(|&at| a[at] && !near(b, at)).count();
            assert_eq!((apart(&ours, &theirs), apart(&theirs, &ours)), (0, 0), "{}: outlines", state.frame);
            let differ = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
            assert!(differ <= 6, "{}: {differ} pixels along outlines", state.frame);
        }
        found.entry(textured).or_default().push(psnr(&rgb, &theirs));
    }
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let least = |of: &[f64]| of.iter().copied().fold(f64::INFINITY, f64::min);
    let (plain, textured) = (&found[&false], &found[&true]);
    assert!(
        mean(plain) > 55.0 && least(plain) > 40.0,
        "without textures {} dB, {} at least",
        mean(plain),
        least(plain)
    );
    assert!(mean(textured) > 30.0, "with textures {} dB", mean(textured));
}

fn plain(rgb: [u8; 3]) -> Arc<Texture> {
    Arc::new(Texture::new(1, &[rgb]))
}

/// A white room of 8 by 8 by 3 metres, in whose middle somebody looks along `x`.
fn white() -> (Room, Eye) {
    let [wall, floor, ceiling] = [[255; 3]; 3].map(plain);
    let room = Room { size: [8.0, 8.0], height: 3.0, wall, floor, ceiling };
    (room, Eye { place: [4.0, 1.5, 4.0], heading: 0.0, field: 1.0, horizon: 0.5 })
}

#[test]
fn the_middle_of_a_picture_is_as_far_and_of_whom_it_should_be() {
    let (room, eye) = white();
    let boxed = Thing { form: Form::standing([6.0, 4.0], [0.5, 2.0, 0.5]), colour: [1.0, 0.0, 0.0], texture: None };
    let ball = Form::ball([6.5, 1.5, 4.0], 0.5, 1.0);
    let ball = Thing { form: ball, colour: [0.0, 0.0, 1.0], texture: None };
    for (things, id, distance) in [
        (vec![], 0, 4.0),
        (vec![boxed.clone()], 1, 1.75),
        (vec![ball.clone()], 1, 2.0),
        // The nearer one is seen, whichever comes first.
        (vec![ball.clone(), boxed.clone()], 2, 1.75),
        (vec![boxed, ball], 1, 1.75),
    ] {
        let (mut rgb, mut depth, mut ids) = (vec![0; 33 * 33 * 3], vec![0.0; 33 * 33], vec![0; 33 * 33]);
        let picture = Picture { rgb: &mut rgb, depth: Some(&mut depth), ids: Some(&mut ids) };
        Painter::new(33, 33).draw(&Scene { around: Around::Room(&room), things: &things, eye }, picture);
        let middle = 16 * 33 + 16;
        assert_eq!(ids[middle], id);
        assert!((depth[middle] - distance).abs() < 1e-3, "{} instead of {distance}", depth[middle]);
        // In the uppermost row there is the ceiling, 1.5 m above.
        let down = 16.0 / (16.5 / libm::tan(0.5));
        assert!((f64::from(depth[16]) - 1.5 / down).abs() < 1e-2, "{}", depth[16]);
    }
}

#[test]
fn a_painter_draws_the_same_whatever_it_drew_before() {
    let (room, eye) = white();
    let thing = Thing { form: Form::standing([6.0, 4.3], [0.7, 1.5, 0.7]), colour: [0.0, 1.0, 0.0], texture: None };
    let scenes = [vec![thing], vec![]];
    let draw = |painter: &mut Painter, things: &[Thing]| {
        let mut rgb = vec![0; 40 * 30 * 3];
        painter.draw(
            &Scene { around: Around::Room(&room), things, eye },
            Picture { rgb: &mut rgb, depth: None, ids: None },
        );
        rgb
    };
    let painter = &mut Painter::new(40, 30);
    let first = scenes.each_ref().map(|things| draw(painter, things));
    let again = scenes.each_ref().map(|things| draw(painter, things));
    assert_eq!(first, again);
    assert_ne!(first[0], first[1]);
    assert_eq!(first[1], draw(&mut Painter::new(40, 30), &scenes[1]));
}

/// Makes a state impossible.
type Change = fn(&mut Value);

#[test]
fn states_that_cannot_be_are_refused_by_field() {
    let state = |change: &dyn Fn(&mut Value)| {
        let mut state = json!({
            "frame": "a.png",
            "agent": { "x": 8.0, "z": 8.0, "heading_deg": 90.0, "eye_height": 1.5 },
            "room": { "wall_tex": "white", "floor_tex": "white", "ceil_tex": "white", "wall_height": 2.74 },
            "entities": [{ "kind": "ball", "color": "red", "x": 4.0, "z": 4.0, "size": [0.85], "texture": null,
                           "velocity": [1.0, 0.0] }],
        });
        change(&mut state);
        let state: Recorded = serde_json::from_value(state).unwrap();
        state.look(|_| plain([255; 3])).map(drop).map_err(|impossible| impossible.to_string())
    };
    assert_eq!(state(&|_| {}), Ok(()));
    let cases: [(Change, &str); 6] = [
        (|state| state["agent"]["x"] = 16.0.into(), "agent.x is 16.0"),
        (|state| state["agent"]["eye_height"] = 3.0.into(), "agent.eye_height is 3.0"),
        (|state| state["room"]["wall_height"] = 0.0.into(), "room.wall_height is 0.0"),
        (|state| state["entities"][0]["size"] = json!([0.7, 1.5]), "entities[0].size is [0.7, 1.5]"),
        (|state| state["entities"][0]["x"] = 1e9.into(), "entities[0].x is"),
        (|state| state["entities"] = vec![state["entities"][0].clone(); 43].into(), "entities is 43"),
    ];
    for (change, field) in cases {
        let refusal = state(&change).unwrap_err();
        assert!(refusal.starts_with(field) && refusal.contains("allowed: "), "{refusal}");
    }
}

/// Grey ground, seen from two metres above it.
fn field() -> (Field, Eye) {
    let ground = Arc::new(Texture::new(1, &[[200; 3]]));
    (Field { ground }, Eye { place: [0.0, 2.0, 0.0], heading: 0.0, field: 1.0, horizon: 0.25 })
}

/// Picture, depth and ids of 64 by 64 pixels.
fn seen(painter: &mut Painter, around: Around<'_>, things: &[Thing], eye: Eye) -> (Vec<u8>, Vec<f32>, Vec<u8>) {
    let (mut rgb, mut depth, mut ids) = (vec![0; 64 * 64 * 3], vec![0.0; 64 * 64], vec![0; 64 * 64]);
    let picture = Picture { rgb: &mut rgb, depth: Some(&mut depth), ids: Some(&mut ids) };
    painter.draw(&Scene { around, things, eye }, picture);
    (rgb, depth, ids)
}

#[test]
fn a_field_is_ground_to_the_horizon_and_sky_above_it() {
    let (field, eye) = field();
    let ball = Thing { form: Form::ball([5.0, 0.5, 0.0], 0.5, 1.0), colour: [1.0, 0.0, 0.0], texture: None };
    let (rgb, depth, ids) = seen(&mut Painter::new(64, 64), Around::Field(&field), &[ball], eye);
    let focal = 32.0 / libm::tan(0.5);
    for row in 0..64 {
        // The left column has nothing but sky and ground.
        let (slope, depth) = ((row as f64 + 0.5 - 16.0) / focal, f64::from(depth[row * 64]));
        let right = if slope > 0.0 { (depth * slope - 2.0).abs() < 1e-3 } else { depth.is_infinite() };
        assert!(right, "row {row}: {depth}");
        assert_eq!(ids[row * 64], 0);
        let [red, _, blue] = rgb.as_chunks::<3>().0[row * 64];
        assert!(slope > 0.0 || blue > red, "row {row}: the sky is blue");
    }
    // The ball's middle is five metres ahead and a metre and a half below the eye.
    let at = (16.0 + focal * 1.5 / 5.0) as usize * 64 + 32;
    assert_eq!(ids[at], 1);
    let nearest = 5.0 * (1.0 - 0.5 / libm::hypotf(5.0, 1.5));
    assert!((depth[at] - nearest).abs() < 0.03, "{}", depth[at]);
}

#[test]
fn what_is_below_the_ground_is_not_seen() {
    let (field, eye) = field();
    let painter = &mut Painter::new(64, 64);
    let mut see = |height: f32| {
        let thing = |form| Thing { form, colour: [1.0, 0.0, 0.0], texture: None };
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let block = Form::Box { centre: [5.0, height, 1.5], half: [0.5; 3], axes };
        let things = [thing(Form::ball([5.0, height, 0.0], 0.5, 1.0)), thing(block)];
        let (rgb, _, ids) = seen(painter, Around::Field(&field), &things, eye);
        (rgb, [1, 2].map(|id| ids.iter().map(|&of| usize::from(of)).filter(|&of| of == id).count()))
    };
    let (bare, none) = see(-0.6);
    assert_eq!(none, [0, 0]);
    assert_eq!(bare, seen(&mut Painter::new(64, 64), Around::Field(&field), &[], eye).0, "nor is a shadow");
    // Seen from above, somewhat more than half is left of what is sunk by half.
    let (sunk, whole) = (see(0.0).1, see(0.5).1);
    for (sunk, whole) in sunk.into_iter().zip(whole) {
        assert!(sunk > whole / 2 && sunk < whole * 4 / 5, "{sunk} of {whole} pixels");
    }
}

#[test]
fn a_shadow_lies_where_the_sun_is_hidden() {
    let (field, eye) = field();
    let painter = &mut Painter::new(64, 64);
    let bare = seen(painter, Around::Field(&field), &[], eye).0;
    let thing = Thing { form: Form::ball([6.0, 1.5, -0.5], 0.4, 1.0), colour: [1.0, 0.0, 0.0], texture: None };
    let (rgb, _, ids) = seen(painter, Around::Field(&field), &[thing], eye);
    // Of blue, of which the ball has none: at its outline it shines through its pixels.
    let darker = |at: usize| i32::from(bare[at * 3 + 2]) - i32::from(rgb[at * 3 + 2]);
    let darkest = (0..64 * 64).filter(|&at| ids[at] == 0).max_by_key(|&at| darker(at)).expect("pixels");
    // The sun stands so that a shadow of 1.5 m of height falls 0.675 m along x and 0.9 m against z.
    let focal = 32.0 / libm::tan(0.5);
    let (row, column) = (16.0 + focal * 2.0 / 6.675, 32.0 + focal * -1.4 / 6.675);
    let off = [darkest / 64, darkest % 64].map(|at| at as f64 + 0.5);
    assert!((off[0] - row).abs() < 3.0 && (off[1] - column).abs() < 3.0, "darkest at {off:?}, not at {row}, {column}");
    assert!(darker(darkest) > 40);
    assert!((0..64 * 64).all(|at| ids[at] != 0 || darker(at) >= 0), "nothing gets brighter");
}

#[test]
fn a_painter_goes_in_and_out() {
    let ((room, inside), (field, outside)) = (white(), field());
    let things = [Thing { form: Form::standing([6.0, 4.3], [0.7, 1.5, 0.7]), colour: [0.0, 1.0, 0.0], texture: None }];
    let painter = &mut Painter::new(64, 64);
    let mut draw = || {
        let room = seen(painter, Around::Room(&room), &things, inside);
        (room, seen(painter, Around::Field(&field), &things, outside))
    };
    let first = draw();
    assert_eq!(first, draw());
    assert_eq!(first.1, seen(&mut Painter::new(64, 64), Around::Field(&field), &things, outside));
}
