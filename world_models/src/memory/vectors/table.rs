//! The report as a terminal table.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use super::report::{ModelScores, VectorReport};
use crate::memory::table::{error, percent, printable, thousands};

/// A line for each model and chosen step; below it what the numbers are over.
#[must_use]
pub fn table(report: &VectorReport) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_header([
        "model",
        "step",
        "latents",
        "copy last",
        "observation",
        "readout",
        "copy last",
        "mean",
        "removed",
        "reward",
        "seeing",
        "correlation",
    ]);
    for model in &report.models {
        for (row, &step) in report.horizons.iter().enumerate() {
            let name = if row == 0 { printable(&model.name) } else { String::new() };
            table.add_row([name, step.to_string()].into_iter().chain(cells(report, model, step)));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: Vec<String> = std::iter::once(table.trim_fmt()).chain(notes(report)).collect();
    lines.join("\n") + "\n"
}

/// The numbers of a model at a step, counted from 1, in the order of the table.
pub(in crate::memory) fn cells(report: &VectorReport, model: &ModelScores, step: usize) -> [String; 10] {
    let (at, baselines) = (step - 1, &report.baselines);
    let reward = |of: fn(&super::report::RewardScores) -> &[f64]| {
        model.rewards.as_ref().map_or_else(|| "–".to_owned(), |rewards| error(of(rewards)[at]))
    };
    [
        error(model.latents.imagined[at]),
        error(model.latents.copy_last[at]),
        error(model.observations.steps[at]),
        error(model.readout.steps[at]),
        error(baselines.copy_last.steps[at]),
        error(baselines.mean.steps[at]),
        percent(report.share_removed(model, step)),
        reward(|rewards| &rewards.imagined),
        reward(|rewards| &rewards.seeing),
        correlation(model.rewards.as_ref().and_then(|rewards| rewards.correlation[at])),
    ]
}

/// What a reader must know beside the numbers, a line each.
pub(in crate::memory) fn notes(report: &VectorReport) -> Vec<String> {
    let plural = |count: u64, what: &str| format!("{} {what}{}", thousands(count), if count == 1 { "" } else { "s" });
    let (numbers, changing) = (report.observation_scales.mean.len(), report.components.len());
    let mut notes = vec![
        format!(
            "{} of {} of {}, {} seen, {} imagined with the true actions",
            plural(report.clips, "clip"),
            plural(report.episodes.evaluated, "episode"),
            printable(&report.origin.env),
            plural(report.context as u64, "observation"),
            plural(report.horizon as u64, "step"),
        ),
        "errors are mean squares at that step; those of observations and rewards are divided by the dataset's variance".to_owned(),
        "observation: read from imagined latents; readout, seeing: from latents of what was observed; removed: of the copy-last error"
            .to_owned(),
    ];
    if changing < numbers {
        notes.push(format!("{} of {numbers} components do not change, and are left out", numbers - changing));
    }
    for model in &report.models {
        let (name, readout) = (printable(&model.name), &model.readout);
        notes.push(format!(
            "{name}: its readout, linear, was fitted on {} of {} that are not evaluated; its error at step 0 is {}",
            plural(readout.rows, "observation"),
            plural(report.episodes.fitted, "episode"),
            error(readout.start),
        ));
        let all = model.rewards.as_ref().map_or_else(String::new, |rewards| {
            format!("; rewards correlate by {} over all steps", correlation(rewards.correlation_of_all))
        });
        notes.push(format!("{name}: latents have a variance of {}{all}", error(model.latents.variance)));
    }
    if report.models.iter().all(|model| model.rewards.is_none()) {
        notes.push("rewards do not change in this dataset".to_owned());
    }
    notes
}

/// `0.987`, or a dash.
pub(in crate::memory) fn correlation(correlation: Option<f64>) -> String {
    correlation.map_or_else(|| "–".into(), |r| format!("{:.3}", (r * 1000.0).round() / 1000.0 + 0.0).replace('-', "−"))
}
