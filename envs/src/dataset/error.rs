//! What can go wrong with a dataset: each error names the file, the value, and what would be right.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use super::layout::FORMAT;

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
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, such as `write 1024 bytes to`.
        action: String,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
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
    #[error("{}: {reason}; `data verify` lists all damage", path.display())]
    Shard {
        /// The shard file.
        path: PathBuf,
        /// What is wrong with it.
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
    /// Another process writes to the dataset.
    #[error("{} is being written by {holder}; wait for it, or stop it", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Process id and host, as the holder wrote them.
        holder: String,
    },
    /// The source could not record an episode.
    #[error("episode {episode} could not be recorded: {reason}")]
    Source {
        /// The episode.
        episode: u64,
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

fn list(differences: &[Difference]) -> String {
    differences.iter().fold(String::new(), |mut text, difference| {
        let _ = write!(text, "\n  {difference}");
        text
    })
}

/// Gives an `io::Error` the path and the action that it lacks.
pub(super) trait At<T> {
    /// `action` completes "cannot … `path`".
    fn at(self, action: &str, path: &Path) -> Result<T, DatasetError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &str, path: &Path) -> Result<T, DatasetError> {
        self.map_err(|source| DatasetError::Io { action: action.to_owned(), path: path.to_owned(), source })
    }
}
