//! Boxes, balls and capsules: where rays meet them, and what they are there.

use super::lanes::{LANES, Lanes, each};
use super::lens::Lens;

/// A form in the room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// A box.
    Box {
        /// Its middle, m.
        centre: [f32; 3],
        /// Half its sides, m.
        half: [f32; 3],
        /// Where its sides point, each of length one and at right angles.
        axes: [[f32; 3]; 3],
    },
    /// What is within a distance of a line between two points; a ball if they are the same.
    Capsule {
        /// The points, m.
        ends: [[f32; 3]; 2],
        /// m.
        radius: f32,
        /// Length of its normals; where it is not one, it is lit as much more.
        gain: f32,
    },
}

/// The axes of a box that stands as the room does.
const UPRIGHT: [[f32; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

#[inline(always)]
pub(super) fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[2].mul_add(b[2], a[1].mul_add(b[1], a[0] * b[0]))
}

impl Form {
    /// A box that stands on the floor at `(x, z)`.
    #[must_use]
    pub fn standing([x, z]: [f32; 2], [wide, tall, deep]: [f32; 3]) -> Self {
        Self::Box { centre: [x, tall / 2.0, z], half: [wide / 2.0, tall / 2.0, deep / 2.0], axes: UPRIGHT }
    }

    /// A ball, whose normals are `gain` long.
    #[must_use]
    pub fn ball(centre: [f32; 3], radius: f32, gain: f32) -> Self {
        Self::Capsule { ends: [centre; 2], radius, gain }
    }

    /// Points of which the form is within the hull.
    pub(super) fn corners(&self) -> [[f32; 3]; 8] {
        let corner = |corner: usize, axis: usize| if corner >> axis & 1 == 1 { 1.0 } else { -1.0 };
        match *self {
            Self::Box { centre, half, axes } => std::array::from_fn(|number| {
                let side = |axis: usize| corner(number, axis) * half[axis];
                [0, 1, 2].map(|i| centre[i] + side(0) * axes[0][i] + side(1) * axes[1][i] + side(2) * axes[2][i])
            }),
            Self::Capsule { ends: [a, b], radius, .. } => std::array::from_fn(|number| {
                [0, 1, 2].map(|i| match corner(number, i) {
                    1.0 => a[i].max(b[i]) + radius,
                    _ => a[i].min(b[i]) - radius,
                })
            }),
        }
    }
}

/// Rays through a row of pixels: `(aside, down)` at a distance of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rays<'a> {
    pub lens: &'a Lens,
    pub aside: Lanes,
    pub down: f32,
}

impl Rays<'_> {
    /// What a direction of the world is to the rays: what of it is the same for all, and what comes for each step aside.
    #[inline(always)]
    fn along(&self, axis: [f32; 3]) -> [f32; 2] {
        let Lens { forward, right, .. } = self.lens;
        let ahead = axis[0] * forward[0] + axis[2] * forward[1] - axis[1] * self.down;
        [ahead, axis[0] * right[0] + axis[2] * right[1]]
    }
}

/// How far rays enter a form, m along the eye's axis, infinitely far where they do not, and through which face.
#[inline(always)]
pub(super) fn cast(form: &Form, rays: &Rays<'_>) -> (Lanes, [u32; LANES]) {
    match form {
        Form::Box { centre, half, axes } => cast_box(*centre, *half, axes, rays),
        Form::Capsule { ends, radius, .. } => (cast_capsule(*ends, *radius, rays), [0; LANES]),
    }
}

#[inline(always)]
fn cast_box(centre: [f32; 3], half: [f32; 3], axes: &[[f32; 3]; 3], rays: &Rays<'_>) -> (Lanes, [u32; LANES]) {
    let from = [0, 1, 2].map(|i| rays.lens.place[i] - centre[i]);
    let (mut enter, mut leave, mut face) = ([f32::NEG_INFINITY; LANES], [f32::INFINITY; LANES], [0; LANES]);
    for (number, (axis, half)) in axes.iter().zip(half).enumerate() {
        let at = dot(*axis, from);
        let [ahead, right] = rays.along(*axis);
        for i in 0..LANES {
            let slab = Slab::new(at, half, right.mul_add(rays.aside[i], ahead));
            let later = slab.enter > enter[i];
            face[i] = if later { (number * 2) as u32 + slab.far } else { face[i] };
            enter[i] = if later { slab.enter } else { enter[i] };
            leave[i] = if slab.leave < leave[i] { slab.leave } else { leave[i] };
        }
    }
    (each(|i| if enter[i] < leave[i] { enter[i] } else { f32::INFINITY }), face)
}

