//! What is wrong with a command line: numbers out of range, and everything else that clap refuses, part by part.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use envs::dataset::ShardOfError;
use simulators::limits::Range;

use crate::failure::Usage;

/// A number outside its range, or none at all.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{problem}; allowed: {range}")]
pub(super) struct NotAllowed {
    problem: &'static str,
    range: Range,
}

/// Reads whole numbers from `low` to `high`, which the type of the argument must hold.
pub(super) fn whole<T: TryFrom<i128>>(low: i128, high: i128) -> impl Fn(&str) -> Result<T, NotAllowed> + Clone {
    move |text| {
        let not_allowed = |problem| NotAllowed { problem, range: Range::Whole(low..=high) };
        let Ok(value) = text.trim().parse::<i128>() else { return Err(not_allowed("a whole number is expected")) };
        let within = Some(value).filter(|value| (low..=high).contains(value));
        within.and_then(|value| T::try_from(value).ok()).ok_or_else(|| not_allowed("out of range"))
    }
}

/// What is wrong with a command line, part by part.
#[must_use]
pub fn explain(error: &clap::Error) -> Usage {
    let context = |kind: ContextKind| {
        let (_, value) = error.context().find(|(found, _)| *found == kind)?;
        let text = match value {
            ContextValue::String(text) => text.clone(),
            ContextValue::Strings(texts) => texts.join(", "),
            other => other.to_string(),
        };
        (!text.is_empty()).then_some(text)
    };
    let argument = context(ContextKind::InvalidArg);
    // "--threads <N>" is the argument and what it takes.
    let name = argument.as_deref().map(|argument| argument.split(" <").next().unwrap_or(argument));
    let value = context(ContextKind::InvalidValue);
    if let (Some(source), Some(name), Some(value)) = (std::error::Error::source(error), name, &value) {
        return match (source.downcast_ref(), source.is::<ShardOfError>()) {
            (Some(NotAllowed { problem, range }), _) => {
                let nearest = range.nearest(value).map(|nearest| format!("try {nearest} (nearest)"));
                Usage::argument(name, value, *problem).allowed(range.to_string()).suggest(nearest)
            }
            (None, true) => Usage::argument(name, value, "there is no such part")
                .allowed("i/n, i in 0..n, zero-based")
                .suggest(Some("0/4 is the first part of four, 3/4 the last")),
            (None, false) => Usage::argument(name, value, source.to_string()),
        };
    }
    let rendered = error.render().to_string();
    let mut paragraphs = rendered.split("\n\n").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs.next().unwrap_or_default();
    let tip = paragraphs.find_map(|text| text.strip_prefix("tip: ").map(str::to_owned));
    let other = match error.kind() {
        ErrorKind::ArgumentConflict if context(ContextKind::PriorArg) == argument => "give it once",
        ErrorKind::ArgumentConflict => "give one of them",
        _ => "see --help",
    };
    let advice = tip.unwrap_or_else(|| other.to_owned());
    let usage = Usage::worded(message.strip_prefix("error: ").unwrap_or(&message)).suggest(Some(advice));
    let usage = name.iter().fold(usage, |usage, name| usage.field(*name));
    let usage = value.into_iter().fold(usage, Usage::value);
    context(ContextKind::ValidValue).into_iter().fold(usage, Usage::allowed)
}
