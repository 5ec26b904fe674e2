//! Floor and ceiling as if there were no walls: endless, so the same from every place that is whole textures away.

use std::sync::Arc;

use super::lanes::{LANES, each, load, log2};
use super::lens::Lens;
use super::texture::{Texture, shine, shined};

/// Pictures that are kept: of an agent on a grid that looks four ways, on floors that repeat every other cell, and its ceiling.
const KEPT: usize = 32;
/// So close to the horizon all that is level looks the same, as a slope.
const LEAST_SLOPE: f32 = 1e-3;

/// What a picture of something level follows from.
#[derive(Clone, Debug)]
struct Level {
    texture: Arc<Texture>,
    light: [f32; 3],
    /// Metres above the eye; of a floor less than none.
    above: f32,
    /// Metres from the last repetition of the texture to the eye, along `x` and `z`.
    place: [f32; 2],
    forward: [f32; 2],
    focal: f32,
    middle: [f32; 2],
}

impl Level {
    fn is(&self, other: &Self) -> bool {
        let numbers =
            |of: &Self| [of.above, of.place[0], of.place[1], of.forward[0], of.forward[1], of.focal, of.middle[1]];
        Arc::ptr_eq(&self.texture, &other.texture)
            && numbers(self).map(f32::to_bits) == numbers(other).map(f32::to_bits)
    }
}

/// Pictures of what is level.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    /// How far right of the eye's axis pixels are at a distance of one, filled up to whole lanes.
    aside: Vec<f32>,
    /// By how much a pixel is longer there than straight ahead, as a logarithm of two.
    lean: Vec<f32>,
    kept: Vec<(Level, Vec<u32>)>,
    /// Whose place the next picture takes.
    oldest: usize,
}

impl Levels {
    pub fn new(width: usize) -> Self {
        let strip = vec![0.0; width.next_multiple_of(LANES)];
        Self { aside: strip.clone(), lean: strip, kept: Vec::new(), oldest: 0 }
    }

    /// The number of the picture of what has `texture` and is `above` metres above the eye, or below it.
    #[inline(always)]
    pub fn find(&mut self, texture: &Arc<Texture>, light: [f32; 3], above: f32, lens: &Lens, height: usize) -> usize {
        let [along, across] = texture.repeat();
        let after = |at: f32, repeat: f32| at - (at / repeat).floor() * repeat;
        let place = [after(lens.place[0], along), after(lens.place[2], across)];
        let Lens { forward, focal, middle, .. } = *lens;
        let wanted = Level { texture: Arc::clone(texture), light, above, place, forward, focal, middle };
        if let Some(number) = self.kept.iter().position(|(level, _)| level.is(&wanted)) {
            return number;
        }
        let number = if self.kept.len() < KEPT {
            self.kept.push((wanted.clone(), vec![0; self.aside.len() * height]));
            self.kept.len() - 1
        } else {
            self.oldest = (self.oldest + 1) % KEPT;
            self.kept[self.oldest].0 = wanted.clone();
            self.oldest
        };
        for (x, (aside, lean)) in self.aside.iter_mut().zip(&mut self.lean).enumerate() {
            *aside = lens.aside(x as f32 + 0.5);
            *lean = log2(aside.mul_add(*aside, 1.0)) * 0.5;
        }
        let width = self.aside.len();
        for (y, row) in self.kept[number].1.chunks_exact_mut(width).enumerate() {
            let down = lens.down(y as f32 + 0.5);
            if (down > 0.0) == (above < 0.0) {
                draw(&wanted, lens, down.abs().max(LEAST_SLOPE), [&self.aside, &self.lean], row);
            }
        }
        number
    }

    /// Row `y` of a picture, filled up to whole lanes.
    #[inline(always)]
    pub fn row(&self, number: usize, y: usize) -> &[u32] {
        &self.kept[number].1[y * self.aside.len()..][..self.aside.len()]
    }
}

/// The row of pixels that are so far above or below the eye at a distance of one.
#[inline(always)]
fn draw(level: &Level, lens: &Lens, slope: f32, [asides, leans]: [&[f32]; 2], row: &mut [u32]) {
    let Level { texture, light, above, place, focal, .. } = level;
    let (height, [along, across]) = (above.abs(), texture.repeat());
    let depth = height / slope;
    // Repeats of the texture that a pixel is wide, and high.
    let wide = log2(depth / (focal * along));
    let high = log2(depth * depth / (height * focal * along));
    if let Some(colour) = texture.plain() {
        row.fill(shined(colour, *light));
        return;
    }
    for (begin, out) in (0..).step_by(LANES).zip(row.as_chunks_mut::<LANES>().0) {
        let (aside, lean) = (load(asides, begin), load(leans, begin));
        let way = each(|i| lens.right[0].mul_add(aside[i], lens.forward[0]));
        let u = each(|i| depth.mul_add(way[i], place[0]) / along);
        let way = each(|i| lens.right[1].mul_add(aside[i], lens.forward[1]));
        let v = each(|i| depth.mul_add(way[i], place[1]) / across);
        *out = shine(texture.at(u, v, each(|i| wide.max(high + lean[i]))), *light);
    }
}
