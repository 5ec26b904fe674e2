//! What a body looks like: its own shapes where the simulator's kinematics has them, on open ground.

use std::sync::{Arc, LazyLock};

use pulp::Scalar as OneLane;

use super::dynamics::{LinkState, kinematics};
use super::model::{Model, Plan};
use super::real::{F64, F64Lanes, Lanes as _, Real as _};
use super::shape::Shape;
use super::spatial::V3;
use crate::image::Image;
use crate::room::{Around, Eye, Field, Form, Picture, Scene, Texture, Thing, with_painter};

/// Where a link's frame is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Its origin in the world, m.
    pub place: [f64; 3],
    /// Its axes in the world.
    pub axes: [[f64; 3]; 3],
}

impl Pose {
    /// Where in the world a point of the link is, m.
    #[must_use]
    pub fn of(&self, point: [f64; 3]) -> [f64; 3] {
        [0, 1, 2].map(|i| self.place[i] + (0..3).map(|axis| point[axis] * self.axes[axis][i]).sum::<f64>())
    }
}

/// A body, and who looks at it.
///
/// Places are metres from a corner of the ground's checks near the body, so that single precision serves wherever it has come to.
#[derive(Clone, Debug)]
pub struct Portrait {
    /// What is seen, and casts shadows: the shapes of the model's links in their order, then what there is beside it.
    pub things: Vec<Thing>,
    /// Who looks.
    pub eye: Eye,
}

impl Portrait {
    /// The picture of it.
    ///
    /// # Panics
    /// If a side is zero or more than 8192.
    #[must_use]
    pub fn draw(&self, width: usize, height: usize) -> Image {
        let mut image = Image::black(width, height);
        let scene = Scene { around: Around::Field(&FIELD), things: &self.things, eye: self.eye };
        let picture = Picture { rgb: &mut image.rgb, depth: None, ids: None };
        with_painter(width, height, |painter| painter.draw(&scene, picture));
        image
    }
}

/// Side of a check of the ground, m, and colours of checks.
const CHECK: f64 = 0.5;
const CHECKS: [[u8; 3]; 2] = [[0xb9, 0xc3, 0xcc], [0xdd, 0xe3, 0xe8]];

/// Checks, two by two to a repeat.
static FIELD: LazyLock<Field> = LazyLock::new(|| {
    let side = (2.0 * CHECK * f64::from(Texture::DENSITY)) as usize;
    let check = |at: usize| CHECKS[(at % side * 2 / side + at / side * 2 / side) % 2];
    let pixels: Vec<[u8; 3]> = (0..side * side).map(check).collect();
    Field { ground: Arc::new(Texture::new(side, &pixels)) }
});

/// The corner of the ground's checks that a portrait's places are counted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Corner([f64; 3]);

impl Corner {
    /// One near `(x, z)`.
    pub fn near(x: f64, z: f64) -> Self {
        let repeats = |at: f64| (at / (2.0 * CHECK)).floor() * 2.0 * CHECK;
        Self([repeats(x), 0.0, repeats(z)])
    }

    fn to(self, place: [f64; 3]) -> [f32; 3] {
        [0, 1, 2].map(|i| (place[i] - self.0[i]) as f32)
    }

    /// Who looks from `place` so that `target` is in the middle of the picture, of which half the height is `height` metres at a distance of one.
    pub fn eye(self, place: [f64; 3], target: [f64; 3], height: f64) -> Eye {
        let [x, up, z] = [0, 1, 2].map(|i| target[i] - place[i]);
        let slope = up / (x * x + z * z).sqrt();
        Eye {
            place: self.to(place),
            heading: libm::atan2(-z, x),
            field: 2.0 * libm::atan(height),
            horizon: (0.5 + slope / (2.0 * height)) as f32,
        }
    }

    /// A capsule.
    pub fn rod(self, ends: [[f64; 3]; 2], radius: f64, colour: [u8; 3]) -> Thing {
        let form = Form::Capsule { ends: ends.map(|end| self.to(end)), radius: radius as f32, gain: 1.0 };
        Thing { form, colour: colour.map(|byte| f32::from(byte) / 255.0), texture: None }
    }

    fn thing(self, shape: &Shape, pose: &Pose, colour: [u8; 3]) -> Thing {
        match *shape {
            Shape::Sphere { centre, radius } => self.rod([pose.of(centre); 2], radius, colour),
            Shape::Capsule { from, to, radius } => self.rod([from, to].map(|end| pose.of(end)), radius, colour),
            Shape::Cuboid { centre, sides } => {
                let axes = pose.axes.map(|axis| axis.map(|x| x as f32));
                let half = sides.map(|side| (side / 2.0) as f32);
                let form = Form::Box { centre: self.to(pose.of(centre)), half, axes };
                Thing { form, colour: colour.map(|byte| f32::from(byte) / 255.0), texture: None }
            }
        }
    }
}

impl Model {
    /// Where each link is in the state `state`: coordinates, then velocities, in the world's frame.
    ///
    /// # Panics
    /// If the state has another length.
    #[must_use]
    pub fn poses(&self, state: &[f64]) -> Vec<Pose> {
        let plan = Plan::<f64>::new(self);
        assert_eq!(state.len(), plan.coordinates + plan.freedoms, "coordinates and velocities");
        let lanes = F64Lanes(OneLane);
        let state: Vec<_> = state.iter().map(|&x| lanes.splat(x)).collect();
        let (q, v) = state.split_at(plan.coordinates);
        let zero = lanes.splat(0.0);
        let mut links = vec![LinkState::zero(zero); plan.links.len()];
        kinematics(lanes, &plan, q, v, &mut links);
        let get = |v: V3<F64<OneLane>>| {
            [v.0, v.1, v.2].map(|x| {
                let mut out = [0.0];
                lanes.store(x, &mut out);
                out[0]
            })
        };
        let (zero, one) = (zero.zero(), lanes.splat(1.0));
        let axes = [V3(one, zero, zero), V3(zero, one, zero), V3(zero, zero, one)];
        links
            .iter()
            .map(|link| Pose { place: get(link.place), axes: axes.map(|axis| get(link.matrix.apply(axis))) })
            .collect()
    }

    /// Its shapes in the state `state`, each link in its own of `colours`.
    ///
    /// # Panics
    /// If the state has another length, or there are fewer colours than links.
    pub(super) fn things(&self, state: &[f64], colours: &[[u8; 3]], corner: Corner) -> Vec<Thing> {
        assert!(colours.len() >= self.links.len(), "a colour for each link");
        let links = self.links.iter().zip(self.poses(state)).zip(colours);
        links
            .flat_map(|((link, pose), &colour)| link.shapes.iter().map(move |shape| corner.thing(shape, &pose, colour)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eye_has_its_target_in_the_middle() {
        let eye = Corner::near(7.3, -2.2).eye([7.0, 3.0, 2.0], [8.0, 1.0, -2.0], 0.4);
        assert!(eye.place.iter().zip([0.0, 3.0, 5.0]).all(|(found, expected)| (found - expected).abs() < 1e-6));
        // The target is a metre along x and four against z: it is `depth` ahead and nowhere aside.
        let (sin, cos) = libm::sincos(eye.heading);
        let depth = f64::sqrt(17.0);
        assert!((cos + 4.0 * sin - depth).abs() < 1e-12);
        // In heights of the picture, from its top.
        let row = f64::from(eye.horizon) + 2.0 / depth / (2.0 * libm::tan(eye.field / 2.0));
        assert!((row - 0.5).abs() < 1e-6, "{row}");
    }
}
