//! Why a configuration is refused, in the words of whoever wrote it: field, value, what is allowed, what to try.

use serde::Serialize;
use serde::de::DeserializeOwned;
use simulators::limits::{Limit, Range};
use toml::{Table, Value};

use super::{Layered, at, dotted, leaves};
use crate::failure::Usage;

/// Longest value that is repeated in a message, letters.
const SHOWN: usize = 100;

/// Fields that are tried one by one: more than any configuration here has.
const MOST_SUSPECTS: usize = 200;

/// Where a table is not a configuration, and what serde says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    path: String,
    cause: String,
}

impl From<&serde_path_to_error::Error<serde_json::Error>> for Fault {
    fn from(error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        Self::at(error.path(), error.inner().to_string())
    }
}

impl Fault {
    fn at(path: &serde_path_to_error::Path, cause: String) -> Self {
        let path = path.to_string();
        Self { path: if path == "." { String::new() } else { path }, cause }
    }

    /// One that lies in no field in particular.
    #[must_use]
    pub fn whole(cause: String) -> Self {
        Self { path: String::new(), cause }
    }

    /// The same fault, seen from outside the group it lies in.
    #[must_use]
    pub fn within(self, group: &str) -> Self {
        let path = if self.path.is_empty() { group.to_owned() } else { dotted(group, &self.path) };
        Self { path, ..self }
    }

    /// The configuration of type `T` that a table is, or where it is not one.
    ///
    /// # Errors
    /// An unknown field or a wrong type.
    pub fn of<T: DeserializeOwned>(table: Table) -> Result<T, Self> {
        serde_path_to_error::deserialize(Value::Table(table))
            .map_err(|error| Self::at(error.path(), error.inner().message().to_owned()))
    }
}

impl Layered {
    /// The refusal of a configuration that has a fault.
    pub(super) fn explain<T: Serialize>(
        &self,
        fault: &Fault,
        parse: &impl Fn(Table) -> Result<T, Fault>,
        limits: &impl Fn(&T) -> Vec<Limit>,
    ) -> Usage {
        let cause = fault.cause.trim();
        if let Some(name) = quoted(cause, "missing field") {
            let missing = dotted(&fault.path, name);
            let refusal = Usage::new("missing").field(&missing).given_in(self.given_in(&fault.path));
            return refusal.allowed(self.choices(&missing, parse)).suggest(Some(format!("add --set {missing}=...")));
        }
        let field = self.culprit(fault, parse);
        if let Some(name) = quoted(cause, "unknown field") {
            let refusal = self.refusal(&field, &format!("unknown field `{}`", shortened(name)));
            return refusal.allowed(expected_names(cause)).suggest(did_you_mean(name, cause));
        }
        if let Some(name) = quoted(cause, "unknown variant") {
            let default = || advice(None, "", self.without(&field, parse, limits).as_ref());
            let refusal = self.refusal(&field, "no such choice").allowed(expected_names(cause));
            return refusal.suggest(did_you_mean(name, cause).or_else(default));
        }
        let Some(value) = self.get(&field) else { return self.refusal(&field, cause) };
        let without = self.without(&field, parse, limits);
        let limit = without.as_ref().and_then(|without| without.limit.clone());
        if let Some(limit) = limit {
            let given = spelled(value);
            let advice = advice(Some(&limit.range), &given, without.as_ref());
            let refusal = self.refusal(&field, &misfit(value, &limit.range));
            return refusal.allowed(self.with_places(&limit.allowed(), &field)).suggest(advice);
        }
        match cause.split_once(", expected ") {
            Some((_, expected)) => {
                let advice =
                    without.and_then(|without| without.value).map(|value| format!("try {value} (the default)"));
                self.refusal(&field, &format!("{} is expected, not {}", plain(expected), kind(value))).suggest(advice)
            }
            None => self.refusal(&field, cause),
        }
    }

    /// The dotted field at fault. Serde loses the way inside a group whose kind one of its fields tells; there, it is the
    /// field without which the fault is another one, or none.
    fn culprit<T>(&self, fault: &Fault, parse: &impl Fn(Table) -> Result<T, Fault>) -> String {
        let path = &fault.path;
        let group = if path.is_empty() { Some(&self.table) } else { at(&self.table, path).and_then(Value::as_table) };
        let Some(group) = group else { return path.clone() };
        if let Some(name) = quoted(&fault.cause, "unknown field").filter(|name| group.contains_key(*name)) {
            return dotted(path, name);
        }
        let mut fields = Vec::new();
        leaves(path, group, &mut fields);
        if fields.len() > MOST_SUSPECTS {
            return path.clone();
        }
        let now = |field: &&String| parse(cut(&self.table, field)).err();
        let heals = fields.iter().find(|field| now(field).is_none());
        let changes = || fields.iter().find(|field| now(field).as_ref() != Some(fault));
        heals.or_else(changes).cloned().unwrap_or_else(|| path.clone())
    }

    /// The names that a field may hold, as far as a wrong one makes `parse` list them.
    fn choices<T>(&self, field: &str, parse: &impl Fn(Table) -> Result<T, Fault>) -> String {
        let mut table = self.table.clone();
        put(&mut table, field, Value::String("?".into()));
        parse(table).err().map_or_else(String::new, |fault| expected_names(&fault.cause))
    }

