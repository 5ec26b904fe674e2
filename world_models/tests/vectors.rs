//! The memory benchmark of vectors through its public face: a model that knows all and one that says nothing, by hand; refusals,
//! and what a report looks like.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use envs::dataset::{
    ColumnSpec, Control, Dataset, DatasetHeader, Dtype, EpisodeBuffer, EpisodeSource, Length, Request, collect,
};
use serde_json::json;
use simulators::rng::Seed;
use tch::{Kind, Tensor};
use tempfile::TempDir;
use world_models::evaluate::split::Split;
use world_models::evaluate::vectors::{VectorModel, VectorQuestions, evaluate_vectors};
use world_models::memory::html::vectors::page;
use world_models::memory::report::{ReportError, Saved as _};
use world_models::memory::vectors::table::table;
use world_models::memory::{Origin, VectorReport};

/// Whole numbers, so that nothing is ever rounded: `x' = v`, `v' = a - x`, and a sign that changes at every step. A fourth component
/// never changes. The reward is `x + 2 a`.
struct Swing {
    /// Steps of each episode.
    lengths: Vec<usize>,
    actions: usize,
}

impl EpisodeSource for Swing {
    fn header(&self) -> DatasetHeader {
        let (env_id, env_version, seed) = ("Swing-v0".to_owned(), 0, Seed(0));
        DatasetHeader { env_id, env_version, config: json!({}), spaces: json!({}), fps: 1.0, seed }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations("observations", Dtype::F32, &[4]),
            ColumnSpec::steps("actions", Dtype::F32, &[self.actions]),
            ColumnSpec::steps("rewards", Dtype::F32, &[]),
        ]
    }

    fn length(&self) -> Length {
        Length::AtMost(60)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        let steps = self.lengths[k as usize];
        let (mut x, mut v) = ((k % 5) as f32, (k % 3) as f32);
        for t in 0..=steps {
            let sign = if t % 2 == 0 { 1.0 } else { -1.0 };
            episode.row_mut::<f32>(0, t).copy_from_slice(&[x, v, sign, 7.0]);
            if t < steps {
                let a = ((k as usize * 31 + t * t * 7 + t) % 3) as f32 - 1.0;
                episode.row_mut::<f32>(1, t).fill(a);
                episode.row_mut::<f32>(2, t)[0] = x + 2.0 * a;
                (x, v) = (v, a - x);
            }
        }
        episode.set_steps(steps);
    }
}

fn recorded(lengths: &[usize], actions: usize) -> (TempDir, Arc<Dataset>) {
    let place = tempfile::tempdir().expect("a folder");
    let dir = place.path().join("data");
    let (source, stop) = (Swing { lengths: lengths.to_vec(), actions }, AtomicBool::new(false));
    let control = Control { stop: &stop, progress: &|_| {} };
    collect(&source, &dir, Request::episodes(lengths.len() as u64), control).expect("episodes");
    let dataset = Arc::new(Dataset::open(&dir).expect("a dataset"));
    (place, dataset)
}

/// Latents `[x + v, v, sign, x - sign]` and the true laws, or, if it says nothing, latents that are always the same.
struct Knows {
    nothing: bool,
}

impl Knows {
    /// `x`, `v` and the sign of latents, `[B]` each.
    fn state(latents: &Tensor) -> [Tensor; 3] {
        let of = |k| latents.select(1, k);
        [of(0) - of(1), of(1), of(2)]
    }

    fn latents(&self, [x, v, sign]: [Tensor; 3]) -> Tensor {
        let latents = Tensor::stack(&[&x + &v, v, sign.shallow_clone(), x - sign], 1);
        if self.nothing { latents.full_like(0.25) } else { latents }
    }
}

impl VectorModel for Knows {
    fn sizes(&self) -> [usize; 3] {
        [4, 1, 4]
    }

    fn observe(&self, observations: &Tensor) -> Tensor {
        self.latents([0, 1, 2].map(|k| observations.select(1, k)))
    }

    fn imagine(&self, latents: &Tensor, actions: &Tensor) -> Tensor {
        let [x, v, sign] = Self::state(latents);
        self.latents([v, actions.select(1, 0) - x, -sign])
    }

    fn reward(&self, latents: &Tensor, actions: &Tensor) -> Tensor {
        let [x, ..] = Self::state(latents);
        x + actions.select(1, 0) * 2.0
    }
}

