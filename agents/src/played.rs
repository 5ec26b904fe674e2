//! Returns of the episodes that are played while training.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Finished episodes that the mean return is taken over.
const EPISODES: usize = 100;

/// Returns of the episodes played while training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Played {
    /// `[N]`, return and steps so far.
    pub open: Vec<(f64, u32)>,
    /// Return and steps of the last ones that ended.
    pub last: VecDeque<(f64, u32)>,
    /// How many ended.
    pub finished: u64,
}

impl Played {
    /// Of nothing, for `rows` envs.
    pub fn new(rows: usize) -> Self {
        Self { open: vec![(0.0, 0); rows], last: VecDeque::new(), finished: 0 }
    }

    /// Counts a step of row `row`.
    pub fn step(&mut self, row: usize, reward: f64, ends: bool) {
        let (sum, steps) = &mut self.open[row];
        *sum += reward;
        *steps += 1;
        if ends {
            self.last.push_back(std::mem::take(&mut self.open[row]));
            self.finished += 1;
            if self.last.len() > EPISODES {
                self.last.pop_front();
            }
        }
    }

    /// Mean return and length of the last episodes.
    pub fn means(&self) -> Option<(f64, f64)> {
        let count = self.last.len() as f64;
        let sum = |of: fn(&(f64, u32)) -> f64| self.last.iter().map(of).sum::<f64>() / count;
        (!self.last.is_empty()).then(|| (sum(|e| e.0), sum(|e| e.1.into())))
    }
}
