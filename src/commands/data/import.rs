//! `mindseye data import`: a dataset of files that another program has written.

use anyhow::{Error, Result};
use envs::dataset::{Bounds, Description, Manifest, Request};
use envs::import::ImportError;
use envs::import::tdmpc2::{Keep, Tdmpc2};
use serde_json::json;

use crate::cli::Tdmpc2Args;
use crate::commands::collect::record;
use crate::failure::Usage;
use crate::terminal::{bytes, count};

/// Imports what the dataset lacks of the files.
#[expect(clippy::print_stdout, reason = "the result of the command")]
pub fn tdmpc2(args: &Tdmpc2Args, json: bool) -> Result<()> {
    let keep = Keep { task: args.task, observation: args.observation, action: args.action };
    let source = Tdmpc2::open(&args.files, keep).map_err(refused)?;
    let unread = source.unread();
    if !unread.is_empty() {
        tracing::warn!(tensors = unread.join(", "), "leaving out what is neither obs, action, reward nor task");
    }
    let request = Request::episodes(source.episodes());
    let bounds = Bounds { min_free: args.min_free.map(|size| size.0), ..Bounds::default() };
    let outcome = record("import", &source, &args.out, (request, bounds), json)?;
    let now = outcome.now;
    if json {
        let digest = Manifest::read(&args.out, &Description::read(&args.out)?)?.digest();
        println!(
            "{}",
            json!({ "episodes": now.episodes, "frames": now.frames, "bytes": now.bytes, "unread": unread, "digest": digest })
        );
    } else {
        let (episodes, frames) = (count(now.episodes), count(now.frames));
        let before = match outcome.before.episodes {
            0 => String::new(),
            before => format!(" ({} were there)", count(before)),
        };
        println!("{}: {episodes} episodes{before}, {frames} frames, {}", args.out.display(), bytes(now.bytes));
    }
    Ok(())
}

/// What is wrong with a file is a mistake in what was asked; what the system refuses is not.
fn refused(error: ImportError) -> Error {
    match error {
        ImportError::Io(error) => error.into(),
        ImportError::Width { field, value, allowed } => {
            Usage::argument(&format!("--{field}"), value, "out of range").allowed(allowed).into()
        }
        other => Usage::worded(other.to_string()).field("FILE").into(),
    }
}
