//! One writer a dataset: an advisory lock on `.lock`, which says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::error::{At, DatasetError};

/// Bytes of a lock file that are read to name its holder.
const HOLDER_BUDGET: u64 = 512;

/// Held for as long as it lives; the system releases it when the process ends, however it ends.
pub(super) struct Lock(File);

/// The lock file of the dataset in `dir`.
pub(super) fn lock_path(dir: &Path) -> PathBuf {
    dir.join(".lock")
}

impl Lock {
    /// Takes the lock of `dir`, or says who has it.
    pub fn take(dir: &Path) -> Result<Self, DatasetError> {
        let path = lock_path(dir);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.at("open", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder may not have written its name yet.
                let read = (&mut file).take(HOLDER_BUDGET).read_to_string(&mut holder);
                let known = read.is_ok() && !holder.trim().is_empty();
                let holder =
                    if known { holder.trim().escape_debug().to_string() } else { "another process".to_owned() };
                return Err(DatasetError::Locked { path: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(source).at("lock", &path),
        }
        file.set_len(0).at("write to", &path)?;
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
