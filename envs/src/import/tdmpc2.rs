//! The multi-task data of TD-MPC2 (MT30 and MT80) as a source of episodes.
//!
//! A file has tensors `obs [E, T + 1, O]`, `action [E, T + 1, A]`, `reward [E, T + 1]` and `task [E, T + 1]`. Entry `t` of an episode
//! holds the action and the reward that led *to* observation `t`, so those of entry 0 are NaN; a dataset has
//! `o[t], a[t] -> r[t], o[t+1]`, so the rows of actions and rewards move up by one. Tasks with fewer components than `O` or `A`
//! are padded with zeros. No task ends before its time. Source: Hansen et al. 2024 (TD-MPC2), as its offline trainer reads the files.
//!
//! Episodes are numbered over all files, in the order in which the files are given.

mod chunk;

use std::path::PathBuf;

use serde_json::{Value, json};
use simulators::rng::Seed;

use super::ImportError;
use super::tensors::Blocks;
use crate::buffer;
use crate::dataset::{ColumnSpec, DatasetHeader, Dtype, EpisodeBuffer, EpisodeSource, Length};
use crate::space::Space;
use chunk::{Chunk, not_a_task, numbers, task_id};

/// Id under which datasets of it go.
pub const ENV_ID: &str = "TDMPC2-v0";
/// What is read of a file.
const KEYS: [&str; 4] = ["obs", "action", "reward", "task"];
/// Columns, in order.
const OBSERVATIONS: usize = 0;
const ACTIONS: usize = 1;
const REWARDS: usize = 2;
const TRUNCATIONS: usize = 4;
const TASK: usize = 5;

/// What to keep of the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Only the episodes of this task.
    pub task: Option<i32>,
    /// The first so many components of observations; those left out must be zero.
    pub observation: Option<usize>,
    /// The first so many components of actions; those left out must be zero.
    pub action: Option<usize>,
}

/// The episodes of some files.
pub struct Tdmpc2 {
    files: Vec<Chunk>,
    keep: Keep,
    /// Components of observations and actions that are kept.
    widths: [usize; 2],
    /// Steps of the longest episode.
    longest: usize,
    all_as_long: bool,
    episodes: u64,
}

impl Tdmpc2 {
    /// The episodes of the files at `paths`. With [`Keep::task`], the task of every episode is looked up now.
    ///
    /// # Errors
    /// When a file cannot be read, is not of this layout, is there twice or is unlike the others; or when nothing is kept.
    pub fn open(paths: &[PathBuf], keep: Keep) -> Result<Self, ImportError> {
        let mut files: Vec<Chunk> = Vec::with_capacity(paths.len());
        let mut episodes = 0;
        for path in paths {
            let chunk = Chunk::open(path, episodes, keep.task)?;
            if let Some(same) = files.iter().find(|other| chunk.is_same(other)) {
                return Err(ImportError::Twice { first: same.file.path().to_owned(), second: path.clone() });
            }
            files.first().map_or(Ok(()), |first| chunk.refuse_unlike(first))?;
            episodes += chunk.len();
            files.push(chunk);
        }
        let Some(first) = files.first().filter(|_| episodes > 0) else {
            let task =
                keep.task.map_or_else(|| "no file was given".to_owned(), |task| format!("none is of task {task}"));
            return Err(ImportError::Nothing(task));
        };
        let width = |field, asked: Option<usize>, blocks: &Blocks| {
            let most = blocks.shape[2] as usize;
            match asked {
                Some(value) if !(1..=most).contains(&value) => {
                    Err(ImportError::Width { field, value, allowed: format!("1..={most}, what the files have") })
                }
                asked => Ok(asked.unwrap_or(most)),
            }
        };
        let widths =
            [width("observation", keep.observation, &first.obs)?, width("action", keep.action, &first.action)?];
        let longest = files.iter().map(Chunk::steps).max().unwrap_or(0);
        let all_as_long = files.iter().all(|file| file.steps() == longest);
        Ok(Self { files, keep, widths, longest, all_as_long, episodes })
    }

    /// Episodes that are kept.
    #[must_use]
    pub fn episodes(&self) -> u64 {
        self.episodes
    }

    /// What the files hold beside what is read of them, each name once.
    #[must_use]
    pub fn unread(&self) -> Vec<String> {
        let mut names: Vec<String> = self.files.iter().flat_map(|chunk| chunk.file.names()).collect();
        names.retain(|name| !KEYS.contains(&name.as_str()));
        names.sort();
        names.dedup();
        names
    }

