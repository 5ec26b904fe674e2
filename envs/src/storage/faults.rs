//! Faults on demand: the n-th operation of a kind kills the process, pauses it, or fails as a full or broken disk would.
//!
//! A plan reads `ACTION@OPERATION:N`, such as `kill@write:12` or `enospc@any:30`; `OPERATION~PART` counts only paths that
//! contain `PART`, and `N+` lets every later one fail as well, as a full disk does: `enospc@write~manifest:2+`. The program
//! takes its plan from the environment variable [`FAULT`]. It exists for tests; no other setting touches what is written.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use super::{Sink, Space, Storage};

/// The environment variable that holds a [`Plan`].
pub const FAULT: &str = "MINDSEYE_FAULT";

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The process gets SIGKILL; a write has reached half of its bytes by then.
    Kill,
    /// The process gets SIGSTOP, and after SIGCONT the operation goes on: whoever watches may choose what happens meanwhile.
    Pause,
    /// The operation fails with this number; a write has reached half of its bytes.
    Error(rustix::io::Errno),
}

const ACTIONS: [(&str, Action); 7] = [
    ("kill", Action::Kill),
    ("pause", Action::Pause),
    ("enospc", Action::Error(rustix::io::Errno::NOSPC)),
    ("edquot", Action::Error(rustix::io::Errno::DQUOT)),
    ("eio", Action::Error(rustix::io::Errno::IO)),
    ("emfile", Action::Error(rustix::io::Errno::MFILE)),
    ("erofs", Action::Error(rustix::io::Errno::ROFS)),
];

const OPERATIONS: [&str; 12] = [
    "any",
    "create",
    "append",
    "write",
    "sync",
    "truncate",
    "rename",
    "link",
    "remove_file",
    "remove_folder",
    "create_folder",
    "sync_folder",
];

/// Which operation fails, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    action: Action,
    operation: String,
    part: String,
    at: u64,
    later_too: bool,
}

/// A plan that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{FAULT}={text}: {reason}; a plan is ACTION@OPERATION[~PART]:N[+], such as enospc@write~manifest:2+")]
pub struct PlanError {
    text: String,
    reason: String,
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let wrong = |reason: String| PlanError { text: text.to_owned(), reason };
        let names = |names: &[&str]| format!("one of {}", names.join(", "));
        let (action, rest) = text.split_once('@').ok_or_else(|| wrong("there is no `@`".to_owned()))?;
        let (point, at) = rest.rsplit_once(':').ok_or_else(|| wrong("there is no `:`".to_owned()))?;
        let (operation, part) = point.split_once('~').unwrap_or((point, ""));
        let (at, later_too) = at.strip_suffix('+').map_or((at, false), |at| (at, true));
        let found = ACTIONS.iter().find(|(name, _)| *name == action);
        let (_, action) =
            found.ok_or_else(|| wrong(format!("the action is {}", names(&ACTIONS.map(|(name, _)| name)))))?;
        if !OPERATIONS.contains(&operation) {
            return Err(wrong(format!("the operation is {}", names(&OPERATIONS))));
        }
        let at = at.parse().ok().filter(|&at| at > 0).ok_or_else(|| wrong("N is a number from 1".to_owned()))?;
        Ok(Self { action: *action, operation: operation.to_owned(), part: part.to_owned(), at, later_too })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = ACTIONS.iter().find(|(_, action)| *action == self.action).map_or("", |(name, _)| name);
        write!(f, "{action}@{}", self.operation)?;
        if !self.part.is_empty() {
            write!(f, "~{}", self.part)?;
        }
        write!(f, ":{}{}", self.at, if self.later_too { "+" } else { "" })
    }
}

/// A storage some of whose operations fail as planned.
#[derive(Debug)]
pub struct Faults<S> {
    storage: S,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    seen: AtomicU64,
}

impl<S: Storage> Faults<S> {
    /// `storage`, failing as `plan` says.
    #[must_use]
    pub fn new(storage: S, plan: Plan) -> Self {
        Self { storage, state: Arc::new(State { plan, seen: AtomicU64::new(0) }) }
    }

    /// Operations so far that the plan could have meant.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.state.seen.load(Ordering::SeqCst)
    }
}

