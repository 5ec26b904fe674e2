//! The Hopper: torso, thigh, leg and foot in the plane, with the geometry of the one in `MuJoCo`.

use super::model::{Drive, Ground, InertiaMode, Joint, Link, Model, Motor};
use super::portrait::{Corner, Portrait};
use super::shape::Shape;

/// N m of a motor at an action of 1.
pub const GAIN: f64 = 200.0;
/// Height of the torso's frame when all coordinates are zero, m.
pub const HEIGHT: f64 = 1.25;
/// A quarter turn about x that takes the asset's z upwards, along the world's y.
const Z_UP: [f64; 4] = [-std::f64::consts::FRAC_1_SQRT_2, 0.0, 0.0, std::f64::consts::FRAC_1_SQRT_2];

/// Coordinates: forward, upward from [`HEIGHT`], pitch, then thigh, leg and foot.
#[must_use]
pub fn hopper() -> Model {
    let root = |axis| Drive { armature: 1.0, ..Drive::free(axis) };
    let hinge = |degrees: [f64; 2]| {
        Joint::Revolute(Drive {
            lower: f64::to_radians(degrees[0]),
            upper: f64::to_radians(degrees[1]),
            limit_stiffness: 1e3,
            limit_damping: 10.0,
            damping: 2.0,
            armature: 1.0,
            ..Drive::free([0.0, -1.0, 0.0])
        })
    };
    // Shapes in the frame of their joint: down a leg is along minus z.
    let down = |from: f64, to: f64, radius: f64| Shape::Capsule { from: [0.0, 0.0, from], to: [0.0, 0.0, to], radius };
    let foot = Shape::Capsule { from: [-0.13, 0.0, 0.0], to: [0.26, 0.0, 0.0], radius: 0.06 };
    let link = |parent: usize, joint: Joint, below: f64, shapes: Vec<Shape>| Link {
        parent: Some(parent),
        joint,
        offset: [0.0, 0.0, -below],
        turn: None,
        shapes,
    };
    let links = vec![
        Link {
            parent: None,
            joint: Joint::Prismatic(root([1.0, 0.0, 0.0])),
            offset: [0.0, HEIGHT, 0.0],
            turn: Some(Z_UP),
            shapes: vec![],
        },
        link(0, Joint::Prismatic(root([0.0, 0.0, 1.0])), 0.0, vec![]),
        link(1, Joint::Revolute(root([0.0, 1.0, 0.0])), 0.0, vec![down(0.2, -0.2, 0.05)]),
        link(2, hinge([-150.0, 0.0]), 0.2, vec![down(0.0, -0.45, 0.05)]),
        link(3, hinge([-150.0, 0.0]), 0.45, vec![down(0.0, -0.5, 0.04)]),
        link(4, hinge([-45.0, 45.0]), 0.5, vec![foot]),
    ];
    Model {
        links,
        ground: Some(Ground { ke: 2e4, kd: 2e3, kf: 1e3, mu: 0.9 }),
        density: 1000.0,
        gravity: 9.81,
        inertia: InertiaMode::Dflex,
        dt: 1.0 / 960.0,
        substeps: 16,
        mass_matrix_every: 16,
        motors: (3..6).map(|freedom| Motor { freedom, gain: GAIN }).collect(),
    }
}

/// Of the links from the rail on; the first two have no shape.
const COLOURS: [[u8; 3]; 6] =
    [[0; 3], [0; 3], [0xe8, 0x7f, 0x35], [0x2f, 0x76, 0xb5], [0x2c, 0x96, 0x78], [0xd9, 0x9f, 0x1f]];

/// What there is to see in a state of `model`, from a place beside the hopper that goes along.
///
/// # Panics
/// If the state has another length.
#[must_use]
pub fn portrait(model: &Model, state: &[f64]) -> Portrait {
    let x = state[0];
    let corner = Corner::near(x, 0.0);
    let eye = corner.eye([x - 0.5, 1.3, 4.4], [x + 0.1, 0.8, 0.0], 0.25);
    Portrait { things: model.things(state, &COLOURS, corner), eye }
}