fn report(model: &dyn VectorModel, dataset: &Arc<Dataset>, context: usize, horizon: usize) -> VectorReport {
    let questions = VectorQuestions { context, horizon, clips: 1000 };
    let evaluation = evaluate_vectors(model, dataset, questions, &mut |_, _| {}).expect("it can be asked");
    let origin = Origin { env: "Swing-v0".into(), dataset: dataset.digest(), seed: 0 };
    evaluation.report("swing", origin).expect("there are clips")
}

/// Two dozen episodes, each with as many observations of either sign.
fn usual() -> (TempDir, Arc<Dataset>) {
    recorded(&[59, 39, 19, 59].repeat(6), 1)
}

#[test]
fn a_model_that_knows_the_laws_makes_no_error_and_copy_last_does() {
    let (_place, dataset) = usual();
    for context in [1, 3] {
        let report = report(&Knows { nothing: false }, &dataset, context, 6);
        let model = &report.models[0];
        assert_eq!(model.latents.imagined, [0.0; 6]);
        assert!(model.latents.copy_last.iter().all(|&error| error > 0.5), "{:?}", model.latents);
        let rewards = model.rewards.as_ref().expect("rewards change");
        assert_eq!((&rewards.imagined, &rewards.seeing), (&vec![0.0; 6], &vec![0.0; 6]));
        assert!((rewards.correlation_of_all.expect("they vary") - 1.0).abs() < 1e-9);
        // What is left is the ridge's, and nothing of it imagination's.
        assert_eq!(model.observations.steps, model.readout.steps);
        assert!(model.readout.steps.iter().chain([&model.readout.start]).all(|&error| error < 1e-4), "{model:?}");
        assert!(report.baselines.copy_last.steps.iter().all(|&error| error > 0.1), "{:?}", report.baselines);
        assert!(report.share_removed(model, 6).expect("there is an error") > 0.99);
    }
}

/// The sign is always one deviation from its mean, so saying the mean scores 1 at every step, and keeping it 4 and 0 by turns.
#[test]
fn errors_are_measured_by_the_variance_of_the_dataset() {
    let (_place, dataset) = usual();
    let report = report(&Knows { nothing: false }, &dataset, 1, 4);
    assert_eq!(report.components, [0, 1, 2], "the fourth does not change");
    assert_eq!((report.observation_scales.mean[2], report.observation_scales.variance[2]), (0.0, 1.0));
    assert_eq!(report.baselines.mean.components[2], [1.0; 4]);
    assert_eq!(report.baselines.copy_last.components[2], [4.0, 0.0, 4.0, 0.0]);
    assert_eq!(report.observation_scales.mean[3..], [7.0]);
}

#[test]
fn an_encoder_that_says_nothing_makes_no_error_in_latents_and_cannot_be_read() {
    let (_place, dataset) = usual();
    let report = report(&Knows { nothing: true }, &dataset, 1, 4);
    let model = &report.models[0];
    assert_eq!((&model.latents.imagined, &model.latents.copy_last), (&vec![0.0; 4], &vec![0.0; 4]));
    assert!(model.latents.variance <= 0.0);
    assert!(model.readout.start > 0.9 && model.observations.steps.iter().all(|&error| error > 0.9), "{model:?}");
}

/// Whatever order policies took turns in, each episode is either evaluated or fitted, and clips lie within theirs, side by side.
#[test]
fn episodes_are_evaluated_or_fitted_and_clips_do_not_overlap() {
    let (_place, dataset) = recorded(&[59, 39, 19, 59].repeat(24), 1);
    let split = Split::of(&dataset, 17, 1000).expect("they are long enough");
    assert_eq!((split.evaluated, split.fitted.len()), (48, 48));
    let mut before: Option<envs::dataset::Window> = None;
    let mut kinds = [0; 4];
    for window in &split.windows {
        assert!(!split.fitted.contains(&window.episode));
        let frames = dataset.episode(window.episode).expect("of this dataset").frames();
        assert!(window.start + 17 <= frames);
        if let Some(before) = before.filter(|before| before.episode == window.episode) {
            assert_eq!(window.start, before.start + 17);
        }
        kinds[window.episode % 4] += 1;
        before = Some(*window);
    }
    assert!(kinds.iter().all(|&clips| clips > 5), "those of a policy that took its turns were left out: {kinds:?}");
    assert!(split.windows.iter().any(|window| window.start % 17 > 0), "ends are seen, too");
    let few = Split::of(&dataset, 17, 5).expect("they are long enough");
    assert_eq!((few.windows.len(), few.fitted), (5, split.fitted));
    assert!(few.windows.iter().all(|window| split.windows.contains(window)));
}

