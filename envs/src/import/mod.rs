//! Data files of other programs as sources of episodes, so that a dataset of them is written, resumed, checked and read as any.
//!
//! Whatever is read may have been made by somebody who means harm. A file of `torch.save` is an archive (`archive`) with a pickle
//! that describes its tensors ([`pickle`]: a closed reader, nothing is run) and the numbers themselves, which are read episode by
//! episode from where they lie (`tensors`). A video is decoded by the program `ffmpeg` ([`video`]). [`tdmpc2`] and [`flowm`] know which
//! files and tensors there are and how their rows line up.

use std::path::PathBuf;

use crate::storage::Failed;

mod archive;
pub mod flowm;
pub mod pickle;
pub mod tdmpc2;
mod tensors;
pub mod video;

use pickle::PickleError;
use video::VideoError;

/// Why a file of another program cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The system refused to open or read it.
    #[error(transparent)]
    Io(#[from] Failed),
    /// It is no archive of `torch.save`, or a damaged one.
    #[error("{}: {reason}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its pickle is refused.
    #[error("{}: its data.pkl: {source}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: PickleError,
    },
    /// A tensor that is missing, or not as it should be.
    #[error("{}: `{key}` {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        key: String,
        /// What is wrong with it, and what is right.
        reason: String,
    },
    /// A folder, or something in it, that does not belong to the data set.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The folder or the file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// Nothing can be decoded here.
    #[error(transparent)]
    Decoder(VideoError),
    /// A video that cannot be decoded.
    #[error("{}: {source}", path.display())]
    Video {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VideoError,
    },
    /// An episode that is not as it should be.
    #[error("{}, episode {episode} of it: {reason}", path.display())]
    Episode {
        /// The file.
        path: PathBuf,
        /// Its episode, from 0.
        episode: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Two files have the same content.
    #[error("{} and {} are the same file: its episodes would be there twice", first.display(), second.display())]
    Twice {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Two files are not of one data set.
    #[error("{} has {what} of {found}, {} of {expected}: import them separately", path.display(), first.display())]
    Unlike {
        /// A file.
        path: PathBuf,
        /// The first file.
        first: PathBuf,
        /// What differs.
        what: &'static str,
        /// In the file.
        found: usize,
        /// In the first file.
        expected: usize,
    },
    /// More components are to be kept than there are, or none.
    #[error("{field} = {value}: out of range; allowed: {allowed}")]
    Width {
        /// Of observations or of actions.
        field: &'static str,
        /// Its value.
        value: usize,
        /// What is allowed.
        allowed: String,
    },
    /// There is nothing to import.
    #[error("no episode to import: {0}")]
    Nothing(String),
}

/// What a source says of an episode that it cannot read: a failure is text, so causes are told there.
fn said_with_cause(error: &ImportError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes
        .map(ToString::to_string)
        .fold(error.to_string(), |said, cause| if said.contains(&cause) { said } else { format!("{said}: {cause}") })
}
