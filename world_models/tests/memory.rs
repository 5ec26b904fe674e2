//! The memory benchmark through its public face: rows by hand, determinism, refusals, and what a report looks like.

use std::collections::BTreeSet;

use serde_json::Value;
use world_models::memory::evaluation::Sight;
use world_models::memory::html::{BeliefPictures, ExampleClip, page, write_html};
use world_models::memory::report::{ReportError, RowKind, Saved as _};
use world_models::memory::table::table;
use world_models::memory::{Clip, FrameShape, MemoryError, MemoryEvaluation, MemoryReport, MemorySettings, Origin};

const SIDE: usize = 12;
const PIXELS: usize = SIDE * SIDE;
const CONTEXT: usize = 30;
const HORIZON: usize = 2;

/// A clip whose context is black and whose future is white but for the lower half, which was never seen.
///
/// Last sightings: rows 0 to 2 show an entity seen at step 0, rows 3 to 5 one seen at the last step of the context.
struct World {
    truth: Vec<u8>,
    last_seen: Vec<i32>,
    entity: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let row = |i: usize| i % PIXELS / SIDE;
        let mut truth = vec![0; CONTEXT * PIXELS];
        truth.extend((0..HORIZON * PIXELS).map(|_| 255));
        let last_seen = |i| match row(i) {
            0..3 => 0,
            3..6 => CONTEXT as i32 - 1,
            _ => -1,
        };
        Self {
            truth,
            last_seen: (0..HORIZON * PIXELS).map(last_seen).collect(),
            entity: (0..HORIZON * PIXELS).map(|i| u8::from(row(i) < 6)).collect(),
        }
    }

    fn clip<'a>(&'a self, prediction: &'a [f32]) -> Clip<'a> {
        let sight = Sight { last_seen: &self.last_seen, entity: &self.entity };
        Clip { truth: &self.truth, prediction, sight: Some(sight) }
    }
}

fn evaluation(settings: &MemorySettings) -> MemoryEvaluation {
    let shape = FrameShape::new([SIDE, SIDE, 1]);
    MemoryEvaluation::new(settings, shape, CONTEXT, HORIZON, Some(vec![0.5; PIXELS])).expect("settings are in range")
}

fn origin() -> Origin {
    Origin { env: "MnistWorld-v0".into(), dataset: "blake3:0123".into(), seed: 7 }
}

/// A report on one clip, by a model that predicts `value` everywhere.
fn report(name: &str, value: f32) -> MemoryReport {
    let world = World::new();
    let prediction = vec![value; HORIZON * PIXELS];
    let mut evaluation = evaluation(&MemorySettings::default());
    evaluation.add_clips(&[world.clip(&prediction)]).expect("the clip fits");
    evaluation.report(name, origin()).expect("there is a clip")
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
}

#[test]
fn every_row_by_hand() {
    // White truth: predicting 0.9 errs by 0.01 everywhere, black by 1, the mean frame by 0.25; the oracle is black
    // where nothing was seen, which is half of the frame.
    let report = report("model", 0.9);
    let mse = |kind| report.row(kind).unwrap().horizons[0].mse;
    close(mse(RowKind::Model), 0.01);
    close(mse(RowKind::Oracle), 0.5);
    close(mse(RowKind::CopyLast), 1.0);
    close(mse(RowKind::MeanFrame), 0.25);
    close(mse(RowKind::AllBlack), 1.0);
    close(report.row(RowKind::Model).unwrap().horizons[0].psnr.unwrap() / 20.0, 1.0);

    // Only rows 0 to 2 are older than 20 steps: 36 pixels in each of two frames, all of them entities.
    let pixels = report.pixels.unwrap();
    assert_eq!((pixels.beyond_threshold, pixels.seen_entity, pixels.never_seen_background), (72, 144, 144));
    assert_eq!((pixels.seen_background, pixels.never_seen_entity), (0, 0));
    let recall = |kind| report.row(kind).unwrap().recall.unwrap();
    close(recall(RowKind::Model), 0.99);
    close(recall(RowKind::Oracle), 1.0);
    close(recall(RowKind::CopyLast), 0.0);
    close(recall(RowKind::MeanFrame), 0.75);
    close(recall(RowKind::AllBlack), 0.0);
    assert_eq!(report.row(RowKind::Model).unwrap().recall_background, None);

    // The first frame shows ages 1 and 30, the second 2 and 31: bins 1-5 and 21-40.
    let ages = &report.row(RowKind::Model).unwrap().ages;
    let counts: Vec<_> = ages.iter().map(|age| (age.label(), age.entity_pixels)).collect();
    let expected = [("1–5", 72), ("6–10", 0), ("11–20", 0), ("21–40", 72), ("41–80", 0), ("81+", 0)];
    assert_eq!(counts, expected.map(|(label, count)| (label.to_string(), count)));
    assert_eq!(ages[1].recall, None);
    close(report.row(RowKind::Oracle).unwrap().never_seen.unwrap()[1].unwrap(), 1.0);
}

