//! Shapes of links: their mass, their inertia, and the points at which they can touch the ground.

use std::f64::consts::PI;

use super::model::InertiaMode;

/// A solid in its link's frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A ball.
    Sphere {
        /// Its centre, m.
        centre: [f64; 3],
        /// Its radius, m.
        radius: f64,
    },
    /// A cylinder with half balls at its ends.
    Capsule {
        /// The middle of one half ball, m.
        from: [f64; 3],
        /// The middle of the other.
        to: [f64; 3],
        /// Its radius, m.
        radius: f64,
    },
    /// A block along the link's axes.
    Cuboid {
        /// Its centre, m.
        centre: [f64; 3],
        /// Its full sides, m.
        sides: [f64; 3],
    },
}

type Matrix = [[f64; 3]; 3];

fn sub(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn norm(a: [f64; 3]) -> f64 {
    (a[0] * a[0] + a[1] * a[1] + a[2] * a[2]).sqrt()
}

/// A rotation that takes x to `to` by the shortest way, or a half turn about z where that is not defined.
fn rotation_from_x(to: [f64; 3]) -> Matrix {
    let [x, y, z] = to;
    if x < -1.0 + 1e-12 {
        return [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]];
    }
    // Rodrigues' formula about x-axis × to = (0, -z, y).
    let k = 1.0 / (1.0 + x);
    [[x, -y, -z], [y, 1.0 - k * y * y, -k * y * z], [z, -k * y * z, 1.0 - k * z * z]]
}

impl Shape {
    /// Mass, centre, inertia about the centre along the shape's own axes, and the rotation from those to the link's.
    fn mass(&self, density: f64) -> (f64, [f64; 3], [f64; 3], Matrix) {
        let unturned = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        match *self {
            Self::Sphere { centre, radius } => {
                let m = density * 4.0 / 3.0 * PI * radius.powi(3);
                (m, centre, [0.4 * m * radius * radius; 3], unturned)
            }
            Self::Capsule { from, to, radius: r } => {
                let along = sub(to, from);
                let l = norm(along);
                let (ends, middle) = (density * 4.0 / 3.0 * PI * r.powi(3), density * PI * r * r * l);
                let axial = (middle / 2.0 + 2.0 * ends / 5.0) * r * r;
                let across = middle * (r * r / 4.0 + l * l / 12.0)
                    + ends * (2.0 * r * r / 5.0 + 3.0 * r * l / 8.0 + l * l / 4.0);
                let centre = [0, 1, 2].map(|i| f64::midpoint(from[i], to[i]));
                (ends + middle, centre, [axial, across, across], rotation_from_x(along.map(|x| x / l)))
            }
            Self::Cuboid { centre, sides: [w, h, d] } => {
                let m = density * w * h * d;
                (m, centre, [h * h + d * d, w * w + d * d, w * w + h * h].map(|x| m / 12.0 * x), unturned)
            }
        }
    }

    /// Points, in the link's frame, with the distance from them at which they touch.
    pub(super) fn contact_points(&self) -> Vec<([f64; 3], f64)> {
        match *self {
            Self::Sphere { centre, radius } => vec![(centre, radius)],
            Self::Capsule { from, to, radius } => vec![(from, radius), (to, radius)],
            Self::Cuboid { centre, sides } => (0..8)
                .map(|corner| {
                    let side = |axis: usize| if corner >> axis & 1 == 0 { -0.5 } else { 0.5 };
                    ([0, 1, 2].map(|axis| centre[axis] + side(axis) * sides[axis]), 0.0)
                })
                .collect(),
        }
    }
}

/// Of all shapes of a link together. Where shapes overlap, both count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MassProperties {
    /// kg.
    pub mass: f64,
    /// Centre of mass in the link's frame, m.
    pub com: [f64; 3],
    /// About the centre of mass, along the link's axes: xx, yy, zz, xy, xz, yz; kg m².
    pub inertia: [f64; 6],
}

impl MassProperties {
    /// Adds shapes one by one.
    #[must_use]
    pub fn of(shapes: &[Shape], density: f64, mode: InertiaMode) -> Self {
        let mut all = Self { mass: 0.0, com: [0.0; 3], inertia: [0.0; 6] };
        for shape in shapes {
            let (m, centre, diagonal, rotation) = shape.mass(density);
            let mass = all.mass + m;
            let com = [0, 1, 2].map(|i| (all.com[i] * all.mass + centre[i] * m) / mass);
            // What was there before is not turned, so that both modes agree on it, except that an element-by-element
            // product with the identity keeps the diagonal only.
            let old = match mode {
                InertiaMode::Exact => all.inertia,
                InertiaMode::Dflex => [all.inertia[0], all.inertia[1], all.inertia[2], 0.0, 0.0, 0.0],
            };
            let turned = turned(diagonal, &rotation, mode);
            let (from_old, from_new) = (shifted(all.mass, sub(com, all.com)), shifted(m, sub(com, centre)));
            let inertia = std::array::from_fn(|i| old[i] + turned[i] + from_old[i] + from_new[i]);
            all = Self { mass, com, inertia };
        }
        all
    }
}

const ENTRIES: [(usize, usize); 6] = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)];

/// `R diag Rᵀ`, or its element-by-element namesake.
fn turned(diagonal: [f64; 3], rotation: &Matrix, mode: InertiaMode) -> [f64; 6] {
    ENTRIES.map(|(i, j)| match mode {
        InertiaMode::Exact => (0..3).map(|k| rotation[i][k] * diagonal[k] * rotation[j][k]).sum(),
        InertiaMode::Dflex if i == j => rotation[i][i] * diagonal[i] * rotation[i][i],
        InertiaMode::Dflex => 0.0,
    })
}

/// What a mass that is `d` away from the axis adds: `m (|d|² - d dᵀ)`.
fn shifted(m: f64, d: [f64; 3]) -> [f64; 6] {
    let square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
    ENTRIES.map(|(i, j)| m * (if i == j { square } else { 0.0 } - d[i] * d[j]))
}
