//! Draws a square of the torus straight into the caller's bytes, without a picture of the world in between.
//!
//! The square is drawn in tiles of at most 32 x 32 pixels. A tile's canvas lies on the stack and has a margin as wide as
//! a patch row before and after each row, so that a patch row that overlaps the tile at all is one unconditional operation
//! on 32 bytes, which the compiler turns into a few vector instructions; what falls into the margins is never read.

use super::world::MnistWorld;
use crate::digits::PATCH_STRIDE;
use crate::image::Image;
use crate::view::View;

/// Side of a tile, pixels: the window of the paper's worlds is one tile.
const TILE: usize = 32;
/// From one canvas row to the next: the margin after a row is the margin before the next one.
const CANVAS_STRIDE: usize = PATCH_STRIDE + TILE;

type Canvas = [u8; TILE * CANVAS_STRIDE + PATCH_STRIDE];
const BLANK: Canvas = [0; TILE * CANVAS_STRIDE + PATCH_STRIDE];

/// A tile: `rows x cols` pixels, the first of them at world coordinates `corner` and at `(row, col)` of the output.
struct Tile {
    corner: [i32; 2],
    row: usize,
    col: usize,
    rows: usize,
    cols: usize,
}

/// The frame around the window on a map.
const OUTLINE: [u8; 3] = [240, 170, 60];

/// Background and ink as people see them: outside the window, and in it.
const SHOWN: [[[u8; 3]; 2]; 2] = [[[11, 14, 20], [70, 100, 140]], [[32, 44, 60], [255, 255, 255]]];

impl MnistWorld {
    /// The whole torus around the window, which is bright: more than an agent sees.
    #[must_use]
    pub fn view(&self) -> View {
        let (world, window) = (self.config().world, self.config().window);
        let margin = (world - window) / 2;
        let mut ink = vec![0; world * world];
        let corner = self.config().window_corner(self.camera());
        self.paint(corner.map(|at| at - margin as i32), world, &mut ink);
        let inside = |at: usize| (margin..margin + window).contains(&at);
        let colours =
            ink.iter().enumerate().flat_map(|(at, &ink)| shown(inside(at % world) && inside(at / world), ink));
        View::Pixels(Image { width: world, height: world, rgb: colours.collect() })
    }

    /// The whole torus, always from world pixel `(0, 0)` on; the window is bright and has a frame, which goes over the edges as it does.
    #[must_use]
    pub fn map(&self) -> Image {
        let (world, window) = (self.config().world, self.config().window);
        let mut ink = vec![0; world * world];
        self.render_world(&mut ink);
        let [left, top] = self.config().window_corner(self.camera());
        // From the window's first pixel on, along one axis.
        let from = |at: usize, first: i32| (at as i32 - first).rem_euclid(world as i32) as usize;
        let colours = ink.iter().enumerate().flat_map(|(at, &ink)| {
            let places = [from(at % world, left), from(at / world, top)];
            let inside = places.iter().all(|&at| at < window);
            let near = places.iter().all(|&at| at <= window || at + 1 == world);
            if near && !inside { OUTLINE } else { shown(inside, ink) }
        });
        Image { width: world, height: world, rgb: colours.collect() }
    }

    /// Ink, added and clamped, of the square of `side` pixels whose top-left pixel is world pixel `corner = (x, y)`.
    /// Shape: `out [side, side]`.
    pub(super) fn paint(&self, corner: [i32; 2], side: usize, out: &mut [u8]) {
        check_length(side, out);
        for tile in tiles(corner, side) {
            let mut canvas = BLANK;
            self.visit(&tile, |_, ink, at| {
                // Bytes that saturate at 255 are exactly the sum clamped to 1.
                for (pixel, &ink) in canvas[at..at + PATCH_STRIDE].iter_mut().zip(ink) {
                    *pixel = pixel.saturating_add(ink);
                }
            });
            copy_out(&canvas, &tile, side, out);
        }
    }

