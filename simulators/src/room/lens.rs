//! The eye of a picture: directions, and what a pixel is.

use super::scene::Eye;

/// Where in a pixel its samples are: right and down from its upper left corner. Measured: the original's pictures were made with these.
pub(super) const SAMPLES: [[f32; 2]; 4] = [[0.375, 0.125], [0.875, 0.375], [0.125, 0.625], [0.625, 0.875]];
/// The middle of a pixel: where it is shaded, and where depth and ids are asked for.
pub(super) const MIDDLE: [f32; 2] = [0.5, 0.5];

#[derive(Clone, Copy, Debug)]
pub(super) struct Lens {
    pub place: [f32; 3],
    /// Along `x` and `z`.
    pub forward: [f32; 2],
    pub right: [f32; 2],
    /// Pixels that a metre is long at a distance of one.
    pub focal: f32,
    /// The point that the eye looks at, pixels.
    pub middle: [f32; 2],
}

impl Lens {
    pub fn new(eye: &Eye, width: usize, height: usize) -> Self {
        let (cos, sin) = (libm::cos(eye.heading) as f32, libm::sin(eye.heading) as f32);
        let focal = (height as f64 / 2.0 / libm::tan(eye.field / 2.0)) as f32;
        let middle = [width as f32 / 2.0, height as f32 * eye.horizon];
        Self { place: eye.place, forward: [cos, -sin], right: [sin, cos], focal, middle }
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
