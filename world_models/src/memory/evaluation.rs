//! All rows over all clips: feed predicted and true frames, get a [`MemoryReport`].
//!
//! Clips are scored in parallel and their sums added in the order in which they came, so that neither the number of
//! threads nor the size of the batches changes a bit of the result.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::metrics::{self, Repairs, StepSums};
use super::recall::{AgeBins, AgeTallies};
use super::report::{MemoryReport, RowKind};
use super::ssim::{Moments, Ssim, SsimBorder};
use super::{FrameShape, MemoryError, baselines};

/// How the benchmark is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemorySettings {
    /// Predicted steps that the table shows errors up to. Empty: 20, where that many are predicted, and all.
    pub horizons: Vec<usize>,
    /// Bins of the recall curve.
    pub age_bins: AgeBins,
    /// The recall number counts points last seen more than this many steps ago: 20, or the context window of a model
    /// that has a finite one.
    pub recall_beyond: u32,
    /// Which version of torchmetrics SSIM follows.
    pub ssim_border: SsimBorder,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            horizons: Vec::new(),
            age_bins: AgeBins::default(),
            recall_beyond: 20,
            ssim_border: SsimBorder::default(),
        }
    }
}

impl MemorySettings {
    /// The horizons of the table when `horizon` steps are predicted.
    ///
    /// # Errors
    /// A chosen horizon must be one of `1..=horizon`; age bins must be in order.
    pub fn resolve(&self, horizon: usize) -> Result<Self, MemoryError> {
        self.age_bins.validate()?;
        let mut horizons = self.horizons.clone();
        if horizons.is_empty() {
            horizons = vec![20.min(horizon), horizon];
        }
        horizons.sort_unstable();
        horizons.dedup();
        if let Some(wrong) = horizons.iter().find(|&&steps| steps == 0 || steps > horizon) {
            return Err(MemoryError::Setting {
                field: "horizons",
                value: wrong.to_string(),
                allowed: format!("1..={horizon}, the predicted steps"),
            });
        }
        Ok(Self { horizons, ..self.clone() })
    }
}

/// Where the clips and the weights came from. No paths: a report can be published as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The environment that made the clips, id and version.
    pub env: String,
    /// What identifies the dataset wherever it lies, such as the digest of its manifest.
    pub dataset: String,
    /// The seed of everything random in the evaluation.
    pub seed: u64,
}

/// What was seen of the points that the predicted frames show.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// `[horizon, H, W]`: absolute step at which the model last observed the point, counted from the first context
    /// frame; negative for never. Below `context`: after that its eyes are shut.
    pub last_seen: &'a [i32],
    /// `[horizon, H, W]`: 0 for the background, other values for entities.
    pub entity: &'a [u8],
}

/// One clip and what the model made of it.
#[derive(Debug, Clone, Copy)]
pub struct Clip<'a> {
    /// True frames `[context + horizon, H, W, C]`.
    pub truth: &'a [u8],
    /// Predicted frames `[horizon, H, W, C]`, as the model gives them; they are cleaned here.
    pub prediction: &'a [f32],
    /// Ground truth for recall, where the dataset has it.
    pub sight: Option<Sight<'a>>,
}

/// What is summed for a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowSums {
    pub(super) kind: RowKind,
    pub(super) steps: StepSums,
    pub(super) ages: AgeTallies,
    pub(super) repairs: Repairs,
}

/// Sums over the clips so far, for the model and for each baseline.
#[derive(Debug, Clone)]
pub struct MemoryEvaluation {
    settings: MemorySettings,
    shape: FrameShape,
    context: usize,
    horizon: usize,
    mean_frame: Option<Vec<f32>>,
    /// Whether clips come with [`Sight`]; settled by the first.
    sighted: Option<bool>,
    rows: Vec<RowSums>,
}

