//! `report.json`: what an evaluation of memory leaves behind. Versioned, closed, without paths.

mod check;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use envs::untrusted;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::evaluation::{MemorySettings, Origin, RowSums};
use super::metrics::{self, Repairs};
use super::recall::{AgeTallies, Shown, Tally, share_removed};
use super::{FrameShape, recall};

/// The version of the format that this code writes, and the only one it reads.
pub const SCHEMA: u32 = 1;
/// A report beyond this is refused before it is read; one of a thousand steps has a hundredth of it.
const REPORT_BUDGET: u64 = 16 << 20;

/// A report on what one or more models remember, beside the rows that need no learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryReport {
    /// Version of this format, [`SCHEMA`].
    pub schema: u32,
    /// Where the clips came from.
    pub origin: Origin,
    /// How many clips every number is a mean over.
    pub clips: u64,
    /// Frames observed in each clip.
    pub context: usize,
    /// Frames predicted after them.
    pub horizon: usize,
    /// Shape of a frame.
    pub frame: FrameShape,
    /// How the benchmark was read; horizons are resolved.
    pub settings: MemorySettings,
    /// What the predicted pixels show; `None` where the dataset has no ground truth, and then there is no recall
    /// either.
    pub pixels: Option<PixelCounts>,
    /// Models first, then *oracle*, *copy last*, *mean frame*, *all black*, as far as they could be drawn.
    pub rows: Vec<Row>,
}

/// How many predicted pixels show what, over all clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelCounts {
    /// Points of entities that had been seen.
    pub seen_entity: u64,
    /// Points of the background that had been seen.
    pub seen_background: u64,
    /// Points of entities that were never seen.
    pub never_seen_entity: u64,
    /// Points of the background that were never seen.
    pub never_seen_background: u64,
    /// Seen points old enough for the recall number.
    pub beyond_threshold: u64,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A model.
    Model,
    /// The truth where it had been seen, black elsewhere.
    Oracle,
    /// The last context frame for ever.
    CopyLast,
    /// The mean over the training set.
    MeanFrame,
    /// An empty world.
    AllBlack,
}

impl RowKind {
    /// In the order of a report.
    pub const ALL: [Self; 5] = [Self::Model, Self::Oracle, Self::CopyLast, Self::MeanFrame, Self::AllBlack];

    fn name(self, model: &str) -> String {
        match self {
            Self::Model => model,
            Self::Oracle => "oracle",
            Self::CopyLast => "copy last frame",
            Self::MeanFrame => "mean frame",
            Self::AllBlack => "all black",
        }
        .into()
    }
}

/// The numbers of a model or a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub kind: RowKind,
    /// Share of the copy-last error that is removed on points last seen more than `recall_beyond` steps ago: 0 believes
    /// that nothing changes, 1 remembers all. `None` when no pixel qualifies, or copy-last makes no error on them.
    pub recall: Option<f64>,
    /// The same on points of entities alone.
    pub recall_entity: Option<f64>,
    /// The same on points of the background alone.
    pub recall_background: Option<f64>,
    /// Errors up to each of the chosen horizons.
    pub horizons: Vec<HorizonScore>,
    /// Errors at each predicted step.
    pub steps: StepCurves,
    /// Errors by age, a bin each; empty without ground truth.
    pub ages: Vec<AgeScore>,
    /// Mean squared error on points never seen: entities, background.
    pub never_seen: Option<[Option<f64>; 2]>,
    /// Values that had to be repaired before they could be measured.
    pub repairs: Repairs,
}

/// Errors over the first `steps` predicted frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizonScore {
    /// How many frames.
    pub steps: usize,
    /// Mean squared error over all their pixels.
    pub mse: f64,
    /// `-10 log10(mse)` in dB; `None` where there is no error.
    pub psnr: Option<f64>,
    /// Mean over the frames.
    pub ssim: f64,
}

/// Errors by predicted step; entry 0 is the first frame after the context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepCurves {
    /// Mean squared error.
    pub mse: Vec<f64>,
    /// `-10 log10(mse)` in dB; `None` where there is no error.
    pub psnr: Vec<Option<f64>>,
    /// Structural similarity.
    pub ssim: Vec<f64>,
}

/// Errors on points last seen `from..=to` steps ago.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgeScore {
    /// Smallest age of the bin.
    pub from: u32,
    /// Largest age; `None` for the open bin.
    pub to: Option<u32>,
    /// Share of the copy-last error that is removed in this bin.
    pub recall: Option<f64>,
    /// How many pixels show entities of this age.
    pub entity_pixels: u64,
    /// Mean squared error on them.
    pub entity_mse: Option<f64>,
    /// How many pixels show background of this age.
    pub background_pixels: u64,
    /// Mean squared error on them.
    pub background_mse: Option<f64>,
}

