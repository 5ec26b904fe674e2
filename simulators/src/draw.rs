//! Pictures of worlds for people: a few solids over a checkered ground, by casting rays on the CPU.
//!
//! Four rays a pixel where there are edges, a sun, a sky and soft shadows on the ground; nothing here knows what the solids are. World axes are
//! those of [`crate::articulated`]: x forward, y up, metres. A picture's bytes depend on nothing but the scene and the size:
//! each pixel is computed alone, from sums, products and square roots.

mod camera;
mod image;
mod light;
mod solid;
mod vector;

use rayon::prelude::*;

pub use camera::Camera;
pub use image::{Image, ImageError};
pub use light::{Colour, srgb};
pub use solid::{Form, Solid};
pub use vector::Vector;

use camera::Ray;
use light::{Place, to_bytes};
use vector::{add, scale};

/// What there is to see of a world.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    /// Solids in space.
    Solids(Scene),
    /// A world that is a picture already; it is shown enlarged.
    Pixels(Image),
}

impl View {
    /// The picture of it.
    ///
    /// # Panics
    /// If a side is zero.
    #[must_use]
    pub fn draw(&self, width: usize, height: usize) -> Image {
        match self {
            Self::Solids(scene) => scene.draw(width, height),
            Self::Pixels(image) => image.enlarged(width, height),
        }
    }
}

/// Solids on the ground `y = 0`, and who looks at them.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// What casts shadows and is seen.
    pub solids: Vec<Solid>,
    /// From where.
    pub camera: Camera,
}

/// Where in a pixel its rays pass: a square turned so that edges near the axes are smooth too.
const SAMPLES: [[f64; 2]; 4] = [[0.375, 0.125], [0.875, 0.375], [0.125, 0.625], [0.625, 0.875]];

impl Scene {
    /// The picture, rows shared out over threads.
    ///
    /// # Panics
    /// If a side is zero.
    #[must_use]
    pub fn draw(&self, width: usize, height: usize) -> Image {
        let mut image = Image::black(width, height);
        let rays = self.camera.rays(width, height);
        image.rgb.par_chunks_exact_mut(width * 3).enumerate().for_each_init(Vec::new, |near, (row, pixels)| {
            for (column, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let middle = rays.through(column as f64 + 0.5, row as f64 + 0.5);
                self.gather(&middle, rays.spread(), near);
                // Sky and bare ground have no edges but the ground's own, which is smooth by itself.
                *pixel = to_bytes(if near.is_empty() {
                    colour(near, &middle, rays.spread())
                } else {
                    let samples = SAMPLES.map(|[dx, dy]| {
                        let ray = rays.through(column as f64 + dx, row as f64 + dy);
                        colour(near, &ray, rays.spread())
                    });
                    scale(samples.into_iter().fold([0.0; 3], add), 1.0 / SAMPLES.len() as f64)
                });
            }
        });
        image
    }

    /// Those solids that rays near `ray` can meet, or that can darken the ground where they meet it.
    fn gather<'a>(&'a self, ray: &Ray, spread: f64, near: &mut Vec<&'a Solid>) {
        near.clear();
        let ground = ray.ground().map(|distance| Place { point: ray.at(distance), blur: distance * spread });
        near.extend(self.solids.iter().filter(|solid| {
            let ball = solid.form.bounds();
            ray.passes(ball, spread) || ground.as_ref().is_some_and(|place| place.may_be_darkened_by(ball))
        }));
    }
}

/// What a ray sees, as light.
fn colour(solids: &[&Solid], ray: &Ray, spread: f64) -> Colour {
    let hits =
        solids.iter().filter_map(|solid| solid.form.hit(ray).map(|(distance, normal)| (distance, normal, solid)));
    let first = hits.min_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let ground = ray.ground();
    match (first, ground) {
        (Some((distance, normal, solid)), ground) if ground.is_none_or(|ground| distance < ground) => {
            light::solid(solid.colour, normal, ray)
        }
        (_, Some(distance)) => {
            light::ground(&Place { point: ray.at(distance), blur: distance * spread }, distance, ray, solids)
        }
        (_, None) => light::sky(ray.direction),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Colour = [0.8, 0.0, 0.0];

    fn ball_at(place: Vector) -> Scene {
        let form = Form::Round { from: place, to: place, radius: 0.5 };
        let camera = Camera { eye: [0.0, 1.0, 6.0], target: [0.0, 1.0, 0.0], height: 0.5 };
        Scene { solids: vec![Solid { form, colour: RED }], camera }
    }

    fn is_red([r, g, b]: [u8; 3]) -> bool {
        i32::from(r) > i32::from(g) + 60 && i32::from(r) > i32::from(b) + 60
    }

    #[test]
    fn a_ball_covers_the_disc_that_geometry_says() {
        let scene = ball_at([0.0, 1.0, 0.0]);
        let image = scene.draw(120, 90);
        // Half a metre six metres away, seen past its edge: tan = r / sqrt(d^2 - r^2), of 0.5 for half the height.
        let radius = 45.0 / 0.5 * 0.5 / f64::sqrt(36.0 - 0.25);
        let red = image.rgb.as_chunks::<3>().0.iter().filter(|pixel| is_red(**pixel)).count();
        let disc = std::f64::consts::PI * radius * radius;
        assert!((red as f64 - disc).abs() < 2.0 * radius, "{red} pixels, a disc of {disc}");
        assert!(is_red(image.pixel(60, 45)) && !is_red(image.pixel(60 + radius as usize + 2, 45)));
    }

    #[test]
    fn whatever_floats_darkens_the_ground_below_and_not_elsewhere() {
        let camera = Camera { eye: [0.0, 6.0, 0.1], target: [0.0, 0.0, 0.0], height: 0.5 };
        let scene = |solids| Scene { solids, camera: camera.clone() };
        let form = Form::Block {
            centre: [0.0, 0.4, 0.0],
            half: [0.3, 0.3, 0.3],
            axes: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        };
        let (bare, dark) = (scene(vec![]).draw(90, 90), scene(vec![Solid { form, colour: RED }]).draw(90, 90));
        let sum = |pixel: [u8; 3]| pixel.map(u32::from).iter().sum::<u32>();
        let differs = |x: usize, y: usize| sum(bare.pixel(x, y)) > sum(dark.pixel(x, y)) + 40;
        let darker = (0..90 * 90).filter(|i| differs(i % 90, i / 90) && !is_red(dark.pixel(i % 90, i / 90))).count();
        assert!(darker > 50, "a shadow beside the block, of {darker} pixels");
        assert_eq!(bare.pixel(2, 2), dark.pixel(2, 2), "far from it nothing changes");
    }

    #[test]
    fn threads_change_no_byte() {
        let scene = ball_at([0.3, 0.6, 0.4]);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| scene.draw(64, 48))
        };
        assert!(with(1) == with(4));
    }
}
