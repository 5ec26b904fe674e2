//! A storage for thousands of crashes and commits: it does not wait for the disk, and has as much room as a test says.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use envs::storage::{Disk, Sink, Space, Storage};

/// The disk without its fsyncs. With `room`, `root` is all that lies on a disk of so many bytes.
#[derive(Default)]
pub struct Quick {
    pub root: PathBuf,
    pub room: Option<u64>,
}

struct QuickFile(Box<dyn Sink>);

impl Write for QuickFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Sink for QuickFile {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Quick {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(QuickFile(Disk.create(path)?)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(QuickFile(Disk.append(path)?)))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(path)?.set_len(len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        Disk.link(target, path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Disk.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        Disk.remove_folder(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        Disk.create_folder(path)
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, path: &Path) -> Option<Space> {
        match self.room {
            None => Disk.space(path),
            Some(total) => Some(Space { free: total.saturating_sub(bytes_in(&self.root)), total }),
        }
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let items = fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
    items.map(|path| if path.is_dir() { bytes_in(&path) } else { fs::metadata(path).unwrap().len() }).sum()
}
