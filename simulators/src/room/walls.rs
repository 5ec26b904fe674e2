//! The walls' colours.

use super::columns::{Columns, WALLS};
use super::lanes::{Colours, LANES, each, load, log2, whole};
use super::lens::Lens;
use super::scene::{Room, lit};
use super::texture::shined;

/// The walls' texels, of columns in the middle of pixels.
#[derive(Clone, Debug)]
pub(super) struct Walls {
    /// Repeats of the texture along the wall.
    along: Vec<f32>,
    /// How wide a pixel is on it, repeats, as a logarithm of two.
    detail: Vec<f32>,
    /// Repeats that a pixel is high.
    rise: Vec<f32>,
    /// How bright it is.
    light: Vec<f32>,
    /// Its colour, if it is plain.
    plain: Vec<u32>,
    /// `[height, width]`, where a wall shows, unless they are plain.
    texels: Vec<u32>,
    /// How bright each wall is.
    lights: [f32; 4],
    /// The texel of plain walls.
    texel: Option<u32>,
}

impl Walls {
    pub fn new(width: usize, height: usize) -> Self {
        let strip = vec![0.0; width.next_multiple_of(LANES)];
        let (plain, texels) = (vec![0; strip.len()], vec![0; strip.len() * height]);
        let lights = WALLS.map(|normal| lit([1.0; 3], normal, 1.0)[0]);
        let [along, detail, rise, light] = [strip.clone(), strip.clone(), strip.clone(), strip];
        Self { along, detail, rise, light, plain, texels, lights, texel: None }
    }

    /// Looks at the walls of `room`, from the first to before the last of the `rows` of each group of columns.
    #[inline(always)]
    pub fn look(&mut self, room: &Room, lens: &Lens, columns: &Columns, rows: &[[u32; 2]]) {
        self.texel = room.wall.plain();
        if let Some(texel) = self.texel {
            let colours = self.lights.map(|light| shined(texel, [light; 3]));
            for (plain, wall) in self.plain.iter_mut().zip(&columns.wall) {
                *plain = colours[(wall & 3) as usize];
            }
            return;
        }
        self.lay(room, lens, columns);
        let [_, high] = room.wall.repeat();
        let width = self.along.len();
        for (begin, &[from, to]) in (0..).step_by(LANES).zip(rows) {
            let (u, detail, rise) = (load(&self.along, begin), load(&self.detail, begin), load(&self.rise, begin));
            for y in from as usize..to as usize {
                let down = y as f32 + 0.5 - lens.middle[1];
                let v = each(|i| lens.place[1] / high - rise[i] * down);
                self.texels[y * width + begin..][..LANES].copy_from_slice(&room.wall.at(u, v, detail));
            }
        }
    }

    #[inline(always)]
    fn lay(&mut self, room: &Room, lens: &Lens, columns: &Columns) {
        let [long, high] = room.wall.repeat();
        for x in 0..self.along.len() {
            let (depth, wall) = (columns.depth[x], columns.wall[x]);
            // The axis across the wall, and the one along it.
            let (across, axis) = ((wall / 2) as usize, 1 - (wall / 2) as usize);
            let way = lens.way(lens.aside(x as f32 + 0.5));
            let along = lens.place[2 * axis] + depth * way[axis];
            // From the wall's own left: as who stands before it sees it.
            let along = if matches!(wall, 0 | 3) { room.size[axis] - along } else { along };
            let slope = depth / lens.focal;
            let wide = (slope * (lens.right[axis] - lens.right[across] * way[axis] / way[across])).abs();
            self.along[x] = along / long;
            self.detail[x] = log2(wide.max(slope) / long);
            self.rise[x] = slope / high;
            self.light[x] = self.lights[(wall & 3) as usize];
        }
    }

    /// Colours of a row from column `begin` on.
    #[inline(always)]
    pub fn colours(&self, y: usize, begin: usize) -> Colours {
        if self.texel.is_some() {
            return self.plain[begin..begin + LANES].try_into().expect("whole lanes");
        }
        let at = y * self.along.len() + begin;
        let texels: Colours = self.texels[at..at + LANES].try_into().expect("whole lanes");
        let light = load(&self.light, begin);
        let channel = |i: usize, shift: u32| (whole((texels[i] >> shift & 255) as f32 * light[i]) as u32) << shift;
        each(|i| channel(i, 0) | channel(i, 8) | channel(i, 16))
    }

    /// The colour of one pixel, as of the wall that one of its samples shows.
    #[inline(always)]
    pub fn colour(&self, x: usize, y: usize, wall: u32) -> u32 {
        let texel = self.texel.unwrap_or_else(|| self.texels[y * self.along.len() + x]);
        shined(texel, [self.lights[(wall & 3) as usize]; 3])
    }
}
