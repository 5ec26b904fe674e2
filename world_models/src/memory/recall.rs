//! Recall: the error of a prediction by how long ago the point it shows was last seen.
//!
//! A predicted pixel at step `t` shows a point of an entity or of the fixed background. If the model last observed that
//! point at step `s`, the pixel has *age* `t - s`. Errors are summed by exact age, entities and background apart,
//! points that were never seen apart from both: no memory can know them. Bins and thresholds are chosen when the sums
//! are read.
//!
//! The recall number is the share of the copy-last error that a row removes at ages beyond a threshold, `1 - sum(error
//! of the row) / sum(error of copy-last)`: 0 for a model that believes nothing changes, 1 for perfect memory.

use serde::{Deserialize, Serialize};

use super::MemoryError;

/// Pixels of one kind, and their squared errors (mean over channels) summed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// How many pixels.
    pub pixels: u64,
    /// The sum of their squared errors.
    pub squared_error: f64,
}

impl Tally {
    fn add(&mut self, error: f32) {
        self.pixels += 1;
        self.squared_error += f64::from(error);
    }

    /// Adds other pixels.
    pub fn merge(&mut self, other: Self) {
        self.pixels += other.pixels;
        self.squared_error += other.squared_error;
    }

    /// Mean squared error; `None` without pixels.
    #[must_use]
    pub fn mse(self) -> Option<f64> {
        (self.pixels > 0).then(|| self.squared_error / self.pixels as f64)
    }
}

/// What a pixel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A point of an entity: something that may move.
    Entity,
    /// A point of the fixed background.
    Background,
}

impl Shown {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Entity, Self::Background];
}

/// Errors of one row, summed by exact age.
#[derive(Debug, Clone, PartialEq)]
pub struct AgeTallies {
    /// `[kind][age]`, ages from 0.
    seen: [Vec<Tally>; 2],
    /// `[kind]`
    never: [Tally; 2],
}

impl AgeTallies {
    /// Nothing yet; ages are `0..=oldest`.
    #[must_use]
    pub fn new(oldest: usize) -> Self {
        let ages = vec![Tally::default(); oldest + 1];
        Self { seen: [ages.clone(), ages], never: [Tally::default(); 2] }
    }

    /// Adds a frame: `error`, `last_seen` and `entity` are `[H, W]`.
    ///
    /// `step` is the frame's absolute step (the first predicted frame has `context`); `last_seen` counts the same way
    /// and is negative for never; `entity` is 0 for the background.
    ///
    /// # Panics
    /// When the slices differ in length, a point was last seen after `step`, or an age is beyond the oldest.
    pub fn add_frame(&mut self, step: usize, error: &[f32], last_seen: &[i32], entity: &[u8]) {
        assert_eq!((error.len(), error.len()), (last_seen.len(), entity.len()), "all are [H, W]");
        for ((&error, &last_seen), &entity) in error.iter().zip(last_seen).zip(entity) {
            let kind = usize::from(entity == 0);
            if last_seen < 0 {
                self.never[kind].add(error);
            } else {
                let age =
                    step.checked_sub(last_seen as usize).expect("a point is not seen after the step that shows it");
                self.seen[kind][age].add(error);
            }
        }
    }

    /// Adds the tallies of other frames.
    ///
    /// # Panics
    /// When the oldest ages differ.
    pub fn merge(&mut self, other: &Self) {
        for kind in 0..2 {
            assert_eq!(self.seen[kind].len(), other.seen[kind].len(), "same oldest age");
            for (tally, more) in self.seen[kind].iter_mut().zip(&other.seen[kind]) {
                tally.merge(*more);
            }
            self.never[kind].merge(other.never[kind]);
        }
    }

    /// Points of one kind last seen `from..=to` steps ago; no `to` means however long ago.
    #[must_use]
    pub fn between(&self, shown: Shown, from: u32, to: Option<u32>) -> Tally {
        let ages = &self.seen[shown as usize];
        let end = to.map_or(ages.len(), |to| ages.len().min(to as usize + 1));
        let mut sum = Tally::default();
        for tally in ages.get(from as usize..end).unwrap_or_default() {
            sum.merge(*tally);
        }
        sum
    }

    /// Points of one kind last seen more than `threshold` steps ago.
    #[must_use]
    pub fn beyond(&self, shown: Shown, threshold: u32) -> Tally {
        self.between(shown, threshold.saturating_add(1), None)
    }

    /// Points of one kind that were never seen.
    #[must_use]
    pub fn never(&self, shown: Shown) -> Tally {
        self.never[shown as usize]
    }
}

