//! Recall from the ground truth of Blockworld: of perfect memory, of copying, without the columns, with columns that are wrong.

use envs::collect::Truth;
use tch::{Kind, Tensor};
use tempfile::TempDir;
use world_models::belief::{Belief, Clip, WorldModel};
use world_models::evaluate::{EvaluateError, Questions, evaluate_memory};
use world_models::memory::report::{MemoryReport, RowKind};
use world_models::memory::table::table;
use world_models::memory::{FrameShape, MemoryEvaluation, MemorySettings, Origin};

use crate::support::{FRAMES, IMAGE, Spoiled, claims, loader, not_finite, number, recorded, source, wrongs};

const CONTEXT: usize = 30;

/// Knows all frames `[B, T, C, H, W]` beforehand, or copies the last that it saw.
struct Prophet {
    frames: Tensor,
    copies: bool,
}

impl Prophet {
    fn at(step: i64) -> Belief {
        Belief::new([("step", Tensor::from_slice(&[step]))])
    }

    fn step(belief: &Belief) -> i64 {
        belief.part("step").int64_value(&[0])
    }
}

impl WorldModel for Prophet {
    fn start(&self, _: i64) -> Belief {
        Self::at(-1)
    }

    fn observe(&self, belief: &Belief, _: &Tensor, _: &Tensor) -> Belief {
        Self::at(Self::step(belief) + 1)
    }

    fn imagine(&self, belief: &Belief, _: &Tensor) -> Belief {
        Self::at(Self::step(belief) + 1)
    }

    fn picture(&self, belief: &Belief) -> Tensor {
        self.frames.select(1, if self.copies { CONTEXT as i64 - 1 } else { Self::step(belief) })
    }

    fn loss(&self, _: &Clip) -> Tensor {
        Tensor::zeros([], (Kind::Float, tch::Device::Cpu))
    }
}

fn measured(data: &TempDir, copies: bool) -> Result<MemoryReport, EvaluateError> {
    let mut loader = loader(data, FRAMES);
    let windows: Vec<_> = loader.clips().in_order().collect();
    let model = Prophet { frames: loader.load(&windows, CONTEXT as i64)?.frames, copies };
    let shape = FrameShape::new([IMAGE, IMAGE, 3]);
    let mut evaluation = MemoryEvaluation::new(&MemorySettings::default(), shape, CONTEXT, FRAMES - CONTEXT, None)?;
    let questions = Questions { windows: &windows, context: CONTEXT, batch: windows.len(), examples: 0 };
    evaluate_memory(&model, &mut loader, questions, &mut evaluation, &mut |_| {})?;
    let origin = Origin { env: "BlockWorld-v0".into(), dataset: "digest".into(), seed: 3 };
    Ok(evaluation.report("prophet", origin)?)
}

#[test]
fn the_truth_recalls_all_and_copying_nothing() {
    let data = recorded(source(Truth::Full).as_ref(), 4);
    let prophet = measured(&data, false).unwrap();
    let recalls = |row: RowKind, report: &MemoryReport| {
        let row = report.row(row).unwrap();
        [row.recall, row.recall_entity, row.recall_background]
    };
    assert_eq!(recalls(RowKind::Model, &prophet), [Some(1.0); 3]);
    assert_eq!(recalls(RowKind::Oracle, &prophet), [Some(1.0); 3]);
    assert_eq!(recalls(RowKind::CopyLast, &prophet), [Some(0.0); 3]);
    assert_eq!(recalls(RowKind::Model, &measured(&data, true).unwrap()), [Some(0.0); 3]);
    // Every predicted pixel is counted once.
    let pixels = prophet.pixels.unwrap();
    let seen = pixels.seen_entity + pixels.seen_background;
    let never = pixels.never_seen_entity + pixels.never_seen_background;
    assert_eq!(seen + never, (4 * (FRAMES - CONTEXT) * IMAGE * IMAGE) as u64);
    assert!(pixels.never_seen_background > 0 && pixels.seen_entity > 0 && pixels.beyond_threshold < seen, "{pixels:?}");
    assert!(seen > never, "a walk of {CONTEXT} steps shows most of a small room: {pixels:?}");
}

#[test]
fn without_the_columns_there_is_no_recall_and_a_word_on_how_to_get_it() {
    for truth in [Truth::None, Truth::State] {
        let report = measured(&recorded(source(truth).as_ref(), 2), false).unwrap();
        assert_eq!((report.pixels, report.row(RowKind::Oracle)), (None, None));
        let model = report.row(RowKind::Model).unwrap();
        assert_eq!((model.recall, model.horizons[0].mse), (None, 0.0));
        assert!(
            table(&report)
                .contains("no recall: the dataset has no ground truth of what was seen, which `collect --truth full`")
        );
    }
}

#[test]
fn columns_that_are_not_of_blockworld_are_refused_by_name() {
    for (claimed, said) in claims() {
        let error = measured(&recorded(&claimed, 1), false).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for (spoil, said) in wrongs() {
        let error = measured(&recorded(&Spoiled(spoil), 1), false).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("episode 0"), "{error}");
    }
    let far = Spoiled(|episode| episode.rows_mut::<u16>(number("truth.depth")).fill(9));
    let error = measured(&recorded(&far, 1), false).unwrap_err().to_string();
    assert!(error.contains("column `truth.depth`") && error.contains("at 0.009 m, where that is not"), "{error}");
    for (value, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let error = measured(&not_finite(value), false).unwrap_err().to_string();
        assert!(
            error.contains(&format!("column `truth.poses` does not fit the world of the dataset: {said} at frame 4")),
            "{error}"
        );
    }
}
