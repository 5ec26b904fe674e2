//! Layered configuration: defaults, a shipped preset, a file, single values. Closed: a field that does not exist is an error
//! with the nearest that does. Every field remembers where it was given, and no value is more than it says: nothing in it is
//! looked up, interpolated or run.

mod explain;
mod file;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use simulators::limits::{Limit, OutOfRange};
use toml::{Table, Value};

use crate::cli::Layers;
use crate::failure::{Usage, usage};

pub use explain::{Fault, nearest};

/// A shipped configuration: its name and its TOML text, only what differs from the defaults.
pub type Preset = (&'static str, &'static str);

/// Presets of `mindseye train flowm`.
pub const FLOWM: &[Preset] = &[
    ("tiny", include_str!("../configs/flowm/tiny.toml")),
    ("small", include_str!("../configs/flowm/small.toml")),
    ("paper", include_str!("../configs/flowm/paper.toml")),
];

/// Presets of `mindseye train flowm3d`.
pub const FLOWM3D: &[Preset] = &[
    ("tiny", include_str!("../configs/flowm3d/tiny.toml")),
    ("small", include_str!("../configs/flowm3d/small.toml")),
    ("paper", include_str!("../configs/flowm3d/paper.toml")),
];

/// Presets of `mindseye train linear_rnn`.
pub const LINEAR_RNN: &[Preset] = &[("tiny", include_str!("../configs/linear_rnn/tiny.toml"))];

/// Presets of `mindseye train shac`.
pub const SHAC: &[Preset] = &[
    ("ant", include_str!("../configs/shac/ant.toml")),
    ("ant_fast", include_str!("../configs/shac/ant_fast.toml")),
    ("ant_diffrl", include_str!("../configs/shac/ant_diffrl.toml")),
    ("hopper", include_str!("../configs/shac/hopper.toml")),
    ("cartpole", include_str!("../configs/shac/cartpole.toml")),
];

/// Presets of `mindseye train pwm`.
pub const PWM: &[Preset] = &[
    ("ant", include_str!("../configs/pwm/ant.toml")),
    ("hopper", include_str!("../configs/pwm/hopper.toml")),
    ("hopper_published", include_str!("../configs/pwm/hopper_published.toml")),
    ("cartpole", include_str!("../configs/pwm/cartpole.toml")),
];

/// Presets of `mindseye train dream`.
pub const DREAM: &[Preset] = &[("tiny", include_str!("../configs/dream/tiny.toml"))];

/// Presets of `mindseye collect mnist-world`.
pub const MNIST_WORLD: &[Preset] = &[
    ("dynamic_po", include_str!("../configs/mnist_world/dynamic_po.toml")),
    ("static_po", include_str!("../configs/mnist_world/static_po.toml")),
    ("dynamic_fo", include_str!("../configs/mnist_world/dynamic_fo.toml")),
    ("dynamic_fo_no_sm", include_str!("../configs/mnist_world/dynamic_fo_no_sm.toml")),
    ("tiny", include_str!("../configs/mnist_world/tiny.toml")),
];

/// Presets of `mindseye collect block-world`.
pub const BLOCK_WORLD: &[Preset] = &[
    ("dynamic", include_str!("../configs/block_world/dynamic.toml")),
    ("static", include_str!("../configs/block_world/static.toml")),
    ("tex", include_str!("../configs/block_world/tex.toml")),
    ("tex_bounce", include_str!("../configs/block_world/tex_bounce.toml")),
    ("probe", include_str!("../configs/block_world/probe.toml")),
    ("physics", include_str!("../configs/block_world/physics.toml")),
    ("small", include_str!("../configs/block_world/small.toml")),
    ("tiny", include_str!("../configs/block_world/tiny.toml")),
];

/// What all layers say together, and where each field was given.
#[derive(Debug, Clone)]
pub struct Layered {
    table: Table,
    /// The same without the file and the single values: what a field is when it is left out.
    below: Table,
    /// The place by dotted path.
    given: BTreeMap<String, String>,
}

/// Parts of a dotted field. Whatever walks a table calls itself once for each, so their number must be small.
const MOST_PARTS: usize = 16;

