//! What can go wrong with a dataset: each error names the file, the value, and what would be right.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use simulators::rng::Seed;

use super::gaps::Ranges;
use super::layout::FORMAT;
use super::shard_of::ShardOf;
use crate::storage::{Failed, LockError};

/// A field in which the dataset on disk and the one asked for differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Dotted path in `dataset.json`.
    pub field: String,
    /// The value on disk, as JSON; `nothing` where the field is absent.
    pub on_disk: String,
    /// The value asked for, as JSON.
    pub asked: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} on disk, {} asked for", self.field, self.on_disk, self.asked)
    }
}

/// Why a dataset cannot be written, opened or read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The system refused an operation on a file.
    #[error(transparent)]
    Io(#[from] Failed),
    /// There is nothing at the path.
    #[error("there is no dataset at {}: no such directory", path.display())]
    Missing {
        /// The path given.
        path: PathBuf,
    },
    /// The directory has no entry at all.
    #[error("{} is an empty directory, not a dataset", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// The path is a file, or a directory of something else.
    #[error("{} is not a dataset: {reason}", path.display())]
    NotADataset {
        /// The path given.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The dataset was written by a later version.
    #[error("{} has dataset format {found}; this version reads formats up to {FORMAT}: use a newer version", path.display())]
    Newer {
        /// The `dataset.json`.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The dataset has been begun, but no shard is committed yet.
    #[error("{} has no committed episodes yet ({requested} requested); run collect again to record them", path.display())]
    NothingCommitted {
        /// The directory.
        path: PathBuf,
        /// Episodes asked for.
        requested: u64,
    },
    /// `dataset.json` cannot be understood.
    #[error("{}: {reason}", path.display())]
    Description {
        /// The `dataset.json`.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A line of the manifest is damaged, or says what cannot be.
    #[error("{} line {line}: {reason}", path.display())]
    Line {
        /// The `manifest.jsonl`.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A shard file is missing or is not what the manifest says.
    #[error("{}: {reason}; `data verify` lists all damage, `data repair` keeps what is whole", path.display())]
    Shard {
        /// The shard file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The rows of an episode cannot be unpacked.
    #[error(
        "{}: episode {episode}, column `{column}`: {reason}; `data verify` lists all damage, `data repair` keeps what is whole",
        path.display()
    )]
    Rows {
        /// The shard file.
        path: PathBuf,
        /// Number of the episode.
        episode: u64,
        /// The column.
        column: String,
        /// What is wrong, and with which block.
        reason: String,
    },
    /// A column specification that cannot be stored.
    #[error("column `{column}`: {reason}")]
    Column {
        /// Its name.
        column: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A column was asked for that the dataset does not have.
    #[error("{} has no column `{column}`; it has {known}", path.display())]
    NoSuchColumn {
        /// The directory.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// Those it has.
        known: String,
    },
    /// A column was asked for as another type than it holds.
    #[error("column `{column}` holds {holds}, not {asked}")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        holds: &'static str,
        /// The type asked for.
        asked: &'static str,
    },
    /// A request that no dataset could meet.
    #[error("{field} = {value}: {allowed}")]
    Request {
        /// The field of the request.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// The directory holds a dataset of something else.
    #[error("{} holds another dataset:{}", path.display(), list(differences))]
    Mismatch {
        /// The directory.
        path: PathBuf,
        /// Every field that differs.
        differences: Vec<Difference>,
    },
    /// Parts of different datasets cannot be merged.
    #[error("{} and {} are not parts of one dataset:{}", first.display(), second.display(), list_both(differences))]
    Unlike {
        /// One part.
        first: PathBuf,
        /// Another.
        second: PathBuf,
        /// Every field that differs: `on_disk` in the first, `asked` in the second.
        differences: Vec<Difference>,
    },
    /// Two parts have recorded the same episodes, differently.
    #[error("episodes {} differ in {} and {}: give only one of the two", Ranges(&[*episodes]), first.display(), second.display())]
    Conflict {
        /// The episodes: first, and one past the last.
        episodes: [u64; 2],
        /// A shard file that has them.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// The parts do not make a whole.
    #[error(
        "the parts lack {} of {requested} episodes: {}; record them by the command that made the parts, with {}, or merge \
         partially and let the same `collect`, without --shard, complete the result",
        Ranges(missing).episodes(), Ranges(missing), list_parts(parts)
    )]
    Holes {
        /// The episodes that are in no part: first, and one past the last, of each range.
        missing: Vec<[u64; 2]>,
        /// Episodes that the dataset shall have.
        requested: u64,
        /// What records exactly those.
        parts: Vec<ShardOf>,
    },
    /// Another process writes to the dataset.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The source could not record an episode.
    #[error("episode {episode} of seed {seed} could not be recorded: {reason}")]
    Source {
        /// The episode.
        episode: u64,
        /// The seed of its dataset.
        seed: Seed,
        /// The source's reason.
        reason: String,
    },
    /// No episode is as long as the window asked for.
    #[error(
        "windows of {frames} frames asked for, but the longest episode of {} has {longest} (a window of F frames needs F - 1 steps)",
        path.display()
    )]
    Window {
        /// The directory.
        path: PathBuf,
        /// Frames asked for.
        frames: usize,
        /// Frames of the longest episode.
        longest: usize,
    },
}

fn list_both(differences: &[Difference]) -> String {
    differences.iter().fold(String::new(), |mut text, Difference { field, on_disk, asked }| {
        let _ = write!(text, "\n  {field}: {on_disk} in the first, {asked} in the second");
        text
    })
}

/// Parts that are named; a list of more is not read.
const NAMED_PARTS: usize = 8;

fn list_parts(parts: &[ShardOf]) -> String {
    let named: Vec<String> = parts.iter().take(NAMED_PARTS).map(|part| format!("--shard {part}")).collect();
    let more = parts.len() - named.len();
    if more == 0 { named.join(" and ") } else { format!("{} and {more} more", named.join(", ")) }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().fold(String::new(), |mut text, difference| {
        let _ = write!(text, "\n  {difference}");
        text
    })
}
