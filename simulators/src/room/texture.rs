//! Textures and their reductions, and what a pixel sees of them.

use crate::image::Image;

use super::lanes::{Colours, LANES, Lanes, each, whole};

/// The longest side that a texture may have, pixels.
const MOST: usize = 8192;

/// A picture that repeats.
#[derive(Debug)]
pub struct Texture {
    /// Metres along each side of it, on a wall.
    repeat: [f32; 2],
    /// The logarithm of two of the longest of its own sides.
    bits: u32,
    /// The picture in squares of `2^k` by `2^k` texels, the k-th of which begins at `4^k`. Rows are from the bottom.
    texels: Vec<u32>,
    /// The colour of all of it, where it is one.
    plain: Option<u32>,
}

impl Texture {
    /// Texels that a texture of a wall, floor or ceiling has a metre.
    pub(crate) const DENSITY: u16 = 512;

    /// A picture, whose rows are from the top. On walls, floors and ceilings 512 pixels of it are a metre.
    ///
    /// # Panics
    /// If there is none of it, or a side is longer than 8192.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        Self::new(image.width, image.rgb.as_chunks().0)
    }

    /// From pixels, `[height, width]`, rows from the top. On walls, floors and ceilings 512 of them are a metre.
    ///
    /// # Panics
    /// If there is none, the last row is not whole, or a side is longer than 8192.
    #[must_use]
    pub fn new(width: usize, rgb: &[[u8; 3]]) -> Self {
        assert!(width > 0 && !rgb.is_empty() && rgb.len().is_multiple_of(width), "whole rows");
        let height = rgb.len() / width;
        assert!(width.max(height) <= MOST, "a texture of {width} by {height} pixels");
        let longest = width.max(height);
        // The nearest power of two: other sizes are resampled.
        let bits = (0..=MOST.ilog2()).min_by_key(|&bits| (1usize << bits).abs_diff(longest)).expect("some");
        let mut texels = vec![0; 2 << (2 * bits)];
        let side = 1 << bits;
        for row in 0..side {
            for column in 0..side {
                let of = |at: usize, whole: usize| at * whole / side..((at + 1) * whole).div_ceil(side);
                let rows = of(row, height).map(|row| height - 1 - row);
                let colours = rows.flat_map(|row| of(column, width).map(move |column| rgb[row * width + column]));
                texels[(side + row) * side + column] = average(colours);
            }
        }
        for k in (0..bits).rev() {
            let side = 1 << k;
            for at in 0..side * side {
                let (row, column) = (2 * (at / side), 2 * (at % side));
                let finer = |r: usize, c: usize| {
                    let [red, green, blue, _] = texels[(2 * side + row + r) * 2 * side + column + c].to_le_bytes();
                    [red, green, blue]
                };
                texels[side * side + at] = average([finer(0, 0), finer(0, 1), finer(1, 0), finer(1, 1)].into_iter());
            }
        }
        let plain = rgb.iter().all(|other| *other == rgb[0]).then(|| texels[1]);
        Self { repeat: [width, height].map(|side| side as f32 / f32::from(Self::DENSITY)), bits, texels, plain }
    }

    /// Metres after which it repeats on a wall, along and up.
    pub(super) fn repeat(&self) -> [f32; 2] {
        self.repeat
    }

    /// The colour of all of it, where it is one.
    pub(super) fn plain(&self) -> Option<u32> {
        self.plain
    }

    /// Colours at `(u, v)`, repeats from the lower left corner, where a pixel is `2^detail` metres wide on a wall, or `2^detail` repeats
    /// wide of a texture that has no metres: between four texels of each of two reductions, the one finer and the other coarser than wanted.
    #[inline(always)]
    pub(super) fn at(&self, u: Lanes, v: Lanes, detail: Lanes) -> Colours {
        let bits = self.bits as f32;
        let level = each(|i| (detail[i] + bits).clamp(0.0, bits));
        let whole_level = each(|i| (level[i] as i32).min(self.bits as i32));
        let share = each(|i| whole((level[i] - whole_level[i] as f32) * 256.0) as u32);
        let fine = each(|i| self.bits - whole_level[i] as u32);
        let coarse = each(|i| fine[i].saturating_sub(1));
        blend(self.between(u, v, fine), self.between(u, v, coarse), share)
    }

    /// Between the four nearest texels of squares of `2^k`.
    #[inline(always)]
    fn between(&self, u: Lanes, v: Lanes, k: [u32; LANES]) -> Colours {
        // In parts of 256 of a texel.
        let scale = each(|i| f32::from_bits((127 + 8 + k[i]) << 23));
        let [x, y] = [each(|i| whole(u[i].mul_add(scale[i], -128.0))), each(|i| whole(v[i].mul_add(scale[i], -128.0)))];
        let mask = each(|i| (1i32 << k[i]) - 1);
        let at = |place: i32, next: i32, i: usize| (((place >> 8) + next) & mask[i]) as u32;
        let (left, right) = (each(|i| at(x[i], 0, i)), each(|i| at(x[i], 1, i)));
        let (lower, upper) = (each(|i| at(y[i], 0, i)), each(|i| at(y[i], 1, i)));
        let row = each(|i| ((1u32 << k[i]) + lower[i]) << k[i]);
        let above = each(|i| ((1u32 << k[i]) + upper[i]) << k[i]);
        let texel = |row: u32, column: u32| self.texels[(row + column) as usize];
        let (x_share, y_share) = (each(|i| (x[i] & 255) as u32), each(|i| (y[i] & 255) as u32));
        let low = blend(each(|i| texel(row[i], left[i])), each(|i| texel(row[i], right[i])), x_share);
        let high = blend(each(|i| texel(above[i], left[i])), each(|i| texel(above[i], right[i])), x_share);
        blend(low, high, y_share)
    }
}

fn average(colours: impl Iterator<Item = [u8; 3]>) -> u32 {
    let (mut sum, mut count) = ([0u32; 3], 0);
    for colour in colours {
        sum = [0, 1, 2].map(|i| sum[i] + u32::from(colour[i]));
        count += 1;
    }
    let [r, g, b] = sum.map(|x| ((x + count / 2) / count) as u8);
    u32::from_le_bytes([r, g, b, 0])
}

/// Between two colours, by shares of 256 of the second.
#[inline(always)]
pub(super) fn blend(a: Colours, b: Colours, share: [u32; LANES]) -> Colours {
    each(|i| {
        let (w, v) = (share[i], 256 - share[i]);
        let outer = ((a[i] & 0x00ff_00ff) * v + (b[i] & 0x00ff_00ff) * w + 0x0080_0080) >> 8 & 0x00ff_00ff;
        let inner = ((a[i] & 0x0000_ff00) * v + (b[i] & 0x0000_ff00) * w + 0x0000_8000) >> 8 & 0x0000_ff00;
        outer | inner
    })
}

/// Texels in the light of a surface.
#[inline(always)]
pub(super) fn shine(texels: Colours, light: [f32; 3]) -> Colours {
    each(|i| shined(texels[i], light))
}

/// One texel in the light of a surface.
#[inline(always)]
pub(super) fn shined(texel: u32, light: [f32; 3]) -> u32 {
    let channel = |shift: u32, light: f32| (whole((texel >> shift & 255) as f32 * light) as u32) << shift;
    channel(0, light[0]) | channel(8, light[1]) | channel(16, light[2])
}
