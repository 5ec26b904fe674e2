//! `report.json` of a position probe. Versioned, closed, without paths.

use serde::{Deserialize, Serialize};

use super::{Known, Reads};
use crate::memory::Origin;
pub use crate::memory::report::SCHEMA;
use crate::memory::report::Saved;
use crate::memory::vectors::report::Episodes;

/// What is probed: it tells this report from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probed {
    /// Where blocks are.
    Positions,
}

/// A report on what a belief says of where blocks are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeReport {
    /// Version of this format.
    pub schema: u32,
    /// `positions`.
    pub probe: Probed,
    /// Where the clips came from.
    pub origin: Origin,
    /// What the model is called.
    pub model: String,
    /// How many clips every number is over.
    pub clips: u64,
    /// Frames observed in each.
    pub context: usize,
    /// How many episodes these are of, and on how many others the readout was fitted.
    pub episodes: Episodes,
    /// What reads the beliefs.
    pub readout: ReadoutInfo,
    /// What is right at each horizon, the nearest first.
    pub horizons: Vec<HorizonScore>,
}

/// What reads beliefs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadoutInfo {
    /// Of a map, or of a vector.
    pub reads: Reads,
    /// Features of a cell, or numbers of the vector.
    pub numbers: usize,
    /// Side of the map around the agent, in cells.
    pub side: usize,
    /// Cells, or vectors, that it was fitted to.
    pub rows: u64,
    /// `λ`.
    pub ridge: f64,
}

/// Shares of blocks that are named right, `horizon` steps after the last frame that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizonScore {
    /// Steps; 0 with the eyes still open.
    pub horizon: usize,
    /// Blocks that were seen, and would be in view now.
    pub in_view: GroupScore,
    /// Blocks that were seen, and are not in view now.
    pub out_of_view: GroupScore,
    /// Blocks that were never seen.
    pub never_seen: GroupScore,
}

impl HorizonScore {
    /// Its parts, each with what can be known of its blocks.
    #[must_use]
    pub fn groups(&self) -> [(Known, &GroupScore); 3] {
        let Self { in_view, out_of_view, never_seen, .. } = self;
        [(Known::InView, in_view), (Known::OutOfView, out_of_view), (Known::NeverSeen, never_seen)]
    }
}

/// Shares of blocks that are named right; none where there are no blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupScore {
    /// How many blocks, over all clips.
    pub blocks: u64,
    /// By the readout of the belief.
    pub probe: Option<f64>,
    /// By where each was in view last.
    pub last_seen: Option<f64>,
    /// By where blocks usually are.
    pub usual: Option<f64>,
    /// By chance.
    pub chance: Option<f64>,
}

impl Saved for ProbeReport {
    fn check(&self) -> Result<(), String> {
        if self.clips == 0 || self.context == 0 {
            return Err(format!("clips = {}, context = {}: 1 or more", self.clips, self.context));
        }
        if self.horizons.is_empty() || self.horizons.windows(2).any(|pair| pair[0].horizon >= pair[1].horizon) {
            return Err("horizons: not increasing, or none".to_owned());
        }
        for score in &self.horizons {
            for (known, group) in score.groups() {
                let shares = [group.probe, group.last_seen, group.usual, group.chance];
                let fits = |share: &Option<f64>| match share {
                    Some(share) => group.blocks > 0 && (0.0..=1.0).contains(share),
                    None => group.blocks == 0,
                };
                if !shares.iter().all(fits) {
                    return Err(format!("horizons: {known:?} at {}: not shares of its blocks", score.horizon));
                }
            }
        }
        Ok(())
    }
}
