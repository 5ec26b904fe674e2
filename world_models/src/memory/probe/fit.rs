//! The readout of a probe, fitted and asked.

use super::{Block, Known, Reads, Shape, occupied};
use crate::memory::vectors::readout::{RIDGE, Readout, ReadoutFit};

/// Of cells without a block, one of so many is fitted on with each belief, other ones each time: almost all cells are empty.
const EMPTY: usize = 16;

/// Sums over beliefs and what is true of them.
#[derive(Debug, Clone)]
pub struct ProbeFit {
    shape: Shape,
    fit: ReadoutFit,
    beliefs: usize,
    /// `[cells]`: in how many beliefs each had a block.
    occupied: Vec<u64>,
}

/// A readout of places.
#[derive(Debug, Clone)]
pub struct Probe {
    shape: Shape,
    readout: Readout,
    /// Cells, those that most often had blocks first.
    usual: Vec<usize>,
}

impl ProbeFit {
    /// No beliefs yet.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let answers = match shape.reads {
            Reads::Cells => shape.colours,
            Reads::Vector => shape.colours * shape.cells(),
        };
        let occupied = vec![0; shape.cells()];
        Self { shape, fit: ReadoutFit::new(shape.numbers, answers), beliefs: 0, occupied }
    }

    /// Adds a belief: what is to be read is 1 for a colour where a block of that colour is that had been seen, else 0.
    ///
    /// # Panics
    /// If the belief has another length, or a block a colour or cell that there is none of.
    pub fn add(&mut self, belief: &[f32], blocks: &[Block]) {
        let Shape { reads, numbers, colours, .. } = self.shape;
        let cells = self.shape.cells();
        assert_eq!(belief.len(), self.shape.belief(), "a belief of the probe's shape");
        let mut is_there = vec![false; cells];
        blocks.iter().filter_map(|block| block.cell).for_each(|cell| is_there[cell] = true);
        self.occupied.iter_mut().zip(&is_there).for_each(|(count, &there)| *count += u64::from(there));
        let mut truth = vec![0.0f32; colours * cells];
        for block in blocks.iter().filter(|block| block.known != Known::NeverSeen) {
            if let Some(cell) = block.cell {
                truth[block.colour * cells + cell] = 1.0;
            }
        }
        match reads {
            Reads::Vector => self.fit.add(belief, &truth),
            Reads::Cells => {
                let (mut features, mut answers) = (Vec::new(), Vec::new());
                for cell in (0..cells).filter(|&cell| is_there[cell] || (cell + self.beliefs).is_multiple_of(EMPTY)) {
                    features.extend_from_slice(&belief[cell * numbers..][..numbers]);
                    answers.extend((0..colours).map(|colour| truth[colour * cells + cell]));
                }
                self.fit.add(&features, &answers);
            }
        }
        self.beliefs += 1;
    }

    /// The readout.
    ///
    /// # Panics
    /// Before the first belief.
    #[must_use]
    pub fn solve(&self) -> Probe {
        let mut usual: Vec<usize> = (0..self.shape.cells()).collect();
        usual.sort_by_key(|&cell| std::cmp::Reverse(self.occupied[cell]));
        Probe { shape: self.shape, readout: self.fit.solve(RIDGE), usual }
    }
}

impl Probe {
    /// Its sizes.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Rows that its readout was fitted to: cells, or vectors.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.readout.rows()
    }

    /// The cells that a belief names for each colour, `[colours]`: as many as its blocks occupy.
    ///
    /// # Panics
    /// If the belief has another length.
    #[must_use]
    pub fn named(&self, belief: &[f32], blocks: &[Block]) -> Vec<Vec<usize>> {
        let (Shape { reads, numbers, colours, .. }, cells) = (self.shape, self.shape.cells());
        assert_eq!(belief.len(), self.shape.belief(), "a belief of the probe's shape");
        // By colour, then cell; or by cell, then colour.
        let (scores, place): (Vec<f64>, [usize; 2]) = match reads {
            Reads::Vector => (self.readout.read(belief), [cells, 1]),
            Reads::Cells => {
                let read = belief.chunks_exact(numbers).flat_map(|cell| self.readout.read(cell));
                (read.collect(), [1, colours])
            }
        };
        let named = |colour: usize| {
            let score = |cell: usize| scores[colour * place[0] + cell * place[1]];
            let mut order: Vec<usize> = (0..cells).collect();
            order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
            order.truncate(occupied(blocks, colour));
            order
        };
        (0..colours).map(named).collect()
    }

    /// The cells that are named for each colour without a belief.
    #[must_use]
    pub fn usual(&self, blocks: &[Block]) -> Vec<&[usize]> {
        (0..self.shape.colours).map(|colour| &self.usual[..occupied(blocks, colour)]).collect()
    }
}
