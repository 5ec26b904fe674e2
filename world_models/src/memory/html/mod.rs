//! `report.html`: the report as one page that fetches nothing.
//!
//! Recall comes first, with a sentence that says what it means; then a clip to watch, the table, the curves, and what
//! the numbers are over. Styles, script, curves and frames are inside the page, and its content policy forbids
//! everything else.

mod charts;
mod figures;
mod hero;
mod player;
mod sprites;
pub mod vectors;

use std::path::Path;

use crate::memory::report::{MemoryReport, ReportError, Row, RowKind, write_whole};
use crate::memory::ssim::SsimBorder;
use crate::memory::table::{decibel, error, notes, percent, thousands};

pub use player::{BeliefPictures, ExampleClip, quantise};
pub use sprites::palette;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Writes `report.html`, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
///
/// # Panics
/// As [`page`].
pub fn write_html(report: &MemoryReport, clips: &[ExampleClip], path: &Path) -> Result<(), ReportError> {
    write_whole(path, page(report, clips).as_bytes())
}

/// The whole page. Every text of the report and of the clips is escaped.
///
/// # Panics
/// When a clip's frames do not have the length or the channels that they should.
#[must_use]
pub fn page(report: &MemoryReport, clips: &[ExampleClip]) -> String {
    let model = report.row(RowKind::Model).map_or("the model", |row| &row.name);
    let title = format!("What {model} remembers of what it cannot see");
    let parts = [
        hero::hero(report, &title),
        player::players(clips),
        rows(report),
        figures::curves(report),
        what_is_measured(report),
    ];
    whole(&title, &parts.join("\n"), &format!("\n<script>\n{SCRIPT}</script>"))
}

/// A page that fetches nothing, from markup for its body and what comes after it.
fn whole(title: &str, body: &str, after: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{}</title>
<link rel="icon" href="data:,">
<style>
{STYLE}</style>
</head>
<body>
{body}{after}
</body>
</html>
"#,
        escape(title)
    )
}

/// Text as it may stand between tags and inside quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// The style of a row: `model m0`, `model m1`, ... or the name of the baseline.
fn row_class(report: &MemoryReport, row: &Row) -> String {
    match row.kind {
        RowKind::Model => {
            let place = report.models().position(|model| std::ptr::eq(model, row)).unwrap_or(0);
            format!("model m{}", place % 5)
        }
        RowKind::Oracle => "oracle".into(),
        RowKind::CopyLast => "copy_last".into(),
        RowKind::MeanFrame => "mean_frame".into(),
        RowKind::AllBlack => "all_black".into(),
    }
}

/// Elements one after the other.
fn each<T>(items: impl IntoIterator<Item = T>, element: impl Fn(T) -> String) -> String {
    items.into_iter().map(element).collect::<Vec<_>>().concat()
}