#[test]
fn recall_is_absent_where_nothing_qualifies() {
    let world = World::new();
    let prediction = vec![0.9; HORIZON * PIXELS];
    let mut old = evaluation(&MemorySettings { recall_beyond: 31, ..MemorySettings::default() });
    old.add_clips(&[world.clip(&prediction)]).unwrap();
    let old = old.report("model", origin()).unwrap();
    assert_eq!(old.row(RowKind::Oracle).unwrap().recall, None);
    assert!(table(&old).contains("no recall: no predicted pixel shows a point last seen more than 31 steps ago"));

    let mut blind = evaluation(&MemorySettings::default());
    blind.add_clips(&[Clip { sight: None, ..world.clip(&prediction) }]).unwrap();
    let blind = blind.report("model", origin()).unwrap();
    assert_eq!((blind.pixels, blind.row(RowKind::Oracle)), (None, None));
    assert!(table(&blind).contains("no recall: the dataset has no ground truth"));
    assert!(page(&blind, &[]).contains("no recall: the dataset has no ground truth"));
}

#[test]
fn repairs_are_reported() {
    let report = report("wild", f32::NAN);
    let model = report.row(RowKind::Model).unwrap();
    assert_eq!(model.repairs.not_finite, (HORIZON * PIXELS) as u64);
    close(model.horizons[0].mse, 1.0);
    assert!(table(&report).contains("predicted values of wild: 288 (100.0 %) not finite"));
    assert!(page(&report, &[]).contains("288 (100.0 %) not finite"));
}

#[test]
fn batches_and_threads_do_not_change_a_bit() {
    let world = World::new();
    let predictions: Vec<Vec<f32>> =
        (0..7).map(|clip| (0..HORIZON * PIXELS).map(|i| (i * (clip + 3) % 89) as f32 / 83.0).collect()).collect();
    let clips: Vec<_> = predictions.iter().map(|prediction| world.clip(prediction)).collect();
    let run = |threads, batch| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut evaluation = evaluation(&MemorySettings::default());
        pool.install(|| clips.chunks(batch).for_each(|clips| evaluation.add_clips(clips).unwrap()));
        evaluation.report("model", origin()).unwrap().to_json()
    };
    let once = run(1, 7);
    assert!(once.contains("\"clips\": 7"));
    for (threads, batch) in [(1, 1), (3, 7), (4, 2)] {
        assert!(run(threads, batch) == once, "{threads} threads, batches of {batch}");
    }
}

