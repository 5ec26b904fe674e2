//! Numbers that go wrong in a simulator, an action or a recorded column: caught at that step, named, and kept from spreading.
#![expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test fails where a helper panics; equal bits are promised"
)]

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use envs::batch::StepBatch;
use envs::buffer::{Buffer, Dtype};
use envs::dataset::{
    ColumnSpec, Control, Dataset, DatasetError, DatasetHeader, Dtype as OnDisk, EpisodeBuffer, EpisodeSource, Length,
    RecordedEpisode, Request, collect,
};
use envs::env::{Env, EnvError, EnvSpec, Outcome, StateError};
use envs::space::Space;
use envs::vector::{AutoresetMode, BatchEnv, Reset, VectorConfig, VectorEnv, VectorSnapshot};
use rand::RngExt;
use serde_json::{Value, json};
use simulators::rng::{Purpose, Rng, Seed, stream};

/// A state that is multiplied by each action, so that it overflows, and a reward that is the root of the action, so that it
/// may not exist. Shows `[f(number drawn at reset), state]`.
#[derive(Clone)]
struct Fragile {
    spec: EnvSpec,
    /// Show the logarithm of the number drawn less a half: about every second episode starts with a NaN.
    logarithm: bool,
    state: [f32; 2],
}

impl Fragile {
    fn new(low: f64, high: f64) -> Self {
        let space = |shape: usize, low, high| Space::Box { dtype: Dtype::Float32, shape: vec![shape], low, high };
        let spec = EnvSpec {
            id: "Fragile-v0".into(),
            observation: space(2, f64::NEG_INFINITY, f64::INFINITY),
            action: space(1, low, high),
            max_steps: Some(7),
            fps: 10.0,
            config: json!({}),
        };
        Self { spec, logarithm: false, state: [0.0; 2] }
    }

    fn unbounded() -> Self {
        Self::new(f64::NEG_INFINITY, f64::INFINITY)
    }
}

impl Env for Fragile {
    type Obs = f32;
    type Action = f32;

    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        let number: f32 = rng.random_range(0.0..1.0);
        self.state = [if self.logarithm { (number - 0.5).ln() } else { number }, 1.0];
        obs.copy_from_slice(&self.state);
    }

    fn step(&mut self, action: &[f32], rng: &mut Rng, obs: &mut [f32]) -> Outcome {
        self.state = [rng.random_range(0.0..1.0), self.state[1] * action[0]];
        obs.copy_from_slice(&self.state);
        Outcome { reward: action[0].sqrt(), terminated: false }
    }

    fn save(&self) -> Value {
        json!(self.state)
    }

    fn load(&mut self, state: &Value) -> Result<(), StateError> {
        let fail = |error: serde_json::Error| StateError { env: self.spec.id.clone(), source: error.into() };
        self.state = serde_json::from_value(state.clone()).map_err(fail)?;
        Ok(())
    }
}

/// More rows than one thread takes at once.
const ROWS: usize = 40;
const SEED: Seed = Seed(3);
const MODES: [AutoresetMode; 3] = [AutoresetMode::NextStep, AutoresetMode::SameStep, AutoresetMode::Disabled];

struct Play {
    envs: VectorEnv<Fragile>,
    out: StepBatch,
}

impl Play {
    fn new(env: &Fragile, autoreset: AutoresetMode) -> Self {
        let config = VectorConfig { num_envs: ROWS, seed: SEED, autoreset, max_steps: None };
        let envs = VectorEnv::new(&config, env).unwrap();
        let out = StepBatch::for_spec(envs.spec(), ROWS);
        Self { envs, out }
    }

    fn started(env: &Fragile, autoreset: AutoresetMode) -> Self {
        let mut play = Self::new(env, autoreset);
        play.envs.reset(Reset::Next, play.out.obs_mut()).unwrap();
        play
    }

    /// Every row takes action 1 but for `others`.
    fn step(&mut self, others: &[(usize, f32)]) -> Result<(), EnvError> {
        let mut actions = vec![1.0; ROWS];
        for (row, action) in others {
            actions[*row] = *action;
        }
        self.envs.step(&Buffer::F32(actions), &mut self.out)
    }