#[test]
fn datasets_that_do_not_fit_are_refused_by_name() {
    let refused = |lengths: &[usize], actions: usize, horizon: usize| {
        let (_place, dataset) = recorded(lengths, actions);
        let questions = VectorQuestions { context: 1, horizon, clips: 10 };
        let error = evaluate_vectors(&Knows { nothing: false }, &dataset, questions, &mut |_, _| {});
        error.expect_err("it does not fit").to_string()
    };
    let said = refused(&[5, 9, 3], 1, 10);
    assert!(said.contains("the longest episode is 10 observations; allowed: 11 or more"), "{said}");
    let said = refused(&[20], 1, 10);
    assert!(said.contains("the number of episodes is 1; allowed: 2 or more"), "{said}");
    let said = refused(&[20, 20], 2, 10);
    assert!(said.contains("column `actions` is F32 [2]") && said.contains("allowed: F32 of 1"), "{said}");
}

/// Becomes infinite two steps after it last saw.
struct Bursts;

impl VectorModel for Bursts {
    fn sizes(&self) -> [usize; 3] {
        [4, 1, 4]
    }
    fn observe(&self, observations: &Tensor) -> Tensor {
        observations.full_like(1e30)
    }
    fn imagine(&self, latents: &Tensor, _: &Tensor) -> Tensor {
        latents * 1e6
    }
    fn reward(&self, latents: &Tensor, _: &Tensor) -> Tensor {
        latents.select(1, 0).zeros_like().to_kind(Kind::Float)
    }
}

#[test]
fn a_prediction_that_is_not_finite_ends_it_and_says_where() {
    let (_place, dataset) = recorded(&[20, 20], 1);
    let questions = VectorQuestions { context: 1, horizon: 4, clips: 10 };
    let said = evaluate_vectors(&Bursts, &dataset, questions, &mut |_, _| {}).expect_err("it bursts").to_string();
    assert!(said.contains("the model predicts inf") && said.contains("2 steps after"), "{said}");
}

#[test]
fn a_report_is_read_again_and_one_that_cannot_be_is_refused() {
    let (place, dataset) = usual();
    let report = report(&Knows { nothing: false }, &dataset, 1, 6);
    let path = place.path().join("report.json");
    report.write_json(&path).expect("it is written");
    assert_eq!(VectorReport::read_json(&path).expect("it is read"), report);
    let changed = |change: fn(&mut VectorReport)| {
        let mut report = report.clone();
        change(&mut report);
        VectorReport::parse(report.to_json().as_bytes(), Path::new("r.json")).expect_err("it cannot be").to_string()
    };
    assert!(changed(|report| report.horizon = 7).contains("horizons"));
    assert!(changed(|report| report.horizon = usize::MAX).contains("horizon ="));
    assert!(changed(|report| report.components = vec![0, 1, 9]).contains("components"));
    assert!(changed(|report| report.models.clear()).contains("models"));
    assert!(changed(|report| report.models[0].readout.steps.truncate(2)).contains("models.0"));
    assert!(changed(|report| report.models[0].observations.steps[0] = -1.0).contains("models.0"));
    assert!(changed(|report| report.baselines.copy_last.steps[0] = 1e200).contains("baselines"));
    assert!(changed(|report| report.models[0].name = "x".repeat(2000)).contains("models.0"));
    assert!(changed(|report| report.baselines.mean.components[1].clear()).contains("baselines"));
    assert!(changed(|report| report.schema = 2).contains("schema 2"));

    let other = self::report(&Knows { nothing: true }, &dataset, 1, 6);
    let both = report.clone().with_models_of(&other).expect("the same clips");
    assert_eq!(both.models.len(), 2);
    let longer = self::report(&Knows { nothing: true }, &dataset, 1, 8);
    assert!(matches!(report.with_models_of(&longer), Err(ReportError::Differ { field: "clips" | "horizon", .. })));
}

#[test]
fn a_report_is_shown_as_a_table_and_as_a_page_that_fetches_nothing() {
    let (_place, dataset) = usual();
    let report = report(&Knows { nothing: false }, &dataset, 1, 6);
    let shown = table(&report);
    for part in ["swing", "latents", "copy last", "readout", "seeing", "1 of 4 components do not change", "12 episodes"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let mut hostile = report;
    hostile.models[0].name = "<script>\u{1b}[31m".into();
    assert!(!table(&hostile).contains('\u{1b}'));
    let page = page(&hostile);
    assert!(page.contains("<svg") && !page.contains("://") && !page.contains("<script>"), "{page}");
    assert!(!page.contains("NaN") && page.matches("<svg").count() == 4);
}
