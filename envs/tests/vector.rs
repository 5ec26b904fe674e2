//! What `VectorEnv` promises beyond the conformance suite, on a toy env that can die, outlive its limit and break.
#![expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test fails where a helper panics; equal bits are promised"
)]

use envs::batch::StepBatch;
use envs::buffer::{Buffer, Dtype};
use envs::env::{Env, EnvError, EnvSpec, Outcome, StateError};
use envs::space::Space;
use envs::stop::Stop;
use envs::vector::{AutoresetMode, BatchEnv, Reset, VectorConfig, VectorEnv};
use rand::RngExt;
use serde_json::{Value, json};
use simulators::rng::{Purpose, Rng, Seed, stream};

/// Counts its steps and shows `[number drawn at reset, steps]`. Action 1 kills, action 2 makes the observation NaN.
#[derive(Clone)]
struct Toy {
    spec: EnvSpec,
    state: [f32; 2],
}

impl Toy {
    fn new() -> Self {
        let observation = Space::Box { dtype: Dtype::Float32, shape: vec![2], low: 0.0, high: f64::INFINITY };
        let action = Space::Discrete { n: 3 };
        let spec =
            EnvSpec { id: "Toy-v3".into(), observation, action, max_steps: Some(4), fps: 10.0, config: json!({}) };
        Self { spec, state: [0.0; 2] }
    }
}

