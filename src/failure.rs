//! Exit codes: what kind of failure an error is.

use std::process::ExitCode;

use anyhow::Error;

/// A mistake in what was asked: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Stopped by a signal; running the same command again continues: exit code 75.
#[derive(Debug, thiserror::Error)]
#[error("stopped; {0}")]
pub struct Stopped(pub String);

/// Shorthand for a [`Usage`] error.
pub fn usage(message: impl Into<String>) -> Error {
    Usage(message.into()).into()
}

/// 2 for usage, 75 when stopped, 74 for input and output, 1 for the rest.
pub fn code_of(error: &Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Usage>()
            || cause.is::<envs::env::EnvError>()
            || cause.is::<envs::registry::UnknownEnv>()
            || cause.is::<envs::collect::CollectError>()
            || cause.is::<world_models::libtorch::DeviceError>()
            || cause.is::<world_models::clips::ColumnError>()
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
    match error.downcast_ref::<envs::dataset::DatasetError>() {
        Some(_) => 2,
        None => 1,
    }
}

/// Says the error on standard error and gives its exit code.
pub fn report(error: &Error, json: bool) -> ExitCode {
    let code = code_of(error);
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    if json {
        eprintln!("{}", serde_json::json!({ "error": message, "exit": code }));
    } else {
        eprintln!("error: {message}");
    }
    ExitCode::from(code)
}
