//! The report as a terminal table.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use super::report::{GroupScore, ProbeReport};
use super::{Known, Reads};
use crate::memory::table::{percent, printable, thousands};

/// A line for each horizon and kind of block; below it what the numbers are over.
#[must_use]
pub fn table(report: &ProbeReport) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_header(["steps", "blocks that are", "blocks", "probe", "last seen", "usual", "chance"]);
    for score in &report.horizons {
        for (known, group) in score.groups().into_iter().filter(|(_, group)| group.blocks > 0) {
            let GroupScore { blocks, probe, last_seen, usual, chance } = group;
            let words = match known {
                Known::InView => "in view",
                Known::OutOfView => "out of view",
                Known::NeverSeen => "never seen",
            };
            let shares = [probe, last_seen, usual, chance].map(|share| percent(*share));
            let head = [score.horizon.to_string(), words.to_owned(), thousands(*blocks)];
            table.add_row(head.into_iter().chain(shares));
        }
    }
    for (column, cells) in table.column_iter_mut().enumerate() {
        if column != 1 {
            cells.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = std::iter::once(table.trim_fmt()).chain(notes(report)).collect();
    lines.join("\n") + "\n"
}

/// What a reader must know beside the numbers, a line each.
fn notes(report: &ProbeReport) -> Vec<String> {
    let plural = |count: u64, what: &str| format!("{} {what}{}", thousands(count), if count == 1 { "" } else { "s" });
    let readout = &report.readout;
    let read = match readout.reads {
        Reads::Cells => format!("each of {0} x {0} cells by its {1} features", readout.side, readout.numbers),
        Reads::Vector => format!("{0} x {0} cells by {1} numbers", readout.side, readout.numbers),
    };
    vec![
        format!(
            "{}: {} of {} of {}, {} seen",
            printable(&report.model),
            plural(report.clips, "clip"),
            plural(report.episodes.evaluated, "episode"),
            printable(&report.origin.env),
            plural(report.context as u64, "frame"),
        ),
        format!(
            "probe: a linear readout, fitted on {} of {} that are not evaluated, reads {read}",
            plural(readout.rows, if readout.reads == Reads::Cells { "cell" } else { "vector" }),
            plural(report.episodes.fitted, "other episode"),
        ),
        "right is a block whose cell is among those named for its colour, as many as its blocks occupy".to_owned(),
        "last seen: where each block was in view last; usual: where blocks are most often, seen from the agent"
            .to_owned(),
    ]
}
