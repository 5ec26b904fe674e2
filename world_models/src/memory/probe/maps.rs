//! Maps of one clip as a picture: where blocks are, and below it where the probe says that they are, a column for each horizon.

use png::{BitDepth, ColorType, Encoder};

use super::Block;

/// Pixels along the side of a cell, and between maps.
const CELL: usize = 6;
const GAP: usize = 6;
/// Between maps, of cells without a block, of the agent.
const AROUND: [u8; 3] = [24, 26, 30];
const EMPTY: [u8; 3] = [46, 52, 64];
const AGENT: [u8; 3] = [236, 239, 244];

/// What is true and what is named at a horizon.
#[derive(Debug, Clone)]
pub struct ProbedMap {
    /// Where blocks are.
    pub blocks: Vec<Block>,
    /// The cells that are named for each colour.
    pub named: Vec<Vec<usize>>,
}

/// The picture as a PNG file. Maps have `side * side` cells; the agent, in the middle, looks to the right. `palette` has the colours' colours.
///
/// # Panics
/// If a block has a cell or colour that there is none of.
#[must_use]
pub fn png(maps: &[ProbedMap], side: usize, palette: &[[u8; 3]]) -> Vec<u8> {
    let step = side * CELL + GAP;
    let (width, height) = (maps.len() * step + GAP, 2 * step + GAP);
    let mut rgb = AROUND.repeat(width * height);
    for (column, map) in maps.iter().enumerate() {
        let truth = map.blocks.iter().filter_map(|block| Some((block.cell?, palette[block.colour])));
        let named =
            map.named.iter().zip(palette).flat_map(|(cells, colour)| cells.iter().map(move |&cell| (cell, *colour)));
        let cells: [Vec<(usize, [u8; 3])>; 2] = [truth.collect(), named.collect()];
        for (row, cells) in cells.into_iter().enumerate() {
            let corner = [GAP + column * step, GAP + row * step];
            let mut fill = |cell: usize, colour: [u8; 3], inset: usize| {
                let (x, y) = (corner[0] + cell % side * CELL, corner[1] + cell / side * CELL);
                for y in y + inset..y + CELL - inset {
                    for x in x + inset..x + CELL - inset {
                        rgb[(y * width + x) * 3..][..3].copy_from_slice(&colour);
                    }
                }
            };
            (0..side * side).for_each(|cell| fill(cell, EMPTY, 0));
            for (cell, colour) in cells {
                fill(cell, colour, 0);
            }
            fill(side / 2 * (side + 1), AGENT, CELL / 3);
        }
    }
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header().expect("the header fits the pixels, and memory does not fail");
    writer.write_image_data(&rgb).expect("the picture is as large as its header says");
    writer.finish().expect("memory does not fail");
    file
}

#[cfg(test)]
mod tests {
    use super::super::Known;
    use super::*;

    #[test]
    fn what_is_true_stands_above_what_is_named() {
        let block = Block { colour: 1, cell: Some(2), known: Known::InView, last_seen: None };
        let map = ProbedMap { blocks: vec![block], named: vec![vec![], vec![6]] };
        let file = png(&[map], 3, &[[255, 0, 0], [0, 255, 0]]);
        let picture = simulators::image::Image::from_png(&file).unwrap();
        let cell = |map: usize, row: usize, column: usize| {
            let [x, y] = [column, row].map(|at| GAP + at * CELL);
            picture.pixel(x, y + map * (3 * CELL + GAP))
        };
        assert_eq!([cell(0, 0, 2), cell(1, 2, 0)], [[0, 255, 0]; 2]);
        assert_eq!([cell(1, 0, 2), cell(0, 2, 0)], [EMPTY; 2]);
        assert_eq!(picture.pixel(GAP + CELL + 3, GAP + CELL + 3), AGENT);
        assert_eq!((picture.width, picture.height), (3 * CELL + 2 * GAP, 6 * CELL + 3 * GAP));
    }
}