impl Env for Toy {
    type Obs = f32;
    type Action = i64;

    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = [rng.random_range(0.0..1.0), 0.0];
        obs.copy_from_slice(&self.state);
    }

    fn step(&mut self, action: &[i64], _: &mut Rng, obs: &mut [f32]) -> Outcome {
        self.state[1] += if action[0] == 2 { f32::NAN } else { 1.0 };
        obs.copy_from_slice(&self.state);
        Outcome { reward: 1.0, terminated: action[0] == 1 }
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

fn started(num_envs: usize, autoreset: AutoresetMode) -> (VectorEnv<Toy>, StepBatch) {
    let mut envs =
        VectorEnv::new(&VectorConfig { num_envs, autoreset, ..VectorConfig::default() }, &Toy::new()).unwrap();
    let mut out = StepBatch::for_spec(envs.spec(), num_envs);
    envs.reset(Reset::Next, out.obs_mut()).unwrap();
    (envs, out)
}

fn row(buffer: &Buffer, index: usize) -> [f32; 2] {
    buffer.get::<f32>().unwrap().as_chunks().0[index]
}

/// The number that episode `k` of seed 0 shows.
fn number(k: u64) -> f32 {
    stream(Seed(0), Purpose::World, k).random_range(0.0..1.0)
}

const RUNS: Stop = Stop { terminated: false, truncated: false };
const DIED: Stop = Stop { terminated: true, truncated: false };
const CUT: Stop = Stop { terminated: false, truncated: true };
const BOTH: Stop = Stop { terminated: true, truncated: true };

#[test]
fn same_step_keeps_the_last_observation_and_shows_the_next_episode() {
    let (mut envs, mut out) = started(2, AutoresetMode::SameStep);
    assert_eq!((row(out.obs(), 0), row(out.obs(), 1)), ([number(0), 0.0], [number(1), 0.0]));
    envs.step(&Buffer::I64(vec![0, 1]), &mut out).unwrap();
    assert_eq!((out.stop(), out.episode(), out.reward()), (&[RUNS, DIED][..], &[0, 1][..], &[1.0, 1.0][..]));
    assert_eq!((row(out.obs(), 0), row(out.final_obs(), 0)), ([number(0), 1.0], [number(0), 1.0]));
    assert_eq!((row(out.obs(), 1), row(out.final_obs(), 1)), ([number(3), 0.0], [number(1), 1.0]));
}

#[test]
fn next_step_spends_a_step_on_the_reset_and_ignores_its_action() {
    let (mut envs, mut out) = started(2, AutoresetMode::NextStep);
    envs.step(&Buffer::I64(vec![0, 1]), &mut out).unwrap();
    assert_eq!((row(out.obs(), 1), out.stop()[1]), ([number(1), 1.0], DIED));
    envs.step(&Buffer::I64(vec![0, 77]), &mut out).unwrap();
    assert_eq!((out.ignored(), out.stop()), (&[false, true][..], &[RUNS, RUNS][..]));
    assert_eq!((row(out.obs(), 1), out.reward()[1], out.episode()[1]), ([number(3), 0.0], 0.0, 3));
}

#[test]
fn death_on_the_last_allowed_step_is_both_and_a_limit_alone_is_truncation() {
    let (mut envs, mut out) = started(2, AutoresetMode::SameStep);
    for _ in 0..3 {
        envs.step(&Buffer::I64(vec![0, 0]), &mut out).unwrap();
        assert_eq!(out.stop(), [RUNS, RUNS]);
    }
    envs.step(&Buffer::I64(vec![0, 1]), &mut out).unwrap();
    assert_eq!(out.stop(), [CUT, BOTH]);
}

#[test]
fn disabled_refuses_to_step_the_dead_and_resets_only_the_rows_of_the_mask() {
    let (mut envs, mut out) = started(3, AutoresetMode::Disabled);
    envs.step(&Buffer::I64(vec![0, 1, 0]), &mut out).unwrap();
    let message = envs.step(&Buffer::I64(vec![0; 3]), &mut out).unwrap_err().to_string();
    assert_eq!(message, "Toy-v3: the episode of env 1 is over; reset that row before the next step");

    let message = envs.reset(Reset::Rows(&[false; 3]), out.obs_mut()).unwrap_err().to_string();
    assert_eq!(message, "Toy-v3: the reset mask chooses none of 3 envs, at least one is needed");
    let message = envs.reset(Reset::Rows(&[true; 2]), out.obs_mut()).unwrap_err().to_string();
    assert_eq!(message, "Toy-v3: reset mask entries have 2 elements, 3 are needed for 3 envs");

    envs.reset(Reset::Rows(&[false, true, false]), out.obs_mut()).unwrap();
    assert_eq!((row(out.obs(), 0), row(out.obs(), 1)), ([number(0), 1.0], [number(4), 0.0]));
    envs.step(&Buffer::I64(vec![0; 3]), &mut out).unwrap();
    assert_eq!((row(out.obs(), 0), row(out.obs(), 1)), ([number(0), 2.0], [number(4), 1.0]));
}

#[test]
fn any_episode_can_be_started_and_is_the_one_that_would_have_come() {
    let (mut envs, mut out) = started(2, AutoresetMode::SameStep);
    envs.reset(Reset::Episode(7), out.obs_mut()).unwrap();
    assert_eq!([row(out.obs(), 0), row(out.obs(), 1)], [[number(7), 0.0], [number(8), 0.0]]);
    envs.step(&Buffer::I64(vec![1, 0]), &mut out).unwrap();
    assert_eq!((envs.row(0).episode, row(out.obs(), 0)), (9, [number(9), 0.0]));
}

#[test]
fn a_bad_action_is_named_and_steps_nobody() {
    let (mut envs, mut out) = started(3, AutoresetMode::NextStep);
    let message = envs.step(&Buffer::I64(vec![0, 0, 3]), &mut out).unwrap_err().to_string();
    assert_eq!(message, "Toy-v3: action of env 2, component 0 is 3, allowed: integers 0..=2");
    assert_eq!(envs.row(0).steps, 0);
    let message = envs.step(&Buffer::I8(vec![0; 3]), &mut out).unwrap_err().to_string();
    assert_eq!(message, "Toy-v3: actions are Int8, the spec says Int64");
    let message = envs.step(&Buffer::I64(vec![0; 2]), &mut out).unwrap_err().to_string();
    assert_eq!(message, "Toy-v3: actions have 2 elements, 3 are needed for 3 envs");
    let mut small = StepBatch::for_spec(envs.spec(), 2);
    assert!(matches!(envs.step(&Buffer::I64(vec![0; 3]), &mut small), Err(EnvError::Length { found: 4, .. })));
}

#[test]
fn a_number_that_goes_wrong_ends_its_row_and_is_reported() {
    let (mut envs, mut out) = started(2, AutoresetMode::SameStep);
    let error = envs.step(&Buffer::I64(vec![0, 2]), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "Toy-v3: observation of env 1 is not finite at step 1 of episode 1, seed 0");
    assert_eq!((row(out.obs(), 0), envs.row(1).over), ([number(0), 1.0], true));
    envs.step(&Buffer::I64(vec![0, 0]), &mut out).unwrap();
    assert_eq!((row(out.obs(), 1), out.ignored()[1]), ([number(3), 0.0], true));
}

#[test]
fn nothing_steps_before_its_first_reset_and_sizes_are_checked_before_building() {
    let mut envs = VectorEnv::new(&VectorConfig::default(), &Toy::new()).unwrap();
    let mut out = StepBatch::for_spec(envs.spec(), 1);
    assert!(matches!(envs.step(&Buffer::I64(vec![0]), &mut out), Err(EnvError::NotStarted { .. })));
    for (config, message) in [
        (VectorConfig { num_envs: 0, ..VectorConfig::default() }, "Toy-v3: `num_envs` is 0, allowed: 1..=1048576"),
        (
            VectorConfig { num_envs: 1_000_000_000, ..VectorConfig::default() },
            "Toy-v3: `num_envs` is 1000000000, allowed: 1..=1048576",
        ),
        (
            VectorConfig { max_steps: Some(0), ..VectorConfig::default() },
            "Toy-v3: `max_steps` is 0, allowed: 1..=4294967295",
        ),
    ] {
        assert_eq!(VectorEnv::new(&config, &Toy::new()).err().unwrap().to_string(), message);
    }
}

#[test]
fn a_seeded_reset_starts_over_and_an_unseeded_one_goes_on() {
    let (mut envs, mut out) = started(2, AutoresetMode::NextStep);
    envs.reset(Reset::Next, out.obs_mut()).unwrap();
    assert_eq!(row(out.obs(), 1), [number(3), 0.0]);
    envs.reset(Reset::Seed(Seed(0)), out.obs_mut()).unwrap();
    assert_eq!(row(out.obs(), 1), [number(1), 0.0]);
}

#[test]
fn snapshots_of_other_batches_are_refused() {
    let (envs, _) = started(2, AutoresetMode::NextStep);
    let snapshot = envs.snapshot();
    let (mut fewer, _) = started(1, AutoresetMode::NextStep);
    assert_eq!(
        fewer.restore(&snapshot).unwrap_err().to_string(),
        "Toy-v3: snapshot field `rows` is 2, this batch has 1"
    );
    let (mut other, _) = started(2, AutoresetMode::SameStep);
    assert_eq!(
        other.restore(&snapshot).unwrap_err().to_string(),
        "Toy-v3: snapshot field `autoreset` is NextStep, this batch has SameStep"
    );
}

#[test]
fn snapshots_of_rows_that_cannot_be_are_refused() {
    let (mut envs, _) = started(2, AutoresetMode::NextStep);
    let good = serde_json::to_value(envs.snapshot()).unwrap();
    // Numbers of streams have 56 bits; a step more than the limit, or a word more than there are, would wrap.
    for (field, end) in [("episode", 1u64 << 55), ("next", 1 << 55), ("words", 1 << 63), ("steps", 5)] {
        let mut snapshot = good.clone();
        snapshot["rows"][1][field] = json!(end);
        let refused = envs.restore(&serde_json::from_value(snapshot.clone()).unwrap()).unwrap_err().to_string();
        assert_eq!(refused, format!("Toy-v3: snapshot field `rows.{field}` is {end}, this batch has 0..{end}"));
        snapshot["rows"][1][field] = json!(end - 1);
        envs.restore(&serde_json::from_value(snapshot).unwrap()).unwrap();
    }
}
