//! The page of a model of vectors: how much of the copy-last error it removes, the table, the curves, every component.

use std::path::Path;

use super::charts::{self, Chart, Curve, Scale};
use super::figures::figure;
use super::{each, escape, facts, whole};
use crate::memory::report::{ReportError, write_whole};
use crate::memory::table::{error, percent, thousands};
use crate::memory::vectors::VectorReport;
use crate::memory::vectors::report::ModelScores;
use crate::memory::vectors::table::{cells, correlation, notes};

/// Height of a chart.
const HEIGHT: f64 = 340.0;

/// Writes `report.html`, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_html(report: &VectorReport, path: &Path) -> Result<(), ReportError> {
    write_whole(path, page(report).as_bytes())
}

/// The whole page. Every text of the report is escaped.
#[must_use]
pub fn page(report: &VectorReport) -> String {
    let title = format!("What {} foresees", report.models.first().map_or("the model", |model| &model.name));
    whole(
        &title,
        &[hero(report, &title), rows(report), curves(report), components(report), measured(report)].join("\n"),
        "",
    )
}

fn hero(report: &VectorReport, title: &str) -> String {
    let head = format!(
        r#"<header><p class="eyebrow">Memory report · {}</p><h1>{}</h1></header>"#,
        escape(&report.origin.env),
        escape(title)
    );
    let removed = report.models.first().and_then(|model| Some((model, report.share_removed(model, report.horizon)?)));
    let Some((model, removed)) = removed else { return head };
    let (name, last) = (escape(&model.name), report.horizon - 1);
    let sentence = if removed >= 0.0 {
        format!(
            "of the error that copying the last observation makes after {} steps is gone: so much {name} foresees.",
            last + 1
        )
    } else {
        format!(
            "of the copy-last error is gone: after {} steps, {name} errs more than who believes that nothing changes.",
            last + 1
        )
    };
    format!(
        r#"{head}<div class="hero"><div class="number">{}<small>%</small></div><div><p>{sentence}</p>
<p>What is read from imagined latents has an error of {}; from latents of what was observed, {}. Copying scores {}, the mean {}.</p></div></div>"#,
        format!("{:.0}", (removed * 100.0).max(-999.0) + 0.0).replace('-', "−"),
        error(model.observations.steps[last]),
        error(model.readout.steps[last]),
        error(report.baselines.copy_last.steps[last]),
        error(report.baselines.mean.steps[last]),
    )
}

fn model_class(index: usize) -> String {
    format!("model m{}", index % 5)
}

fn rows(report: &VectorReport) -> String {
    let line = |(index, model): (usize, &ModelScores)| {
        let name = escape(&model.name);
        let line = |&step: &usize| {
            let numbers = each(cells(report, model, step), |cell| format!("<td>{cell}</td>"));
            format!(r#"<tr class="{}"><th scope="row">{name}</th><td>{step}</td>{numbers}</tr>"#, model_class(index))
        };
        each(&report.horizons, line)
    };
    let lines = each(report.models.iter().enumerate(), line);
    format!(
        r#"<section><h2>Errors at a step</h2><div class="wide"><table><thead>
<tr><th></th><th></th><th colspan="2">latents</th><th colspan="5">observations</th><th colspan="3">rewards</th></tr>
<tr><th></th><th>step</th><th>imagined</th><th>copy last</th><th>imagined</th><th>readout</th><th>copy last</th><th>mean</th>
<th>removed</th><th>imagined</th><th>seeing</th><th>correlation</th></tr></thead>
<tbody>{lines}</tbody></table></div></section>"#
    )
}

fn some(values: &[f64]) -> impl Iterator<Item = Option<f64>> {
    values.iter().copied().map(Some)
}

/// A curve by step, the first at `from`.
fn curve<'a>(name: &'a str, class: &str, from: usize, values: impl Iterator<Item = Option<f64>>) -> Curve<'a> {
    Curve { name, class: class.to_owned(), points: (from..).map(|step| step as f64).zip(values).collect() }
}

/// A chart by step.
fn chart<'a>(report: &VectorReport, title: &'a str, scale: Scale, curves: Vec<Curve<'a>>) -> Chart<'a> {
    Chart {
        title,
        x_label: "imagined step",
        x_ticks: charts::step_ticks(report.horizon),
        scale,
        limits: (f64::NEG_INFINITY, f64::INFINITY),
        format: charts::plain,
        reading: error,
        curves,
        dots: report.horizon == 1,
        mark: None,
        bars: vec![],
        height: HEIGHT,
    }
}

