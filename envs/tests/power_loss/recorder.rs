//! A storage that notes every operation, and gives the disks that a power loss could have left at any moment of them.

#[path = "surviving.rs"]
mod surviving;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use envs::storage::{Disk, Sink, Storage};
pub use surviving::Luck;
use surviving::{Id, Op, ROOT, Surviving};
use tempfile::TempDir;

/// Power losses so far in this process.
pub static IMAGES: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct State {
    log: Vec<Op>,
    /// What is where now, relative to the root.
    paths: BTreeMap<PathBuf, Id>,
    ids: Id,
    death: Option<Death>,
}

/// The operation at which the process dies: kind, part of the path, how many such operations are still let pass. A death
/// fails this operation and, since a dead process does nothing, all that come after.
struct Death {
    kind: &'static str,
    part: &'static str,
    before: u64,
    dead: bool,
}

/// Passes everything on to a temporary folder, without syncing it, and keeps the log.
#[derive(Clone)]
pub struct Recorder {
    root: Arc<TempDir>,
    state: Arc<Mutex<State>>,
}

impl State {
    fn alive(&mut self, kind: &str, path: &Path) -> io::Result<()> {
        if let Some(death) = &mut self.death {
            if death.kind == kind && path.to_str().unwrap().contains(death.part) {
                death.dead |= death.before == 0;
                death.before = death.before.saturating_sub(1);
            }
            if death.dead {
                return Err(io::Error::other("dead"));
            }
        }
        Ok(())
    }

    fn id(&mut self) -> Id {
        self.ids += 1;
        self.ids
    }

    fn of(&self, path: &Path) -> Id {
        self.paths[path]
    }

