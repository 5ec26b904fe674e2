//! The room behind everything else: in each column of a picture an upright eye sees ceiling, one wall, and floor.

use super::lanes::LANES;
use super::lens::{Lens, MIDDLE, SAMPLES};
use super::scene::Room;

/// Normals of the walls: of `x = 0`, of the greatest `x`, of `z = 0`, of the greatest `z`.
pub(super) const WALLS: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]];

/// What of the room each column shows at one place in its pixels; filled up to whole lanes.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// Right and down from the upper left corner of a pixel.
    pub offset: [f32; 2],
    /// How far the wall is, m along the eye's axis.
    pub depth: Vec<f32>,
    /// Which wall.
    pub wall: Vec<u32>,
    /// The first row of the wall, and of the floor.
    pub from: [Vec<u32>; 2],
}

impl Columns {
    fn new(offset: [f32; 2], width: usize) -> Self {
        let len = width.next_multiple_of(LANES);
        Self { offset, depth: vec![0.0; len], wall: vec![0; len], from: [vec![0; len], vec![0; len]] }
    }

    #[inline(always)]
    fn look(&mut self, room: &Room, lens: &Lens, height: usize) {
        let [right, down] = self.offset;
        let ([x, _, z], [wide, deep]) = (lens.place, room.size);
        let (above, below) = (lens.focal * (room.height - lens.place[1]), -lens.focal * lens.place[1]);
        let horizon = lens.middle[1] - down;
        let most = height as f32;
        let [from_wall, from_floor] = &mut self.from;
        let out = self.depth.iter_mut().zip(&mut self.wall).zip(from_wall).zip(from_floor);
        for (column, (((depth, wall), ceiling), floor)) in out.enumerate() {
            let [along_x, along_z] = lens.way(lens.aside(column as f32 + right));
            // A way along a wall never meets it.
            let distance = |at: f32, size: f32, way: f32| {
                let way = if way == 0.0 { -f32::MIN_POSITIVE } else { way };
                (if way > 0.0 { size } else { 0.0 } - at) / way
            };
            let (to_x, to_z) = (distance(x, wide, along_x), distance(z, deep, along_z));
            let of_z = to_z < to_x;
            *depth = if of_z { to_z } else { to_x };
            *wall = if of_z { 2 + u32::from(along_z > 0.0) } else { u32::from(along_x > 0.0) };
            // The first row whose sample is not above the wall, and the first whose sample is below it.
            let ceiling_row = (horizon - above / *depth).ceil().clamp(0.0, most);
            let floor_row = ((horizon - below / *depth).floor() + 1.0).clamp(ceiling_row, most);
            (*ceiling, *floor) = (ceiling_row as u32, floor_row as u32);
        }
    }
}

/// The room in all columns, as their samples show it.
#[derive(Clone, Debug)]
pub(super) struct Backdrop {
    pub samples: [Columns; 4],
    /// At the middle of the pixels.
    pub middle: Columns,
    /// The rows where all samples show one wall: from, and to before.
    pub pure: [Vec<u32>; 2],
}

impl Backdrop {
    pub fn new(width: usize) -> Self {
        let middle = Columns::new(MIDDLE, width);
        let pure = [middle.wall.clone(), middle.wall.clone()];
        Self { samples: SAMPLES.map(|offset| Columns::new(offset, width)), middle, pure }
    }

    #[inline(always)]
    pub fn look(&mut self, room: &Room, lens: &Lens, height: usize) {
        for columns in self.samples.iter_mut().chain([&mut self.middle]) {
            columns.look(room, lens, height);
        }
        let [from, to] = &mut self.pure;
        let of = &self.samples;
        for x in 0..from.len() {
            let edge = |edge: usize| [0, 1, 2, 3].map(|k: usize| of[k].from[edge][x]);
            let (ceiling, floor) = (edge(0), edge(1));
            let corner = of.iter().any(|columns| columns.wall[x] != self.middle.wall[x]);
            from[x] = ceiling.into_iter().fold(0, u32::max);
            to[x] = if corner { from[x] } else { floor.into_iter().fold(u32::MAX, u32::min) };
        }
    }

    /// The rows of a column in which its samples show different surfaces, as ranges.
    #[inline(always)]
    pub fn mixed(&self, x: usize) -> [std::ops::Range<u32>; 2] {
        let edge = |edge: usize| self.samples.iter().map(move |columns| columns.from[edge][x]);
        let (first, last) = (edge(0).fold(u32::MAX, u32::min), edge(1).fold(0, u32::max));
        let [from, to] = [self.pure[0][x], self.pure[1][x].max(self.pure[0][x])];
        [first..from, to..last]
    }
}
