//! The real disk, and the storage that a process uses.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;

use super::faults::{FAULT, Faults, Plan, PlanError};
use super::{Sink, Storage};

/// The disk as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

struct DiskFile(File);

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Sink for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(DiskFile(File::create(path)?)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(DiskFile(OpenOptions::new().append(true).create(true).open(path)?)))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::symlink(target, path);
        #[cfg(windows)]
        return std::os::windows::fs::symlink_dir(target, path);
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Elsewhere a folder cannot be opened, and renames are durable by other means.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }
}

/// The room of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What a user may still write.
    pub free: u64,
    /// What there is, used or free.
    pub total: u64,
}

/// The room of the disk where `path` is, or would be; none where the system does not tell.
#[must_use]
pub fn space(path: &Path) -> Option<Space> {
    let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let space = rustix::fs::statvfs(there).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Some(Space { free: bytes(space.f_bavail), total: bytes(space.f_blocks) })
}

/// Bytes that a user may still write where `path` is, or would be.
#[must_use]
pub fn free_bytes(path: &Path) -> Option<u64> {
    space(path).map(|space| space.free)
}

/// The storage of this process: the disk, with the faults that the environment variable [`FAULT`] asks for.
///
/// # Errors
/// When the variable is set to something else than a plan.
pub fn of_process() -> Result<&'static dyn Storage, PlanError> {
    static FAULTS: OnceLock<Option<Faults<Disk>>> = OnceLock::new();
    let plan = std::env::var(FAULT).ok().map(|text| text.parse::<Plan>()).transpose()?;
    let faults = FAULTS.get_or_init(|| plan.map(|plan| Faults::new(Disk, plan)));
    Ok(faults.as_ref().map_or(&Disk, |faults| faults as &dyn Storage))
}
