//! `N` envs stepped as one: owns the time limit, auto-reset, episode numbering, streams and the check of actions.
//!
//! Episode `j` of row `i` is episode `k = i + j * N`, and draws from stream `(seed, World, k)`: which row, which thread and
//! how many rows there are changes nothing in it.

use std::any::Any;

use arrayvec::ArrayVec;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use simulators::rng::Seed;

use crate::batch::{Columns, StepBatch, check_buffer};
use crate::buffer::{Buffer, Scalar};
use crate::env::{Env, EnvError, EnvSpec, Turn};
use crate::slot::{Advance, RowSnapshot, Rules, Slot};

/// When a row whose episode stopped starts its next one; the names are Gymnasium's.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AutoresetMode {
    /// In the next step: its action is ignored, its reward is 0, its observation starts the episode.
    #[default]
    NextStep,
    /// In the same step: `obs` already starts the next episode, `final_obs` ends the old one.
    SameStep,
    /// Never: stepping is refused until the row is reset.
    Disabled,
}

/// How to batch an env.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VectorConfig {
    /// Rows of the batch, `1..=`[`MAX_ENVS`].
    pub num_envs: usize,
    /// Seed of every episode.
    pub seed: Seed,
    /// What follows an episode that stopped.
    pub autoreset: AutoresetMode,
    /// A time limit in place of the env's own, at least 1.
    pub max_steps: Option<u32>,
}

impl Default for VectorConfig {
    fn default() -> Self {
        Self { num_envs: 1, seed: Seed(0), autoreset: AutoresetMode::default(), max_steps: None }
    }
}

/// Most rows of a batch: beyond it a typo is likelier than a wish.
pub const MAX_ENVS: usize = 1 << 20;
/// Rows that a thread takes at once: a row may cost a fraction of a microsecond, less than handing it out.
const ROWS_PER_TASK: usize = 16;

/// Which rows a reset concerns.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Reset<'a> {
    /// All, with this seed and from episode `i` of row `i` again.
    Seed(Seed),
    /// All, row `i` to episode `i` after this one, with the seed as it is.
    Episode(u64),
    /// All, each to its next episode.
    Next,
    /// Those marked, each to its next episode; the others keep running and their observations are left alone.
    Rows(&'a [bool]),
}

impl Reset<'_> {
    /// The episode of the first row, where the rows' own next ones do not count.
    pub(crate) fn first(&self) -> Option<u64> {
        match self {
            Self::Seed(_) => Some(0),
            Self::Episode(first) => Some(*first),
            Self::Next | Self::Rows(_) => None,
        }
    }
}

/// One row as a policy or a test may look at it.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Index of its episode.
    pub episode: u64,
    /// Steps taken in it.
    pub steps: u32,
    /// Whether it has stopped.
    pub over: bool,
    /// The env itself, for ground truth: downcast to its type.
    pub env: &'a dyn Any,
}

/// A batch of envs of one kind, whatever the kind: one virtual call per batch, none per row.
pub trait BatchEnv: Send + Sync {
    /// Spaces, time limit and configuration of each row.
    fn spec(&self) -> &EnvSpec;

    /// Number of rows `N`.
    fn num_envs(&self) -> usize;

    /// Seed of the running episodes.
    fn seed(&self) -> Seed;

    /// Row `index`.
    ///
    /// # Panics
    /// If there is no such row.
    fn row(&self, index: usize) -> Row<'_>;