/// Why a report cannot be written, read or compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a memory report.
    #[error("{path} is not a memory report")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The file has the form of a memory report, but no evaluation can have made it.
    #[error("{path} is not a memory report: {reason}")]
    Inconsistent {
        /// Which file.
        path: PathBuf,
        /// The field, and what is wrong with it.
        reason: String,
    },
    /// The file is a memory report of another version.
    #[error("{path} has memory report schema {found}, this version reads {SCHEMA}")]
    Schema {
        /// Which file.
        path: PathBuf,
        /// The version it has.
        found: u64,
    },
    /// Two reports were not made on the same clips, so their rows cannot stand in one table.
    #[error("these reports cannot be compared: `{field}` is {ours} in one and {theirs} in the other")]
    Differ {
        /// The first field that differs.
        field: &'static str,
        /// Its value here.
        ours: String,
        /// Its value in the other report.
        theirs: String,
    },
}

impl MemoryReport {
    /// Turns sums into numbers. `rows` holds copy-last, and all rows were measured on the same pixels.
    pub(super) fn assemble(
        model: &str,
        origin: Origin,
        settings: MemorySettings,
        (frame, context, horizon): (FrameShape, usize, usize),
        rows: &[RowSums],
        sighted: bool,
    ) -> Self {
        let copy_last = rows.iter().find(|row| row.kind == RowKind::CopyLast).expect("copy-last is always drawn");
        let copy_last = sighted.then_some(&copy_last.ages);
        Self {
            schema: SCHEMA,
            origin,
            clips: rows[0].steps.clips(),
            context,
            horizon,
            frame,
            pixels: copy_last.map(|ages| PixelCounts::of(ages, settings.recall_beyond)),
            rows: rows.iter().map(|row| Row::assemble(model, &settings, row, copy_last)).collect(),
            settings,
        }
    }

    /// The models, in order.
    pub fn models(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.kind == RowKind::Model)
    }

    /// The row of a kind; the first model for [`RowKind::Model`].
    #[must_use]
    pub fn row(&self, kind: RowKind) -> Option<&Row> {
        self.rows.iter().find(|row| row.kind == kind)
    }

    /// Adds the models of another report on the same clips, so that one table shows them side by side.
    ///
    /// # Errors
    /// Origin, clips, context, horizon, frame, settings and pixel counts must be the same.
    pub fn with_models_of(mut self, other: &Self) -> Result<Self, ReportError> {
        let same = |field, ours: String, theirs: String| {
            if ours == theirs { Ok(()) } else { Err(ReportError::Differ { field, ours, theirs }) }
        };
        same("origin", format!("{:?}", self.origin), format!("{:?}", other.origin))?;
        same("clips", self.clips.to_string(), other.clips.to_string())?;
        same("context", self.context.to_string(), other.context.to_string())?;
        same("horizon", self.horizon.to_string(), other.horizon.to_string())?;
        same("frame", format!("{:?}", self.frame), format!("{:?}", other.frame))?;
        same("settings", format!("{:?}", self.settings), format!("{:?}", other.settings))?;
        same("pixels", format!("{:?}", self.pixels), format!("{:?}", other.pixels))?;
        let models = self.models().count();
        self.rows.splice(models..models, other.models().cloned());
        Ok(self)
    }
}

/// A report as a file.
pub trait Saved: Serialize + DeserializeOwned {
    /// The first thing that no evaluation can have made, as field and reason. Tables and pages rely on it.
    ///
    /// # Errors
    /// If there is such a thing.
    fn check(&self) -> Result<(), String>;

    /// The report as indented JSON with a newline at its end.
    ///
    /// # Panics
    /// Never: there are no maps with odd keys, and all floats are finite.
    #[must_use]
    fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings, numbers and lists are JSON") + "\n"
    }

    /// Writes `report.json`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn write_json(&self, path: &Path) -> Result<(), ReportError> {
        write_whole(path, self.to_json().as_bytes())
    }

    /// Reads what [`Saved::write_json`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read, is no report of this kind, or is one of another version.
    fn read_json(path: &Path) -> Result<Self, ReportError> {
        let read = untrusted::read(path, REPORT_BUDGET);
        Self::parse(&read.map_err(|source| ReportError::Read { path: path.into(), source })?, path)
    }

    /// Understands `text`, the content of `path`.
    ///
    /// # Errors
    /// As [`Saved::read_json`], but for reading.
    fn parse(text: &[u8], path: &Path) -> Result<Self, ReportError> {
        let report: Self = versioned(text, path)?;
        report.check().map_err(|reason| ReportError::Inconsistent { path: path.into(), reason })?;
        Ok(report)
    }
}

