//! One writer a folder: an advisory lock on its `.lock`, which says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failed::{At, Failed};

/// Bytes of a lock file that are read to name its holder.
const HOLDER_BUDGET: u64 = 512;
/// How often, 10 ms apart, a lock that is held by nobody in particular is tried again: its holder has not written its name
/// yet, or is about to let go.
const PATIENCE: u32 = 50;

/// Held for as long as it lives; the system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(File);

/// Why a lock was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process writes to the folder.
    #[error("{} is being written by {holder}; wait for it, or stop it", path.display())]
    Held {
        /// The folder.
        path: PathBuf,
        /// Process id and host, as the holder wrote them.
        holder: String,
    },
    /// The lock file cannot be made.
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl Lock {
    /// Takes the lock of `folder`, or says who has it.
    ///
    /// # Errors
    /// When another process has it, or the system refuses.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(".lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.at("open", &path)?;
        let mut patience = PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let read = file.rewind().and_then(|()| (&mut file).take(HOLDER_BUDGET).read_to_string(&mut holder));
                    let known = read.is_ok() && holder.ends_with('\n');
                    if !known && patience > 0 {
                        patience -= 1;
                        std::thread::sleep(Duration::from_millis(10));
                        continue;
                    }
                    let holder =
                        if known { holder.trim().escape_debug().to_string() } else { "another process".to_owned() };
                    return Err(LockError::Held { path: folder.to_owned(), holder });
                }
                Err(TryLockError::Error(source)) => return Err(Failed::new("lock", &path, source).into()),
            }
        }
        file.rewind().and_then(|()| file.set_len(0)).at("write to", &path)?;
        writeln!(file, "process {} on {}", std::process::id(), host()).at("write to", &path)?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only so that nobody reads a stale name; the lock itself goes with the file handle.
        let _ = self.0.set_len(0);
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "this host".to_owned())
}
