//! One file of TD-MPC2: its four tensors, seen to fit each other, and which of its episodes are kept.

use std::path::Path;

use serde_json::{Value, json};

use crate::import::ImportError;
use crate::import::pickle::Element;
use crate::import::tensors::{Blocks, TorchFile};

/// Bytes that an episode may have as numbers of eight bytes; each thread holds one. Those of MT30 have 130 kB.
const EPISODE_BUDGET: u64 = 16 << 20;
/// Episodes that a file may have. The numbers of those of one task are kept.
const FILE_EPISODES: u64 = 1 << 24;

/// An open file.
pub(super) struct Chunk {
    pub file: TorchFile,
    pub obs: Blocks,
    pub action: Blocks,
    pub reward: Blocks,
    pub task: Blocks,
    /// Number that its first kept episode gets.
    pub first: u64,
    /// Which of its episodes are kept; without a list, all.
    kept: Option<Vec<u32>>,
}

impl Chunk {
    /// Opens the file at `path`, whose first kept episode gets the number `first`; of `task` only, if one is given.
    pub fn open(path: &Path, first: u64, task: Option<i32>) -> Result<Self, ImportError> {
        let file = TorchFile::open(path)?;
        let [obs, action] = [file.blocks("obs", 3)?, file.blocks("action", 3)?];
        let [reward, ids] = [file.blocks("reward", 2)?, file.blocks("task", 2)?];
        let [episodes, rows, _] = obs.shape;
        for blocks in [&obs, &action, &reward] {
            if !matches!(blocks.element, Element::F32 | Element::F64) {
                let reason = format!("holds {:?}; F32 and F64 are read", blocks.element);
                return Err(file.refuse(blocks.key, reason));
            }
        }
        if matches!(ids.element, Element::F16 | Element::Bf16) {
            return Err(file.refuse("task", format!("holds {:?}; integers are expected", ids.element)));
        }
        for blocks in [&action, &reward, &ids] {
            if blocks.shape[..2] != obs.shape[..2] {
                let [e, r, _] = blocks.shape;
                let reason = format!("has {e} episodes of {r} entries, `obs` has {episodes} of {rows}");
                return Err(file.refuse(blocks.key, reason));
            }
        }
        if rows < 2 || episodes > FILE_EPISODES {
            let allowed = format!("1 to {FILE_EPISODES} episodes of 2 or more are read");
            return Err(file.refuse("obs", format!("has {episodes} episodes of {rows} entries; {allowed}")));
        }
        let components = obs.shape[2].saturating_add(action.shape[2]).saturating_add(2);
        let bytes = components.saturating_mul(rows).saturating_mul(8);
        if bytes > EPISODE_BUDGET {
            let reason = format!("has episodes of {bytes} bytes with their actions; at most {EPISODE_BUDGET} are read");
            return Err(file.refuse("obs", reason));
        }
        let mut chunk = Self { file, obs, action, reward, task: ids, first, kept: None };
        if let Some(task) = task {
            chunk.kept = Some(chunk.of_task(task)?);
        }
        Ok(chunk)
    }

    /// The episodes of a task, by what their first entry says.
    fn of_task(&self, task: i32) -> Result<Vec<u32>, ImportError> {
        let mut kept = Vec::new();
        for episode in 0..self.task.shape[0] {
            let bytes = self.file.read_first(&self.task, episode)?;
            let found = numbers(self.task.element, &bytes[..self.task.element.size()])[0];
            let id = task_id(found).ok_or_else(|| {
                let path = self.file.path().to_owned();
                ImportError::Episode { path, episode, reason: not_a_task(found) }
            })?;
            if id == task {
                kept.push(episode as u32);
            }
        }
        Ok(kept)
    }

    /// Episodes that are kept.
    pub fn len(&self) -> u64 {
        self.kept.as_ref().map_or(self.obs.shape[0], |kept| kept.len() as u64)
    }

    /// Steps of each.
    pub fn steps(&self) -> usize {
        self.obs.shape[1] as usize - 1
    }

    /// Which of the file's episodes is number `k` of all that are kept.
    pub fn number(&self, k: u64) -> u64 {
        let index = k - self.first;
        self.kept.as_ref().map_or(index, |kept| u64::from(kept[index as usize]))
    }

    /// Whether `other` is this file, or has the same numbers.
    pub fn is_same(&self, other: &Self) -> bool {
        let place = |chunk: &Self| chunk.file.path().canonicalize().ok();
        let contents = self.contents();
        // torch can be told to leave the checks out: then they are zero, and say nothing.
        let is_known = contents.iter().any(|(crc, _)| *crc != 0);
        let said = is_known && self.obs.shape == other.obs.shape && contents == other.contents();
        said || place(self).is_some_and(|path| place(other) == Some(path))
    }

    /// What tells it from other files. Its folder does not belong to it: files are moved.
    pub fn identity(&self) -> Value {
        let name = self.file.path().file_name().map(|name| name.to_string_lossy().into_owned());
        let contents = self.contents().map(|(crc, first)| format!("{crc:08x}+{first}"));
        json!({ "name": name, "episodes": self.obs.shape[0], "steps": self.steps(), "contents": contents })
    }

    fn contents(&self) -> [(u32, u64); 4] {
        [&self.obs, &self.action, &self.reward, &self.task].map(|blocks| blocks.content)
    }

    /// Refuses it if its rows are not as wide as those of the first file.
    pub fn refuse_unlike(&self, first: &Self) -> Result<(), ImportError> {
        for (what, this, that) in [("observations", &self.obs, &first.obs), ("actions", &self.action, &first.action)] {
            if this.shape[2] != that.shape[2] {
                let (path, first) = (self.file.path().to_owned(), first.file.path().to_owned());
                let (found, expected) = (this.shape[2] as usize, that.shape[2] as usize);
                return Err(ImportError::Unlike { path, first, what, found, expected });
            }
        }
        Ok(())
    }
}

/// Numbers of any type. The result has all of each but of `I64`; what it cannot have is no task.
pub(super) fn numbers(element: Element, bytes: &[u8]) -> Vec<f64> {
    macro_rules! all {
        ($number:ty) => {
            bytes.as_chunks().0.iter().map(|bytes| <$number>::from_le_bytes(*bytes) as f64).collect()
        };
    }
    match element {
        Element::Bool | Element::U8 => all!(u8),
        Element::I8 => all!(i8),
        Element::I16 => all!(i16),
        Element::I32 => all!(i32),
        Element::I64 => all!(i64),
        Element::F32 => all!(f32),
        Element::F64 => all!(f64),
        // Refused when the file is opened.
        Element::F16 | Element::Bf16 => vec![f64::NAN; bytes.len() / 2],
    }
}

/// The task that a number stands for, if it is one.
pub(super) fn task_id(number: f64) -> Option<i32> {
    (number.fract() == 0.0 && (0.0..=f64::from(i32::MAX)).contains(&number)).then_some(number as i32)
}

/// What is wrong with a number that is none.
pub(super) fn not_a_task(number: f64) -> String {
    format!("its task is {number}; a whole number from 0 on is expected")
}