fn rows(report: &MemoryReport) -> String {
    let horizons = report.rows.first().map_or(&[][..], |row| &row.horizons);
    let mut groups =
        each(horizons, |score| format!(r#"<th colspan="3" class="edge">first {} frames</th>"#, score.steps));
    let mut columns = r#"<th class="edge">MSE</th><th>PSNR, dB</th><th>SSIM</th>"#.repeat(horizons.len());
    let sighted = report.pixels.is_some();
    if sighted {
        let beyond = report.settings.recall_beyond;
        groups.insert_str(0, &format!(r#"<th colspan="3">out of sight &gt; {beyond} steps</th>"#));
        columns.insert_str(0, "<th>recall</th><th>entities</th><th>background</th>");
    }
    let line = |row: &Row| {
        let (class, name) = (row_class(report, row), escape(&row.name));
        let swatch = format!(
            r#"<svg class="swatch" viewBox="0 0 26 8" aria-hidden="true"><path class="curve {class}" d="M1 4H25"/></svg>"#
        );
        let recalls = [row.recall, row.recall_entity, row.recall_background];
        let recalls = each(recalls.into_iter().filter(|_| sighted), |recall| format!("<td>{}</td>", percent(recall)));
        let scores = each(&row.horizons, |score| {
            let (mse, psnr, ssim) = (error(score.mse), decibel(score.psnr), score.ssim);
            format!(r#"<td class="edge">{mse}</td><td>{psnr}</td><td>{ssim:.4}</td>"#)
        });
        format!(r#"<tr class="{class}"><th scope="row">{swatch}{name}</th>{recalls}{scores}</tr>"#)
    };
    let lines = each(&report.rows, line);
    format!(
        r#"<section><h2>Every row</h2><div class="wide"><table><thead><tr><th></th>{groups}</tr><tr><th></th>{columns}</tr></thead>
<tbody>{lines}</tbody></table></div></section>"#
    )
}

fn what_is_measured(report: &MemoryReport) -> String {
    let settings = &report.settings;
    let border = match settings.ssim_border {
        SsimBorder::Full => "whole frame, as torchmetrics from 1.4.2 on",
        SsimBorder::Cropped => "without the outer 5 pixels, as torchmetrics up to 1.4.1",
    };
    let frame = report.frame;
    let about = [
        ("Environment", report.origin.env.clone()),
        ("Dataset", report.origin.dataset.clone()),
        ("Seed", report.origin.seed.to_string()),
        ("Clips", thousands(report.clips)),
        ("Frames seen, then predicted", format!("{}, {}", report.context, report.horizon)),
        ("Frame", format!("{} × {} × {}", frame.height, frame.width, frame.channels)),
        ("SSIM", border.into()),
        ("Format", format!("memory report, schema {}", report.schema)),
    ];
    let mut items = vec![
        "A predicted pixel shows a point of an entity or of the background. Its age is the number of steps since the model \
         last saw that very point; recall compares errors at the same age."
            .to_string(),
        "Oracle draws the truth wherever the point had been seen and black elsewhere: the most that memory can know. \
         Points never seen count in MSE, PSNR and SSIM, never in recall."
            .to_string(),
        "MSE is the mean over all predicted pixels of all clips up to a horizon, PSNR is −10 log₁₀ of that mean, SSIM the \
         mean over frames."
            .to_string(),
    ];
    items.extend(notes(report).split_off(2));
    let items = each(&items, |item| format!("<li>{}</li>", escape(item)));
    format!(
        r#"<section><h2>What is measured</h2>{}{}<ul class="notes">{items}</ul></section>"#,
        pixel_shares(report),
        facts(&about)
    )
}

/// Names and values, side by side.
fn facts(about: &[(&str, String)]) -> String {
    let facts = each(about, |(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value)));
    format!(r#"<dl class="facts">{facts}</dl>"#)
}

/// What all predicted pixels show, as one bar.
fn pixel_shares(report: &MemoryReport) -> String {
    let Some(pixels) = report.pixels else { return String::new() };
    let seen = pixels.seen_entity + pixels.seen_background;
    let never = pixels.never_seen_entity + pixels.never_seen_background;
    let (recent, all) = (seen - pixels.beyond_threshold, (seen + never) as f64);
    let beyond = report.settings.recall_beyond;
    let shares = [
        ("recent", recent, format!("seen within {beyond} steps")),
        ("old", pixels.beyond_threshold, "seen longer ago: counts for recall".into()),
        ("never", never, "never seen: no memory can know it".into()),
    ];
    let bar = each(&shares, |(class, count, _)| format!(r#"<i class="{class}" style="flex:{count}"></i>"#));
    let legend = each(&shares, |(class, count, words)| {
        format!(r#"<span><i class="{class}"></i>{} {words}</span>"#, percent(Some(*count as f64 / all)))
    });
    let all = thousands(seen + never);
    format!(
        r#"<p class="lead">{all} predicted pixels show points that were</p>
<div class="shares">{bar}</div><div class="legend">{legend}</div>"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape(r#"<b title="x">'&'</b>"#), "&lt;b title=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/b&gt;");
    }
}
