//! Who looks: from the pixels of a picture to rays, and from places to pixels.

use super::vector::{Vector, add, cross, dot, scale, sub, unit};

/// An eye, upright.
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// Where it is, m.
    pub eye: Vector,
    /// What it looks at, m: the middle of the picture. Not straight above or below the eye.
    pub target: Vector,
    /// What half a picture's height is at a distance of one: the tangent of half the angle of view.
    pub height: f64,
}

/// A half line from the eye.
#[derive(Clone, Debug)]
pub(super) struct Ray {
    pub origin: Vector,
    /// Of length one.
    pub direction: Vector,
}

/// A ball that has all of a solid in it: centre and radius.
pub(super) type Ball = (Vector, f64);

impl Ray {
    pub fn at(&self, distance: f64) -> Vector {
        add(self.origin, scale(self.direction, distance))
    }

    /// How far the ground is, where it meets it.
    pub fn ground(&self) -> Option<f64> {
        (self.origin[1] > 0.0 && self.direction[1] < 0.0).then(|| -self.origin[1] / self.direction[1])
    }

    /// Whether a ray that widens by `spread` for each metre can meet the ball.
    pub fn passes(&self, (centre, radius): Ball, spread: f64) -> bool {
        let to = sub(centre, self.origin);
        let along = dot(to, self.direction);
        let wide = radius + along.max(0.0) * spread;
        along > -radius && dot(to, to) - along * along <= wide * wide
    }
}

/// The rays of one picture.
pub(super) struct Rays {
    eye: Vector,
    forward: Vector,
    /// One pixel to the right and one down, at a distance of one.
    right: Vector,
    down: Vector,
    centre: [f64; 2],
    pixel: f64,
}

impl Rays {
    /// The ray through a point of the picture, in pixels from its upper left corner.
    pub fn through(&self, x: f64, y: f64) -> Ray {
        let aside = add(scale(self.right, x - self.centre[0]), scale(self.down, y - self.centre[1]));
        Ray { origin: self.eye, direction: unit(add(self.forward, aside)) }
    }

    /// How much wider a pixel gets for each metre.
    pub fn spread(&self) -> f64 {
        self.pixel
    }
}

impl Camera {
    /// Axes of the eye: right, down, forward.
    fn axes(&self) -> [Vector; 3] {
        let forward = unit(sub(self.target, self.eye));
        let right = unit(cross(forward, [0.0, 1.0, 0.0]));
        [right, cross(forward, right), forward]
    }

    pub(super) fn rays(&self, width: usize, height: usize) -> Rays {
        let [right, down, forward] = self.axes();
        let pixel = self.height * 2.0 / height as f64;
        let centre = [width as f64 / 2.0, height as f64 / 2.0];
        Rays { eye: self.eye, forward, right: scale(right, pixel), down: scale(down, pixel), centre, pixel }
    }

    /// Where a place is in a picture of `width` by `height` pixels, from its upper left corner; it may be outside of it.
    /// `None` if it is behind the eye.
    #[must_use]
    pub fn project(&self, place: Vector, width: usize, height: usize) -> Option<[f64; 2]> {
        let [right, down, forward] = self.axes();
        let to = sub(place, self.eye);
        let depth = dot(to, forward);
        let pixels = height as f64 / 2.0 / self.height;
        (depth > 0.0).then(|| {
            let (x, y) = (dot(to, right) / depth, dot(to, down) / depth);
            [width as f64 / 2.0 + x * pixels, height as f64 / 2.0 + y * pixels]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_projected_is_met_by_the_ray_through_there() {
        let camera = Camera { eye: [-1.0, 2.0, 5.0], target: [0.5, 0.4, 0.0], height: 0.4 };
        let rays = camera.rays(320, 200);
        for place in [[0.5, 0.4, 0.0], [1.0, 0.0, -2.0], [-0.7, 1.1, 1.3]] {
            let [x, y] = camera.project(place, 320, 200).unwrap();
            let ray = rays.through(x, y);
            let to = sub(place, ray.origin);
            let beside = cross(to, ray.direction);
            assert!(dot(beside, beside).sqrt() < 1e-12, "{place:?} is at {x}, {y}");
        }
        let [x, y] = camera.project([0.5, 0.4, 0.0], 320, 200).unwrap();
        assert!((x - 160.0).abs() < 1e-12 && (y - 100.0).abs() < 1e-12, "the target is in the middle, not at {x}, {y}");
        assert_eq!(camera.project([-2.5, 3.6, 10.0], 320, 200), None);
    }
}