impl MemoryEvaluation {
    /// An evaluation of clips of `context + horizon` frames of `shape`.
    ///
    /// `mean_frame [H, W, C]`, in `[0, 1]`, is the mean over the training set; without it that row is left out.
    ///
    /// # Errors
    /// `context` and `horizon` are at least 1, settings as [`MemorySettings::resolve`], frames as [`Ssim::new`].
    ///
    /// # Panics
    /// When `mean_frame` is not a frame of `shape`.
    pub fn new(
        settings: &MemorySettings,
        shape: FrameShape,
        context: usize,
        horizon: usize,
        mean_frame: Option<Vec<f32>>,
    ) -> Result<Self, MemoryError> {
        for (field, value) in [("context", context), ("horizon", horizon)] {
            if value == 0 {
                return Err(MemoryError::Setting { field, value: "0".into(), allowed: "1 or more frames".into() });
            }
        }
        assert!(mean_frame.as_ref().is_none_or(|mean| mean.len() == shape.values()), "the mean frame is [H, W, C]");
        let settings = settings.resolve(horizon)?;
        Ssim::new(shape, settings.ssim_border)?;
        Ok(Self { settings, shape, context, horizon, mean_frame, sighted: None, rows: Vec::new() })
    }

    /// Clips added so far.
    #[must_use]
    pub fn clips(&self) -> u64 {
        self.rows.first().map_or(0, |model| model.steps.clips())
    }

    /// Scores clips, in parallel.
    ///
    /// # Errors
    /// Every buffer must have the length its shape asks for, all clips or none must have [`Sight`], and nothing can
    /// have been seen after the context. On an error none of the clips is added.
    pub fn add_clips(&mut self, clips: &[Clip<'_>]) -> Result<(), MemoryError> {
        let mut sighted = self.sighted;
        for (clip, index) in clips.iter().zip(self.clips()..) {
            self.check(clip, index)?;
            let has = clip.sight.is_some();
            if *sighted.get_or_insert(has) != has {
                return Err(MemoryError::MixedTruth { clip: index, found: if has { "has" } else { "lacks" } });
            }
        }
        let scored: Vec<Vec<RowSums>> =
            clips.par_iter().map_init(|| Scorer::new(self), |scorer, clip| scorer.score(self, clip)).collect();
        self.sighted = sighted;
        for rows in scored {
            if self.rows.is_empty() {
                self.rows = rows;
            } else {
                for (sums, row) in self.rows.iter_mut().zip(&rows) {
                    sums.steps.merge(&row.steps);
                    sums.ages.merge(&row.ages);
                    sums.repairs.merge(row.repairs);
                }
            }
        }
        Ok(())
    }

    /// The report on everything added. `model` is the name of the first row.
    ///
    /// # Errors
    /// There must be at least one clip.
    pub fn report(&self, model: &str, origin: Origin) -> Result<MemoryReport, MemoryError> {
        if self.rows.is_empty() {
            return Err(MemoryError::NoClips);
        }
        let sighted = self.sighted.unwrap_or(false);
        let frames = (self.shape, self.context, self.horizon);
        Ok(MemoryReport::assemble(model, origin, self.settings.clone(), frames, &self.rows, sighted))
    }

    fn check(&self, clip: &Clip<'_>, index: u64) -> Result<(), MemoryError> {
        let (values, pixels) = (self.shape.values(), self.horizon * self.shape.pixels());
        let mut lengths = vec![
            ("truth", clip.truth.len(), (self.context + self.horizon) * values),
            ("prediction", clip.prediction.len(), self.horizon * values),
        ];
        if let Some(sight) = clip.sight {
            lengths.push(("last_seen", sight.last_seen.len(), pixels));
            lengths.push(("entity", sight.entity.len(), pixels));
        }
        for (buffer, found, expected) in lengths {
            if found != expected {
                return Err(MemoryError::Length { clip: index, buffer, found, expected });
            }
        }
        let last_seen = clip.sight.map_or(&[][..], |sight| sight.last_seen);
        match last_seen.iter().position(|&step| step >= self.context as i32) {
            None => Ok(()),
            Some(at) => Err(MemoryError::SeenTooLate {
                clip: index,
                step: self.context + at / self.shape.pixels(),
                last_seen: last_seen[at],
                context: self.context,
            }),
        }
    }
}

/// Buffers of one thread: a frame each of truth, prediction and error, and what SSIM needs of them.
struct Scorer {
    ssim: Ssim,
    truth: Vec<f32>,
    truth_moments: Moments,
    error: Vec<f32>,
    /// Drawn anew at each step.
    moving: (Vec<f32>, Moments),
    /// Drawn once for a clip: copy-last.
    still: (Vec<f32>, Moments),
    /// Drawn once for all clips: the mean frame and all-black.
    mean: Option<(Vec<f32>, Moments)>,
    black: (Vec<f32>, Moments),
}

/// The scores of one row on the clip in hand.
struct RowScores {
    kind: RowKind,
    /// MSE and SSIM of each step.
    steps: Vec<(f64, f64)>,
    ages: AgeTallies,
    repairs: Repairs,
}

impl Scorer {
    fn new(evaluation: &MemoryEvaluation) -> Self {
        let MemoryEvaluation { shape, settings, mean_frame, .. } = evaluation;
        let mut ssim = Ssim::new(*shape, settings.ssim_border).expect("the evaluation has made one of this shape");
        let black = (vec![0.0; shape.values()], ssim.moments());
        let mean = mean_frame.as_ref().map(|mean| {
            let mut moments = ssim.moments();
            ssim.measure(mean, &mut moments);
            (mean.clone(), moments)
        });
        Self {
            truth: black.0.clone(),
            truth_moments: black.1.clone(),
            error: vec![0.0; shape.pixels()],
            moving: black.clone(),
            still: black.clone(),
            mean,
            black,
            ssim,
        }
    }

