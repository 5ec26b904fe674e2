//! Light: a sun, a sky, what solids and the ground make of them, and how that becomes bytes.

use super::camera::{Ball, Ray};
use super::solid::Solid;
use super::vector::{Vector, add, dot, mix, scale, sub};

/// Red, green, blue, as amounts of light: 0 is none, 1 as much as a picture can show.
pub type Colour = [f64; 3];

/// The colour that is written `0xRRGGBB`. A byte stands for the square of its share, as `to_bytes` takes it back.
#[must_use]
pub const fn srgb(hex: u32) -> Colour {
    const fn light(byte: u32) -> f64 {
        let share = (byte & 0xff) as f64 / 255.0;
        share * share
    }
    [light(hex >> 16), light(hex >> 8), light(hex)]
}

/// The bytes of an amount of light.
pub(super) fn to_bytes(colour: Colour) -> [u8; 3] {
    colour.map(|light| (light.clamp(0.0, 1.0).sqrt() * 255.0).round() as u8)
}

/// Towards the sun: behind the eye's left shoulder, of length one.
const SUN: Vector = [-0.36, 0.8, 0.48];
/// Radius of the sun's disc at a distance of one: how soft shadows are.
const SUN_WIDTH: f64 = 0.09;
/// The same of what of the sky a solid hides from the ground below it.
const SKY_WIDTH: f64 = 1.1;
const SUNLIGHT: Colour = [0.92, 0.89, 0.83];
const SKYLIGHT: Colour = [0.30, 0.33, 0.38];
/// What the ground throws back up.
const BOUNCE: Colour = [0.13, 0.13, 0.12];

const HORIZON: Colour = srgb(0x00e9_f0f5);
const ZENITH: Colour = srgb(0x0072_a3d6);
const TILES: [Colour; 2] = [srgb(0x00b9_c3cc), srgb(0x00dd_e3e8)];
/// Side of a tile, m.
const TILE: f64 = 0.5;
/// Distance at which half of what is seen of the ground is haze, m.
const HAZE: f64 = 14.0;

/// A point of the ground, and how wide a pixel is there.
pub(super) struct Place {
    pub point: Vector,
    pub blur: f64,
}

impl Place {
    /// Whether a solid in that ball can hide any of the sun or of the sky from here.
    pub fn may_be_darkened_by(&self, ball: Ball) -> bool {
        let towards = |direction| Ray { origin: self.point, direction };
        let (width, blur) = ((ball.0, ball.1 + 2.0 * self.blur), SUN_WIDTH);
        towards(SUN).passes(width, blur) || towards(UP).passes(width, SKY_WIDTH)
    }
}

const UP: Vector = [0.0, 1.0, 0.0];

pub(super) fn sky(direction: Vector) -> Colour {
    // Most of the change is near the horizon.
    let up = direction[1].clamp(0.0, 1.0);
    mix(HORIZON, ZENITH, up * (2.0 - up))
}

/// Lambert's law for the sun, light from above and below by where the surface faces, and a gleam.
pub(super) fn solid(colour: Colour, normal: Vector, ray: &Ray) -> Colour {
    let facing = dot(normal, SUN).max(0.0);
    let up = f64::midpoint(normal[1], 1.0);
    let light = add(scale(SUNLIGHT, facing), mix(BOUNCE, SKYLIGHT, up));
    // The direction in which the sun is mirrored, against that of the eye.
    let mirrored = sub(scale(normal, 2.0 * dot(normal, SUN)), SUN);
    let gleam = (-dot(mirrored, ray.direction)).max(0.0).powi(24) * 0.18;
    [0, 1, 2].map(|i| colour[i] * light[i] + gleam * SUNLIGHT[i])
}

/// The checkered ground under what stands on it, fading into the horizon.
pub(super) fn ground(place: &Place, distance: f64, ray: &Ray, solids: &[&Solid]) -> Colour {
    // A pixel is longer on the ground the flatter the ray falls.
    let blur = place.blur / (-ray.direction[1]).max(0.02) / TILE;
    let tile = mix(TILES[0], TILES[1], checks(place.point[0] / TILE, place.point[2] / TILE, blur));
    let least = |direction: Vector, width: f64| {
        let towards = Ray { origin: place.point, direction };
        solids.iter().map(|solid| solid.form.lets_pass(&towards, width)).fold(1.0, f64::min)
    };
    let (sun, open) = (least(SUN, SUN_WIDTH), least(UP, SKY_WIDTH));
    let light = add(scale(SUNLIGHT, sun * SUN[1]), scale(SKYLIGHT, 0.35 + 0.65 * open));
    let lit = [0, 1, 2].map(|i| tile[i] * light[i]);
    let haze = distance * distance / (distance * distance + HAZE * HAZE);
    mix(lit, HORIZON, haze)
}

/// How much of a square of side `blur` about a point lies on light checks of side one: the mean of the pattern over it.
fn checks(x: f64, z: f64, blur: f64) -> f64 {
    let blur = blur.max(1e-4);
    // A triangle wave is the integral of a square wave.
    let triangle = |x: f64| (2.0 * (x / 2.0 - (x / 2.0).floor()) - 1.0).abs();
    let mean = |x: f64| (triangle(x + blur / 2.0) - triangle(x - blur / 2.0)) / blur;
    0.5 - 0.5 * mean(x).clamp(-1.0, 1.0) * mean(z).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_come_back_as_they_were_written() {
        assert_eq!(to_bytes(srgb(0x00e9_07f5)), [0xe9, 0x07, 0xf5]);
        assert_eq!(to_bytes([-1.0, 2.0, 0.0]), [0, 255, 0]);
    }

    #[test]
    fn checks_alternate_and_far_away_are_their_mean() {
        let light = |x: f64, z: f64| checks(x, z, 0.01) > 0.999;
        let dark = |x: f64, z: f64| checks(x, z, 0.01) < 0.001;
        assert!(dark(0.5, 0.5) && light(1.5, 0.5) && light(0.5, 1.5) && dark(1.5, 1.5) && light(-0.5, 0.5));
        assert!((checks(0.3, 7.9, 50.0) - 0.5).abs() < 0.01);
    }

    #[test]
    fn the_sun_is_a_direction() {
        assert!((dot(SUN, SUN) - 1.0).abs() < 1e-12);
    }
}
