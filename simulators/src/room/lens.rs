//! The eye of a picture: directions, and what a pixel is.

use super::scene::Eye;

/// Where in a pixel its samples are: right and down from its upper left corner. Measured: the original's pictures were made with these.
pub(super) const SAMPLES: [[f32; 2]; 4] = [[0.375, 0.125], [0.875, 0.375], [0.125, 0.625], [0.625, 0.875]];
/// The middle of a pixel: where it is shaded, and where depth and ids are asked for.
pub(super) const MIDDLE: [f32; 2] = [0.5, 0.5];

/// What is nearer is not drawn, m.
pub(super) const NEAR: f32 = 0.04;

/// What each pixel looks along, and where in the picture a point is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lens {
    pub(super) place: [f32; 3],
    /// Along `x` and `z`.
    pub(super) forward: [f32; 2],
    pub(super) right: [f32; 2],
    /// Pixels that a metre is long at a distance of one.
    pub(super) focal: f32,
    /// The point that the eye looks at, pixels.
    pub(super) middle: [f32; 2],
}

impl Lens {
    pub fn new(eye: &Eye, width: usize, height: usize) -> Self {
        let (cos, sin) = (libm::cos(eye.heading) as f32, libm::sin(eye.heading) as f32);
        let focal = (height as f64 / 2.0 / libm::tan(eye.field / 2.0)) as f32;
        let middle = [width as f32 / 2.0, height as f32 * eye.horizon];
        Self { place: eye.place, forward: [cos, -sin], right: [sin, cos], focal, middle }
    }

    /// Where the eye is.
    pub fn place(&self) -> [f32; 3] {
        self.place
    }

    /// The way through a point of the picture, pixels right and down: `x`, `y`, `z` for each metre along the eye's axis.
    pub fn ray(&self, [x, y]: [f32; 2]) -> [f32; 3] {
        let [along_x, along_z] = self.way(self.aside(x));
        [along_x, -self.down(y), along_z]
    }

    /// Where a ray is so many metres along the eye's axis.
    pub fn along(&self, ray: [f32; 3], depth: f32) -> [f32; 3] {
        [0, 1, 2].map(|i: usize| depth.mul_add(ray[i], self.place[i]))
    }

    /// Where in a picture of `side` by `side` pixels a point is, pixels right and down, if it is before the eye and within the picture.
    pub fn image(&self, point: [f32; 3], side: usize) -> Option<[f32; 2]> {
        let [x, y, z] = [0, 1, 2].map(|i: usize| point[i] - self.place[i]);
        let depth = self.forward[0] * x + self.forward[1] * z;
        if depth <= NEAR {
            return None;
        }
        let scale = self.focal / depth;
        let aside = self.right[0] * x + self.right[1] * z;
        let at = [aside.mul_add(scale, self.middle[0]), (-y).mul_add(scale, self.middle[1])];
        at.iter().all(|at| (0.0..side as f32).contains(at)).then_some(at)
    }

    /// How far right at a distance of one a point is that is `x` pixels from the left.
    #[inline(always)]
    pub fn aside(&self, x: f32) -> f32 {
        (x - self.middle[0]) / self.focal
    }

    /// How far down at a distance of one a point is that is `y` pixels from the top.
    #[inline(always)]
    pub fn down(&self, y: f32) -> f32 {
        (y - self.middle[1]) / self.focal
    }

    /// Along `x` and `z`, the way at a distance of one through what is so far aside.
    #[inline(always)]
    pub fn way(&self, aside: f32) -> [f32; 2] {
        [self.right[0].mul_add(aside, self.forward[0]), self.right[1].mul_add(aside, self.forward[1])]
    }
}