#[test]
fn wrong_clips_are_refused_and_leave_no_trace() {
    let world = World::new();
    let prediction = vec![0.5; HORIZON * PIXELS];
    let good = world.clip(&prediction);
    let mut evaluation = evaluation(&MemorySettings::default());
    assert_eq!(evaluation.report("model", origin()), Err(MemoryError::NoClips));
    evaluation.add_clips(&[good]).unwrap();

    let short = Clip { prediction: &prediction[1..], ..good };
    let error = evaluation.add_clips(&[good, short]).unwrap_err();
    assert_eq!(error, MemoryError::Length { clip: 2, buffer: "prediction", found: 287, expected: 288 });
    let error = evaluation.add_clips(&[Clip { sight: None, ..good }]).unwrap_err();
    assert_eq!(error, MemoryError::MixedTruth { clip: 1, found: "lacks" });
    let mut late = world.last_seen.clone();
    late[PIXELS + 5] = CONTEXT as i32;
    let sight = Sight { last_seen: &late, entity: &world.entity };
    let error = evaluation.add_clips(&[Clip { sight: Some(sight), ..good }]).unwrap_err();
    assert_eq!(error, MemoryError::SeenTooLate { clip: 1, step: 31, last_seen: 30, context: 30 });
    assert_eq!(evaluation.clips(), 1);
}

#[test]
fn wrong_settings_name_the_field() {
    let shape = FrameShape::new([SIDE, SIDE, 1]);
    let refused = |settings: MemorySettings, context, horizon| {
        MemoryEvaluation::new(&settings, shape, context, horizon, None).unwrap_err().to_string()
    };
    let far = MemorySettings { horizons: vec![20, 150], ..MemorySettings::default() };
    assert_eq!(refused(far, 50, 70), "memory settings: `horizons` is 150; allowed: 1..=70, the predicted steps");
    let default = MemorySettings::default;
    assert_eq!(refused(default(), 0, 70), "memory settings: `context` is 0; allowed: 1 or more frames");
    assert!(serde_json::from_str::<MemorySettings>(r#"{"horizon": [20]}"#).is_err(), "a typo is an error");
    assert_eq!(default().resolve(150).unwrap().horizons, [20, 150]);
    assert_eq!(default().resolve(7).unwrap().horizons, [7]);
}

#[test]
fn a_report_survives_its_file_and_other_versions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let report = report("model", 0.9);
    report.write_json(&path).unwrap();
    assert_eq!(MemoryReport::read_json(&path).unwrap(), report);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file is left");

    std::fs::write(&path, r#"{"schema": 2, "news": true}"#).unwrap();
    assert!(matches!(MemoryReport::read_json(&path), Err(ReportError::Schema { found: 2, .. })));
    std::fs::write(&path, r#"{"schema": 1}"#).unwrap();
    assert!(matches!(MemoryReport::read_json(&path), Err(ReportError::Parse { .. })));
    let error = MemoryReport::read_json(&folder.path().join("none.json")).unwrap_err();
    assert!(error.to_string().contains("none.json"), "{error}");
}

#[test]
fn models_can_stand_side_by_side_if_they_saw_the_same() {
    let both = report("one", 0.9).with_models_of(&report("two", 0.5)).unwrap();
    let names: Vec<_> = both.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["one", "two", "oracle", "copy last frame", "mean frame", "all black"]);
    let mut elsewhere = report("three", 0.1);
    elsewhere.origin.seed = 8;
    let error = both.with_models_of(&elsewhere).unwrap_err();
    assert!(matches!(error, ReportError::Differ { field: "origin", .. }), "{error}");
}

/// The paths of all values in a JSON document, with `[]` for the elements of lists.
fn paths(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| paths(value, &format!("{at}.{name}"), into)),
        Value::Array(elements) => elements.iter().for_each(|value| paths(value, &format!("{at}[]"), into)),
        _ => drop(into.insert(at.trim_start_matches('.').into())),
    }
}

