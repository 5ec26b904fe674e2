//! Layered configuration: defaults, a shipped preset, a file, single values. Closed: a field that does not exist is an error
//! with the nearest that does.

use std::fs;
use std::path::Path;

use anyhow::{Error, Result};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::cli::Layers;
use crate::failure::usage;

/// A shipped configuration: its name and its TOML text, only what differs from the defaults.
pub type Preset = (&'static str, &'static str);

/// Presets of `mindseye train flowm`.
pub const FLOWM: &[Preset] = &[
    ("tiny", include_str!("../configs/flowm/tiny.toml")),
    ("small", include_str!("../configs/flowm/small.toml")),
    ("paper", include_str!("../configs/flowm/paper.toml")),
];

/// Presets of `mindseye train linear_rnn`.
pub const LINEAR_RNN: &[Preset] = &[("tiny", include_str!("../configs/linear_rnn/tiny.toml"))];

/// Presets of `mindseye collect mnist-world`.
pub const MNIST_WORLD: &[Preset] = &[
    ("dynamic_po", include_str!("../configs/mnist_world/dynamic_po.toml")),
    ("static_po", include_str!("../configs/mnist_world/static_po.toml")),
    ("dynamic_fo", include_str!("../configs/mnist_world/dynamic_fo.toml")),
    ("dynamic_fo_no_sm", include_str!("../configs/mnist_world/dynamic_fo_no_sm.toml")),
    ("tiny", include_str!("../configs/mnist_world/tiny.toml")),
];

/// A configuration file may not be larger than this.
const LARGEST_FILE: u64 = 1 << 20;

/// The layers as one table: `base` below everything, then preset, file and single values.
///
/// # Errors
/// An unknown preset, a file that is not TOML, a value that is not `field=value`.
pub fn merged(base: Table, layers: &Layers, presets: &[Preset]) -> Result<Table> {
    let mut table = base;
    if let Some(name) = &layers.preset {
        let Some((_, text)) = presets.iter().find(|(preset, _)| preset == name) else {
            let known: Vec<_> = presets.iter().map(|(preset, _)| *preset).collect();
            return Err(usage(format!("--preset {name}: there is no such preset; there are: {}", known.join(", "))));
        };
        merge(&mut table, text.parse().expect("shipped presets are TOML; a test parses them"));
    }
    if let Some(path) = &layers.config {
        merge(&mut table, read(path)?);
    }
    for argument in &layers.set {
        set(&mut table, argument)?;
    }
    Ok(table)
}

fn read(path: &Path) -> Result<Table> {
    let bytes = fs::metadata(path).map_err(|e| Error::new(e).context(format!("cannot read {}", path.display())))?.len();
    if bytes > LARGEST_FILE {
        return Err(usage(format!("{}: {bytes} bytes; a configuration has at most 1 MB", path.display())));
    }
    let bytes = fs::read(path).map_err(|e| Error::new(e).context(format!("cannot read {}", path.display())))?;
    let text = String::from_utf8(bytes).map_err(|_| usage(format!("{}: not a text file", path.display())))?;
    text.parse().map_err(|error: toml::de::Error| usage(format!("{}: {error}", path.display())))
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Applies one `a.b=c`. The value is TOML; what is not TOML is taken as a string.
fn set(table: &mut Table, argument: &str) -> Result<()> {
    let Some((field, text)) = argument.split_once('=') else {
        return Err(usage(format!("--set {argument}: expected FIELD=VALUE, such as train.batch_size=16")));
    };
    let text = text.trim();
    let value = format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let mut keys: Vec<&str> = field.trim().split('.').collect();
    let last = keys.pop().filter(|key| !key.is_empty());
    let Some(last) = last else { return Err(usage(format!("--set {argument}: the field has no name"))) };
    let mut place = table;
    for key in keys {
        let next = place.entry(key).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(next) = next else {
            return Err(usage(format!("--set {argument}: `{key}` is a value, not a group of fields")));
        };
        place = next;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

/// The configuration a table describes.
///
/// # Errors
/// Naming the dotted field, what is wrong with it, where it was given, and the nearest existing name.
pub fn resolve<T: DeserializeOwned>(table: Table, layers: &Layers) -> Result<T> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.inner().message().to_owned();
        usage(format!("{}{}{}", explain(&path, &cause), given_in(&path, &cause, layers), suggestion(&cause)))
    })
}

