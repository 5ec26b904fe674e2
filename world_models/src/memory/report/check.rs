//! Whether a report from outside can have come from an evaluation: its curves as long as its horizon, its bins those of its
//! settings, its counts countable. Tables and pages rely on it.

use super::{MemoryReport, PixelCounts, Row, Saved};

/// Frames of a clip that anybody predicts.
const MOST_STEPS: usize = 1_000_000;
/// Rows that a page can show.
const MOST_ROWS: usize = 1_000;
/// Letters of a name.
const LONGEST_NAME: usize = 1_000;
/// Pixels that any evaluation counts: sums of a few of them fit 64 bits.
const MOST_PIXELS: u64 = 1 << 56;

impl Saved for MemoryReport {
    fn check(&self) -> Result<(), String> {
        if !(1..=MOST_STEPS).contains(&self.horizon) || self.context > MOST_STEPS {
            return Err(format!("context = {}, horizon = {}: 1..={MOST_STEPS}", self.context, self.horizon));
        }
        let frame = self.frame;
        let values = [frame.width, frame.channels, self.horizon, self.clips as usize]
            .into_iter()
            .try_fold(frame.height, usize::checked_mul);
        if !values.is_some_and(|values| (1..=MOST_PIXELS).contains(&(values as u64))) {
            return Err(format!("clips = {} of frames {frame:?}: too many values, or none", self.clips));
        }
        let resolved = self.settings.resolve(self.horizon).map_err(|error| error.to_string())?;
        if resolved != self.settings || self.settings.recall_beyond as usize > MOST_STEPS {
            return Err(format!("settings = {:?}: not those of {} steps", self.settings, self.horizon));
        }
        if self.settings.age_bins.0.last().is_some_and(|&age| age as usize > MOST_STEPS) {
            return Err(format!("settings.age_bins: no age is above {MOST_STEPS}"));
        }
        if self.rows.len() > MOST_ROWS {
            return Err(format!("rows: {} of them, at most {MOST_ROWS} are shown", self.rows.len()));
        }
        self.pixels.as_ref().map_or(Ok(()), PixelCounts::check)?;
        self.rows.iter().enumerate().try_for_each(|(index, row)| {
            self.check_row(row).map_err(|(field, reason)| format!("rows.{index}.{field}: {reason}"))
        })
    }
}

impl MemoryReport {
    fn check_row(&self, row: &Row) -> Result<(), (&'static str, String)> {
        if row.name.len() > LONGEST_NAME {
            return Err(("name", format!("{} bytes, at most {LONGEST_NAME} are shown", row.name.len())));
        }
        let curves = [row.steps.mse.len(), row.steps.psnr.len(), row.steps.ssim.len()];
        if curves != [self.horizon; 3] {
            return Err(("steps", format!("{curves:?} values, {} steps are predicted", self.horizon)));
        }
        if !row.horizons.iter().map(|score| score.steps).eq(self.settings.horizons.iter().copied()) {
            return Err(("horizons", format!("not {:?}, as in the settings", self.settings.horizons)));
        }
        let ranges = self.settings.age_bins.ranges().filter(|_| self.pixels.is_some());
        if !row.ages.iter().map(|age| (age.from, age.to)).eq(ranges) {
            return Err(("ages", "not the bins of the settings".to_owned()));
        }
        if row.ages.iter().any(|age| age.entity_pixels.max(age.background_pixels) > MOST_PIXELS) {
            return Err(("ages", format!("more than {MOST_PIXELS} pixels")));
        }
        Ok(())
    }
}

impl PixelCounts {
    fn check(&self) -> Result<(), String> {
        let Self { seen_entity, seen_background, never_seen_entity, never_seen_background, beyond_threshold } = *self;
        let all = [seen_entity, seen_background, never_seen_entity, never_seen_background];
        if all.into_iter().any(|count| count > MOST_PIXELS) || beyond_threshold > seen_entity + seen_background {
            return Err(format!("pixels: {self:?} cannot be counted"));
        }
        Ok(())
    }
}
