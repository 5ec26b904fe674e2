//! Light out of doors: a sun, a sky, and what forms, ground and distance make of them.
//!
//! Amounts of light are summed as such; a byte's share of 255 is the root of its amount.

use super::form::{Rays, dot, normals};
use super::lanes::{Colours, LANES, each, packed};

/// Towards the sun, of length one.
pub(super) const SUN: [f32; 3] = [-0.36, 0.8, 0.48];
/// Amounts of light that what faces the sun has from it, and what faces up from the sky, or down from the ground.
pub(super) const SUNLIGHT: [f32; 3] = [0.92, 0.89, 0.83];
pub(super) const SKYLIGHT: [f32; 3] = [0.30, 0.33, 0.38];
const BOUNCE: [f32; 3] = [0.13, 0.13, 0.12];
/// What of the sun is mirrored.
const GLEAM: f32 = 0.18;

/// Of the sky, shares of bytes.
const HORIZON: [f32; 3] = [0.914, 0.941, 0.961];
const ZENITH: [f32; 3] = [0.447, 0.639, 0.839];
/// Distance at which half of what is seen of the ground is haze, m.
const HAZE: f32 = 14.0;

/// Light from all sides on a surface with the normal `normal`, of which the share `mirrored` of the sun's comes back as from a mirror.
#[inline(always)]
fn lit_and_gleaming(colour: [f32; 3], normal: [f32; 3], mirrored: f32) -> [f32; 3] {
    let facing = dot(normal, SUN).max(0.0);
    let up = f32::midpoint(normal[1], 1.0);
    [0, 1, 2].map(|i: usize| {
        let from_around = BOUNCE[i] + (SKYLIGHT[i] - BOUNCE[i]) * up;
        let light = colour[i] * colour[i] * (SUNLIGHT[i] * facing + from_around) + mirrored * SUNLIGHT[i];
        light.clamp(0.0, 1.0).sqrt()
    })
}

/// A colour in the light, of a surface that mirrors nothing.
#[inline(always)]
pub(super) fn lit(colour: [f32; 3], normal: [f32; 3]) -> [f32; 3] {
    lit_and_gleaming(colour, normal, 0.0)
}

/// Colours of a capsule where rays enter it.
#[inline(always)]
pub(super) fn round(colour: [f32; 3], ends: [[f32; 3]; 2], radius: f32, rays: &Rays<'_>) -> Colours {
    let normals = normals(ends, radius, rays);
    each(|i| {
        let normal = [normals[0][i], normals[1][i], normals[2][i]];
        let [x, z] = rays.lens.way(rays.aside[i]);
        let way = [x, -rays.down, z];
        // The direction in which the sun is mirrored, against that of the eye.
        let twice = 2.0 * dot(normal, SUN);
        let back = SUN[0] * way[0] + SUN[1] * way[1] + SUN[2] * way[2] - twice * dot(normal, way);
        let near = (back / dot(way, way).sqrt()).max(0.0);
        let eighth = (near * near) * (near * near) * ((near * near) * (near * near));
        packed(lit_and_gleaming(colour, normal, GLEAM * (eighth * eighth * eighth)))
    })
}

/// The sky in a row of pixels that is so far above the horizon at a distance of one.
#[inline(always)]
pub(super) fn sky(above: f32) -> u32 {
    let sine = above / above.mul_add(above, 1.0).sqrt();
    // Most of the change is near the horizon.
    let share = sine * (2.0 - sine);
    packed([0, 1, 2].map(|i: usize| HORIZON[i] + (ZENITH[i] - HORIZON[i]) * share))
}

/// Draws haze over a row of the ground that is `depth` metres away.
#[inline(always)]
pub(super) fn haze(depth: f32, row: &mut [u32]) {
    let share = depth * depth / depth.mul_add(depth, HAZE * HAZE);
    let (horizon, share) = (packed(HORIZON), (share * 256.0 + 0.5) as u32);
    for colours in row.as_chunks_mut::<LANES>().0 {
        *colours = super::texture::blend(*colours, [horizon; LANES], [share; LANES]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sun_is_a_direction() {
        assert!((dot(SUN, SUN) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn what_faces_the_sun_is_brighter_than_what_faces_away_and_red_stays_red() {
        let [day, night] = [1.0, -1.0].map(|side| lit([0.8, 0.0, 0.0], SUN.map(|x| x * side)));
        assert!(day[0] > 1.5 * night[0] && night[0] > 0.1, "{day:?} {night:?}");
        assert_eq!((day[1], night[2]), (0.0, 0.0));
    }

    #[test]
    fn ground_far_away_is_the_sky_at_the_horizon() {
        let mut row = [0x0010_2030; LANES];
        haze(1e4, &mut row);
        assert_eq!(row, [sky(0.0); LANES]);
        let mut near = [0x0010_2030; LANES];
        haze(0.1, &mut near);
        assert_eq!(near, [0x0010_2030; LANES]);
        assert_ne!(sky(0.0), sky(0.5));
    }
}