    /// Starts episodes and writes their first observations into `obs`, `[N, O]`.
    ///
    /// # Errors
    /// A buffer or mask that does not fit, an empty mask, or a mask before the first full reset: nothing is then reset.
    /// A first observation that is not finite: the other rows are reset, and that one goes on to its next episode when it
    /// is stepped or reset again.
    fn reset(&mut self, which: Reset<'_>, obs: &mut Buffer) -> Result<(), EnvError>;

    /// Steps every row with its part of `actions`, `[N, A]`. Allocates nothing.
    ///
    /// # Errors
    /// A bad action, a missing reset or buffers that do not fit: no row was then stepped. A non-finite reward or
    /// observation: the other rows were stepped, and what `out` holds of them is valid. A row where it happened is over,
    /// whatever the auto-reset mode, and is reset as other rows are that stopped before this step; in `out` it shows what
    /// was not finite.
    fn step(&mut self, actions: &Buffer, out: &mut StepBatch) -> Result<(), EnvError>;

    /// Everything that decides what follows, but the observations, which are the caller's.
    fn snapshot(&self) -> VectorSnapshot;

    /// Goes back to a snapshot of a batch of the same env, configuration and size; what follows is the same to the bit.
    ///
    /// # Errors
    /// A snapshot of another batch: nothing changes. A broken env state in it: the batch must be reset.
    fn restore(&mut self, snapshot: &VectorSnapshot) -> Result<(), EnvError>;
}

/// State of a whole batch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorSnapshot {
    spec: EnvSpec,
    autoreset: AutoresetMode,
    seed: Seed,
    started: bool,
    rows: Vec<RowSnapshot>,
}

/// `N` envs of type `E`.
pub struct VectorEnv<E> {
    spec: EnvSpec,
    autoreset: AutoresetMode,
    rules: Rules,
    started: bool,
    slots: Vec<Slot<E>>,
}

impl<E: Env> VectorEnv<E> {
    /// A batch of copies of `env`.
    ///
    /// # Errors
    /// A number of envs or a time limit out of range.
    ///
    /// # Panics
    /// If a space of the env has no components, or another element type than the env.
    pub fn new(config: &VectorConfig, env: &E) -> Result<Self, EnvError>
    where
        E: Clone,
    {
        let mut spec = env.spec().clone();
        let refused = |field: &str, value: String, allowed: String| {
            Err(EnvError::Config { env: spec.id.clone(), field: field.to_owned(), value, allowed })
        };
        if !(1..=MAX_ENVS).contains(&config.num_envs) {
            return refused("num_envs", config.num_envs.to_string(), format!("1..={MAX_ENVS}"));
        }
        if config.max_steps == Some(0) {
            return refused("max_steps", "0".to_owned(), format!("1..={}", u32::MAX));
        }
        assert!(spec.observation.size() > 0 && spec.action.size() > 0, "{}: a space without components", spec.id);
        assert_eq!((spec.observation.dtype(), spec.action.dtype()), (E::Obs::TYPE, E::Action::TYPE), "{}", spec.id);
        spec.max_steps = config.max_steps.or(spec.max_steps);

        let slots = (0..config.num_envs as u64).map(|index| Slot::new(env.clone(), index, config.seed)).collect();
        let rules = Rules {
            seed: config.seed,
            stride: config.num_envs as u64,
            max_steps: spec.max_steps,
            same_step: config.autoreset == AutoresetMode::SameStep,
        };
        Ok(Self { spec, autoreset: config.autoreset, rules, started: false, slots })
    }

