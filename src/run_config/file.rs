//! A configuration file: read within limits, understood as TOML, and on which line each of its fields stands.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use anyhow::{Error, Result};
use toml::Table;
use toml::de::{DeTable, DeValue};

use crate::failure::Usage;

/// A configuration file may not be larger than this.
const LARGEST: u64 = 1 << 20;

/// What helps whoever gave something else.
const EXAMPLE: &str = "--print-config shows what a configuration looks like";

/// A file's table, and the line of each of its fields by dotted path.
pub(super) struct Configuration {
    pub table: Table,
    pub lines: Vec<(String, usize)>,
}

/// Reads the configuration at `path`.
///
/// # Errors
/// A file that is missing, too large, binary, or not TOML: with line and column, for a key that is there twice with both
/// lines.
pub(super) fn read(path: &Path) -> Result<Configuration> {
    let name = path.display();
    let refused = |problem: String| {
        Usage::worded(format!("{name}: {problem}")).field("--config").value(name.to_string()).suggest(Some(EXAMPLE))
    };
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => refused("there is no such file".into()).into(),
        ErrorKind::IsADirectory => refused("a folder, not a file".into()).into(),
        _ => Error::new(error).context(format!("cannot read {name}")),
    };
    // One byte more than is allowed tells what is too large, however large it is and whatever it says of itself.
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        let problem = "larger than 1 MB, which no configuration is".into();
        return Err(refused(problem).allowed("a TOML file of at most 1 MB").into());
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text = text.ok_or_else(|| refused("not a text file".into()).allowed("a TOML file"))?;
    parse(&text).map_err(|Fault { line, column, problem, first }| {
        let place = format!("{name}:{line}:{column}");
        let refused = |problem: &str| Usage::worded(format!("{place}: {problem}")).given_in(Some(place.clone()));
        match first {
            Some((field, first)) => refused(&format!("`{field}` is given twice, first in line {first}"))
                .field(field)
                .suggest(Some("remove one of them")),
            None => refused(&problem).field("--config").value(name.to_string()).suggest(Some(EXAMPLE)),
        }
        .into()
    })
}

/// Where a text is not TOML, and why.
#[derive(Debug, PartialEq)]
struct Fault {
    line: usize,
    column: usize,
    problem: String,
    /// A field that is there twice, and the line of the first.
    first: Option<(String, usize)>,
}

fn parse(text: &str) -> Result<Configuration, Fault> {
    let fault = |error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let (problem, first) = (error.message().replace('\n', ", "), first_of_duplicate(text, error));
        Fault { line: Lines::of(text).at(at), column, problem, first }
    };
    let spanned = DeTable::parse(text).map_err(|error| fault(&error))?;
    let table = text.parse::<Table>().map_err(|error| fault(&error))?;
    let mut lines = Vec::new();
    collect_lines(&Lines::of(text), "", spanned.get_ref(), &mut lines);
    Ok(Configuration { table, lines })
}

/// Where the lines of a text end.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line that byte `at` is in, from 1.
    fn at(&self, at: usize) -> usize {
        self.0.partition_point(|&end| end < at) + 1
    }
}

fn collect_lines(text: &Lines, group: &str, table: &DeTable<'_>, lines: &mut Vec<(String, usize)>) {
    for (key, value) in table {
        let field = super::dotted(group, key.get_ref());
        lines.push((field.clone(), text.at(key.span().start)));
        if let DeValue::Table(inner) = value.get_ref() {
            collect_lines(text, &field, inner, lines);
        }
    }
}

/// For a key that is there twice: its dotted path, and the line where it was first.
///
/// The parser tells the place of the second only. Its path is what its line means under the last table header before it.
fn first_of_duplicate(text: &str, error: &toml::de::Error) -> Option<(String, usize)> {
    if error.message() != "duplicate key" {
        return None;
    }
    let at = error.span()?.start;
    let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let (before, line) = (&text[..begin], text[begin..].lines().next()?);
    let header = before.lines().rev().find(|line| line.trim_start().starts_with('['));
    let header = header.filter(|_| !line.trim_start().starts_with('[')).unwrap_or_default();
    let both = format!("{header}\n{line}");
    let mut second = Vec::new();
    collect_lines(&Lines::of(&both), "", DeTable::parse(&both).ok()?.get_ref(), &mut second);
    let mut first = Vec::new();
    collect_lines(&Lines::of(before), "", DeTable::parse(before).ok()?.get_ref(), &mut first);
    let (field, _) = second.pop()?;
    let (_, line) = first.into_iter().find(|(other, _)| *other == field)?;
    Some((field, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        parse(text).err().expect("not TOML")
    }

    #[test]
    fn every_field_knows_its_line_however_it_is_written() {
        let text = "seed = 1\n\n[train]\nupdates = 3 # batch_size = 9\nadam.beta1 = 0.5\n[model]\nbatch_size = 1\n\
                    x = { y = 2 }\ntext = '''\n[train]\nbatch_size = 7\n'''\n";
        let lines = parse(text).unwrap().lines;
        let line = |field: &str| lines.iter().find(|(name, _)| name == field).map(|(_, line)| *line);
        let fields =
            ["seed", "train", "train.updates", "train.adam.beta1", "model.batch_size", "model.x.y", "model.text"];
        assert_eq!(fields.map(line), [1, 3, 4, 5, 7, 8, 9].map(Some));
        assert_eq!(line("train.batch_size"), None, "in a comment and in a text only");
    }

    #[test]
    fn a_key_that_is_there_twice_names_both_lines() {
        let twice = |text: &str| {
            let Fault { line, first, .. } = fault(text);
            let (field, first) = first.unwrap();
            format!("{field} in {first} and {line}")
        };
        let text = "[model]\nbatch_size = 1\n[train]\nbatch_size = 2\nupdates = 3\nbatch_size = 4\n";
        assert_eq!(twice(text), "train.batch_size in 4 and 6");
        assert_eq!(twice("seed = 1\n seed = 2\n"), "seed in 1 and 2");
        assert_eq!(twice("[train]\n[model]\n[train]\n"), "train in 1 and 3");
        assert_eq!(twice("[train]\nadam.beta1 = 1\nadam.beta1 = 1"), "train.adam.beta1 in 2 and 3");
        let Fault { line, problem, first, .. } = fault("x = 1\ny = { a = 1, a = 2 }");
        assert_eq!((line, problem.as_str(), first), (2, "duplicate key", None), "both on one line");
    }

    #[test]
    fn what_is_cut_short_names_line_and_column() {
        let Fault { line, column, problem, .. } = fault("[train]\nbatch_size = \"a");
        assert_eq!((line, column), (2, 16), "{problem}");
        let Fault { line, column, .. } = fault("seed = 1\nx = 'ü' 'ö'");
        assert_eq!((line, column), (2, 9), "columns count letters");
    }
}