    /// All that the batch shows of a row, in bits.
    fn shown(&self, row: usize) -> (Vec<u8>, Vec<u8>, u32, bool, bool, u64) {
        let bytes = |buffer: &Buffer| buffer.bytes(2 * row, 2).to_vec();
        let out = &self.out;
        let (reward, stop) = (out.reward()[row].to_bits(), out.stop()[row].any());
        (bytes(out.obs()), bytes(out.final_obs()), reward, stop, out.ignored()[row], out.episode()[row])
    }

    fn first(&self, row: usize) -> f32 {
        self.out.obs().get::<f32>().unwrap()[2 * row]
    }
}

/// The number that episode `k` shows first.
fn number(k: u64) -> f32 {
    stream(SEED, Purpose::World, k).random_range(0.0..1.0)
}

#[test]
fn a_state_that_overflows_or_a_reward_that_is_no_number_ends_its_row_and_touches_no_other() {
    const BAD: usize = 21;
    // Actions of the bad row, the step at which it goes wrong, and what is then not finite.
    let ways: [(&[f32], u32, &str); 3] = [
        (&[1.0, 3e38, 3e38], 3, "observation"),               // infinite
        (&[1.0, 1.0, 1.0, -1.0], 4, "reward"),                // the root of a negative number
        (&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0], 7, "reward"), // in the step that the time limit cuts
    ];
    for mode in MODES {
        for (actions, at, what) in ways {
            let (mut play, mut whole) =
                (Play::started(&Fragile::unbounded(), mode), Play::started(&Fragile::unbounded(), mode));
            for (t, action) in (1..).zip(actions) {
                whole.step(&[]).unwrap();
                let stepped = play.step(&[(BAD, *action)]);
                for row in (0..ROWS).filter(|row| *row != BAD) {
                    assert_eq!(play.shown(row), whole.shown(row), "{mode:?}: row {row} at step {t}");
                }
                if t < at {
                    stepped.unwrap();
                    continue;
                }
                let message = stepped.unwrap_err().to_string();
                let expected =
                    format!("Fragile-v0: {what} of env {BAD} is not finite at step {at} of episode {BAD}, seed 3");
                assert_eq!(message, expected, "{mode:?}");
                assert!(play.envs.row(BAD).over);
            }
            // The batch goes on: the row takes up its next episode, and the others never notice.
            for t in 0..9 {
                if mode == AutoresetMode::Disabled {
                    for play in [&mut play, &mut whole] {
                        let over: Vec<bool> = (0..ROWS).map(|row| play.envs.row(row).over).collect();
                        if over.contains(&true) {
                            play.envs.reset(Reset::Rows(&over), play.out.obs_mut()).unwrap();
                        }
                    }
                } else if t == 0 {
                    // The action of a row that is reset is not looked at.
                    play.step(&[(BAD, f32::NAN)]).unwrap();
                    whole.step(&[]).unwrap();
                    assert!(play.out.ignored()[BAD]);
                }
                if t == 0 {
                    let next = BAD as u64 + ROWS as u64;
                    assert_eq!((play.first(BAD), play.envs.row(BAD).episode), (number(next), next), "{mode:?}");
                }
                play.step(&[]).unwrap();
                whole.step(&[]).unwrap();
                for row in (0..ROWS).filter(|row| *row != BAD) {
                    assert_eq!(play.shown(row), whole.shown(row), "{mode:?}: row {row}, {t} steps later");
                }
            }
        }
    }
}