/// The share of the copy-last error that a row removes on the same pixels: `1 - row / copy_last`.
///
/// `None` without pixels, and where copy-last makes no error, so that there is nothing to remove.
///
/// # Panics
/// When the two were not measured on equally many pixels.
#[must_use]
pub fn share_removed(row: Tally, copy_last: Tally) -> Option<f64> {
    assert_eq!(row.pixels, copy_last.pixels, "both rows are measured on the same pixels");
    (copy_last.squared_error > 0.0).then(|| 1.0 - row.squared_error / copy_last.squared_error)
}

/// Bins of age, given by the last age of each; one more bin holds all that is older. Ages of predictions start at 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgeBins(pub Vec<u32>);

impl Default for AgeBins {
    /// 1-5, 6-10, 11-20, 21-40, 41-80, 81 and older.
    fn default() -> Self {
        Self(vec![5, 10, 20, 40, 80])
    }
}

impl AgeBins {
    /// Whether the bins are in order and none is empty.
    ///
    /// # Errors
    /// The last ages must start at 1 or more and increase.
    pub fn validate(&self) -> Result<(), MemoryError> {
        if self.0.first() == Some(&0) || self.0.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(MemoryError::Setting {
                field: "age_bins",
                value: format!("{:?}", self.0),
                allowed: "increasing last ages from 1 on, such as [5, 10, 20]".into(),
            });
        }
        Ok(())
    }

    /// First and last age of each bin; the last bin is open.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, Option<u32>)> {
        let starts = std::iter::once(1).chain(self.0.iter().map(|last| last + 1));
        starts.zip(self.0.iter().copied().map(Some).chain([None]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_kinds_and_never_seen_are_told_apart() {
        // Step 30 shows four points: an entity of age 1, an entity of age 25, background of age 25, background never
        // seen.
        let mut tallies = AgeTallies::new(40);
        tallies.add_frame(30, &[0.1, 0.2, 0.4, 0.8], &[29, 5, 5, -1], &[1, 3, 0, 0]);
        let close = |tally: Tally, pixels, error: f64| {
            assert_eq!(tally.pixels, pixels);
            assert!((tally.squared_error - error).abs() < 1e-6, "{tally:?}");
        };
        close(tallies.between(Shown::Entity, 1, Some(5)), 1, 0.1);
        close(tallies.between(Shown::Entity, 21, Some(40)), 1, 0.2);
        close(tallies.between(Shown::Background, 0, None), 1, 0.4);
        close(tallies.beyond(Shown::Entity, 20), 1, 0.2);
        close(tallies.beyond(Shown::Entity, 24), 1, 0.2);
        close(tallies.beyond(Shown::Entity, 25), 0, 0.0);
        close(tallies.beyond(Shown::Entity, u32::MAX), 0, 0.0);
        close(tallies.never(Shown::Background), 1, 0.8);
        close(tallies.never(Shown::Entity), 0, 0.0);

        let twice = tallies.clone();
        tallies.merge(&twice);
        close(tallies.between(Shown::Entity, 0, None), 2 + 2, 0.6);
    }

    #[test]
    fn recall_by_hand() {
        // Copy-last errs by 4 on ten pixels. Erring by 1 leaves a quarter; erring as much recalls nothing; more is
        // negative.
        let tally = |squared_error| Tally { pixels: 10, squared_error };
        assert_eq!(share_removed(tally(1.0), tally(4.0)), Some(0.75));
        assert_eq!(share_removed(tally(0.0), tally(4.0)), Some(1.0));
        assert_eq!(share_removed(tally(4.0), tally(4.0)), Some(0.0));
        assert_eq!(share_removed(tally(6.0), tally(4.0)), Some(-0.5));
        assert_eq!(share_removed(tally(1.0), tally(0.0)), None);
        assert_eq!(share_removed(Tally::default(), Tally::default()), None);
    }

    #[test]
    fn bins_cover_every_age_once() {
        let ranges: Vec<_> = AgeBins::default().ranges().collect();
        assert_eq!(ranges, [(1, Some(5)), (6, Some(10)), (11, Some(20)), (21, Some(40)), (41, Some(80)), (81, None)]);
        assert_eq!(AgeBins(vec![]).ranges().collect::<Vec<_>>(), [(1, None)]);
        assert!(AgeBins(vec![]).validate().is_ok() && AgeBins::default().validate().is_ok());
        for wrong in [vec![0, 5], vec![5, 5], vec![9, 3]] {
            let error = AgeBins(wrong.clone()).validate().unwrap_err().to_string();
            assert!(error.contains("age_bins") && error.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