    /// Id of the digit with most ink at each pixel of such a square, plus one; 0 where there is none. Of equals the
    /// first. Shape: `out [side, side]`.
    pub(super) fn paint_entities(&self, corner: [i32; 2], side: usize, out: &mut [u8]) {
        check_length(side, out);
        for tile in tiles(corner, side) {
            let (mut most, mut ids) = (BLANK, BLANK);
            self.visit(&tile, |digit, ink, at| {
                let id = digit as u8 + 1;
                let (most, ids) = (&mut most[at..at + PATCH_STRIDE], &mut ids[at..at + PATCH_STRIDE]);
                for ((most, shown), &ink) in most.iter_mut().zip(ids).zip(ink) {
                    *shown = if ink > *most { id } else { *shown };
                    *most = (*most).max(ink);
                }
            });
            copy_out(&ids, &tile, side, out);
        }
    }

    /// Calls `draw(digit, patch row, where it begins on the canvas)` for every patch row that overlaps the tile.
    #[inline]
    fn visit(&self, tile: &Tile, mut draw: impl FnMut(usize, &[u8; PATCH_STRIDE], usize)) {
        let patch_px = self.config().digit_px as i32;
        for (digit, &[x, y]) in self.positions().iter().enumerate() {
            let (patch, _) = self.patch(digit).as_chunks::<PATCH_STRIDE>();
            for left in self.copies(i32::from(x) - tile.corner[0], tile.cols) {
                let start = (left + PATCH_STRIDE as i32) as usize;
                for top in self.copies(i32::from(y) - tile.corner[1], tile.rows) {
                    let first = (-top).max(0) as usize;
                    let end = patch_px.min(tile.rows as i32 - top) as usize;
                    let canvas_row = top.max(0) as usize;
                    for (i, ink) in patch[first..end].iter().enumerate() {
                        draw(digit, ink, (canvas_row + i) * CANVAS_STRIDE + start);
                    }
                }
            }
        }
    }

    /// Where, along one axis, a patch that starts `offset` after the tile's first pixel overlaps the tile's `len`
    /// pixels: at most twice, as the patch and its copy one world before.
    #[inline]
    fn copies(&self, offset: i32, len: usize) -> impl Iterator<Item = i32> {
        let (world, patch_px) = (self.config().world as i32, self.config().digit_px as i32);
        let after = offset.rem_euclid(world);
        let before = after - world;
        let here = (after < len as i32).then_some(after);
        let wrapped = (before + patch_px > 0).then_some(before);
        here.into_iter().chain(wrapped)
    }
}

/// The colour of ink outside the window or in it.
fn shown(inside: bool, ink: u8) -> [u8; 3] {
    let ([ground, full], share) = (SHOWN[usize::from(inside)], u32::from(ink));
    [0, 1, 2].map(|i| ((u32::from(ground[i]) * (255 - share) + u32::from(full[i]) * share) / 255) as u8)
}

fn check_length(side: usize, out: &[u8]) {
    assert_eq!(out.len(), side * side, "a picture of {side} x {side} bytes");
}

fn tiles(corner: [i32; 2], side: usize) -> impl Iterator<Item = Tile> {
    let starts = move || (0..side).step_by(TILE);
    starts().flat_map(move |row| {
        starts().map(move |col| Tile {
            corner: [corner[0] + col as i32, corner[1] + row as i32],
            row,
            col,
            rows: TILE.min(side - row),
            cols: TILE.min(side - col),
        })
    })
}

fn copy_out(canvas: &Canvas, tile: &Tile, side: usize, out: &mut [u8]) {
    let rows = canvas.chunks_exact(CANVAS_STRIDE).zip(out[tile.row * side..].chunks_exact_mut(side));
    for (from, to) in rows.take(tile.rows) {
        let (from, to) = (&from[PATCH_STRIDE..][..tile.cols], &mut to[tile.col..][..tile.cols]);
        // A row of known length is two moves, one of any length a call.
        match (from.first_chunk::<TILE>(), to.first_chunk_mut::<TILE>()) {
            (Some(from), Some(to)) => *to = *from,
            _ => to.copy_from_slice(from),
        }
    }
}