fn curves(report: &VectorReport) -> String {
    let models = || report.models.iter().enumerate();
    let mut observations = vec![
        curve("mean", "mean_frame", 1, some(&report.baselines.mean.steps)),
        curve("copy last", "copy_last", 1, some(&report.baselines.copy_last.steps)),
    ];
    for model in &report.models {
        let readout = std::iter::once(model.readout.start).chain(model.readout.steps.iter().copied()).map(Some);
        // Dotted, as the best of pictures: no imagined latent can be read better.
        observations.push(curve("readout", "oracle", 0, readout));
    }
    observations
        .extend(models().map(|(k, model)| curve(&model.name, &model_class(k), 1, some(&model.observations.steps))));
    let mut figures = vec![figure(
        "Error of observations",
        "Read from imagined latents, over the dataset's variance, mean over components. Readout: from latents of what was observed.",
        &chart(report, "error of observations by step", Scale::Log, observations).svg(),
    )];
    for (index, model) in models() {
        let title = format!("Error of latents of {}", escape(&model.name));
        let curves = vec![
            curve("mean", "mean_frame", 1, std::iter::repeat_n(Some(model.latents.variance), report.horizon)),
            curve("copy last", "copy_last", 1, some(&model.latents.copy_last)),
            curve(&model.name, &model_class(index), 1, some(&model.latents.imagined)),
        ];
        let words = "Mean squared error against the encoding of what was observed; mean: how much latents vary.";
        figures.push(figure(&title, words, &chart(report, "error of latents by step", Scale::Log, curves).svg()));
    }
    if models().any(|(_, model)| model.rewards.is_some()) {
        figures.extend(of_rewards(report));
    }
    format!(r#"<section><h2>How foresight fades</h2><div class="charts">{}</div></section>"#, figures.concat())
}

fn of_rewards(report: &VectorReport) -> [String; 2] {
    let rewards = || {
        let each = report.models.iter().enumerate();
        each.filter_map(|(index, model)| Some((index, model.name.as_str(), model.rewards.as_ref()?)))
    };
    let mut errors: Vec<Curve<'_>> =
        rewards().map(|(_, _, rewards)| curve("seeing", "oracle", 1, some(&rewards.seeing))).collect();
    errors.extend(rewards().map(|(index, name, rewards)| curve(name, &model_class(index), 1, some(&rewards.imagined))));
    let correlations = rewards()
        .map(|(index, name, rewards)| curve(name, &model_class(index), 1, rewards.correlation.clone().into_iter()));
    [
        figure(
            "Error of rewards",
            "Over the dataset's variance, so that the mean scores about 1. Seeing: predicted from what was observed.",
            &chart(report, "error of rewards by step", Scale::Log, errors).svg(),
        ),
        figure(
            "Correlation of rewards",
            "Of those predicted from imagined latents with those recorded at that step.",
            &Chart {
                limits: (-1.0, 1.0),
                reading: |r| correlation(Some(r)),
                ..chart(report, "correlation of rewards by step", Scale::Linear, correlations.collect())
            }
            .svg(),
        ),
    ]
}

/// Every component at the last step, for the first model.
fn components(report: &VectorReport) -> String {
    let (Some(model), last) = (report.models.first(), report.horizon - 1) else { return String::new() };
    let line = |(place, &number): (usize, &usize)| {
        let (mean, variance) = (report.observation_scales.mean[number], report.observation_scales.variance[number]);
        let copy_last = report.baselines.copy_last.components[place][last];
        let imagined = model.observations.components[place][last];
        let removed = (copy_last > 0.0).then(|| 1.0 - imagined / copy_last);
        let numbers = [
            charts::plain(mean),
            charts::plain(variance.sqrt()),
            error(model.readout.start_components[place]),
            error(imagined),
            error(copy_last),
            percent(removed),
        ];
        format!(r#"<tr><th scope="row">{number}</th>{}</tr>"#, each(numbers, |number| format!("<td>{number}</td>")))
    };
    let lines = each(report.components.iter().enumerate(), line);
    format!(
        r#"<section><h2>Every component of {} after {} steps</h2><div class="wide"><table><thead><tr><th>component</th><th>mean</th>
<th>deviation</th><th>readout at once</th><th>imagined</th><th>copy last</th><th>removed</th></tr></thead>
<tbody>{lines}</tbody></table></div></section>"#,
        escape(&model.name),
        report.horizon
    )
}

fn measured(report: &VectorReport) -> String {
    let about = [
        ("Environment", report.origin.env.clone()),
        ("Dataset", report.origin.dataset.clone()),
        ("Seed", report.origin.seed.to_string()),
        ("Clips", thousands(report.clips)),
        ("Observations seen, then steps", format!("{}, {}", report.context, report.horizon)),
        ("Episodes evaluated, fitted", format!("{}, {}", report.episodes.evaluated, report.episodes.fitted)),
        ("Numbers of an observation", report.observation_scales.mean.len().to_string()),
        ("Format", format!("memory report of vectors, schema {}", report.schema)),
    ];
    let items = each(notes(report), |item| format!("<li>{}</li>", escape(&item)));
    format!(r#"<section><h2>What is measured</h2>{}<ul class="notes">{items}</ul></section>"#, facts(&about))
}