#[test]
fn rows_that_go_wrong_at_once_are_counted_and_the_first_is_named() {
    let mut play = Play::started(&Fragile::unbounded(), AutoresetMode::NextStep);
    let error = play.step(&[(33, -1.0), (4, -2.0), (17, -3.0)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Fragile-v0: reward of env 4 is not finite at step 1 of episode 4, seed 3; 3 envs went wrong at once"
    );
    let over: Vec<usize> = (0..ROWS).filter(|row| play.envs.row(*row).over).collect();
    assert_eq!(over, [4, 17, 33]);
}

#[test]
fn a_first_observation_that_is_no_number_is_caught_at_the_reset_that_made_it() {
    let env = Fragile { logarithm: true, ..Fragile::unbounded() };
    let bad = |k: u64| number(k) < 0.5;
    let bad_rows: Vec<usize> = (0..ROWS).filter(|row| bad(*row as u64)).collect();
    let first = bad_rows[0];
    for mode in MODES {
        let mut play = Play::new(&env, mode);
        let error = play.envs.reset(Reset::Next, play.out.obs_mut()).unwrap_err();
        let EnvError::NonFinite { what, row, episode, step, seed, rows, .. } = error else { panic!("{error}") };
        assert_eq!(
            (what, row, episode, step, seed, rows),
            ("observation", first, first as u64, 0, SEED, bad_rows.len())
        );
        for row in 0..ROWS {
            assert_eq!(play.envs.row(row).over, bad_rows.contains(&row));
            assert_eq!(play.first(row).is_finite(), !bad_rows.contains(&row));
        }
        if mode == AutoresetMode::Disabled {
            continue;
        }
        // The rows at fault try their next episodes; those whose next is bad as well are named again.
        let again: Vec<usize> = bad_rows.iter().copied().filter(|row| bad((row + ROWS) as u64)).collect();
        let error = play.step(&[]).unwrap_err();
        let EnvError::NonFinite { row, episode, step, rows, .. } = error else { panic!("{error}") };
        assert_eq!((row, episode, step, rows), (again[0], (again[0] + ROWS) as u64, 0, again.len()));
        assert_eq!((0..ROWS).filter(|row| play.envs.row(*row).over).collect::<Vec<_>>(), again);
    }
}

#[test]
fn an_auto_reset_to_a_bad_start_keeps_the_transition_that_came_before() {
    let env = Fragile { logarithm: true, ..Fragile::unbounded() };
    let bad = |k: u64| number(k) < 0.5;
    let row = (0..ROWS as u64).find(|row| !bad(*row) && bad(row + ROWS as u64)).unwrap() as usize;
    let mut play = Play::new(&env, AutoresetMode::SameStep);
    assert!(play.envs.reset(Reset::Next, play.out.obs_mut()).is_err());
    for t in 1..=7 {
        // In this mode only rows that went wrong are over, and each of them is one that did so in this very step.
        let stepped = play.step(&[]);
        let over = (0..ROWS).filter(|row| play.envs.row(*row).over).count();
        match stepped {
            Ok(()) => assert_eq!(over, 0, "step {t}"),
            Err(EnvError::NonFinite { step: 0, rows, .. }) => assert_eq!(rows, over, "step {t}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(play.envs.row(row).over && play.envs.row(row).episode == (row + ROWS) as u64);
    let final_obs = play.out.final_obs().get::<f32>().unwrap();
    assert!(final_obs[2 * row].is_finite() && !play.first(row).is_finite());
    assert!(play.out.stop()[row].truncated && play.out.reward()[row] == 1.0);
    assert_eq!(play.out.episode()[row], row as u64);
}

#[test]
fn an_action_that_is_no_number_or_out_of_bounds_is_named_and_moves_nobody() {
    for (env, allowed) in
        [(Fragile::new(-2.0, 2.0), "finite numbers -2..=2"), (Fragile::unbounded(), "finite numbers -inf..=inf")]
    {
        let bounded = env.spec.action.bounds(0).1.is_finite();
        let mut play = Play::started(&env, AutoresetMode::NextStep);
        let before = (play.envs.snapshot(), play.out.clone());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2.5] {
            if bad == 2.5 && !bounded {
                continue;
            }
            let message = play.step(&[(30, bad), (39, bad)]).unwrap_err().to_string();
            assert_eq!(message, format!("Fragile-v0: action of env 30, component 0 is {bad}, allowed: {allowed}"));
        }
        for length in [0, ROWS - 1, ROWS + 1] {
            let message = play.envs.step(&Buffer::F32(vec![0.0; length]), &mut play.out).unwrap_err().to_string();
            assert_eq!(message, format!("Fragile-v0: actions have {length} elements, 40 are needed for 40 envs"));
        }
        assert!(before == (play.envs.snapshot(), play.out.clone()), "something moved");
    }
}

#[test]
fn a_batch_with_a_row_that_went_wrong_can_be_saved_and_continued() {
    for mode in [AutoresetMode::NextStep, AutoresetMode::SameStep] {
        let mut play = Play::started(&Fragile::unbounded(), mode);
        play.step(&[(5, 3e38)]).unwrap();
        play.step(&[(5, 3e38)]).unwrap_err();
        let text = serde_json::to_string(&play.envs.snapshot()).unwrap();
        let snapshot: VectorSnapshot = serde_json::from_str(&text).unwrap();
        let mut other = Play::new(&Fragile::unbounded(), mode);
        other.envs.restore(&snapshot).unwrap();
        for t in 0..20 {
            play.step(&[]).unwrap();
            other.step(&[]).unwrap();
            assert!(play.out == other.out, "{mode:?}: {t} steps later");
        }
    }
    // A row that runs needs its state.
    let mut play = Play::started(&Fragile::unbounded(), AutoresetMode::NextStep);
    let mut snapshot = serde_json::to_value(play.envs.snapshot()).unwrap();
    snapshot["rows"][2]["env"] = Value::Null;
    let error = play.envs.restore(&serde_json::from_value(snapshot).unwrap()).unwrap_err();
    assert!(error.to_string().contains("Fragile-v0"), "{error}");
}

/// Episodes with floats in every kind of column; one number of one episode is replaced.
struct Poisoned {
    column: usize,
    row: usize,
    value: f64,
}

const EPISODES: u64 = 12;
const BAD: u64 = 7;

impl EpisodeSource for Poisoned {
    fn header(&self) -> DatasetHeader {
        DatasetHeader {
            env_id: "Poisoned-v0".into(),
            env_version: 0,
            config: Value::Null,
            spaces: Value::Null,
            fps: 1.0,
            seed: SEED,
        }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations("depth", OnDisk::F32, &[3]),
            ColumnSpec::steps("rewards", OnDisk::F64, &[]),
            ColumnSpec::episode("goal", OnDisk::F32, &[2]),
            // The bits of a NaN are a number here.
            ColumnSpec::steps("count", OnDisk::I32, &[]),
        ]
    }

    fn length(&self) -> Length {
        Length::AtMost(9)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        episode.set_steps(6);
        episode.rows_mut::<i32>(3).fill(f32::NAN.to_bits() as i32);
        if k != BAD {
            return;
        }
        if self.column == 1 {
            episode.row_mut::<f64>(1, self.row)[0] = self.value;
        } else {
            episode.row_mut::<f32>(self.column, self.row)[1] = self.value as f32;
        }
    }
}

#[test]
fn a_float_column_takes_only_finite_numbers_and_the_writer_says_where_it_did_not() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (column, row, place) in [
            (0, 6, format!("`depth` is {value} at observation 6")),
            (1, 5, format!("`rewards` is {value} at step 5")),
            (2, 0, format!("`goal` is {value}, ")),
        ] {
            let source = Poisoned { column, row, value };
            let folder = tempfile::tempdir().unwrap();
            let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
            let request = Request { episodes: EPISODES, episodes_per_shard: Some(3), codec: None };
            let error = collect(&source, folder.path(), request, control).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("episode 7 of seed 3 could not be recorded: column "), "{message}");
            assert!(message.contains(&place), "{message}");
            // Whole shards before it are kept, and nothing of its own.
            let kept: BTreeSet<u64> = match Dataset::open(folder.path()) {
                Ok(dataset) => dataset.episodes().map(|episode| episode.number()).collect(),
                Err(DatasetError::NothingCommitted { .. }) => BTreeSet::new(),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(kept, (0..6).collect());
            let message = RecordedEpisode::new(&source, BAD).err().unwrap().to_string();
            assert!(message.contains(&place), "{message}");
        }
    }
    // Beyond the episode's end there is nothing to judge: six steps have rows 0 to 5.
    assert!(RecordedEpisode::new(&Poisoned { column: 1, row: 6, value: f64::NAN }, BAD).is_ok());
}
