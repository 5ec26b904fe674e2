//! Solids: where rays meet them, and how much of the sun they hide.

use super::camera::{Ball, Ray};
use super::light::Colour;
use super::vector::{Vector, add, cross, dot, scale, sub};

/// A form in the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// All that is within `radius` of a line; a ball where its ends are one.
    Round {
        /// One end of the line, m.
        from: Vector,
        /// The other.
        to: Vector,
        /// m.
        radius: f64,
    },
    /// A block.
    Block {
        /// Its middle, m.
        centre: Vector,
        /// Half its sides, m.
        half: [f64; 3],
        /// Where its sides point, each of length one and at right angles.
        axes: [Vector; 3],
    },
}

/// A form of one colour.
#[derive(Clone, Debug, PartialEq)]
pub struct Solid {
    /// Where it is.
    pub form: Form,
    /// The share of the light that it gives back.
    pub colour: Colour,
}

impl Form {
    pub(super) fn bounds(&self) -> Ball {
        match self {
            Self::Round { from, to, radius } => {
                let along = sub(*to, *from);
                (add(*from, scale(along, 0.5)), dot(along, along).sqrt() / 2.0 + radius)
            }
            Self::Block { centre, half, .. } => (*centre, dot(*half, *half).sqrt()),
        }
    }

    /// Where a ray that begins outside first meets it: the distance, and the direction away from it there.
    pub(super) fn hit(&self, ray: &Ray) -> Option<(f64, Vector)> {
        match self {
            Self::Round { from, to, radius } => {
                let distance = meets_round(*from, *to, *radius, ray).filter(|distance| *distance > 0.0)?;
                let (point, along) = (ray.at(distance), sub(*to, *from));
                let share = dot(sub(point, *from), along) / dot(along, along).max(f64::MIN_POSITIVE);
                let centre = add(*from, scale(along, share.clamp(0.0, 1.0)));
                Some((distance, scale(sub(point, centre), 1.0 / radius)))
            }
            Self::Block { centre, half, axes } => meets_block(*centre, half, axes, ray),
        }
    }

    /// How much of a light in the direction of `ray` reaches its origin, 0 to 1; the light is `wide`, the radius of its disc
    /// at a distance of one.
    pub(super) fn lets_pass(&self, ray: &Ray, wide: f64) -> f64 {
        match self {
            Self::Round { from, to, radius } => {
                // Where the line comes nearest to the ray: both seen along the ray.
                let (to_from, along) = (sub(*from, ray.origin), sub(*to, *from));
                let flat = |v: Vector| sub(v, scale(ray.direction, dot(v, ray.direction)));
                let (start, side) = (flat(to_from), flat(along));
                let share = -dot(start, side) / dot(side, side).max(f64::MIN_POSITIVE);
                let nearest = add(to_from, scale(along, share.clamp(0.0, 1.0)));
                let distance = dot(nearest, ray.direction);
                if distance <= 0.0 {
                    return 1.0;
                }
                let beside = cross(nearest, ray.direction);
                let open = (dot(beside, beside).sqrt() - radius) / (distance * wide);
                smooth(f64::midpoint(open, 1.0))
            }
            Self::Block { .. } => f64::from(u8::from(self.hit(ray).is_none())),
        }
    }
}