/// What to add to somebody else's refusal of a configuration, `dotted.field: cause`: where it was given, the nearest name.
pub fn advice(refusal: &str, layers: &Layers) -> String {
    let (path, cause) = refusal.split_once(": ").unwrap_or((".", refusal));
    let cause = if path.contains(' ') { refusal } else { cause };
    format!("{}{}", given_in(path, cause, layers), suggestion(cause))
}

fn explain(path: &str, cause: &str) -> String {
    if path == "." { cause.to_owned() } else { format!("{path}: {cause}") }
}

/// The name in backticks that serde calls unknown, if it does.
fn unknown(cause: &str) -> Option<&str> {
    let name = cause.strip_prefix("unknown field `").or_else(|| cause.strip_prefix("unknown variant `"))?;
    name.split('`').next()
}

/// Where a wrong field was given: which argument, or which line of the file.
fn given_in(path: &str, cause: &str, layers: &Layers) -> String {
    let key = unknown(cause).unwrap_or_else(|| path.rsplit('.').next().unwrap_or(path));
    let names = |field: &str| field.split('.').any(|part| part.trim() == key);
    if let Some(argument) = layers.set.iter().rev().find(|a| a.split('=').next().is_some_and(names)) {
        return format!(" (given as --set {argument})");
    }
    let Some(file) = &layers.config else { return String::new() };
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().position(|line| {
        line.split('=')
            .next()
            .is_some_and(|left| left.trim().trim_matches(['[', ']']).split('.').any(|part| part == key))
    });
    line.map_or_else(String::new, |line| format!(" (given in {}:{})", file.display(), line + 1))
}

/// "did you mean", from the names that serde lists as expected.
fn suggestion(cause: &str) -> String {
    let Some(unknown) = unknown(cause) else { return String::new() };
    let known = cause.split('`').skip(3).step_by(2);
    let nearest = known.map(|name| (strsim::jaro_winkler(unknown, name), name)).max_by(|(a, _), (b, _)| a.total_cmp(b));
    match nearest {
        Some((likeness, name)) if likeness > 0.7 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use world_models::train::RunConfig;

    fn layers(set: &[&str]) -> Layers {
        Layers { set: set.iter().map(ToString::to_string).collect(), ..Layers::default() }
    }

    fn base() -> Table {
        "seed = 0\nmodel.kind = 'flowm'\ntrain = {}".parse().unwrap()
    }

    fn message(set: &[&str]) -> String {
        let layers = layers(set);
        let table = merged(base(), &layers, FLOWM).unwrap();
        resolve::<RunConfig>(table, &layers).unwrap_err().to_string()
    }

    #[test]
    fn every_shipped_preset_resolves_and_validates() {
        for (name, presets, kind) in [("flowm", FLOWM, "flowm"), ("linear_rnn", LINEAR_RNN, "linear_rnn")] {
            for (preset, _) in presets {
                let layers = Layers { preset: Some((*preset).to_owned()), ..Layers::default() };
                let base = format!("seed = 0\nmodel.kind = '{kind}'\ntrain = {{}}").parse().unwrap();
                let config: RunConfig = resolve(merged(base, &layers, presets).unwrap(), &layers).unwrap();
                config.model.validate().unwrap_or_else(|e| panic!("{name} {preset}: {e}"));
                config.train.validate().unwrap_or_else(|e| panic!("{name} {preset}: {e}"));
            }
        }
    }

    #[test]
    fn a_typo_names_the_argument_and_the_nearest_field() {
        let message = message(&["train.batch_sise=4"]);
        assert!(message.contains("batch_sise") && message.contains("--set train.batch_sise=4"), "{message}");
        assert!(message.contains("did you mean `batch_size`?"), "{message}");
    }

    #[test]
    fn a_wrong_type_names_the_dotted_field() {
        let message = message(&["train.batch_size=3.5"]);
        assert!(message.contains("train.batch_size") && message.contains("3.5"), "{message}");
    }

    #[test]
    fn later_layers_win_field_by_field() {
        let layers = Layers { preset: Some("tiny".into()), ..layers(&["train.updates=7"]) };
        let config: RunConfig = resolve(merged(base(), &layers, FLOWM).unwrap(), &layers).unwrap();
        assert_eq!(config.train.updates, 7);
        let tiny = Layers { preset: Some("tiny".into()), ..Layers::default() };
        let tiny: RunConfig = resolve(merged(base(), &tiny, FLOWM).unwrap(), &tiny).unwrap();
        assert_eq!(config.train.batch_size, tiny.train.batch_size);
    }
}