impl State {
    /// What shall happen to this operation, if anything.
    fn due(&self, operation: &str, path: &Path) -> Option<Action> {
        let plan = &self.plan;
        let meant = (plan.operation == "any" || plan.operation == operation)
            && (plan.part.is_empty() || path.to_string_lossy().contains(&plan.part));
        if !meant {
            return None;
        }
        let number = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        (number == plan.at || (plan.later_too && number > plan.at)).then_some(plan.action)
    }

    fn pass(&self, operation: &str, path: &Path) -> io::Result<()> {
        self.due(operation, path).map_or(Ok(()), strike)
    }
}

fn strike(action: Action) -> io::Result<()> {
    match action {
        Action::Kill => {
            kill_process(getpid(), Signal::KILL)?;
            // The signal is on its way to this very process.
            loop {
                std::thread::park();
            }
        }
        Action::Pause => Ok(kill_process(getpid(), Signal::STOP)?),
        Action::Error(number) => Err(number.into()),
    }
}

struct FaultyFile {
    file: Box<dyn Sink>,
    path: PathBuf,
    state: Arc<State>,
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.state.due("write", &self.path) {
            None => self.file.write(bytes),
            Some(Action::Pause) => strike(Action::Pause).and_then(|()| self.file.write(bytes)),
            Some(action) => {
                self.file.write_all(&bytes[..bytes.len() / 2])?;
                strike(action).map(|()| bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        self.state.pass("sync", &self.path)?;
        self.file.sync()
    }
}

impl<S: Storage> Faults<S> {
    fn watched(&self, file: Box<dyn Sink>, path: &Path) -> Box<dyn Sink> {
        Box::new(FaultyFile { file, path: path.to_owned(), state: Arc::clone(&self.state) })
    }
}

impl<S: Storage> Storage for Faults<S> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        self.state.pass("create", path)?;
        Ok(self.watched(self.storage.create(path)?, path))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        self.state.pass("append", path)?;
        Ok(self.watched(self.storage.append(path)?, path))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.state.pass("truncate", path)?;
        self.storage.truncate(path, len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.pass("rename", from)?;
        self.storage.rename(from, to)
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.state.pass("link", path)?;
        self.storage.link(target, path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.state.pass("remove_file", path)?;
        self.storage.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.state.pass("remove_folder", path)?;
        self.storage.remove_folder(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.state.pass("create_folder", path)?;
        self.storage.create_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.state.pass("sync_folder", path)?;
        self.storage.sync_folder(path)
    }

    fn space(&self, path: &Path) -> Option<Space> {
        self.storage.space(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        for text in ["kill@any:1", "pause@any~shards:3+", "enospc@write~manifest:2+", "eio@rename~a:b:7"] {
            assert_eq!(text.parse::<Plan>().unwrap().to_string(), text);
        }
        for (text, said) in [
            ("kill", "there is no `@`"),
            ("kill@any", "there is no `:`"),
            ("burn@any:1", "the action is one of kill, pause, enospc"),
            ("kill@sing:1", "the operation is one of any, create"),
            ("kill@any:0", "N is a number from 1"),
        ] {
            let message = text.parse::<Plan>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("MINDSEYE_FAULT={text}: {said}")), "{message}");
        }
    }

    #[test]
    fn only_the_chosen_operation_fails_and_a_write_gets_half_way() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faults::new(Disk, "enospc@write~the-second:2".parse().unwrap());
        let mut a = storage.create(&dir.path().join("a")).unwrap();
        let path = dir.path().join("the-second");
        let mut b = storage.create(&path).unwrap();
        for _ in 0..3 {
            a.write_all(b"1234").unwrap();
        }
        b.write_all(b"1234").unwrap();
        let error = b.write_all(b"5678").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        b.write_all(b"90").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"12345690");
        assert_eq!(storage.seen(), 3);
    }

    #[test]
    fn a_full_disk_stays_full() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faults::new(Disk, "edquot@any:2+".parse().unwrap());
        let mut file = storage.create(&dir.path().join("a")).unwrap();
        for _ in 0..3 {
            assert_eq!(file.write_all(b"1").unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        }
    }
}