/// From 0 at 0 to 1 at 1, level at both.
fn smooth(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// The side of the cylinder where the ray meets it between the ends, else the ball at the end that it passes.
fn meets_round(from: Vector, to: Vector, radius: f64, ray: &Ray) -> Option<f64> {
    let (along, start) = (sub(to, from), sub(ray.origin, from));
    let (length, slope, begin) = (dot(along, along), dot(along, ray.direction), dot(along, start));
    let a = length - slope * slope;
    let b = length * dot(ray.direction, start) - begin * slope;
    let c = length * (dot(start, start) - radius * radius) - begin * begin;
    let inside = b * b - a * c;
    if inside < 0.0 {
        return None;
    }
    let distance = (-b - inside.sqrt()) / a;
    let share = begin + distance * slope;
    if share > 0.0 && share < length {
        return Some(distance);
    }
    let start = if share <= 0.0 { start } else { sub(ray.origin, to) };
    let b = dot(ray.direction, start);
    let inside = b * b - dot(start, start) + radius * radius;
    (inside > 0.0).then(|| -b - inside.sqrt())
}

/// The last of the three pairs of planes that the ray enters, if it has left none by then.
fn meets_block(centre: Vector, half: &[f64; 3], axes: &[Vector; 3], ray: &Ray) -> Option<(f64, Vector)> {
    let start = sub(ray.origin, centre);
    let (mut enter, mut leave, mut normal) = (f64::NEG_INFINITY, f64::INFINITY, [0.0; 3]);
    for (axis, half) in axes.iter().zip(half) {
        // Along a ray that keeps its distance from both planes they are infinitely far; a zero that is added has no sign.
        let (at, speed) = (dot(start, *axis), dot(ray.direction, *axis) + 0.0);
        let sign = if speed < 0.0 { 1.0 } else { -1.0 };
        let (near, far) = ((sign * half - at) / speed, (-sign * half - at) / speed);
        if near > enter {
            (enter, normal) = (near, scale(*axis, sign));
        }
        leave = leave.min(far);
    }
    (enter > 0.0 && enter < leave).then_some((enter, normal))
}

#[cfg(test)]
mod tests {
    use super::super::vector::unit;
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn rays_meet_solids_where_they_are() {
        let ray = |origin, direction| Ray { origin, direction: unit(direction) };
        let capsule = Form::Round { from: [0.0, 0.0, 0.0], to: [2.0, 0.0, 0.0], radius: 0.5 };
        // Down on its side, onto its end from ahead, and past it.
        let (distance, normal) = capsule.hit(&ray([1.0, 3.0, 0.0], [0.0, -1.0, 0.0])).unwrap();
        assert!(near(distance, 2.5) && near(normal[1], 1.0));
        let (distance, normal) = capsule.hit(&ray([5.0, 0.1, 0.0], [-1.0, 0.0, 0.0])).unwrap();
        assert!(near(distance, 3.0 - f64::sqrt(0.25 - 0.01)) && near(normal[1], 0.2));
        assert!(capsule.hit(&ray([3.0, 3.0, 0.0], [0.0, -1.0, 0.0])).is_none());
        let ball = Form::Round { from: [0.0; 3], to: [0.0; 3], radius: 0.5 };
        assert!(near(ball.hit(&ray([0.0, 0.0, 2.0], [0.0, 0.0, -1.0])).unwrap().0, 1.5));
        let turned = [unit([1.0, 1.0, 0.0]), unit([-1.0, 1.0, 0.0]), [0.0, 0.0, 1.0]];
        let block = Form::Block { centre: [1.0, 0.0, 0.0], half: [0.5; 3], axes: turned };
        let (distance, normal) = block.hit(&ray([-1.0, 1e-3, 0.0], [1.0, 0.0, 0.0])).unwrap();
        assert!((distance - (2.0 - f64::sqrt(0.5))).abs() < 2e-3 && normal[0] < 0.0, "{distance} {normal:?}");
        assert!(block.hit(&ray([1.0, 3.0, 0.6], [0.0, -1.0, 0.0])).is_none());
    }

    #[test]
    fn a_shadow_is_whole_in_the_middle_and_gone_beside() {
        let ball = Form::Round { from: [0.0, 2.0, 0.0], to: [0.0, 2.0, 0.0], radius: 0.5 };
        let open = |x: f64| ball.lets_pass(&Ray { origin: [x, 0.0, 0.0], direction: [0.0, 1.0, 0.0] }, 0.05);
        assert!(near(open(0.0), 0.0) && near(open(0.5), 0.5) && near(open(0.7), 1.0));
        assert!(open(0.45) < open(0.5) && open(0.5) < open(0.55));
    }
}