    /// What the configuration is when `field` is left out, if it is one then.
    pub(super) fn without<T: Serialize>(
        &self,
        field: &str,
        parse: &impl Fn(Table) -> Result<T, Fault>,
        limits: &impl Fn(&T) -> Vec<Limit>,
    ) -> Option<Without> {
        let mut table = cut(&self.table, field);
        if let Some(value) = at(&self.below, field) {
            put(&mut table, field, value.clone());
        }
        let config = parse(table).ok()?;
        let limit = limits(&config).into_iter().find(|limit| limit.field == field);
        let whole = Table::try_from(&config).ok()?;
        // A default that does not go with the other fields is no advice.
        let fits = limit.as_ref().is_none_or(|limit| limit.check().is_ok());
        let value = at(&whole, field).filter(|value| fits && !value.is_table());
        Some(Without { limit, value: value.map(spelled) })
    }

    /// Adds to the names of other fields in `allowed` where they were given.
    pub(super) fn with_places(&self, allowed: &str, field: &str) -> String {
        let parts: Vec<&str> = allowed.split('`').collect();
        let place = |name: &str| self.given_in(name).filter(|_| name != field);
        let part = |(i, part): (usize, &&str)| match place(part).filter(|_| i % 2 == 1) {
            Some(place) => format!("`{part}`, given {} {place}", if place.starts_with("--") { "as" } else { "in" }),
            None if i % 2 == 1 => format!("`{part}`"),
            None => (*part).to_owned(),
        };
        parts.iter().enumerate().map(part).collect()
    }
}

/// A field that is left out: what it may be then, and what it is.
pub(super) struct Without {
    limit: Option<Limit>,
    value: Option<String>,
}

fn at_mut<'a>(table: &'a mut Table, field: &str) -> Option<&'a mut Value> {
    let (mut keys, mut place) = (field.split('.'), table);
    let last = keys.next_back()?;
    for key in keys {
        place = place.get_mut(key)?.as_table_mut()?;
    }
    place.get_mut(last)
}

/// Puts a value at a dotted path, if the group it lies in is there.
fn put(table: &mut Table, field: &str, value: Value) {
    match field.rsplit_once('.') {
        None => drop(table.insert(field.to_owned(), value)),
        Some((group, key)) => {
            if let Some(Value::Table(group)) = at_mut(table, group) {
                group.insert(key.to_owned(), value);
            }
        }
    }
}

fn cut(table: &Table, field: &str) -> Table {
    let mut table = table.clone();
    match field.rsplit_once('.') {
        None => drop(table.remove(field)),
        Some((group, key)) => {
            if let Some(Value::Table(group)) = at_mut(&mut table, group) {
                group.remove(key);
            }
        }
    }
    table
}

/// A value as it was written, or nearly.
pub(super) fn spelled(value: &Value) -> String {
    match value {
        // TOML has no such integers, so that `--set` took it for a string.
        Value::String(text) if text.parse::<i128>().is_ok() => text.clone(),
        _ => shortened(&value.to_string()),
    }
}

/// Not more of a text than a message can hold.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a group of fields",
    }
}

/// What is wrong with a value where a number of `range` should be.
fn misfit(value: &Value, range: &Range) -> String {
    let number = if matches!(range, Range::Whole(_)) { "a whole number" } else { "a number" };
    match value {
        Value::Integer(_) => "out of range".to_owned(),
        Value::String(text) if text.parse::<i128>().is_ok() => "out of range".to_owned(),
        Value::Float(_) if number == "a number" => "out of range".to_owned(),
        Value::Float(_) => format!("{number} is expected"),
        other => format!("{number} is expected, not {}", kind(other)),
    }
}

/// Rust's name of a type, as people call it.
fn plain(expected: &str) -> &str {
    match expected {
        "a boolean" => "true or false",
        "path string" | "a string" | "string only" => "a string",
        _ if expected.starts_with("struct ") || expected.contains("enum ") => "a group of fields",
        _ => expected,
    }
}

/// What to try instead of `given`.
pub(super) fn advice(range: Option<&Range>, given: &str, without: Option<&Without>) -> Option<String> {
    let default = without.and_then(|without| without.value.clone());
    match (range.and_then(|range| range.nearest(given)), default) {
        (Some(nearest), Some(default)) if nearest != default => {
            Some(format!("try {nearest} (nearest) or {default} (the default)"))
        }
        (Some(nearest), None) => Some(format!("try {nearest} (nearest)")),
        (_, Some(default)) => Some(format!("try {default} (the default)")),
        (None, None) => None,
    }
}

/// The name in backticks after `what`, with which `cause` begins.
fn quoted<'a>(cause: &'a str, what: &str) -> Option<&'a str> {
    cause.strip_prefix(what)?.strip_prefix(" `")?.split('`').next()
}

/// The names that serde lists as expected.
fn expected(cause: &str) -> impl Iterator<Item = &str> {
    cause.split_once(", expected ").map_or("", |(_, names)| names).split('`').skip(1).step_by(2)
}

fn expected_names(cause: &str) -> String {
    expected(cause).collect::<Vec<_>>().join(", ")
}

fn did_you_mean(name: &str, cause: &str) -> Option<String> {
    nearest(name, expected(cause))
}

/// "did you mean", if one of the names is like `name`.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let likest = known.map(|known| (strsim::jaro_winkler(name, known), known)).max_by(|(a, _), (b, _)| a.total_cmp(b));
    likest.filter(|(likeness, _)| *likeness > 0.75).map(|(_, known)| format!("did you mean `{known}`?"))
}
