//! Room on the disk: looked at before much is written, so that others on the same disk are not left without any.

use std::io;
use std::path::Path;

use crate::storage::{Failed, Storage};

/// Stays free by default, of a disk that is large enough.
const KEPT: u64 = 1_000_000_000;

/// Bytes that stay free where nobody says how many: a gigabyte, or a hundredth of a small disk.
pub(super) fn kept_by_default(storage: &dyn Storage, dir: &Path) -> u64 {
    storage.space(dir).map_or(0, |space| KEPT.min(space.total / 100))
}

/// Refuses to write `bytes` bytes where fewer than `min_free` would stay free.
pub(super) fn leave(storage: &dyn Storage, dir: &Path, bytes: u64, min_free: u64) -> Result<(), Failed> {
    let Some(space) = storage.space(dir).filter(|space| space.free < bytes.saturating_add(min_free)) else {
        return Ok(());
    };
    let reason = match min_free {
        0 => "no room".to_owned(),
        _ => format!("{min_free} bytes are to stay free"),
    };
    let source = io::Error::new(io::ErrorKind::StorageFull, reason);
    Err(Failed { action: format!("write {bytes} bytes to"), path: dir.to_owned(), free: Some(space.free), source })
}

/// Warns where there will be no room for about `bytes` bytes.
pub(super) fn warn_if_short(storage: &dyn Storage, dir: &Path, bytes: u64, min_free: u64) {
    if let Some(space) = storage.space(dir)
        && space.free < bytes.saturating_add(min_free)
    {
        tracing::warn!(
            "{}: about {bytes} bytes are to be written, {} are free and {min_free} of them stay so: it will stop before \
             the end, with what is committed by then",
            dir.display(),
            space.free
        );
    }
}