    fn read(&self, k: u64, episode: &mut EpisodeBuffer<'_>) -> Result<(), ImportError> {
        let chunk = &self.files[self.files.partition_point(|chunk| chunk.first <= k) - 1];
        let number = chunk.number(k);
        let refuse = |reason| ImportError::Episode { path: chunk.file.path().to_owned(), episode: number, reason };
        let steps = chunk.steps();
        let mut bytes = Vec::new();
        let mut read = |blocks: &Blocks| -> Result<Vec<f64>, ImportError> {
            chunk.file.read(blocks, number, &mut bytes)?;
            Ok(numbers(blocks.element, &bytes))
        };
        let task = read(&chunk.task)?;
        if let Some(other) = task.iter().find(|other| task_id(**other) != task_id(task[0])) {
            return Err(refuse(format!("it is of task {}, and of task {other}", task[0])));
        }
        episode.row_mut::<i32>(TASK, 0)[0] = task_id(task[0]).ok_or_else(|| refuse(not_a_task(task[0])))?;
        let rewards = read(&chunk.reward)?;
        // Anything else would be the reward of a step, in a file whose rows line up otherwise.
        if !(rewards[0].is_nan() || rewards[0] == 0.0) {
            return Err(refuse(format!("its first reward is {}; nothing led to the first observation", rewards[0])));
        }
        keep_rows("rewards", &rewards[1..], [1, 1], episode.rows_mut(REWARDS)).map_err(refuse)?;
        let action = chunk.action.shape[2] as usize;
        let actions = &read(&chunk.action)?[action..];
        keep_rows("actions", actions, [action, self.widths[1]], episode.rows_mut(ACTIONS)).map_err(refuse)?;
        let observation = chunk.obs.shape[2] as usize;
        let widths = [observation, self.widths[0]];
        keep_rows("observations", &read(&chunk.obs)?, widths, episode.rows_mut(OBSERVATIONS)).map_err(refuse)?;
        episode.row_mut::<u8>(TRUNCATIONS, steps - 1)[0] = 1;
        episode.set_steps(steps);
        Ok(())
    }
}

impl EpisodeSource for Tdmpc2 {
    fn header(&self) -> DatasetHeader {
        let space = |width| Space::Box {
            dtype: buffer::Dtype::Float32,
            shape: vec![width],
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
        };
        let files: Vec<Value> = self.files.iter().map(Chunk::identity).collect();
        let collector = json!({ "import": "tdmpc2", "task": self.keep.task, "files": files });
        DatasetHeader {
            env_id: ENV_ID.to_owned(),
            env_version: 0,
            config: json!({ "collector": collector }),
            spaces: json!({ "observation": space(self.widths[0]), "action": space(self.widths[1]) }),
            // The files do not say; it differs from task to task.
            fps: 30.0,
            seed: Seed(0),
        }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations("observations", Dtype::F32, &[self.widths[0]]),
            ColumnSpec::steps("actions", Dtype::F32, &[self.widths[1]]),
            ColumnSpec::steps("rewards", Dtype::F32, &[]),
            ColumnSpec::steps("terminations", Dtype::Bool, &[]),
            ColumnSpec::steps("truncations", Dtype::Bool, &[]),
            ColumnSpec::episode("task", Dtype::I32, &[]),
        ]
    }

    fn length(&self) -> Length {
        if self.all_as_long { Length::Fixed(self.longest) } else { Length::AtMost(self.longest) }
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        if let Err(error) = self.read(k, episode) {
            episode.fail(super::said_with_cause(&error));
        }
    }
}

/// Writes the first `kept` of every `width` numbers of `from`, which must be finite, and the others zero.
fn keep_rows(what: &str, from: &[f64], [width, kept]: [usize; 2], to: &mut [f32]) -> Result<(), String> {
    for (t, (from, to)) in from.chunks_exact(width).zip(to.chunks_exact_mut(kept)).enumerate() {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from as f32;
        }
        if let Some(value) = to.iter().find(|value| !value.is_finite()) {
            return Err(format!("row {t} of {what} has {value}, not a finite number"));
        }
        if let Some(index) = from[kept..].iter().position(|&value| value != 0.0) {
            let (component, value) = (kept + index, from[kept + index]);
            return Err(format!("component {component} of row {t} of {what} is {value}: it is no padding, keep more"));
        }
    }
    Ok(())
}
