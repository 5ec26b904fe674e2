//! The curves of the page: recall and error by time out of sight, errors by predicted step.

use super::charts::{self, Chart, Curve, Scale};
use super::row_class;
use crate::memory::report::{AgeScore, MemoryReport, Row};
use crate::memory::table::{error, percent};

/// Heights of charts; the higher ones come first, beside each other.
const LOW: f64 = 300.0;
const HIGH: f64 = 384.0;

pub(super) fn curves(report: &MemoryReport) -> String {
    let (psnr, ssim) = (|y| format!("{y:.2} dB"), |y| format!("{y:.4}"));
    let mut figures = Vec::new();
    if report.pixels.is_some() {
        figures.push(recall_by_age(report));
    }
    figures.push(mse_by_step(report));
    if report.pixels.is_some() {
        figures.push(error_by_age(report, "on entities", |age| age.entity_mse));
        figures.push(error_by_age(report, "on the background", |age| age.background_mse));
    }
    figures.push(figure(
        "PSNR by predicted step",
        "In dB, of the mean squared error over all clips at that step.",
        &step_chart(report, "PSNR", Scale::Linear, LOW, psnr, |row| row.steps.psnr.clone()),
    ));
    figures.push(figure(
        "SSIM by predicted step",
        "Structural similarity, 1 for identical frames.",
        &step_chart(report, "SSIM", Scale::Linear, LOW, ssim, |row| some(&row.steps.ssim)),
    ));
    format!(r#"<section><h2>How memory fades</h2><div class="charts">{}</div></section>"#, figures.concat())
}

/// A chart below its title and words.
pub(super) fn figure(title: &str, words: &str, chart: &str) -> String {
    format!("<figure><figcaption><h3>{title}</h3><p>{words}</p></figcaption>{chart}</figure>")
}

fn some(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().copied().map(Some).collect()
}

fn step_chart(
    report: &MemoryReport,
    title: &str,
    scale: Scale,
    height: f64,
    reading: fn(f64) -> String,
    values: impl Fn(&Row) -> Vec<Option<f64>>,
) -> String {
    let curve = |row| Curve {
        name: row_name(row),
        class: row_class(report, row),
        points: (1..).map(f64::from).zip(values(row)).collect(),
    };
    Chart {
        title,
        x_label: "predicted step",
        x_ticks: charts::step_ticks(report.horizon),
        scale,
        limits: (f64::NEG_INFINITY, f64::INFINITY),
        format: charts::plain,
        reading,
        curves: in_drawing_order(report).map(curve).collect(),
        dots: false,
        mark: None,
        bars: vec![],
        height,
    }
    .svg()
}

fn row_name(row: &Row) -> &str {
    &row.name
}

/// Baselines first, so that models lie on top of them.
fn in_drawing_order(report: &MemoryReport) -> impl Iterator<Item = &Row> {
    report.rows.iter().rev()
}

fn mse_by_step(report: &MemoryReport) -> String {
    let chart = |scale| step_chart(report, "MSE by predicted step", scale, HIGH, error, |row| some(&row.steps.mse));
    format!(
        r#"<figure><figcaption><div class="switch">
<input type="radio" name="mse" id="mse-log" class="log" checked><label for="mse-log">log</label>
<input type="radio" name="mse" id="mse-linear" class="linear"><label for="mse-linear">linear</label></div>
<h3>MSE by predicted step</h3><p>Mean squared error over all pixels, values in 0 to 1.</p></figcaption>
<div class="is-log">{}</div><div class="is-linear">{}</div></figure>"#,
        chart(Scale::Log),
        chart(Scale::Linear)
    )
}

/// The ages of the report as places on an axis, and the place from which on the recall number counts.
fn age_axis(report: &MemoryReport) -> (Vec<(f64, String)>, f64) {
    let ages = report.rows.first().map_or(&[][..], |row| &row.ages);
    let ticks = ages.iter().enumerate().map(|(i, age)| (i as f64, age.label())).collect();
    let first = report.settings.recall_beyond + 1;
    let bin = ages.iter().position(|age| age.to.is_none_or(|to| first <= to)).unwrap_or(0);
    // Inside a bin the mark stands in proportion; an open bin has no width to share out.
    let share = ages
        .get(bin)
        .and_then(|age| Some(f64::from(first.saturating_sub(age.from)) / f64::from(age.to? - age.from + 1)));
    (ticks, bin as f64 - 0.5 + share.unwrap_or(0.0))
}

fn age_chart<'a>(
    report: &'a MemoryReport,
    title: &'a str,
    reading: fn(f64) -> String,
    value: impl Fn(&AgeScore) -> Option<f64>,
) -> Chart<'a> {
    let (x_ticks, mark) = age_axis(report);
    let points = |row: &Row| row.ages.iter().enumerate().map(|(i, age)| (i as f64, value(age))).collect();
    let curve = |row: &'a Row| Curve { name: row_name(row), class: row_class(report, row), points: points(row) };
    Chart {
        title,
        x_label: "steps since the point was last seen",
        x_ticks,
        scale: Scale::Linear,
        limits: (f64::NEG_INFINITY, f64::INFINITY),
        format: charts::plain,
        reading,
        curves: in_drawing_order(report).map(curve).collect(),
        dots: true,
        mark: Some((mark, "counts for recall".into())),
        bars: vec![],
        height: LOW,
    }
}

fn recall_by_age(report: &MemoryReport) -> String {
    let whole = |share: f64| format!("{:.0} %", share * 100.0 + 0.0);
    let reading = |share| percent(Some(share));
    let mut chart = age_chart(report, "recall by age", reading, |age| age.recall);
    chart.format = whole;
    chart.limits = (-1.0, 1.0);
    chart.height = HIGH;
    let ages = report.rows.first().map_or(&[][..], |row| &row.ages);
    chart.bars = ages.iter().map(|age| [age.entity_pixels, age.background_pixels]).collect();
    figure(
        "Recall by time out of sight",
        r#"Share of the copy-last error removed. Bars count the pixels behind each point:
<span class="chip entity"></span>entities<span class="chip background"></span>background"#,
        &chart.svg(),
    )
}

fn error_by_age(report: &MemoryReport, what: &str, value: fn(&AgeScore) -> Option<f64>) -> String {
    let title = format!("Error {what} by time out of sight");
    let chart = age_chart(report, &title, error, value);
    figure(&title, "Mean squared error of pixels whose point was last seen that long ago.", &chart.svg())
}