/// A report of this version, of whatever kind.
fn versioned<T: DeserializeOwned>(text: &[u8], path: &Path) -> Result<T, ReportError> {
    #[derive(Deserialize)]
    struct Version {
        schema: Option<u64>,
    }
    let parse = |source| ReportError::Parse { path: path.into(), source };
    // The version first: a later one may have fields that this one would call unknown.
    let version: Version = serde_json::from_slice(text).map_err(parse)?;
    if let Some(found) = version.schema.filter(|&found| found != u64::from(SCHEMA)) {
        return Err(ReportError::Schema { path: path.into(), found });
    }
    serde_json::from_slice(text).map_err(parse)
}

/// Writes to a temporary name, syncs, renames: a reader sees the old file or the new one.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let write = || {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".tmp");
        let mut file = fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|source| ReportError::Write { path: path.into(), source })
}

impl PixelCounts {
    fn of(ages: &AgeTallies, threshold: u32) -> Self {
        let seen = |shown| ages.between(shown, 0, None).pixels;
        Self {
            seen_entity: seen(Shown::Entity),
            seen_background: seen(Shown::Background),
            never_seen_entity: ages.never(Shown::Entity).pixels,
            never_seen_background: ages.never(Shown::Background).pixels,
            beyond_threshold: Shown::ALL.iter().map(|&shown| ages.beyond(shown, threshold).pixels).sum(),
        }
    }
}

impl Row {
    fn assemble(model: &str, settings: &MemorySettings, sums: &RowSums, copy_last: Option<&AgeTallies>) -> Self {
        let (mse, ssim) = (sums.steps.mse(), sums.steps.ssim());
        let horizons = settings.horizons.iter().map(|&steps| {
            let mse = metrics::up_to(&mse, steps);
            HorizonScore { steps, mse, psnr: metrics::psnr(mse), ssim: metrics::up_to(&ssim, steps) }
        });
        let recall = |kinds: &[Shown]| {
            let beyond = |ages: &AgeTallies| both(kinds.iter().map(|&kind| ages.beyond(kind, settings.recall_beyond)));
            copy_last.and_then(|copy_last| share_removed(beyond(&sums.ages), beyond(copy_last)))
        };
        let ages = copy_last.map(|copy_last| {
            settings.age_bins.ranges().map(|range| AgeScore::of(range, &sums.ages, copy_last)).collect()
        });
        Self {
            name: sums.kind.name(model),
            kind: sums.kind,
            recall: recall(&Shown::ALL),
            recall_entity: recall(&[Shown::Entity]),
            recall_background: recall(&[Shown::Background]),
            horizons: horizons.collect(),
            steps: StepCurves { psnr: mse.iter().map(|&mse| metrics::psnr(mse)).collect(), mse, ssim },
            ages: ages.unwrap_or_default(),
            never_seen: copy_last.map(|_| Shown::ALL.map(|shown| sums.ages.never(shown).mse())),
            repairs: sums.repairs,
        }
    }
}

impl AgeScore {
    fn of((from, to): (u32, Option<u32>), row: &AgeTallies, copy_last: &AgeTallies) -> Self {
        let [entity, background] = Shown::ALL.map(|shown| row.between(shown, from, to));
        let all = |ages: &AgeTallies| both(Shown::ALL.iter().map(|&shown| ages.between(shown, from, to)));
        Self {
            from,
            to,
            recall: recall::share_removed(all(row), all(copy_last)),
            entity_pixels: entity.pixels,
            entity_mse: entity.mse(),
            background_pixels: background.pixels,
            background_mse: background.mse(),
        }
    }

    /// The ages of the bin in words: `21–40`, `81+`.
    #[must_use]
    pub fn label(&self) -> String {
        match self.to {
            Some(to) if to == self.from => to.to_string(),
            Some(to) => format!("{}–{to}", self.from),
            None => format!("{}+", self.from),
        }
    }
}

fn both(tallies: impl Iterator<Item = Tally>) -> Tally {
    tallies.fold(Tally::default(), |mut sum, tally| {
        sum.merge(tally);
        sum
    })
}
