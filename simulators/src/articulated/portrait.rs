//! What a body looks like: its own shapes, where the simulator's kinematics has them.

use pulp::Scalar as OneLane;

use super::dynamics::{LinkState, kinematics};
use super::model::{Model, Plan};
use super::real::{F64, F64Lanes, Lanes as _, Real as _};
use super::shape::Shape;
use super::spatial::V3;
use crate::draw::{Colour, Form, Solid, Vector};

/// Where a link's frame is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Its origin in the world, m.
    pub place: Vector,
    /// Its axes in the world.
    pub axes: [Vector; 3],
}

impl Pose {
    /// Where in the world a point of the link is, m.
    #[must_use]
    pub fn of(&self, point: Vector) -> Vector {
        [0, 1, 2].map(|i| self.place[i] + (0..3).map(|axis| point[axis] * self.axes[axis][i]).sum::<f64>())
    }

    fn form(&self, shape: &Shape) -> Form {
        match *shape {
            Shape::Sphere { centre, radius } => Form::Round { from: self.of(centre), to: self.of(centre), radius },
            Shape::Capsule { from, to, radius } => Form::Round { from: self.of(from), to: self.of(to), radius },
            Shape::Cuboid { centre, sides } => {
                Form::Block { centre: self.of(centre), half: sides.map(|side| side / 2.0), axes: self.axes }
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
    #[must_use]
    pub fn solids(&self, state: &[f64], colours: &[Colour]) -> Vec<Solid> {
        assert!(colours.len() >= self.links.len(), "a colour for each link");
        let links = self.links.iter().zip(self.poses(state)).zip(colours);
        links
            .flat_map(|((link, pose), &colour)| {
                link.shapes.iter().map(move |shape| Solid { form: pose.form(shape), colour })
            })
            .collect()
    }
}
