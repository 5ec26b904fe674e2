//! What is left of a disk whose power goes.
//!
//! The model is harsher than any file system in use. Of a file, only what was synced is certain: of every later change
//! each block may have arrived or not, and the length may be the old one, the new one, or one between. Of a folder, every
//! change of a name since its last sync may have arrived or not, whatever happened to the others. Only a rename is atomic.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand::rngs::ChaCha8Rng;

/// Bytes that arrive together or not at all. Smaller than any real sector, since our files are small.
const BLOCK: usize = 64;

pub type Id = usize;
pub const ROOT: Id = 0;

/// What was done to the disk.
#[derive(Clone)]
pub enum Op {
    NewFile(Id),
    NewFolder(Id),
    NewLink(Id, PathBuf),
    Name { folder: Id, name: String, id: Id },
    Unname { folder: Id, name: String },
    Rename { folder: Id, from: String, to: String },
    Write { file: Id, bytes: Vec<u8> },
    SetLen { file: Id, len: usize },
    SyncFile(Id),
    SyncFolder(Id),
    Mark(u64),
}

/// What is on the disk for certain, and what may have reached it since.
pub struct Surviving {
    files: BTreeMap<Id, File>,
    folders: BTreeMap<Id, Folder>,
    links: BTreeMap<Id, PathBuf>,
}

#[derive(Default)]
struct File {
    certain: Vec<u8>,
    now: Vec<u8>,
}

#[derive(Default)]
struct Folder {
    certain: BTreeMap<String, Id>,
    now: BTreeMap<String, Id>,
    since: Vec<Change>,
}

enum Change {
    Add(String, Id),
    Remove(String),
    Rename(String, String, Id),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Id>) {
        match self {
            Self::Add(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
        }
    }
}

impl Surviving {
    /// An empty disk.
    pub fn new() -> Self {
        let folders = BTreeMap::from([(ROOT, Folder::default())]);
        Self { files: BTreeMap::new(), folders, links: BTreeMap::new() }
    }

    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::NewFile(id) => {
                self.files.insert(*id, File::default());
            }
            Op::NewFolder(id) => {
                self.folders.insert(*id, Folder::default());
            }
            Op::NewLink(id, target) => {
                self.links.insert(*id, target.clone());
            }
            Op::Name { folder, name, id } => self.change(*folder, Change::Add(name.clone(), *id)),
            Op::Unname { folder, name } => self.change(*folder, Change::Remove(name.clone())),
            Op::Rename { folder, from, to } => {
                let id = self.folders[folder].now[from];
                self.change(*folder, Change::Rename(from.clone(), to.clone(), id));
            }
            Op::Write { file, bytes } => self.file(*file).now.extend_from_slice(bytes),
            Op::SetLen { file, len } => self.file(*file).now.resize(*len, 0),
            Op::SyncFile(id) => {
                let file = self.file(*id);
                file.certain.clone_from(&file.now);
            }
            Op::SyncFolder(id) => {
                let folder = self.folders.get_mut(id).unwrap();
                folder.certain.clone_from(&folder.now);
                folder.since.clear();
            }
            Op::Mark(_) => {}
        }
    }

    fn file(&mut self, id: Id) -> &mut File {
        self.files.get_mut(&id).unwrap()
    }

    fn change(&mut self, folder: Id, change: Change) {
        let folder = self.folders.get_mut(&folder).unwrap();
        change.apply(&mut folder.now);
        folder.since.push(change);
    }

    pub fn write(&self, folder: Id, into: &Path, luck: &mut Luck) {
        for (name, id) in self.folders[&folder].survives(luck) {
            let path = into.join(name);
            if let Some(file) = self.files.get(&id) {
                fs::write(path, file.survives(luck)).unwrap();
            } else if let Some(target) = self.links.get(&id) {
                std::os::unix::fs::symlink(target, path).unwrap();
            } else {
                fs::create_dir(&path).unwrap();
                self.write(id, &path, luck);
            }
        }
    }
}

/// What arrived of what was not synced.
#[derive(Debug)]
pub enum Luck {
    /// Nothing.
    Nothing,
    /// Names, and no contents: what a file system likes best.
    NamesOnly,
    /// As these numbers have it.
    Drawn(Box<ChaCha8Rng>),
}

/// What becomes of what was not synced in one file or folder.
enum Fate {
    Lost,
    Kept,
    Torn,
}

impl Luck {
    fn of_content(&mut self) -> Fate {
        if matches!(self, Self::Drawn(_)) { self.drawn() } else { Fate::Lost }
    }

    fn of_names(&mut self) -> Fate {
        match self {
            Self::Nothing => Fate::Lost,
            Self::NamesOnly => Fate::Kept,
            Self::Drawn(_) => self.drawn(),
        }
    }

    fn drawn(&mut self) -> Fate {
        match self.below(4) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Torn,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        match self {
            Self::Nothing | Self::NamesOnly => 0,
            Self::Drawn(rng) => rng.next_u64() as usize % end,
        }
    }
}

impl Folder {
    fn survives(&self, luck: &mut Luck) -> BTreeMap<String, Id> {
        let fate = luck.of_names();
        let mut names = self.certain.clone();
        for change in &self.since {
            let kept = match fate {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Torn => luck.below(2) == 0,
            };
            if kept {
                change.apply(&mut names);
            }
        }
        // A folder that is in the tree twice, since one half of its way was lost, is shown once.
        let mut seen = Vec::new();
        names.retain(|_, id| {
            let first = !seen.contains(id);
            seen.push(*id);
            first
        });
        names
    }
}

impl File {
    fn survives(&self, luck: &mut Luck) -> Vec<u8> {
        let (old, new) = (&self.certain, &self.now);
        match luck.of_content() {
            Fate::Lost => old.clone(),
            Fate::Kept => new.clone(),
            Fate::Torn => {
                let (low, high) = (old.len().min(new.len()), old.len().max(new.len()));
                let len = match luck.below(3) {
                    0 => new.len(),
                    _ => low + luck.below(high - low + 1),
                };
                // A plain cut, a hole to the end, or any blocks.
                let kind = luck.below(3);
                let mut bytes = vec![0; len];
                for (index, block) in bytes.chunks_mut(BLOCK).enumerate() {
                    let arrived = match kind {
                        0 => true,
                        1 => false,
                        _ => luck.below(2) == 0,
                    };
                    for (at, byte) in (index * BLOCK..).zip(block) {
                        let (old, new) = (old.get(at).copied(), new.get(at).copied());
                        *byte = if arrived { new.or(old) } else { old }.unwrap_or(0);
                    }
                }
                bytes
            }
        }
    }
}
