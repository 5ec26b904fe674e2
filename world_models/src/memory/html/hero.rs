//! The top of the page: the recall number, what it means, and where every row stands on its scale.

use super::charts::short;
use super::{each, escape, row_class};
use crate::memory::report::{MemoryReport, Row, RowKind};
use crate::memory::table::{notes, percent};

/// The recall number and the sentences that explain it.
pub(super) fn hero(report: &MemoryReport, title: &str) -> String {
    let beyond = report.settings.recall_beyond;
    let best = report.row(RowKind::Model);
    let head = format!(
        r#"<header><p class="eyebrow">Memory report · {}</p><h1>{}</h1></header>"#,
        escape(&report.origin.env),
        escape(title)
    );
    let (Some(model), Some(recall)) = (best, best.and_then(|row| row.recall)) else {
        let reason = notes(report).swap_remove(1);
        return format!(r#"{head}<p class="lead">{}.</p>"#, escape(&reason));
    };
    let name = escape(&model.name);
    let sentence = if recall >= 0.0 {
        format!(
            "of the error that copying the last frame makes on things out of sight for more than {beyond} steps is gone: \
             that much {name} still remembers."
        )
    } else {
        format!(
            "recall: on things out of sight for more than {beyond} steps, {name} errs more than copying the last frame."
        )
    };
    let black = report.row(RowKind::AllBlack).and_then(|row| row.recall);
    let black =
        black.map_or_else(String::new, |black| format!(" Drawing nothing at all scores {}.", percent(Some(black))));
    format!(
        r#"{head}<div class="hero"><div class="number">{}<small>%</small></div><div><p>{sentence}</p>
<p>0 % would be a model that believes nothing changes, 100 % perfect memory.{black}</p></div>{}</div>"#,
        headline(recall),
        scale(report)
    )
}

/// A percentage without its sign: whole, or with a decimal where that is what matters.
fn headline(recall: f64) -> String {
    let percent = recall * 100.0;
    let text =
        if percent > 99.0 && percent < 99.95 { format!("{percent:.1}") } else { (percent.round() + 0.0).to_string() };
    text.replace('-', "−")
}

/// Width of the scale's drawing.
const WIDTH: f64 = 1096.0;

/// A row on the scale.
struct Mark {
    at: f64,
    class: String,
    words: String,
    /// Centre of the words, and how many lines away from the scale they stand.
    center: f64,
    level: usize,
}

/// All rows on one line from copy-last to oracle: models above it, baselines below.
fn scale(report: &MemoryReport) -> String {
    let recalls = || report.rows.iter().filter_map(|row| Some((row, row.recall?)));
    let low = recalls().map(|(_, recall)| recall).fold(0.0, f64::min).max(-1.0);
    let (left, right) = (8.0, WIDTH - 8.0);
    let x = |recall: f64| left + (recall.max(low) - low) / (1.0 - low) * (right - left);
    let mark = |(row, recall): (&Row, f64)| Mark {
        at: x(recall),
        class: row_class(report, row),
        words: format!("{} {}", short(&row.name), percent(Some(recall))),
        center: x(recall),
        level: 0,
    };
    let (models, baselines): (Vec<_>, Vec<_>) = recalls().partition(|(row, _)| row.kind == RowKind::Model);
    let filled = models.first().map_or(0.0, |(_, recall)| *recall);
    let (above, levels_above) = stack(models.into_iter().map(mark).collect());
    let (below, levels_below) = stack(baselines.into_iter().map(mark).collect());
    let line = 18.0 * levels_above as f64 + 8.0;
    let height = line + 20.0 + 18.0 * levels_below as f64;
    let draw = |mark: Mark, first: f64, step: f64| {
        let Mark { at, class, center, .. } = mark;
        let (y, words) = (first + step * mark.level as f64, escape(&mark.words));
        format!(
            r#"<circle class="{class}" cx="{at:.1}" cy="{line}" r="6.5"/>
<text class="{class}" text-anchor="middle" x="{center:.1}" y="{y:.1}">{words}</text>"#
        )
    };
    let below = each(below, |mark| draw(mark, line + 26.0, 18.0));
    let above = each(above, |mark| draw(mark, line - 14.0, -18.0));
    let (from, to) = (x(0.0).min(x(filled)), x(0.0).max(x(filled)));
    format!(
        r#"<svg class="scale" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="recall of every row">
<path class="rule" d="M{left} {line}H{right}"/><path class="fill" d="M{from:.1} {line}H{to:.1}"/>{below}{above}</svg>"#
    )
}

/// Moves words inwards from the ends and away from the scale until none covers another; says how many lines that takes.
fn stack(mut marks: Vec<Mark>) -> (Vec<Mark>, usize) {
    marks.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut ends: Vec<f64> = Vec::new();
    for mark in &mut marks {
        // At 16 px, the size on narrow screens, a letter is about 8.4 px wide.
        let half = 4.2 * mark.words.chars().count() as f64;
        mark.center = mark.at.clamp(half, WIDTH - half);
        mark.level = ends.iter().position(|end| mark.center - half > end + 12.0).unwrap_or(ends.len());
        if mark.level == ends.len() {
            ends.push(0.0);
        }
        ends[mark.level] = mark.center + half;
    }
    (marks, ends.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headlines_are_whole_unless_the_decimal_matters() {
        assert_eq!([0.931, 0.9962, 1.0, 0.0, -0.124, -0.001].map(headline), ["93", "99.6", "100", "0", "−12", "0"]);
    }

    #[test]
    fn words_on_the_scale_do_not_cover_each_other() {
        let mark = |at: f64| Mark { at, class: String::new(), words: "ten letter".into(), center: 0.0, level: 0 };
        let (marks, levels) = stack(vec![mark(1000.0), mark(0.0), mark(30.0)]);
        let places: Vec<_> = marks.iter().map(|mark| (mark.center, mark.level)).collect();
        assert_eq!((places, levels), (vec![(42.0, 0), (42.0, 1), (1000.0, 0)], 2));
    }
}
