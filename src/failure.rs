//! What a failure is called: its exit code, its message, and the same for programs, field by field.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Error;
use envs::collect::CollectError;
use envs::dataset::DatasetError;
use envs::env::EnvError;
use envs::registry::UnknownEnv;
use serde::Serialize;
use world_models::clips::ClipError;
use world_models::evaluate::EvaluateError;
use world_models::libtorch::DeviceError;
use world_models::train::TrainError;

/// A mistake in what was asked: exit code 2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Usage {
    /// What is wrong, where the parts do not say it already.
    #[serde(skip)]
    problem: String,
    /// The dotted field of a configuration, or the argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What was given, as it was spelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// What may be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<String>,
    /// The file and line, or the argument, that gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    given_in: Option<String>,
    /// What to do instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<String>,
    /// What differs from what it should equal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
    /// Whether `problem` names field and value itself.
    #[serde(skip)]
    worded: bool,
}

/// A field in which two configurations differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Dotted.
    pub field: String,
    /// Its value so far, as JSON.
    pub old: String,
    /// Its value now, as JSON.
    pub new: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.field, self.old, self.new)
    }
}

/// The builder: each part goes to the message and, by its name, to programs.
impl Usage {
    /// `problem` completes "field = value: ".
    pub fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), ..Self::default() }
    }

    /// `message` says field and value in its own words.
    pub fn worded(message: impl Into<String>) -> Self {
        Self { problem: message.into(), worded: true, ..Self::default() }
    }

    /// The field or argument at fault.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// What was given.
    #[must_use]
    pub fn value(self, value: impl Into<String>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    /// What may be given.
    #[must_use]
    pub fn allowed(self, allowed: impl Into<String>) -> Self {
        Self { allowed: Some(allowed.into()), ..self }
    }

    /// Where it was given, if that is known.
    #[must_use]
    pub fn given_in(self, place: Option<impl Into<String>>) -> Self {
        Self { given_in: place.map(Into::into), ..self }
    }

    /// What to do instead, if anything comes to mind.
    #[must_use]
    pub fn suggest(self, suggestion: Option<impl Into<String>>) -> Self {
        Self { suggestion: suggestion.map(Into::into), ..self }
    }

    /// What differs.
    #[must_use]
    pub fn differing(self, differences: Vec<Difference>) -> Self {
        Self { differences, ..self }
    }

    /// A number on the command line that is out of its range.
    pub fn argument(name: &str, value: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::new(problem).field(name).value(value.to_string()).given_in(Some(format!("{name} {value}")))
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut subject = String::new();
        if let (Some(field), false) = (&self.field, self.worded) {
            let between = if field.starts_with("--") { " " } else { " = " };
            subject = self.value.as_ref().map_or_else(|| field.clone(), |value| format!("{field}{between}{value}"));
            write!(f, "{subject}: ")?;
        }
        f.write_str(&self.problem)?;
        if let Some(allowed) = self.allowed.as_ref().filter(|allowed| !allowed.is_empty()) {
            write!(f, "; allowed: {allowed}")?;
        }
        let said = |place: &&String| subject == **place || self.problem.contains(place.as_str());
        if let Some(place) = self.given_in.as_ref().filter(|place| !said(place)) {
            write!(f, " (given {} {place})", if place.starts_with("--") { "as" } else { "in" })?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; {suggestion}")?;
        }
        self.differences.iter().try_for_each(|difference| write!(f, "\n  {difference}"))
    }
}

/// Stopped by a signal; running the same command again continues: exit code 75.
#[derive(Debug, thiserror::Error)]
#[error("stopped; {0}")]
pub struct Stopped(pub String);

/// Shorthand for a [`Usage`] error without parts.
pub fn usage(message: impl Into<String>) -> Error {
    Usage::worded(message).into()
}

/// A dataset that does not open, with the argument that named it.
#[must_use]
pub fn dataset_refused(argument: &str, path: &Path, error: DatasetError) -> Error {
    match explain_dataset(&error) {
        Some(usage) => {
            let path = path.display().to_string();
            let given = format!("{argument} {path}");
            usage.field(argument).value(path).given_in(Some(given)).into()
        }
        None => error.into(),
    }
}

fn explain_dataset(error: &DatasetError) -> Option<Usage> {
    let worded = Usage::worded(error.to_string());
    let (path, advice) = match error {
        DatasetError::Missing { path } | DatasetError::Empty { path } => {
            (path, "record one there with `mindseye collect`")
        }
        DatasetError::NotADataset { path, .. } => (path, "give the folder that holds a dataset.json"),
        DatasetError::Newer { path, .. } => (path, "`mindseye --version` tells which this is"),
        DatasetError::NothingCommitted { path, .. } | DatasetError::Window { path, .. } => (path, ""),
        DatasetError::Request { field, value, allowed } => {
            let field = format!("--{}", field.replace('_', "-"));
            return Some(Usage::argument(&field, value, "out of range").allowed(allowed));
        }
        _ => return None,
    };
    Some(
        worded
            .field("DATASET")
            .value(path.display().to_string())
            .suggest(Some(advice).filter(|advice| !advice.is_empty())),
    )
}

