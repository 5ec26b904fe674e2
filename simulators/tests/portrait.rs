//! Where links are drawn, against places computed by hand, and that pictures show them there.

use std::sync::Arc;

use simulators::articulated::{InertiaMode, Model, Portrait, ant, cartpole, hopper};
use simulators::digits::DigitBank;
use simulators::image::Image;
use simulators::mnist_world::{MnistWorld, MnistWorldConfig};
use simulators::rng::Seed;
use simulators::room::{Eye, Form};
use simulators::view::View;
use simulators::world::World as _;

#[track_caller]
fn assert_at(found: [f64; 3], expected: [f64; 3]) {
    let off = (0..3).map(|i| (found[i] - expected[i]).abs()).fold(0.0, f64::max);
    assert!(off < 1e-12, "{found:?} instead of {expected:?}");
}

/// The Ant's start, torso `height` above the ground, at a place on it.
fn ant_at(x: f64, height: f64, z: f64) -> Vec<f64> {
    let mut state = vec![0.0; 29];
    state[..15].copy_from_slice(&ant::START);
    state[..3].copy_from_slice(&[x, height, z]);
    state
}

#[test]
fn the_ant_stands_on_four_legs_bent_down() {
    let model = ant::model(InertiaMode::Dflex, ant::SUBSTEPS);
    let poses = model.poses(&ant_at(3.0, 0.75, -1.0));
    // The asset's z is the world's y, its y the world's -z. Ankles are turned by one radian about a level axis.
    let (sin, cos) = libm::sincos(1.0);
    let legs = [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]];
    for (leg, [x, y]) in legs.into_iter().enumerate() {
        let [hip, ankle] = [1 + 2 * leg, 2 + 2 * leg];
        assert_at(poses[hip].place, [3.0 + 0.2 * x, 0.75, -1.0 - 0.2 * y]);
        assert_at(poses[ankle].place, [3.0 + 0.4 * x, 0.75, -1.0 - 0.4 * y]);
        let foot = poses[ankle].of([0.4 * x, 0.4 * y, 0.0]);
        let (aside, down) = (0.4 + 0.4 * cos, 0.4 * f64::sqrt(2.0) * sin);
        assert_at(foot, [3.0 + aside * x, 0.75 - down, -1.0 - aside * y]);
    }
}

#[test]
fn planar_bodies_hang_and_stand_as_their_coordinates_say() {
    let quarter = std::f64::consts::FRAC_PI_2;
    let mut state = [0.0; 12];
    state[..3].copy_from_slice(&[2.0, 0.1, 0.0]);
    let poses = hopper::hopper().poses(&state);
    assert_at(poses[2].place, [2.0, 1.35, 0.0]);
    assert_at(poses[5].place, [2.0, 1.35 - 1.15, 0.0]);
    assert_at(poses[5].of([0.26, 0.0, 0.0]), [2.26, 0.2, 0.0]);
    let poses = cartpole::cartpole().poses(&[1.0, quarter, 0.0, 0.0]);
    assert_at(poses[0].place, [1.0, 2.5, 0.0]);
    assert_at(poses[1].of([0.0, 0.0, 1.0]), [2.0, 2.5, 0.0]);
    let poses = cartpole::double_pendulum().poses(&[quarter, quarter, 0.0, 0.0]);
    assert_at(poses[1].place, [1.0, 2.5, 0.0]);
    assert_at(poses[1].of([0.0, 0.0, 1.0]), [1.0, 1.5, 0.0]);
}

type Sitting = fn(&Model, &[f64]) -> Portrait;

/// Where a place is in a picture, pixels from its upper left corner.
fn project(eye: &Eye, place: [f32; 3], [width, height]: [usize; 2]) -> [f64; 2] {
    let (sin, cos) = libm::sincos(eye.heading);
    let [x, y, z] = [0, 1, 2].map(|i| f64::from(place[i] - eye.place[i]));
    let (ahead, aside) = (cos * x - sin * z, sin * x + cos * z);
    assert!(ahead > 0.0, "{place:?} is behind the eye");
    let [width, height] = [width, height].map(|side| side as f64);
    let pixels = height / 2.0 / libm::tan(eye.field / 2.0) / ahead;
    [width / 2.0 + aside * pixels, height * f64::from(eye.horizon) - y * pixels]
}

