//! The episodes of some folders: the actions of each are read and checked, and its files are known by what is in them.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Value, json};

use super::actions::{self, KEY};
use super::folder::{self, Listed, Pairs};
use super::{Endings, World};
use crate::import::ImportError;
use crate::import::tensors::TorchFile;
use crate::storage::{At, Failed};
use crate::untrusted;

/// Bytes at each end of a video by which it is known. Where its frames lie in the file is said in one of them.
const EDGE: usize = 64 << 10;
/// Folders that a dataset may be made of; each has its line in `dataset.json`.
const MOST_FOLDERS: usize = 10_000;

/// A folder of episodes.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    name: String,
    episodes: usize,
    bytes: u64,
    content: blake3::Hash,
}

impl Folder {
    /// What tells it from other folders, wherever it lies: of its episodes, a hash of names, actions, and sizes and both ends of videos.
    pub fn identity(&self) -> Value {
        let content = self.content.to_hex();
        json!({ "name": self.name, "episodes": self.episodes, "bytes": self.bytes, "blake3": content.as_str() })
    }
}

/// An episode, whose files begin with `stem`.
#[derive(Debug)]
pub(super) struct Episode {
    folder: u32,
    frames: u32,
    stem: String,
}

impl Episode {
    /// Frames, and actions.
    pub fn frames(&self) -> usize {
        self.frames as usize
    }

    /// Its file with this ending.
    pub fn path(&self, folders: &[Folder], ending: &str) -> PathBuf {
        folders[self.folder as usize].path.join(format!("{}{ending}", self.stem))
    }
}

/// All that there is.
pub(super) struct Found {
    pub folders: Vec<Folder>,
    pub episodes: Vec<Episode>,
    /// What is left out.
    pub unread: Vec<String>,
}

/// The episodes of `world` in these folders.
pub(super) fn found(world: World, listed: &[Listed]) -> Result<Found, ImportError> {
    if let Some(folder) = listed.get(MOST_FOLDERS) {
        let reason = format!("one folder too many; at most {MOST_FOLDERS} make a dataset");
        return Err(ImportError::Folder { path: folder.path.clone(), reason });
    }
    let mut found = Found { folders: Vec::new(), episodes: Vec::new(), unread: Vec::new() };
    for (number, listed) in (0..).zip(listed) {
        let Pairs { stems, others } = folder::pairs(world, listed)?;
        let read: Vec<_> = stems.par_iter().map(|stem| Read::of(world, &listed.path, stem)).collect();
        let read = read.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut content = blake3::Hasher::new();
        for (stem, read) in stems.into_iter().zip(&read) {
            content.update(read.content.as_bytes());
            found.episodes.push(Episode { folder: number, frames: read.frames, stem });
            found.unread.extend_from_slice(&read.unread);
        }
        found.unread.extend(others.into_iter().map(str::to_owned));
        found.unread.sort();
        found.unread.dedup();
        let bytes = read.iter().map(|read| read.bytes).sum();
        let (path, name, content) = (listed.path.clone(), listed.name.clone(), content.finalize());
        if let Some(same) = found.folders.iter().find(|folder| folder.episodes > 0 && folder.content == content) {
            let reason = format!("its episodes are those of {}: they would be there twice", same.path.display());
            return Err(ImportError::Folder { path, reason });
        }
        found.folders.push(Folder { path, name, episodes: read.len(), bytes, content });
    }
    Ok(found)
}

/// What is read of an episode before its video is.
struct Read {
    frames: u32,
    bytes: u64,
    content: blake3::Hash,
    unread: Vec<String>,
}

impl Read {
    fn of(world: World, folder: &Path, stem: &str) -> Result<Self, ImportError> {
        let Endings { video, actions: ending, .. } = world.endings();
        let file = TorchFile::open(&folder.join(format!("{stem}{ending}")))?;
        let actions = actions::read(&file, world)?;
        let mut content = blake3::Hasher::new();
        content.update(&(stem.len() as u64).to_le_bytes()).update(stem.as_bytes());
        content.update(&(actions.len() as u64).to_le_bytes());
        content.update(bytemuck::cast_slice(&actions));
        let bytes = edges(&folder.join(format!("{stem}{video}")), &mut content)?;
        let mut unread = file.names();
        unread.retain(|name| name != KEY);
        Ok(Self { frames: (actions.len() / world.action_width()) as u32, bytes, content: content.finalize(), unread })
    }
}

/// Hashes the size and both ends of a video; its size.
fn edges(path: &Path, content: &mut blake3::Hasher) -> Result<u64, Failed> {
    let file = untrusted::open(path).at("open", path)?;
    let size = file.metadata().at("look at", path)?.len();
    content.update(&size.to_le_bytes());
    let mut edge = vec![0; size.min(EDGE as u64) as usize];
    for at in [0, size - edge.len() as u64] {
        file.read_exact_at(&mut edge, at).at("read", path)?;
        content.update(&edge);
    }
    Ok(size)
}
