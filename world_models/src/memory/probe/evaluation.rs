//! Blocks that are named right, by horizon and by what can be known of them.

use super::report::{self, GroupScore, HorizonScore, ProbeReport, ReadoutInfo};
use super::{Block, Known, Probe, occupied};
use crate::memory::vectors::readout::RIDGE;
use crate::memory::vectors::report::Episodes;
use crate::memory::{MemoryError, Origin};

/// What is counted of blocks of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    blocks: u64,
    /// By the probe, by where blocks were seen last, by where they usually are.
    right: [u64; 3],
    /// What chance would name right.
    chance: f64,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Frames observed.
    pub context: usize,
    /// Steps after the last of them, increasing.
    pub horizons: Vec<usize>,
}

/// Counts over the clips so far.
#[derive(Debug, Clone)]
pub struct ProbeEvaluation {
    probe: Probe,
    asked: Asked,
    episodes: Episodes,
    clips: u64,
    /// `[horizons][kinds]`
    counts: Vec<[Count; 3]>,
}

impl ProbeEvaluation {
    /// An evaluation by `probe`.
    ///
    /// # Errors
    /// `context` is at least 1; horizons increase, and there is one.
    pub fn new(probe: Probe, asked: Asked, episodes: Episodes) -> Result<Self, MemoryError> {
        let refused =
            |field, value: String, allowed: &str| Err(MemoryError::Setting { field, value, allowed: allowed.into() });
        if asked.context == 0 {
            return refused("context", "0".into(), "1 or more frames");
        }
        if asked.horizons.is_empty() || asked.horizons.windows(2).any(|pair| pair[0] >= pair[1]) {
            return refused("horizons", format!("{:?}", asked.horizons), "increasing steps, such as [0, 10, 20]");
        }
        let counts = vec![<[Count; 3]>::default(); asked.horizons.len()];
        Ok(Self { probe, asked, episodes, clips: 0, counts })
    }

    /// The probe.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Counts the blocks of one clip at horizon number `at`. Gives the cells that its belief names for each colour.
    ///
    /// # Panics
    /// If there is no such horizon, or the belief has another length.
    pub fn add(&mut self, at: usize, belief: &[f32], blocks: &[Block]) -> Vec<Vec<usize>> {
        let (named, usual) = (self.probe.named(belief, blocks), self.probe.usual(blocks));
        let cells = self.probe.shape().cells() as f64;
        self.clips += u64::from(at == 0);
        for block in blocks {
            let count = &mut self.counts[at][block.known as usize];
            count.blocks += 1;
            let Some(cell) = block.cell else { continue };
            let right = [
                named[block.colour].contains(&cell),
                block.last_seen == Some(cell),
                usual[block.colour].contains(&cell),
            ];
            count.right.iter_mut().zip(right).for_each(|(count, right)| *count += u64::from(right));
            count.chance += occupied(blocks, block.colour) as f64 / cells;
        }
        named
    }

    /// The report on everything added. `model` is what it is called.
    ///
    /// # Errors
    /// There must be at least one clip.
    pub fn report(&self, model: &str, origin: Origin) -> Result<ProbeReport, MemoryError> {
        if self.clips == 0 {
            return Err(MemoryError::NoClips);
        }
        let group = |count: &Count| {
            let share = |right: f64| (count.blocks > 0).then(|| right / count.blocks as f64);
            let [probe, last_seen, usual] = count.right.map(|right| share(right as f64));
            GroupScore { blocks: count.blocks, probe, last_seen, usual, chance: share(count.chance) }
        };
        let score = |(counts, &horizon): (&[Count; 3], &usize)| {
            let [in_view, out_of_view, never_seen] = Known::ALL.map(|known| group(&counts[known as usize]));
            HorizonScore { horizon, in_view, out_of_view, never_seen }
        };
        let shape = self.probe.shape();
        Ok(ProbeReport {
            schema: report::SCHEMA,
            probe: report::Probed::Positions,
            origin,
            model: model.to_owned(),
            clips: self.clips,
            context: self.asked.context,
            episodes: self.episodes,
            readout: ReadoutInfo {
                reads: shape.reads,
                numbers: shape.numbers,
                side: shape.side,
                rows: self.probe.rows(),
                ridge: RIDGE,
            },
            horizons: self.counts.iter().zip(&self.asked.horizons).map(score).collect(),
        })
    }
}