/// The layers above `base`: preset, file and single values.
///
/// # Errors
/// An unknown preset, a file that is not TOML, a value that is not `field=value`.
pub fn merged(base: Table, layers: &Layers, presets: &[Preset]) -> Result<Layered> {
    let mut layered = Layered { table: base, below: Table::new(), given: BTreeMap::new() };
    if let Some(name) = &layers.preset {
        let Some((_, text)) = presets.iter().find(|(preset, _)| preset == name) else {
            return Err(unknown_preset(name, presets));
        };
        let preset: Table = text.parse()?;
        let mut fields = Vec::new();
        leaves("", &preset, &mut fields);
        layered.given.extend(fields.into_iter().map(|field| (field, format!("preset {name}"))));
        merge(&mut layered.table, preset);
    }
    layered.below = layered.table.clone();
    if let Some(path) = &layers.config {
        let file::Configuration { table, lines } = file::read(path)?;
        let place = |line| format!("{}:{line}", path.display());
        layered.given.extend(lines.into_iter().map(|(field, line)| (field, place(line))));
        merge(&mut layered.table, table);
    }
    for argument in &layers.set {
        let (field, value) = assignment(argument)?;
        layered.set(&field, value, &format!("--set {}", explain::shortened(argument)))?;
    }
    Ok(layered)
}

fn unknown_preset(name: &str, presets: &[Preset]) -> anyhow::Error {
    let known: Vec<_> = presets.iter().map(|(preset, _)| *preset).collect();
    let listed = if known.is_empty() { "none here".to_owned() } else { known.join(", ") };
    let nearest = nearest(name, known.into_iter());
    Usage::argument("--preset", name, "there is no such preset").allowed(listed).suggest(nearest).into()
}

/// A configuration as a file would have it.
///
/// # Errors
/// What has no TOML form.
pub fn as_toml(config: &impl Serialize) -> Result<String> {
    Ok(toml::to_string_pretty(&without_nulls(serde_json::to_value(config)?))?)
}

/// TOML has no nulls: what is null is left out.
#[must_use]
pub fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        serde_json::Value::Array(elements) => {
            elements.into_iter().filter(|element| !element.is_null()).map(without_nulls).collect()
        }
        other => other,
    }
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

/// Field and value of one `a.b=c`. The value is TOML; what is not TOML is taken as a string.
fn assignment(argument: &str) -> Result<(String, Value)> {
    let refused = |problem: &str| -> anyhow::Error {
        let place = format!("--set {}", explain::shortened(argument));
        Usage::worded(format!("{place}: {problem}"))
            .field("--set")
            .value(explain::shortened(argument))
            .given_in(Some(place))
            .into()
    };
    let Some((field, text)) = argument.split_once('=') else {
        return Err(refused("expected FIELD=VALUE, such as train.batch_size=16"));
    };
    let field: Vec<&str> = field.split('.').map(str::trim).collect();
    if field.contains(&"") {
        return Err(refused("the field has no name"));
    }
    if field.len() > MOST_PARTS {
        return Err(refused(&format!("the field has {} parts, at most {MOST_PARTS} are allowed", field.len())));
    }
    let text = text.trim();
    let parsed = format!("v = {text}").parse::<Table>().ok().filter(|parsed| parsed.len() == 1);
    let value = parsed.and_then(|mut parsed| parsed.remove("v")).unwrap_or_else(|| Value::String(text.to_owned()));
    Ok((field.join("."), value))
}

/// `group.key`.
fn dotted(group: &str, key: &str) -> String {
    if group.is_empty() { key.to_owned() } else { format!("{group}.{key}") }
}

/// Dotted paths of all values of a table that are no tables.
fn leaves(group: &str, table: &Table, found: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => leaves(&dotted(group, key), inner, found),
            _ => found.push(dotted(group, key)),
        }
    }
}

/// The value at a dotted path.
fn at<'a>(table: &'a Table, field: &str) -> Option<&'a Value> {
    let (mut keys, mut place) = (field.split('.'), table);
    let last = keys.next_back()?;
    for key in keys {
        place = place.get(key)?.as_table()?;
    }
    place.get(last)
}