#[test]
fn the_schema_of_a_report_is_fixed() {
    let mut fields = BTreeSet::new();
    paths(&serde_json::from_str(&report("model", 0.9).to_json()).unwrap(), "", &mut fields);
    let fields: Vec<_> = fields.into_iter().collect();
    // A change here is a change of `SCHEMA`.
    insta::assert_snapshot!(fields.join("\n"), @r"
    clips
    context
    frame.channels
    frame.height
    frame.width
    horizon
    origin.dataset
    origin.env
    origin.seed
    pixels.beyond_threshold
    pixels.never_seen_background
    pixels.never_seen_entity
    pixels.seen_background
    pixels.seen_entity
    rows[].ages[].background_mse
    rows[].ages[].background_pixels
    rows[].ages[].entity_mse
    rows[].ages[].entity_pixels
    rows[].ages[].from
    rows[].ages[].recall
    rows[].ages[].to
    rows[].horizons[].mse
    rows[].horizons[].psnr
    rows[].horizons[].ssim
    rows[].horizons[].steps
    rows[].kind
    rows[].name
    rows[].never_seen[]
    rows[].recall
    rows[].recall_background
    rows[].recall_entity
    rows[].repairs.clamped
    rows[].repairs.not_finite
    rows[].steps.mse[]
    rows[].steps.psnr[]
    rows[].steps.ssim[]
    schema
    settings.age_bins[]
    settings.horizons[]
    settings.recall_beyond
    settings.ssim_border
    ");
}

#[test]
fn the_table_has_a_line_for_every_row() {
    let text = table(&report("mo\u{1b}[31mdel", 0.9));
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    row recall >20 MSE 2 PSNR 2 SSIM 2
    ─────────────────────────────────────────────────────────
    mo[31mdel 99.0 % 0.0100 20.00 0.9945
    oracle 100.0 % 0.500 3.01 0.1335
    copy last frame 0.0 % 1.00 0.00 0.0001
    mean frame 75.0 % 0.250 6.02 0.8000
    all black 0.0 % 1.00 0.00 0.0001
    1 clip of MnistWorld-v0, 30 frames seen, 2 predicted, seed 7
    recall: share of the copy-last error removed on 72 pixels whose point was last seen more than 20 steps ago
    ");
}

/// Clips with names that would be markup, gray and with a coloured belief.
fn example() -> ExampleClip {
    let world = World::new();
    ExampleClip {
        title: "<script>alert('clip')</script>".into(),
        frame: FrameShape::new([SIDE, SIDE, 1]),
        context: CONTEXT,
        prediction: vec![200; HORIZON * PIXELS],
        belief: Some(BeliefPictures {
            caption: "\"<img src=x>\"".into(),
            frame: FrameShape::new([3, 4, 3]),
            pictures: vec![7; (CONTEXT + HORIZON) * 36],
        }),
        truth: world.truth,
    }
}

#[test]
fn the_page_is_self_contained_and_escapes_every_text() {
    let mut report = report("<script>alert('model')</script>", 0.9);
    report.origin.env = "<b>env</b>".into();
    report.origin.dataset = "a\"onload=\"x".into();
    let page = page(&report, &[example()]);
    assert_eq!(page.matches("<script").count(), 1, "only our own script");
    for raw in ["<b>env", "<img src=x", "a\"onload", "alert('"] {
        assert!(!page.contains(raw), "{raw} is in the page");
    }
    for outside in ["http:", "https:", "//cdn", "@import", "url(", "<link rel=\"stylesheet", "<iframe", "fetch("] {
        assert!(!page.contains(outside), "{outside} is in the page");
    }
    let sources: Vec<_> = page.match_indices(" src=\"").map(|(at, _)| &page[at + 6..]).collect();
    assert_eq!(sources.len(), 4, "truth, prediction, error and belief");
    assert!(sources.iter().all(|source| source.starts_with("data:image/png;base64,")));
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains("NaN") && !page.contains("inf\""));
}

#[test]
fn the_page_opens_with_the_recall_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    write_html(&report("flowm", 0.5), &[example()], &path).unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    let number = page.find(r#"<div class="number">75<small>%</small>"#).expect("the headline is there");
    for later in ["<canvas", "<table", r#"class="charts""#] {
        assert!(page.find(later).unwrap() > number, "{later} comes before the headline");
    }
    let worse = world_models::memory::html::page(&report("shy", 0.0), &[]);
    assert!(worse.contains(r#"<div class="number">0<small>%</small>"#) && !worse.contains("<canvas"));
}
