//! The Ant: a torso on four legs, each with a hip and an ankle, as dflex has it.

use std::f64::consts::FRAC_1_SQRT_2;

use super::model::{Drive, Ground, InertiaMode, Joint, Link, Model, Motor};
use super::portrait::{Corner, Portrait};
use super::shape::Shape;

/// N m of a motor at an action of 1.
pub const GAIN: f64 = 200.0;

/// Substeps of a control step.
pub const SUBSTEPS: usize = 16;
/// Coordinates at the start: root place and orientation, then hip and ankle of each leg.
pub const START: [f64; 15] =
    [0.0, 0.75, 0.0, -FRAC_1_SQRT_2, 0.0, 0.0, FRAC_1_SQRT_2, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0];

/// The body, without ground contact's switches: `inertia` and the rate of the mass matrix are the caller's.
#[must_use]
pub fn model(inertia: InertiaMode, mass_matrix_every: usize) -> Model {
    let radius = 0.08;
    let capsule = |to: [f64; 3]| Shape::Capsule { from: [0.0; 3], to, radius };
    let corners = [[0.2, 0.2, 0.0], [-0.2, 0.2, 0.0], [-0.2, -0.2, 0.0], [0.2, -0.2, 0.0]];
    let mut torso = vec![Shape::Sphere { centre: [0.0; 3], radius: 0.25 }];
    torso.extend(corners.map(capsule));
    let mut links = vec![Link { parent: None, joint: Joint::Free, offset: [0.0; 3], turn: None, shapes: torso }];
    let hinge = |axis: [f64; 3], degrees: [f64; 2]| {
        Joint::Revolute(Drive {
            lower: degrees[0].to_radians(),
            upper: degrees[1].to_radians(),
            limit_stiffness: 1e3,
            limit_damping: 10.0,
            damping: 1.0,
            armature: 0.05,
            ..Drive::free(axis)
        })
    };
    let s = FRAC_1_SQRT_2;
    let ankles = [
        ([-s, s, 0.0], [30.0, 100.0]),
        ([s, s, 0.0], [-100.0, -30.0]),
        ([-s, s, 0.0], [-100.0, -30.0]),
        ([s, s, 0.0], [30.0, 100.0]),
    ];
    for (corner, (axis, range)) in corners.into_iter().zip(ankles) {
        let hip = links.len();
        let joint = hinge([0.0, 0.0, 1.0], [-40.0, 40.0]);
        links.push(Link { parent: Some(0), joint, offset: corner, turn: None, shapes: vec![capsule(corner)] });
        let foot = capsule(corner.map(|x| 2.0 * x));
        let joint = hinge(axis, range);
        links.push(Link { parent: Some(hip), joint, offset: corner, turn: None, shapes: vec![foot] });
    }
    Model {
        links,
        ground: Some(Ground { ke: 4e4, kd: 1e4, kf: 3e3, mu: 0.75 }),
        density: 1000.0,
        gravity: 9.81,
        inertia,
        dt: 1.0 / 960.0,
        substeps: SUBSTEPS,
        mass_matrix_every,
        motors: (6..14).map(|freedom| Motor { freedom, gain: GAIN }).collect(),
    }
}

/// The torso, then hip and foot of each leg.
const COLOURS: [[u8; 3]; 9] = [
    [0xe8, 0x7f, 0x35],
    [0x2f, 0x76, 0xb5],
    [0x4b, 0x97, 0xd8],
    [0x2c, 0x96, 0x78],
    [0x4d, 0xbd, 0x98],
    [0xd9, 0x9f, 0x1f],
    [0xf2, 0xc1, 0x4a],
    [0xb4, 0x4a, 0x6b],
    [0xda, 0x6f, 0x8e],
];

/// What there is to see in a state of `model`, in the world's frame, from a place that goes along.
///
/// # Panics
/// If the state has another length.
#[must_use]
pub fn portrait(model: &Model, state: &[f64]) -> Portrait {
    let (x, z) = (state[0], state[2]);
    let corner = Corner::near(x, z);
    let eye = corner.eye([x - 0.8, 1.5, z + 3.4], [x + 0.1, 0.5, z], 0.33);
    Portrait { things: model.things(state, &COLOURS, corner), eye }
}
