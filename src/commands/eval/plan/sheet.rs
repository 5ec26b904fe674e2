//! Plans to look at: what was seen above what was imagined, and the way on a map.

use agents::planner::find_red::Example;
use simulators::image::Image;
use simulators::view::View;

use crate::film::{self, FrameSize};

/// Frames a second of the film.
pub const FPS: f64 = 8.0;
/// Side of a picture, pixels.
const SIDE: usize = 128;
/// Steps on the sheet, the first and the last among them.
const STEPS: usize = 8;
/// Between pictures, and around them.
const GAP: usize = 4;
const PAPER: u8 = 245;

fn enlarged(image: &Image, side: usize) -> Image {
    View::Pixels(image.clone()).draw(side, side)
}

fn paper(width: usize, height: usize) -> Image {
    let mut paper = Image::black(width, height);
    paper.rgb.fill(PAPER);
    paper
}

/// Where the `n`-th of so many pictures begins.
fn place(n: usize) -> usize {
    GAP + n * (SIDE + GAP)
}

/// What was seen and, if anything was, imagined.
fn strips(example: &Example) -> Vec<&[Image]> {
    std::iter::once(&example.seen[..]).chain(example.imagined.as_deref()).collect()
}

/// A block for each episode: in each column a step, what was seen above what was imagined for it; on the right the room from above with the whole way.
///
/// # Panics
/// If there are no examples.
#[must_use]
pub fn sheet(examples: &[Example]) -> Image {
    let rows = strips(&examples[0]).len();
    let map = place(rows) - 2 * GAP;
    let mut sheet = paper(place(STEPS) + map + GAP, examples.len() * (place(rows) + GAP));
    for (number, example) in examples.iter().enumerate() {
        let top = number * (place(rows) + GAP);
        let last = example.seen.len() - 1;
        for (row, strip) in strips(example).into_iter().enumerate() {
            for column in 0..STEPS {
                let picture = enlarged(&strip[column * last / (STEPS - 1)], SIDE);
                film::lay(&mut sheet, &picture, place(column), top + place(row));
            }
        }
        film::lay(&mut sheet, &enlarged(&example.maps[last], map), place(STEPS), top + GAP);
    }
    sheet
}

/// One episode after the other, step by step: what was seen, what was imagined, the way so far.
///
/// # Panics
/// If there are no examples.
#[must_use]
pub fn views(examples: &[Example]) -> (Vec<View>, FrameSize) {
    let size = FrameSize { width: place(strips(&examples[0]).len() + 1), height: place(1) };
    let frame = |example: &Example, step: usize| {
        let mut frame = paper(size.width, size.height);
        let pictures = strips(example).into_iter().chain([&example.maps[..]]);
        for (column, strip) in pictures.enumerate() {
            film::lay(&mut frame, &enlarged(&strip[step], SIDE), place(column), GAP);
        }
        View::Pixels(frame)
    };
    let all = examples.iter().flat_map(|example| (0..example.seen.len()).map(move |step| frame(example, step)));
    (all.collect(), size)
}
