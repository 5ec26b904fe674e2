//! The Ant: a torso on four legs, each with a hip and an ankle, as dflex has it.

use std::f64::consts::FRAC_1_SQRT_2;

use super::model::{Drive, Ground, InertiaMode, Joint, Link, Model, Motor};
use super::shape::Shape;
use crate::draw::{Camera, Colour, Scene, srgb};

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
const COLOURS: [Colour; 9] = [
    srgb(0x00e8_7f35),
    srgb(0x002f_76b5),
    srgb(0x004b_97d8),
    srgb(0x002c_9678),
    srgb(0x004d_bd98),
    srgb(0x00d9_9f1f),
    srgb(0x00f2_c14a),
    srgb(0x00b4_4a6b),
    srgb(0x00da_6f8e),
];

/// What there is to see in a state of `model`, in the world's frame, from a place that goes along.
///
/// # Panics
/// If the state has another length.
#[must_use]
pub fn scene(model: &Model, state: &[f64]) -> Scene {
    let (x, z) = (state[0], state[2]);
    let camera = Camera { eye: [x - 0.8, 1.8, z + 3.4], target: [x + 0.1, 0.45, z], height: 0.33 };
    Scene { solids: model.solids(state, &COLOURS), camera }
}
