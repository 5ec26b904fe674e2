//! `mindseye data import`: a dataset of files that another program has written.

use std::path::Path;

use anyhow::{Error, Result};
use envs::dataset::{Bounds, Description, EpisodeSource, Manifest, Request};
use envs::import::ImportError;
use envs::import::flowm::{Flowm, World};
use envs::import::tdmpc2::{Keep, Tdmpc2};
use serde_json::json;

use crate::cli::{FlowmArgs, Tdmpc2Args, WorldArg};
use crate::commands::collect::{codec_of, part_of, record};
use crate::failure::Usage;
use crate::terminal::{bytes, count};

/// Imports what the dataset lacks of the files.
pub fn tdmpc2(args: &Tdmpc2Args, json: bool) -> Result<()> {
    let keep = Keep { task: args.task, observation: args.observation, action: args.action };
    let source = Tdmpc2::open(&args.files, keep).map_err(|error| refused("FILE", error))?;
    let unread = source.unread();
    if !unread.is_empty() {
        tracing::warn!(tensors = unread.join(", "), "leaving out what is neither obs, action, reward nor task");
    }
    let request = Request::episodes(source.episodes());
    let bounds = Bounds { min_free: args.min_free.map(|size| size.0), ..Bounds::default() };
    import(&source, &args.out, (request, bounds), &unread, json)
}

/// Imports what the dataset lacks of the folders.
pub fn flowm(args: &FlowmArgs, json: bool) -> Result<()> {
    let world = args.world.map(|world| match world {
        WorldArg::BlockWorld => World::Block,
        WorldArg::MnistWorld => World::Mnist,
    });
    let source = Flowm::open(&args.dirs, world).map_err(|error| refused("DIR", error))?;
    let unread = source.unread();
    if !unread.is_empty() {
        tracing::warn!(left_out = unread.join(", "), "taking videos and actions, and leaving out what else there is");
    }
    let codec = args.codec.map(codec_of);
    let request = Request { codec, ..Request::episodes(source.episodes()) };
    let bounds = Bounds { part: args.shard, min_free: args.min_free.map(|size| size.0) };
    import(&source, &args.out, (request, bounds), unread, json)
}

/// Records what the dataset in `out` lacks of `source`, and says what it has then.
#[expect(clippy::print_stdout, reason = "the result of the command")]
fn import(
    source: &dyn EpisodeSource,
    out: &Path,
    (request, bounds): (Request, Bounds),
    unread: &[String],
    json: bool,
) -> Result<()> {
    let outcome = record("import", source, out, (request, bounds), json)?;
    let now = outcome.now;
    if json {
        let digest = Manifest::read(out, &Description::read(out)?)?.digest();
        println!(
            "{}",
            json!({ "episodes": now.episodes, "frames": now.frames, "bytes": now.bytes, "unread": unread, "digest": digest })
        );
    } else {
        let (part, episodes, frames) = (part_of(bounds.part, request.episodes), count(now.episodes), count(now.frames));
        let before = match outcome.before.episodes {
            0 => String::new(),
            before => format!(" ({} were there)", count(before)),
        };
        println!("{}: {part}{episodes} episodes{before}, {frames} frames, {}", out.display(), bytes(now.bytes));
    }
    Ok(())
}

/// What is wrong with a file is a mistake in what was asked, of the argument called `argument`; what the system refuses or lacks is not.
fn refused(argument: &str, error: ImportError) -> Error {
    match error {
        ImportError::Io(error) => error.into(),
        ImportError::Decoder(error) => error.into(),
        ImportError::Width { field, value, allowed } => {
            Usage::argument(&format!("--{field}"), value, "out of range").allowed(allowed).into()
        }
        other => Usage::worded(other.to_string()).field(argument).into(),
    }
}
