//! A cart on a rail with a pole on it, and its sibling with two poles: the pendulums of the SHAC and PWM papers.

use super::model::{Drive, InertiaMode, Joint, Link, Model, Motor};
use super::portrait::{Corner, Portrait};
use super::shape::Shape;

/// N or N m of the motor at an action of 1.
pub const GAIN: f64 = 1000.0;
/// Height of the rail or of the first hinge, m.
const HEIGHT: f64 = 2.5;
/// A quarter turn about x that takes the assets' z upwards, along the world's y.
const Z_UP: [f64; 4] = [-std::f64::consts::FRAC_1_SQRT_2, 0.0, 0.0, std::f64::consts::FRAC_1_SQRT_2];

/// One metre of pole, 2.5 kg, standing on its hinge.
fn pole() -> Shape {
    Shape::Cuboid { centre: [0.0, 0.0, 0.5], sides: [0.05, 0.05, 1.0] }
}

/// Where the rail ends, m to either side.
const RAIL: f64 = 4.0;

fn hinge() -> Joint {
    Joint::Revolute(Drive { armature: 0.1, ..Drive::free([0.0, 1.0, 0.0]) })
}

fn in_the_air(links: Vec<Link>) -> Model {
    Model {
        links,
        ground: None,
        density: 1000.0,
        gravity: 9.81,
        inertia: InertiaMode::Dflex,
        dt: 1.0 / 240.0,
        substeps: 4,
        mass_matrix_every: 8,
        motors: vec![Motor { freedom: 0, gain: GAIN }],
    }
}

/// Coordinates: place of the cart, m, and angle of the pole, rad, zero upright. The motor pushes the cart.
#[must_use]
pub fn cartpole() -> Model {
    let rail = Drive {
        lower: -RAIL,
        upper: RAIL,
        limit_stiffness: 100.0,
        limit_damping: 1.0,
        armature: 0.1,
        ..Drive::free([1.0, 0.0, 0.0])
    };
    let cart = Shape::Cuboid { centre: [0.0; 3], sides: [0.5, 0.5, 0.2] };
    in_the_air(vec![
        Link {
            parent: None,
            joint: Joint::Prismatic(rail),
            offset: [0.0, HEIGHT, 0.0],
            turn: Some(Z_UP),
            shapes: vec![cart],
        },
        Link { parent: Some(0), joint: hinge(), offset: [0.0; 3], turn: None, shapes: vec![pole()] },
    ])
}

/// Coordinates: angles of the two poles, rad, the first zero upright, the second relative to the first. The motor is in the
/// second hinge.
#[must_use]
pub fn double_pendulum() -> Model {
    let mut model = in_the_air(vec![
        Link { parent: None, joint: hinge(), offset: [0.0, HEIGHT, 0.0], turn: Some(Z_UP), shapes: vec![pole()] },
        Link { parent: Some(0), joint: hinge(), offset: [0.0, 0.0, 1.0], turn: None, shapes: vec![pole()] },
    ]);
    model.motors = vec![Motor { freedom: 1, gain: GAIN }];
    model
}

/// Of cart and pole, or of the two poles.
const COLOURS: [[[u8; 3]; 2]; 2] = [[[0x2f, 0x76, 0xb5], [0xe8, 0x7f, 0x35]], [[0xe8, 0x7f, 0x35], [0x2c, 0x96, 0x78]]];
const STEEL: [u8; 3] = [0x93, 0x9e, 0xa9];
/// How far behind the poles stands what holds them, m.
const BEHIND: f64 = -0.28;

/// What there is to see of the cart in a state of `model`: with the rail, from a place that goes along.
///
/// # Panics
/// If the state has another length.
#[must_use]
pub fn cartpole_portrait(model: &Model, state: &[f64]) -> Portrait {
    let corner = Corner::near(state[0], 0.0);
    let mut things = model.things(state, &COLOURS[0], corner);
    // Its ends are springs, so the cart may be beyond them: what is seen of the rail goes on.
    let rail = [-6.0, 6.0].map(|aside| [state[0] + aside, HEIGHT, BEHIND]);
    things.push(corner.rod(rail, 0.03, STEEL));
    things.extend([-RAIL, RAIL].map(|x| corner.rod([[x, 0.0, BEHIND], [x, HEIGHT, BEHIND]], 0.05, STEEL)));
    Portrait { things, eye: corner.eye([state[0], 2.9, 5.0], [state[0], 2.4, 0.0], 0.27) }
}

/// What there is to see of the double pendulum in a state of `model`: with the stand that it hangs on.
///
/// # Panics
/// If the state has another length.
#[must_use]
pub fn double_pendulum_portrait(model: &Model, state: &[f64]) -> Portrait {
    let corner = Corner::near(0.0, 0.0);
    let mut things = model.things(state, &COLOURS[1], corner);
    things.push(corner.rod([[0.0, 0.0, BEHIND], [0.0, HEIGHT, BEHIND]], 0.035, STEEL));
    things.push(corner.rod([[0.0, HEIGHT, BEHIND], [0.0, HEIGHT, 0.04]], 0.045, STEEL));
    Portrait { things, eye: corner.eye([0.6, 3.0, 7.0], [0.0, 2.4, 0.0], 0.33) }
}