    /// The folder of a path, and its name there.
    fn place(&self, path: &Path) -> (Id, String) {
        (self.of(path.parent().unwrap()), path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    fn name(&mut self, path: PathBuf, id: Id) {
        let (folder, name) = self.place(&path);
        self.log.push(Op::Name { folder, name, id });
        self.paths.insert(path, id);
    }

    fn unname(&mut self, path: &Path) {
        let (folder, name) = self.place(path);
        self.log.push(Op::Unname { folder, name });
        self.paths.remove(path);
    }

    fn adopt(&mut self, root: &Path, folder: &Path) {
        for item in fs::read_dir(root.join(folder)).unwrap() {
            let item = item.unwrap();
            let (path, kind) = (folder.join(item.file_name()), item.file_type().unwrap());
            let id = self.id();
            if kind.is_dir() {
                self.log.push(Op::NewFolder(id));
            } else if kind.is_symlink() {
                self.log.push(Op::NewLink(id, fs::read_link(item.path()).unwrap()));
            } else {
                let bytes = fs::read(item.path()).unwrap();
                self.log.extend([Op::NewFile(id), Op::Write { file: id, bytes }, Op::SyncFile(id)]);
            }
            self.name(path.clone(), id);
            if kind.is_dir() {
                self.adopt(root, &path);
            }
        }
        self.log.push(Op::SyncFolder(self.of(folder)));
    }

    fn below(&self, path: &Path) -> Vec<PathBuf> {
        self.paths.keys().filter(|known| known.starts_with(path) && *known != path).cloned().collect()
    }
}

/// A temporary folder, in memory where there is such a place: its power is never lost.
pub fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Recorder {
    /// Of an empty folder.
    pub fn new() -> Self {
        Self::of(folder())
    }

    /// Of a folder whose content is safe.
    pub fn of(root: TempDir) -> Self {
        let mut state = State::default();
        state.paths.insert(PathBuf::new(), ROOT);
        state.adopt(root.path(), Path::new(""));
        Self { root: Arc::new(root), state: Arc::new(Mutex::new(state)) }
    }

    /// The folder it records; what lies outside is none of its business.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Lets a process die at its operation number `n`, from 1, of this kind on such a path, while it does `what`. Whether it
    /// came to that.
    pub fn dying(&self, kind: &'static str, part: &'static str, n: u64, what: impl FnOnce()) -> bool {
        self.state().death = Some(Death { kind, part, before: n - 1, dead: false });
        what();
        self.state().death.take().unwrap().dead
    }

    /// Notes that at this moment something was promised.
    pub fn mark(&self, value: u64) {
        self.state().log.push(Op::Mark(value));
    }

    /// Operations so far.
    pub fn len(&self) -> usize {
        self.state().log.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn within(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.root()).unwrap().to_owned()
    }

    /// The worst moments from operation `from` on, with the luck that makes them so: when a name or content had just been
    /// given up for another, and when something had just been promised.
    pub fn worst(&self, from: usize) -> Vec<(usize, Luck)> {
        let luck = |op: &Op| match op {
            Op::Unname { .. } | Op::Rename { .. } | Op::SetLen { .. } => Some(Luck::NamesOnly),
            Op::Mark(_) => Some(Luck::Nothing),
            _ => None,
        };
        let state = self.state();
        (from..state.log.len()).filter_map(|at| Some((at + 1, luck(&state.log[at])?))).collect()
    }

    /// Writes to `into` what a power loss after the first `cut` operations could leave. Returns the last mark before it.
    pub fn power_loss(&self, cut: usize, luck: &mut Luck, into: &Path) -> Option<u64> {
        let mut disk = Surviving::new();
        let log = self.state().log[..cut].to_vec();
        for op in &log {
            disk.apply(op);
        }
        IMAGES.fetch_add(1, Ordering::Relaxed);
        disk.write(ROOT, into, luck);
        log.iter().rev().find_map(|op| if let Op::Mark(value) = op { Some(*value) } else { None })
    }
}

struct Recorded {
    file: Box<dyn Sink>,
    id: Id,
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        let alive = state.alive("write", &self.path);
        let written = self.file.write(if alive.is_ok() { bytes } else { &bytes[..bytes.len() / 2] })?;
        state.log.push(Op::Write { file: self.id, bytes: bytes[..written].to_vec() });
        alive.map(|()| written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for Recorded {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.alive("sync", &self.path)?;
        state.log.push(Op::SyncFile(self.id));
        Ok(())
    }
}

impl Recorder {
    fn opened(&self, file: Box<dyn Sink>, path: &Path, empty: bool, state: &mut State) -> Box<dyn Sink> {
        let path = self.within(path);
        let id = if let Some(&id) = state.paths.get(&path) {
            if empty {
                state.log.push(Op::SetLen { file: id, len: 0 });
            }
            id
        } else {
            let id = state.id();
            state.log.push(Op::NewFile(id));
            state.name(path.clone(), id);
            id
        };
        Box::new(Recorded { file, id, path, state: Arc::clone(&self.state) })
    }
}

impl Storage for Recorder {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        let mut state = self.state();
        state.alive("create", path)?;
        let file = Disk.create(path)?;
        Ok(self.opened(file, path, true, &mut state))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        let mut state = self.state();
        state.alive("append", path)?;
        let file = Disk.append(path)?;
        Ok(self.opened(file, path, false, &mut state))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.alive("truncate", path)?;
        Disk.truncate(path, len)?;
        let file = state.of(&self.within(path));
        state.log.extend([Op::SetLen { file, len: len as usize }, Op::SyncFile(file)]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive("rename", from)?;
        Disk.rename(from, to)?;
        let (from, to) = (self.within(from), self.within(to));
        let ((folder, old), (other, new)) = (state.place(&from), state.place(&to));
        assert_eq!(folder, other, "a rename between folders has no single moment in this model");
        state.log.push(Op::Rename { folder, from: old, to: new });
        for path in state.below(&from) {
            let id = state.paths.remove(&path).unwrap();
            state.paths.insert(to.join(path.strip_prefix(&from).unwrap()), id);
        }
        let id = state.paths.remove(&from).unwrap();
        state.paths.insert(to, id);
        Ok(())
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive("link", path)?;
        Disk.link(target, path)?;
        let id = state.id();
        state.log.push(Op::NewLink(id, target.to_owned()));
        state.name(self.within(path), id);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive("remove_file", path)?;
        Disk.remove_file(path)?;
        state.unname(&self.within(path));
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive("remove_folder", path)?;
        Disk.remove_folder(path)?;
        let path = self.within(path);
        for inner in state.below(&path).iter().rev() {
            state.unname(inner);
        }
        state.unname(&path);
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive("create_folder", path)?;
        Disk.create_folder(path)?;
        let id = state.id();
        state.log.push(Op::NewFolder(id));
        state.name(self.within(path), id);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if path.starts_with(self.root()) {
            let mut state = self.state();
            state.alive("sync_folder", path)?;
            let folder = state.of(&self.within(path));
            state.log.push(Op::SyncFolder(folder));
        }
        Ok(())
    }
}
