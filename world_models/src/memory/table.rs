//! The report as a terminal table.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use super::report::{MemoryReport, Row, RowKind};

/// Recall first, then the errors up to each chosen horizon, a line per row; below it what the numbers are over.
#[must_use]
pub fn table(report: &MemoryReport) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    let mut header = vec!["row".to_string(), format!("recall >{}", report.settings.recall_beyond)];
    for steps in &report.settings.horizons {
        header.extend(["MSE", "PSNR", "SSIM"].map(|metric| format!("{metric} {steps}")));
    }
    table.set_header(header);
    for row in &report.rows {
        let mut cells = vec![printable(&row.name), percent(row.recall)];
        for score in &row.horizons {
            cells.extend([error(score.mse), decibel(score.psnr), format!("{:.4}", score.ssim)]);
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: Vec<String> = std::iter::once(table.trim_fmt()).chain(notes(report)).collect();
    lines.join("\n") + "\n"
}

/// What a reader must know beside the numbers, a line each.
pub(super) fn notes(report: &MemoryReport) -> Vec<String> {
    let mut notes = vec![format!(
        "{} clip{} of {}, {} frames seen, {} predicted, seed {}",
        thousands(report.clips),
        if report.clips == 1 { "" } else { "s" },
        printable(&report.origin.env),
        report.context,
        report.horizon,
        report.origin.seed
    )];
    notes.push(match report.pixels {
        None => "no recall: the dataset has no ground truth of what was seen, which `collect --truth full` records of MNIST World and Blockworld".into(),
        Some(pixels) if pixels.beyond_threshold == 0 => {
            format!("no recall: no predicted pixel shows a point last seen more than {} steps ago", report.settings.recall_beyond)
        }
        Some(pixels) => format!(
            "recall: share of the copy-last error removed on {} pixels whose point was last seen more than {} steps ago",
            thousands(pixels.beyond_threshold),
            report.settings.recall_beyond
        ),
    });
    for row in report.rows.iter().filter(|row| row.kind == RowKind::Model) {
        notes.extend(repairs(row, report));
    }
    notes
}

/// A name without characters that a terminal would obey.
pub(super) fn printable(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).collect()
}

/// Says that a model's output had to be repaired, if it had to be.
fn repairs(row: &Row, report: &MemoryReport) -> Option<String> {
    let values = report.clips * (report.horizon * report.frame.values()) as u64;
    let share = |count: u64| format!("{} ({})", thousands(count), percent(Some(count as f64 / values as f64)));
    let mut parts = Vec::new();
    if row.repairs.not_finite > 0 {
        parts.push(format!("{} not finite, measured as 0 or 1", share(row.repairs.not_finite)));
    }
    if row.repairs.clamped > 0 {
        parts.push(format!("{} outside of 0 to 1, clamped", share(row.repairs.clamped)));
    }
    (!parts.is_empty()).then(|| format!("predicted values of {}: {}", printable(&row.name), parts.join("; ")))
}

/// `93.1 %`, or a dash.
pub(super) fn percent(share: Option<f64>) -> String {
    // Adding zero turns a rounded -0.0 into 0.0.
    share
        .map_or_else(|| "–".into(), |share| format!("{:.1} %", (share * 1000.0).round() / 10.0 + 0.0).replace('-', "−"))
}

/// Three significant digits: `0.0018`, `0.166`, `2.3e-6`.
pub(super) fn error(mse: f64) -> String {
    if mse == 0.0 {
        return "0".into();
    }
    let magnitude = mse.abs().log10().floor() as i32;
    if magnitude < -4 { format!("{mse:.1e}") } else { format!("{mse:.*}", (2 - magnitude).clamp(0, 6) as usize) }
}

/// `27.56`, or infinity where there is no error.
pub(super) fn decibel(psnr: Option<f64>) -> String {
    psnr.map_or_else(|| "∞".into(), |psnr| format!("{psnr:.2}"))
}

/// `1 228 800`, with narrow spaces that do not break.
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0.0, 0.00184, 0.1656, 2.34e-6, 12.3].map(error), ["0", "0.00184", "0.166", "2.3e-6", "12.3"]);
        assert_eq!(
            [Some(0.9312), Some(-0.000_01), Some(-0.25), None].map(percent),
            ["93.1 %", "0.0 %", "−25.0 %", "–"]
        );
        assert_eq!([Some(27.555), None].map(decibel), ["27.55", "∞"]);
        assert_eq!([7, 1234, 1_228_800].map(thousands), ["7", "1\u{202f}234", "1\u{202f}228\u{202f}800"]);
    }
}