    /// The sums of one clip. Frame by frame, so that all rows share the moments of the truth.
    fn score(&mut self, evaluation: &MemoryEvaluation, clip: &Clip<'_>) -> Vec<RowSums> {
        let MemoryEvaluation { shape, context, horizon, mean_frame, .. } = evaluation;
        let (values, pixels) = (shape.values(), shape.pixels());
        let kinds = RowKind::ALL.into_iter().filter(|kind| match kind {
            RowKind::Oracle => clip.sight.is_some(),
            RowKind::MeanFrame => mean_frame.is_some(),
            RowKind::Model | RowKind::CopyLast | RowKind::AllBlack => true,
        });
        let row = |kind| RowScores {
            kind,
            steps: Vec::with_capacity(*horizon),
            ages: AgeTallies::new(context + horizon - 1),
            repairs: Repairs::default(),
        };
        let mut rows: Vec<RowScores> = kinds.map(row).collect();

        baselines::copy_last(&clip.truth[(context - 1) * values..context * values], &mut self.still.0);
        self.ssim.measure(&self.still.0, &mut self.still.1);
        for step in 0..*horizon {
            let truth = &clip.truth[(context + step) * values..][..values];
            let prediction = &clip.prediction[step * values..][..values];
            let sight = clip.sight.map(|sight| Sight {
                last_seen: &sight.last_seen[step * pixels..][..pixels],
                entity: &sight.entity[step * pixels..][..pixels],
            });
            metrics::unit_interval(truth, &mut self.truth);
            self.ssim.measure(&self.truth, &mut self.truth_moments);
            for row in &mut rows {
                row.repairs.merge(self.draw(row.kind, prediction, truth, sight));
                let (frame, moments) = match row.kind {
                    RowKind::Model | RowKind::Oracle => &self.moving,
                    RowKind::CopyLast => &self.still,
                    RowKind::MeanFrame => self.mean.as_ref().expect("the row exists only with a mean frame"),
                    RowKind::AllBlack => &self.black,
                };
                metrics::squared_error(frame, &self.truth, shape.channels, &mut self.error);
                let mse = metrics::total(&self.error) / pixels as f64;
                row.steps.push((mse, self.ssim.compare(moments, &self.truth_moments)));
                if let Some(sight) = sight {
                    row.ages.add_frame(context + step, &self.error, sight.last_seen, sight.entity);
                }
            }
        }
        let sums = |row: RowScores| {
            let mut steps = StepSums::new(*horizon);
            steps.add_clip(row.steps.into_iter());
            RowSums { kind: row.kind, steps, ages: row.ages, repairs: row.repairs }
        };
        rows.into_iter().map(sums).collect()
    }

    /// Draws and measures the rows that differ at each step; the others are ready.
    fn draw(&mut self, kind: RowKind, prediction: &[f32], truth: &[u8], sight: Option<Sight<'_>>) -> Repairs {
        let (frame, moments) = &mut self.moving;
        let repairs = match (kind, sight) {
            (RowKind::Model, _) => metrics::clean(prediction, frame),
            (RowKind::Oracle, Some(sight)) => {
                baselines::oracle(truth, sight.last_seen, frame);
                Repairs::default()
            }
            _ => return Repairs::default(),
        };
        self.ssim.measure(frame, moments);
        repairs
    }
}