#[test]
fn pictures_show_every_link_where_it_is_and_the_world_around_it() {
    let ant = ant_at(140.0, 0.5, 20.0);
    let creatures: [(Model, Vec<f64>, Sitting); 4] = [
        (ant::model(InertiaMode::Dflex, ant::SUBSTEPS), ant, ant::portrait),
        (hopper::hopper(), vec![0.0; 12], hopper::portrait),
        (cartpole::cartpole(), vec![0.5, 2.0, 0.0, 0.0], cartpole::cartpole_portrait),
        (cartpole::double_pendulum(), vec![3.0, 1.0, 0.0, 0.0], cartpole::double_pendulum_portrait),
    ];
    let (width, height) = (240, 180);
    for (model, state, sitting) in creatures {
        let portrait = sitting(&model, &state);
        let bare = Portrait { things: vec![], eye: portrait.eye }.draw(width, height);
        let image = portrait.draw(width, height);
        for thing in &portrait.things[..model.links.iter().map(|link| link.shapes.len()).sum()] {
            let middle = match thing.form {
                Form::Capsule { ends: [a, b], .. } => [0, 1, 2].map(|i| f32::midpoint(a[i], b[i])),
                Form::Box { centre, .. } => centre,
            };
            let [x, y] = project(&portrait.eye, middle, [width, height]);
            let (x, y) = (x as usize, y as usize);
            assert!((8..width - 8).contains(&x) && (8..height - 8).contains(&y), "{middle:?} is at {x}, {y}");
            assert_ne!(image.pixel(x, y), bare.pixel(x, y), "{middle:?}");
        }
        let same = (0..width * height).filter(|i| image.rgb[i * 3..i * 3 + 3] == bare.rgb[i * 3..i * 3 + 3]).count();
        assert!(same > width * height / 2, "most of the picture is sky and ground");
    }
}

#[test]
fn the_ground_passes_below_a_body_and_looks_the_same_after_each_repeat() {
    let model = ant::model(InertiaMode::Dflex, ant::SUBSTEPS);
    let at = |x: f64, z: f64| ant::portrait(&model, &ant_at(x, 0.5, z)).draw(96, 72);
    let here = at(0.25, 0.25);
    let differs = |there: Image| here.rgb.iter().zip(there.rgb).map(|(a, b)| a.abs_diff(b)).max();
    assert!(differs(at(0.75, 0.25)) > Some(20), "light checks are where dark ones were");
    for (x, z) in [(1.25, 0.25), (0.25, -2.75), (140.25, 20.25), (-70_000.75, 0.25)] {
        let most = differs(at(x, z));
        assert!(most <= Some(1), "at {x}, {z}: by {most:?}");
    }
}

#[test]
fn a_world_of_digits_is_bright_where_the_agent_looks() {
    let bank = Arc::new(DigitBank::draw(Seed(0), 4, 28));
    let mut world = MnistWorld::new(MnistWorldConfig::default(), bank).expect("the paper's");
    let mut window = vec![0; 32 * 32];
    for _ in 0..5 {
        world.step([9, -7]);
        world.render(&mut window);
        let View::Pixels(image) = world.view() else { panic!("pixels") };
        for (at, &ink) in window.iter().enumerate() {
            let [red, ..] = image.pixel(9 + at % 32, 9 + at / 32);
            assert_eq!(u32::from(red), (32 * (255 - u32::from(ink)) + 255 * u32::from(ink)) / 255);
        }
        assert!((0..50).all(|at| image.pixel(at, 8)[0] <= 70), "beside the window all is dim");
    }
}

#[test]
fn a_map_of_digits_stays_where_it_is_and_its_window_moves_in_a_frame() {
    let bank = Arc::new(DigitBank::draw(Seed(0), 4, 28));
    let still = MnistWorldConfig { velocity: 0, ..MnistWorldConfig::default() };
    let mut world = MnistWorld::new(still, bank).expect("the paper's, at rest");
    let (mut window, mut whole) = (vec![0; 32 * 32], vec![0; 50 * 50]);
    world.render_world(&mut whole);
    for _ in 0..9 {
        world.step([9, -7]);
        world.render(&mut window);
        let map = world.map();
        let [left, top] = world.camera().map(|centre| (usize::from(centre.unsigned_abs()) + 50 - 16) % 50);
        let (mut dim, mut frame) = (0, 0);
        for (at, pixel) in map.rgb.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = ((at % 50 + 50 - left) % 50, (at / 50 + 50 - top) % 50);
            let mixed =
                |ground: u32, full: u32, ink: u8| (ground * (255 - u32::from(ink)) + full * u32::from(ink)) / 255;
            if x < 32 && y < 32 {
                assert_eq!(u32::from(pixel[0]), mixed(32, 255, window[y * 32 + x]), "{x} {y} of the window");
            } else if *pixel == [240, 170, 60] {
                assert!([x, y].iter().all(|at| *at <= 32 || *at == 49), "{x} {y} is beside the window");
                frame += 1;
            } else {
                assert_eq!(u32::from(pixel[0]), mixed(11, 70, whole[at]), "{x} {y} outside");
                dim += 1;
            }
        }
        assert_eq!((frame, dim), (4 * 32 + 4, 50 * 50 - 34 * 34), "a frame of one pixel");
    }
}