impl Layered {
    /// Puts `value` above all layers so far; it was given at `place`.
    ///
    /// # Errors
    /// If the field lies in what is a value, not a group.
    pub fn set(&mut self, field: &str, value: Value, place: &str) -> Result<()> {
        let mut keys: Vec<&str> = field.split('.').collect();
        let last = keys.pop().unwrap_or_default();
        let mut table = &mut self.table;
        for key in keys {
            let next = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(next) = next else {
                return Err(usage(format!("{place}: `{key}` is a value, not a group of fields")));
            };
            table = next;
        }
        table.insert(last.to_owned(), value);
        self.given.insert(field.to_owned(), place.to_owned());
        Ok(())
    }

    /// Says where a field of the base comes from, unless a layer above has it too.
    pub fn comes_from(&mut self, field: &str, place: &str) {
        self.given.entry(field.to_owned()).or_insert_with(|| place.to_owned());
    }

    /// What a field is so far.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Value> {
        at(&self.table, field)
    }

    /// Where a field was given: itself, the group around it, or what is in it.
    #[must_use]
    pub fn given_in(&self, field: &str) -> Option<&str> {
        let mut around = Some(field);
        while let Some(group) = around {
            if let Some(place) = self.given.get(group) {
                return Some(place);
            }
            around = group.rsplit_once('.').map(|(group, _)| group);
        }
        let inside =
            |(other, _): &(&String, &String)| other.strip_prefix(field).is_some_and(|rest| rest.starts_with('.'));
        self.given.iter().find(inside).map(|(_, place)| place.as_str())
    }

    /// A refusal of what a field holds, with that value and where it was given.
    #[must_use]
    pub fn refusal(&self, field: &str, problem: &str) -> Usage {
        let refusal = Usage::new(problem).field(explain::shortened(field)).given_in(self.given_in(field));
        match self.get(field) {
            Some(value) => refusal.value(explain::spelled(value)),
            None => refusal,
        }
    }

    /// The configuration that the layers describe: what `parse` makes of them, if all is within `limits`.
    ///
    /// # Errors
    /// Naming the dotted field, its value, where it was given, what is allowed, and what to try.
    pub fn resolve<T: Serialize>(
        &self,
        parse: impl Fn(Table) -> Result<T, Fault>,
        limits: impl Fn(&T) -> Vec<Limit>,
    ) -> Result<T> {
        let config = parse(self.table.clone()).map_err(|fault| self.explain(&fault, &parse, &limits))?;
        let refused = limits(&config).into_iter().find_map(|limit| limit.check().err().map(|error| (limit, error)));
        let Some((limit, OutOfRange { field, value, allowed })) = refused else { return Ok(config) };
        let advice = explain::advice(Some(&limit.range), &value, self.without(&field, &parse, &limits).as_ref());
        Err(self
            .refusal(&field, "out of range")
            .value(value)
            .allowed(self.with_places(&allowed, &field))
            .suggest(advice)
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use world_models::train::RunConfig;

    fn layers(set: &[&str]) -> Layers {
        Layers { set: set.iter().map(ToString::to_string).collect(), ..Layers::default() }
    }

    fn base(kind: &str) -> Table {
        format!("seed = 0\nmodel.kind = '{kind}'\ntrain = {{}}").parse().unwrap()
    }

    fn resolve(layers: &Layers, kind: &str, presets: &[Preset]) -> Result<RunConfig> {
        merged(base(kind), layers, presets)?.resolve(Fault::of, RunConfig::limits)
    }

    fn message(set: &[&str]) -> String {
        resolve(&layers(set), "flowm", FLOWM).unwrap_err().to_string()
    }

    /// A dataset of learned policies has a list of their runs, in which not everything is set.
    #[test]
    fn what_is_null_is_left_out_in_lists_too() {
        let config = serde_json::json!({"a": null, "policies": ["random", {"b": null, "c": [1, null, 2]}, null]});
        assert_eq!(as_toml(&config).unwrap(), "policies = [\n    \"random\",\n    { c = [\n    1,\n    2,\n] },\n]\n");
    }

    #[test]
    fn every_shipped_preset_resolves() {
        for (kind, presets) in [("flowm", FLOWM), ("flowm3d", FLOWM3D), ("linear_rnn", LINEAR_RNN)] {
            for (preset, _) in presets {
                let layers = Layers { preset: Some((*preset).to_owned()), ..Layers::default() };
                resolve(&layers, kind, presets).unwrap_or_else(|e| panic!("{kind} {preset}: {e}"));
            }
        }
    }

    #[test]
    fn a_typo_names_the_argument_and_the_nearest_field() {
        let message = message(&["train.batch_sise=4"]);
        assert!(message.starts_with("train.batch_sise = 4: unknown field"), "{message}");
        assert!(message.ends_with("(given as --set train.batch_sise=4); did you mean `batch_size`?"), "{message}");
    }

    #[test]
    fn a_wrong_type_names_the_dotted_field_even_inside_a_tagged_group() {
        let said = message(&["train.batch_size=3.5"]);
        assert!(said.starts_with("train.batch_size = 3.5: a whole number is expected; allowed: 1..=65536"), "{said}");
        let said = message(&["model.world=24", "model.hidden=fast", "model.v_range=1"]);
        assert!(said.starts_with("model.hidden = \"fast\": a whole number is expected, not a string"), "{said}");
        assert!(said.contains("(given as --set model.hidden=fast); try 32 (the default)"), "{said}");
    }

    #[test]
    fn a_place_belongs_to_the_whole_path_not_to_the_last_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[model]\nhidden = 4\n# context\n[train]\nhorizon = 3\ncontext = 0\n").unwrap();
        let layers = Layers { config: Some(file.path().to_owned()), ..layers(&["model.hidden=5", "train.horizon=2"]) };
        let layered = merged(base("flowm"), &layers, FLOWM).unwrap();
        let line = |line| format!("{}:{line}", file.path().display());
        assert_eq!(layered.given_in("train.context"), Some(line(6).as_str()));
        assert_eq!(layered.given_in("train.horizon"), Some("--set train.horizon=2"), "the layer above has the say");
        assert_eq!(layered.given_in("context"), None, "another field of that name");
        assert_eq!(layered.given_in("model.cell.x"), Some(line(1).as_str()), "the group around it");
        let said = layered.resolve::<RunConfig>(Fault::of, RunConfig::limits).unwrap_err().to_string();
        assert!(said.contains(&format!("(given in {})", line(6))), "{said}");
    }

    #[test]
    fn a_file_of_a_hundred_thousand_fields_is_refused_as_any_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fields: String = (0..90_000).map(|i| format!("f{i} = 0\n")).collect::<Vec<_>>().concat();
        for group in ["model", "train"] {
            std::fs::write(file.path(), format!("[{group}]\n{fields}")).unwrap();
            let layers = Layers { config: Some(file.path().to_owned()), ..Layers::default() };
            let said = resolve(&layers, "flowm", FLOWM).unwrap_err().to_string();
            assert!(said.contains(": unknown field `f") && said.len() < 1_000, "{said}");
        }
    }

    #[test]
    fn two_fields_at_odds_are_both_named_with_their_places() {
        let said = message(&["model.world=20", "model.window=25"]);
        assert_eq!(
            said,
            "model.window = 25: out of range; allowed: 3..=20 (at most `model.world`, given as --set model.world=20) \
             (given as --set model.window=25); try 20 (nearest)"
        );
    }

    #[test]
    fn later_layers_win_field_by_field() {
        let layers = Layers { preset: Some("tiny".into()), ..layers(&["train.updates=7"]) };
        let config = resolve(&layers, "flowm", FLOWM).unwrap();
        assert_eq!(config.train.updates, 7);
        let tiny = Layers { preset: Some("tiny".into()), ..Layers::default() };
        assert_eq!(config.train.batch_size, resolve(&tiny, "flowm", FLOWM).unwrap().train.batch_size);
    }

    #[test]
    fn a_value_is_one_value_and_nothing_is_run() {
        let value = |argument: &str| assignment(argument).unwrap().1;
        assert_eq!(value("a=1\nb = 2"), Value::String("1\nb = 2".into()), "no second field comes in with it");
        assert_eq!(value("a=${HOME}"), Value::String("${HOME}".into()));
        assert_eq!(value("a=x=y"), Value::String("x=y".into()));
        for nameless in ["=1", ".a=1", "a..b=1"] {
            assert!(assignment(nameless).unwrap_err().to_string().contains("has no name"), "{nameless}");
        }
    }
}
