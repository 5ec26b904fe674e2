//! The seam between what is written and the disk, so that a test can fill the disk, kill the program or cut the power at
//! any write. Reading needs no seam: what is read is checked.
//!
//! Every method returns the system's error as it is; [`At`] adds what was tried, and where.

mod disk;
mod failed;
mod faults;
mod lock;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use disk::{Disk, Space, free_bytes, of_process, space};
pub use failed::{At, Failed};
pub use faults::{FAULT, Faults, Plan, PlanError};
pub use lock::{Lock, LockError};

/// Everything the program does to a disk. What was written is safe only after [`Sink::sync`]; what was created, renamed or
/// removed, only after [`Storage::sync_folder`] of the folder it is in.
#[expect(clippy::missing_errors_doc, reason = "each returns the system's error")]
pub trait Storage: Send + Sync {
    /// A new file; what was there before is gone.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>>;

    /// A file to append to, made where it is missing.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Sink>>;

    /// Cuts a file to its first `len` bytes, for good.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Gives a file or folder another name; a file that had it is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// A symbolic link at `path` that says `target`.
    fn link(&self, target: &Path, path: &Path) -> io::Result<()>;

    /// Removes a file or link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and all in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Creates one folder; the one above it must be there.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder survive a power loss.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// The room where `path` is, or would be; none where the system does not tell.
    fn space(&self, path: &Path) -> Option<Space> {
        space(path)
    }
}

/// A file being written.
#[expect(clippy::missing_errors_doc, reason = "each returns the system's error")]
pub trait Sink: Write + Send {
    /// Makes what was written survive a power loss.
    fn sync(&mut self) -> io::Result<()>;
}

/// Where a file is written before it gets its name.
#[must_use]
pub fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Replaces `path` by `bytes` for good: temporary name, fsync, rename, fsync of the folder. A reader sees the old file or the
/// new one, and never a part.
///
/// # Errors
/// When the system refuses; the old file is then intact.
pub fn replace(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    let new = temporary(path);
    write(storage, &new, bytes)?;
    storage.rename(&new, path).at("rename into place", &new)?;
    above(path).map_or(Ok(()), |folder| storage.sync_folder(folder).at("sync", folder))
}

/// Writes a new file and makes its content safe; its name is not.
///
/// # Errors
/// When the system refuses.
pub fn write(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    let mut file = storage.create(path).at("create", path)?;
    file.write_all(bytes).and_then(|()| file.sync()).at_writing(bytes.len() as u64, path)
}

/// Creates a folder and those above it, where missing, for good.
///
/// # Errors
/// When the system refuses.
pub fn create_folders(storage: &dyn Storage, path: &Path) -> Result<(), Failed> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    // The lowest that is there may be the work of a process that was killed before it could make its name safe.
    if let Some(above) = path.ancestors().nth(missing.len()).and_then(above) {
        match storage.sync_folder(above) {
            // Not a folder in which we could have made one.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced.at("sync", above)?,
        }
    }
    for folder in missing.into_iter().rev() {
        match storage.create_folder(folder) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            created => created.at("create", folder)?,
        }
        if let Some(above) = above(folder) {
            storage.sync_folder(above).at("sync", above)?;
        }
    }
    Ok(())
}

/// The folder above, if there is one; of a relative path of one component, it is where the process stands.
fn above(path: &Path) -> Option<&Path> {
    let above = path.parent()?;
    Some(if above.as_os_str().is_empty() { Path::new(".") } else { above })
}
