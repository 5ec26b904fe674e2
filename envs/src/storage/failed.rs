//! What the system refused: the action, the path, the reason, and the free space where that was the reason.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::free_bytes;

/// The system refused an operation on a file or folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}{}", path.display(), said_of(*free))]
pub struct Failed {
    /// What was tried, such as `write 1024 bytes to`.
    pub action: String,
    /// The file or folder.
    pub path: PathBuf,
    /// Bytes free where it is, when there was no room.
    pub free: Option<u64>,
    /// The system's reason.
    pub source: io::Error,
}

fn said_of(free: Option<u64>) -> String {
    free.map_or_else(String::new, |bytes| {
        format!(" ({bytes} bytes are free there; make room and run the command again)")
    })
}

impl Failed {
    /// An error of the system with what it lacks. `action` completes "cannot … `path`".
    #[must_use]
    pub fn new(action: &str, path: &Path, source: io::Error) -> Self {
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let free = if full { free_bytes(path) } else { None };
        Self { action: action.to_owned(), path: path.to_owned(), free, source }
    }
}

/// Gives an `io::Error` the action and the path that it lacks.
#[expect(clippy::missing_errors_doc, reason = "they pass on the error they are called on")]
pub trait At<T> {
    /// `action` completes "cannot … `path`".
    fn at(self, action: &str, path: &Path) -> Result<T, Failed>;

    /// Of a write of `bytes` bytes.
    fn at_writing(self, bytes: u64, path: &Path) -> Result<T, Failed>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &str, path: &Path) -> Result<T, Failed> {
        self.map_err(|source| Failed::new(action, path, source))
    }

    fn at_writing(self, bytes: u64, path: &Path) -> Result<T, Failed> {
        self.map_err(|source| Failed::new(&format!("write {bytes} bytes to"), path, source))
    }
}