/// Where a ray is between two parallel planes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slab {
    pub enter: f32,
    pub leave: f32,
    /// 1 where it enters through the plane on the positive side, else 0.
    pub far: u32,
}

impl Slab {
    /// A ray that begins `at` metres from the middle between planes `2 * half` apart, and goes `speed` metres across for each ahead.
    #[inline(always)]
    pub fn new(at: f32, half: f32, speed: f32) -> Self {
        // A ray that keeps its distance from both planes is infinitely far from them.
        let speed = if speed == 0.0 { f32::MIN_POSITIVE } else { speed };
        let time = 1.0 / speed;
        let (a, b) = ((-half - at) * time, (half - at) * time);
        let far = speed < 0.0;
        Self { enter: if far { b } else { a }, leave: if far { a } else { b }, far: u32::from(far) }
    }
}

/// How far rays enter a capsule.
///
/// Of a ray `o + t d` and a line `a + s b`, with `o - a` split along and across `b`: the cylinder where what is across has the radius, if `s` is
/// between the ends there; else the ball of the end that it is beyond.
#[inline(always)]
fn cast_capsule([a, b]: [[f32; 3]; 2], radius: f32, rays: &Rays<'_>) -> Lanes {
    let from = [0, 1, 2].map(|i| rays.lens.place[i] - a[i]);
    let line = [0, 1, 2].map(|i| b[i] - a[i]);
    let squared = dot(line, line);
    let ball = |from: [f32; 3]| {
        let [ahead, right] = rays.along(from);
        let outside = dot(from, from) - radius * radius;
        each(|i| {
            let speed = rays.aside[i].mul_add(rays.aside[i], rays.down.mul_add(rays.down, 1.0));
            let back = right.mul_add(rays.aside[i], ahead);
            let inside = back * back - speed * outside;
            if inside > 0.0 { (-back - inside.sqrt()) / speed } else { f32::INFINITY }
        })
    };
    let first = ball(from);
    if squared < 1e-12 {
        return first;
    }
    let second = ball([0, 1, 2].map(|i| from[i] - line[i]));
    let ([ahead, right], [line_ahead, line_right]) = (rays.along(from), rays.along(line));
    let along = dot(from, line);
    let outside = dot(from, from) - along * along / squared - radius * radius;
    each(|i| {
        let aside = rays.aside[i];
        let line_speed = line_right.mul_add(aside, line_ahead);
        let speed = aside.mul_add(aside, rays.down.mul_add(rays.down, 1.0)) - line_speed * line_speed / squared;
        let back = right.mul_add(aside, ahead) - line_speed * along / squared;
        let inside = back * back - speed * outside;
        let cylinder = if inside > 0.0 { (-back - inside.sqrt()) / speed } else { f32::INFINITY };
        let at = cylinder.mul_add(line_speed, along);
        let on = at > 0.0 && at < squared;
        if on { cylinder } else { first[i].min(second[i]) }
    })
}

/// Normals of a capsule where rays enter it; of rays that pass it by, where they are closest. `[x, y, z]`.
#[inline(always)]
pub(super) fn normals([a, b]: [[f32; 3]; 2], radius: f32, rays: &Rays<'_>) -> [Lanes; 3] {
    let Lens { forward, right, place, .. } = rays.lens;
    let line = [0, 1, 2].map(|i| b[i] - a[i]);
    let squared = dot(line, line).max(1e-12);
    let hit = cast_capsule([a, b], radius, rays);
    let middle = [0, 1, 2].map(|i| place[i] - f32::midpoint(a[i], b[i]));
    let [ahead, aside] = rays.along(middle);
    let mut normals = [[0.0; LANES]; 3];
    for i in 0..LANES {
        let x = rays.aside[i];
        let way = [right[0].mul_add(x, forward[0]), -rays.down, right[1].mul_add(x, forward[1])];
        let closest = -aside.mul_add(x, ahead) / dot(way, way);
        let depth = if hit[i] < f32::INFINITY { hit[i] } else { closest };
        let from = [0, 1, 2].map(|k: usize| depth.mul_add(way[k], place[k] - a[k]));
        let share = (dot(from, line) / squared).clamp(0.0, 1.0);
        let normal = [0, 1, 2].map(|k: usize| from[k] - share * line[k]);
        let length = dot(normal, normal).sqrt().max(1e-12);
        for k in 0..3 {
            normals[k][i] = normal[k] / length;
        }
    }
    normals
}
