//! The position probe: does a model know where blocks are that it does not see?
//!
//! A picture tells of what is in view alone; a belief may know more. So a linear readout, fitted on the beliefs of some episodes, reads those
//! of others: of every colour it says how likely each cell of a map around the agent has a block of that colour. Map cells are those of
//! FloWM 3D: the agent is in the middle, ahead is a larger column, to its right a larger row.
//!
//! **What is counted.** At each horizon every block of every clip, once. Of each colour as many cells are named as blocks of that colour
//! occupy, those of the highest scores; a block is *right* if its own cell is among those named for its colour. So nothing is gained by
//! naming more cells, nor by knowing that there is some block but not which, nor by being near; and a block beyond the map is never right.
//! How many cells a colour occupies is given, where they are is not. Blocks in view, out of view but seen before the eyes were
//! shut, and never seen are counted apart: of the last no memory can know.
//!
//! **Beside what.** *Last seen* says of each block that it is where it was in view last, told whose block is whose and how the agent has
//! moved since: memory without foresight. *Usual* names the cells that most often had blocks in the episodes that were fitted on,
//! seen from the agent: what can be said without a belief. *Chance* names cells at random.
//!
//! As in all of [`memory`](super), nothing here knows of tensors or models: beliefs are slices. [`fit`] makes the readout,
//! [`evaluation`] counts, [`report`], [`table`] and [`maps`] are what a run leaves behind.

pub mod evaluation;
pub mod fit;
pub mod maps;
pub mod report;
pub mod table;

pub use evaluation::ProbeEvaluation;
pub use fit::{Probe, ProbeFit};
pub use report::ProbeReport;

/// What a readout reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reads {
    /// A map: each cell by its own features, all by the same readout. A belief is `[cells, numbers]`.
    Cells,
    /// A vector that has no places: all cells from all of it. A belief is `[numbers]`.
    Vector,
}

/// Sizes of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// What it reads.
    pub reads: Reads,
    /// Features of a cell, or numbers of a vector.
    pub numbers: usize,
    /// Side of the map around the agent, in cells: odd.
    pub side: usize,
    /// Colours that blocks may have.
    pub colours: usize,
}

impl Shape {
    /// Cells of the map.
    #[must_use]
    pub fn cells(self) -> usize {
        self.side * self.side
    }

    /// Numbers of a belief.
    #[must_use]
    pub fn belief(self) -> usize {
        match self.reads {
            Reads::Cells => self.cells() * self.numbers,
            Reads::Vector => self.numbers,
        }
    }

    /// The cell that is so many metres ahead of the agent and to its right; none beyond the map.
    #[must_use]
    pub fn cell(self, [ahead, right]: [f32; 2]) -> Option<usize> {
        let half = (self.side / 2) as f32;
        let [column, row] = [ahead, right].map(|metres| half + metres.round());
        let inside = |at: f32| (0.0..self.side as f32).contains(&at);
        (inside(column) && inside(row)).then_some(row as usize * self.side + column as usize)
    }
}

/// What can be known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was seen before the eyes were shut, and a pixel of the true picture shows it now.
    InView,
    /// It was seen before the eyes were shut, and no pixel of the true picture shows it now.
    OutOfView,
    /// No pixel had shown it when the eyes were shut.
    NeverSeen,
}

impl Known {
    /// In the order of a report.
    pub const ALL: [Self; 3] = [Self::InView, Self::OutOfView, Self::NeverSeen];
}

/// A block, where a belief is asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Which colour.
    pub colour: usize,
    /// Its cell; none beyond the map.
    pub cell: Option<usize>,
    /// What can be known of it.
    pub known: Known,
    /// The cell where it would be if it had stayed where it was in view last; none beyond the map, and if it never was.
    pub last_seen: Option<usize>,
}

/// How many cells the blocks of a colour occupy.
fn occupied(blocks: &[Block], colour: usize) -> usize {
    let mut cells: Vec<usize> =
        blocks.iter().filter(|block| block.colour == colour).filter_map(|block| block.cell).collect();
    cells.sort_unstable();
    cells.dedup();
    cells.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ahead_is_a_larger_column_and_right_a_larger_row() {
        let shape = Shape { reads: Reads::Cells, numbers: 1, side: 5, colours: 6 };
        let cells = [[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-2.0, -2.0], [0.6, -0.4], [3.0, 0.0], [0.0, -2.6]];
        let found = [Some(12), Some(14), Some(17), Some(0), Some(13), None, None];
        assert_eq!(cells.map(|at| shape.cell(at)), found);
    }

    #[test]
    fn a_cell_with_two_blocks_of_a_colour_is_one_cell() {
        let block = |colour, cell| Block { colour, cell, known: Known::InView, last_seen: None };
        let blocks = [block(1, Some(4)), block(1, Some(4)), block(1, Some(2)), block(0, Some(7)), block(1, None)];
        assert_eq!([0, 1, 2].map(|colour| occupied(&blocks, colour)), [1, 2, 0]);
    }
}