fn explain_env(error: &EnvError) -> Option<Usage> {
    let EnvError::Config { field, value, allowed, .. } = error else { return None };
    Some(Usage::new("out of range").field(field).value(value).allowed(allowed))
}

/// The mistake in the usage that an error is, if it is one.
fn explained(error: &Error) -> Option<Usage> {
    error.chain().find_map(|cause| {
        if let Some(usage) = cause.downcast_ref::<Usage>() {
            return Some(usage.clone());
        }
        if let Some(UnknownEnv { id, close, known }) = cause.downcast_ref() {
            let nearest = (!close.is_empty()).then(|| format!("did you mean {}?", close.join(" or ")));
            let worded = Usage::worded(format!("no env is called `{id}`"));
            return Some(worded.field("ENV").value(id).allowed(known.join(", ")).suggest(nearest));
        }
        if let Some(DeviceError { reason }) = cause.downcast_ref() {
            return Some(
                Usage::new(format!("no GPU can be used here: {reason}"))
                    .field("train.device")
                    .value("\"cuda\"")
                    .allowed("\"cpu\", \"auto\"")
                    .suggest(Some(world_models::libtorch::CUDA_ADVICE)),
            );
        }
        match cause.downcast_ref::<CollectError>() {
            Some(CollectError::Env(error)) => explain_env(error),
            _ => cause.downcast_ref().and_then(explain_env),
        }
        .or_else(|| cause.downcast_ref().and_then(explain_dataset))
    })
}

/// The exit code where nobody reads what is printed any more: as if the system had ended the program for it.
pub const NOBODY_READS: i32 = 128 + signal_hook::consts::SIGPIPE;

/// 2 for usage, 75 when stopped, 74 for input and output, 1 for the rest.
#[must_use]
pub fn code_of(error: &Error) -> u8 {
    if explained(error).is_some() {
        return 2;
    }
    for cause in error.chain() {
        if cause.is::<EnvError>()
            || cause.is::<CollectError>()
            || cause.is::<envs::rollout::RolloutError>()
            || cause.is::<envs::storage::PlanError>()
            || matches!(cause.downcast_ref(), Some(envs::storage::LockError::Held { .. }))
            || is_of_clips(cause)
            || cause.is::<world_models::memory::MemoryError>()
        {
            return 2;
        }
        if cause.is::<Stopped>() {
            return 75;
        }
        if cause.is::<std::io::Error>() {
            return 74;
        }
    }
    match error.downcast_ref::<DatasetError>() {
        Some(_) => 2,
        None => 1,
    }
}

/// A dataset that models cannot take, or cannot be asked about, whoever found out.
fn is_of_clips(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<ClipError>()
        || matches!(cause.downcast_ref(), Some(TrainError::Clip(_)))
        || matches!(
            cause.downcast_ref(),
            Some(
                EvaluateError::Clip(_)
                    | EvaluateError::Truth { .. }
                    | EvaluateError::Column { .. }
                    | EvaluateError::NoTruth { .. }
                    | EvaluateError::NoBelief { .. }
                    | EvaluateError::Refused { .. }
            )
        )
}

/// Says the error on standard error and gives its exit code.
pub fn report(error: &Error, json: bool) -> ExitCode {
    let code = code_of(error);
    let usage = explained(error);
    let message = usage.as_ref().map_or_else(|| whole_message(error), ToString::to_string);
    if json {
        let mut object = serde_json::json!({ "error": message, "exit": code });
        if let (Some(object), Ok(serde_json::Value::Object(parts))) =
            (object.as_object_mut(), serde_json::to_value(usage))
        {
            object.extend(parts);
        }
        eprintln!("{object}");
    } else {
        eprintln!("error: {}", plain(&message));
    }
    ExitCode::from(code)
}

/// What a file or an argument brought into a message moves no cursor and changes no colour.
fn plain(message: &str) -> String {
    let harmless = |c: char| c == '\n' || !c.is_control();
    message.chars().flat_map(|c| if harmless(c) { vec![c] } else { c.escape_default().collect() }).collect()
}

/// The error and its causes, each once.
fn whole_message(error: &Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |message, cause| {
        if message.is_empty() {
            cause
        } else if message.contains(&cause) {
            message
        } else {
            format!("{message}: {cause}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_drive_the_terminal() {
        assert_eq!(plain("ä\u{1b}[31m\r\n  x"), "ä\\u{1b}[31m\\r\n  x");
    }

    #[test]
    fn the_message_has_every_part_once() {
        let refused = Usage::new("out of range").field("train.batch_size").value("0").allowed("1..=8");
        let refused = refused.given_in(Some("a.toml:2")).suggest(Some("the default is 8"));
        assert_eq!(
            refused.to_string(),
            "train.batch_size = 0: out of range; allowed: 1..=8 (given in a.toml:2); the default is 8"
        );
        let argument = Usage::argument("--threads", 0, "out of range").allowed("1..=8");
        assert_eq!(argument.to_string(), "--threads 0: out of range; allowed: 1..=8");
        assert_eq!(
            serde_json::to_value(argument).unwrap(),
            serde_json::json!({ "field": "--threads", "value": "0", "allowed": "1..=8", "given_in": "--threads 0" })
        );
    }
}