    /// The env of row `index`, for ground truth.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn env(&self, index: usize) -> &E {
        &self.slots[index].env
    }

    fn id(&self) -> String {
        self.spec.id.clone()
    }

    /// The error for numbers that were not finite: how many rows had one, and the first of them.
    fn judge(&self, (rows, first): (usize, Option<(usize, &'static str)>)) -> Result<(), EnvError> {
        let Some((row, what)) = first else { return Ok(()) };
        let Slot { episode, steps: step, .. } = self.slots[row];
        Err(EnvError::NonFinite { env: self.id(), what, row, episode, step, seed: self.rules.seed, rows })
    }

    /// Refuses what must not reach a single row.
    fn check_step(&self, actions: &Buffer, out: &StepBatch) -> Result<(), EnvError> {
        if !self.started {
            return Err(EnvError::NotStarted { env: self.id() });
        }
        out.check(&self.spec, self.slots.len())?;
        check_buffer(actions, "actions", &self.spec.action, &self.spec, self.slots.len())?;
        if self.autoreset == AutoresetMode::Disabled
            && let Some(row) = self.slots.iter().position(|slot| slot.over)
        {
            return Err(EnvError::NeedsReset { env: self.id(), row });
        }
        let rows = elements::<E::Action>(actions).chunks_exact(self.spec.action.size());
        for (row, (action, slot)) in rows.zip(&self.slots).enumerate() {
            // The action of a row that is about to be reset is ignored, whatever it is.
            if !slot.over
                && let Err(bad) = self.spec.action.check(action)
            {
                let (component, value, allowed) = (bad.component, bad.value, bad.allowed);
                return Err(EnvError::Action { env: self.id(), row, component, value, allowed });
            }
        }
        Ok(())
    }
}

impl<E: Env> BatchEnv for VectorEnv<E> {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn num_envs(&self) -> usize {
        self.slots.len()
    }

    fn seed(&self) -> Seed {
        self.rules.seed
    }

    fn row(&self, index: usize) -> Row<'_> {
        let slot = &self.slots[index];
        Row { episode: slot.episode, steps: slot.steps, over: slot.over, env: &slot.env }
    }

    fn reset(&mut self, which: Reset<'_>, obs: &mut Buffer) -> Result<(), EnvError> {
        let num_envs = self.slots.len();
        check_buffer(obs, "observations", &self.spec.observation, &self.spec, num_envs)?;
        let mask = match which {
            Reset::Seed(_) | Reset::Episode(_) | Reset::Next => None,
            Reset::Rows(_) if !self.started => return Err(EnvError::NotStarted { env: self.id() }),
            Reset::Rows(mask) if mask.len() != num_envs => {
                let (what, expected, found) = ("reset mask entries", num_envs, mask.len());
                return Err(EnvError::Length { env: self.id(), what, num_envs, expected, found });
            }
            Reset::Rows(mask) if !mask.contains(&true) => {
                return Err(EnvError::EmptyMask { env: self.id(), num_envs });
            }
            Reset::Rows(mask) => Some(mask),
        };
        if let Reset::Seed(seed) = which {
            self.rules.seed = seed;
        }
        if let Some(first) = which.first() {
            self.slots.iter_mut().zip(first..).for_each(|(slot, index)| slot.rewind(index));
        }
        self.started = true;
        let (rules, obs_len) = (self.rules, self.spec.observation.size());
        let rows = (self.slots.par_iter_mut(), elements_mut::<E::Obs>(obs).par_chunks_exact_mut(obs_len));
        let rows = rows.into_par_iter().with_min_len(ROWS_PER_TASK).enumerate();
        let faults = rows.filter_map(|(row, (slot, obs))| {
            if mask.is_none_or(|mask| mask[row]) { slot.begin(&rules, obs).map(|what| (row, what)) } else { None }
        });
        let faults = count(faults);
        self.judge(faults)
    }

    fn step(&mut self, actions: &Buffer, out: &mut StepBatch) -> Result<(), EnvError> {
        self.check_step(actions, out)?;
        let (rules, obs_len) = (self.rules, self.spec.observation.size());
        let Columns { obs, final_obs, reward, stop, ignored, episode } = out.columns_mut();
        let action_len = self.spec.action.size();
        let rows = (
            self.slots.par_chunks_mut(ROWS_PER_TASK),
            elements::<E::Action>(actions).par_chunks(ROWS_PER_TASK * action_len),
            elements_mut::<E::Obs>(obs).par_chunks_mut(ROWS_PER_TASK * obs_len),
            elements_mut::<E::Obs>(final_obs).par_chunks_mut(ROWS_PER_TASK * obs_len),
            (
                reward.par_chunks_mut(ROWS_PER_TASK),
                stop.par_chunks_mut(ROWS_PER_TASK),
                ignored.par_chunks_mut(ROWS_PER_TASK),
                episode.par_chunks_mut(ROWS_PER_TASK),
            ),
        );
        let faults = rows.into_par_iter().enumerate().flat_map_iter(
            |(task, (slots, actions, obs, final_obs, (reward, stop, ignored, episode)))| {
                let steps = step_task(&rules, slots, actions, obs, final_obs, [obs_len, action_len]);
                let columns = reward.iter_mut().zip(stop).zip(ignored).zip(episode);
                let mut faults = ArrayVec::<(usize, &'static str), ROWS_PER_TASK>::new();
                for ((step, (((reward, stop), ignored), episode)), row) in
                    steps.into_iter().zip(columns).zip(task * ROWS_PER_TASK..)
                {
                    (*reward, *stop, *ignored, *episode) = (step.reward, step.stop, step.ignored, step.episode);
                    faults.extend(step.fault.map(|what| (row, what)));
                }
                faults
            },
        );
        let faults = count(faults);
        self.judge(faults)
    }

    fn snapshot(&self) -> VectorSnapshot {
        VectorSnapshot {
            spec: self.spec.clone(),
            autoreset: self.autoreset,
            seed: self.rules.seed,
            started: self.started,
            rows: self.slots.iter().map(Slot::snapshot).collect(),
        }
    }

    fn restore(&mut self, snapshot: &VectorSnapshot) -> Result<(), EnvError> {
        let differs =
            |field, expected: String, found: String| Err(EnvError::Snapshot { env: self.id(), field, expected, found });
        if snapshot.spec != self.spec {
            let json = |spec: &EnvSpec| serde_json::to_string(spec).expect("a spec is plain data");
            return differs("spec", json(&self.spec), json(&snapshot.spec));
        }
        if snapshot.autoreset != self.autoreset {
            return differs("autoreset", format!("{:?}", self.autoreset), format!("{:?}", snapshot.autoreset));
        }
        if snapshot.rows.len() != self.slots.len() {
            return differs("rows", self.slots.len().to_string(), snapshot.rows.len().to_string());
        }
        for row in &snapshot.rows {
            if let Err((field, expected, found)) = row.check(self.spec.max_steps) {
                return differs(field, expected, found);
            }
        }
        self.rules.seed = snapshot.seed;
        self.started = false;
        for (slot, row) in self.slots.iter_mut().zip(&snapshot.rows) {
            slot.restore(row, snapshot.seed)?;
        }
        self.started = snapshot.started;
        Ok(())
    }
}

/// Steps the rows of one task together. Rows of the columns are `[O]` and `[A]` long.
fn step_task<E: Env>(
    rules: &Rules,
    slots: &mut [Slot<E>],
    actions: &[E::Action],
    obs: &mut [E::Obs],
    final_obs: &mut [E::Obs],
    [obs_len, action_len]: [usize; 2],
) -> ArrayVec<Advance, ROWS_PER_TASK> {
    let mut turns = ArrayVec::<Turn<'_, E>, ROWS_PER_TASK>::new();
    // A row that is reset has its advance at once, the others after their step.
    let mut advances = ArrayVec::<Option<Advance>, ROWS_PER_TASK>::new();
    let rows = slots.iter_mut().zip(actions.chunks_exact(action_len));
    let columns = obs.chunks_exact_mut(obs_len).zip(final_obs.chunks_exact_mut(obs_len));
    for ((slot, action), (obs, final_obs)) in rows.zip(columns) {
        match slot.turn(rules, action, obs, final_obs) {
            Ok(turn) => {
                turns.push(turn);
                advances.push(None);
            }
            Err(advance) => advances.push(Some(advance)),
        }
    }
    E::step_together(&mut turns);
    let outcomes: ArrayVec<_, ROWS_PER_TASK> = turns.iter().map(|turn| turn.outcome).collect();
    drop(turns);
    let mut outcomes = outcomes.into_iter();
    let columns = obs.chunks_exact_mut(obs_len).zip(final_obs.chunks_exact(obs_len));
    let rows = advances.into_iter().zip(slots).zip(columns);
    rows.map(|((advance, slot), (obs, final_obs))| {
        advance.unwrap_or_else(|| {
            let outcome = outcomes.next().expect("one for each row that was not reset");
            slot.advance(rules, outcome, obs, final_obs)
        })
    })
    .collect()
}

/// How many faults there are, and the one of the lowest row.
fn count(faults: impl ParallelIterator<Item = (usize, &'static str)>) -> (usize, Option<(usize, &'static str)>) {
    let one = faults.map(|fault| (1, Some(fault)));
    one.reduce(|| (0, None), |(a, first), (b, second)| (a + b, first.into_iter().chain(second).min()))
}

fn elements<T: Scalar>(buffer: &Buffer) -> &[T] {
    T::of(buffer).expect("checked against the space, whose element type is the env's")
}

fn elements_mut<T: Scalar>(buffer: &mut Buffer) -> &mut [T] {
    T::of_mut(buffer).expect("checked against the space, whose element type is the env's")
}
