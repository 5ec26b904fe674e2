//! Gradients through windows of steps, with episodes that end in them, against differences.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::differentiable::{DifferentiableEnv, StepBars};
use envs::env::EnvError;
use envs::registry::find;
use envs::rollout::{Inputs, Options};
use envs::vector::{Reset, VectorConfig};
use rand::RngExt as _;
use serde_json::{Value, json};
use simulators::rng::{Purpose, Rng, Seed, stream};

const STEPS: usize = 5;

fn floats(buffer: &Buffer) -> &[f32] {
    buffer.get::<f32>().unwrap()
}

fn many(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// What an objective weighs in one step: observations, final observations, rewards.
struct Weights {
    obs: Vec<f32>,
    final_obs: Vec<f32>,
    reward: Vec<f32>,
}

struct Trial {
    envs: Box<dyn DifferentiableEnv>,
    actions: Vec<Vec<f32>>,
    weights: Vec<Weights>,
}

impl Trial {
    fn new(id: &str, config: &Value, rows: usize, max_steps: Option<u32>) -> Self {
        let vector = VectorConfig { num_envs: rows, seed: Seed(3), max_steps, ..VectorConfig::default() };
        let envs = find(id).unwrap().differentiable(config, &vector).unwrap();
        let (o, a) = (envs.spec().observation.size(), envs.spec().action.size());
        let mut rng = stream(Seed(1), Purpose::Policy, 0);
        let mut step = || Weights {
            obs: many(&mut rng, rows * o),
            final_obs: many(&mut rng, rows * o),
            reward: many(&mut rng, rows),
        };
        let weights = (0..STEPS).map(|_| step()).collect();
        let actions = (0..STEPS).map(|_| many(&mut rng, rows * a)).collect();
        Self { envs, actions, weights }
    }

    /// What the objective is, a number for each row. The steps stay remembered.
    fn play(&mut self) -> Vec<f64> {
        let rows = self.envs.num_envs();
        let mut out = StepBatch::for_spec(self.envs.spec(), rows);
        self.envs.reset(Reset::Seed(Seed(3)), out.obs_mut()).unwrap();
        let mut objective = vec![0.0; rows];
        for (actions, weights) in self.actions.iter().zip(&self.weights) {
            self.envs.step(&Buffer::F32(actions.clone()), &mut out).unwrap();
            let o = weights.obs.len() / rows;
            for (row, sum) in objective.iter_mut().enumerate() {
                let dot = |weights: &[f32], values: &[f32]| -> f64 {
                    let row = row * o..(row + 1) * o;
                    weights[row.clone()].iter().zip(&values[row]).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
                };
                *sum += dot(&weights.obs, floats(out.obs()))
                    + dot(&weights.final_obs, floats(out.final_obs()))
                    + f64::from(weights.reward[row]) * f64::from(out.reward()[row]);
            }
        }
        objective
    }

    fn gradients(&mut self) -> Vec<Vec<f32>> {
        self.play();
        assert_eq!(self.envs.remembered(), STEPS);
        let mut found = Vec::new();
        for (actions, weights) in self.actions.iter().zip(&self.weights).rev() {
            let mut bar = vec![f32::NAN; actions.len()];
            let Weights { obs, final_obs, reward } = weights;
            self.envs.pull_back(StepBars { obs, final_obs, reward }, &mut bar);
            found.push(bar);
        }
        found.reverse();
        found
    }
}

/// Observations leave the envs in single precision, so differences are taken far apart, and nothing touches the ground yet.
#[test]
fn gradients_through_a_window_with_ends_are_those_of_differences() {
    for (id, timing) in [("CartPoleSwingUp-v0", "before"), ("DoublePendulum-v0", "after"), ("Ant-v0", "after")] {
        let config = json!({"physics": {"precision": "f64", "reward": timing}});
        // Episodes of three steps, so that the window crosses an end; more rows than lanes.
        let mut trial = Trial::new(id, &config, 11, Some(3));
        let gradients = trial.gradients();
        for (t, action) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)] {
            let (rows, eps) = (trial.envs.num_envs(), 1e-2);
            let a = trial.actions[t].len() / rows;
            let mut ends = [1.0, -1.0].map(|sign| {
                let kept = trial.actions[t].clone();
                for row in 0..rows {
                    trial.actions[t][row * a + action] += sign * eps;
                }
                // Beyond one an action would be refused.
                trial.actions[t].iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0));
                let moved: Vec<f32> = (0..rows).map(|row| trial.actions[t][row * a + action]).collect();
                let objective = trial.play();
                trial.actions[t] = kept;
                (moved, objective)
            });
            let (more, less) = ends.split_at_mut(1);
            for row in 0..rows {
                let width = f64::from(more[0].0[row]) - f64::from(less[0].0[row]);
                let difference = (more[0].1[row] - less[0].1[row]) / width;
                let found = f64::from(gradients[t][row * a + action]);
                let tolerance = 2e-2 * difference.abs().max(0.3);
                assert!((found - difference).abs() <= tolerance, "{id} t {t} row {row}: {found}, not {difference}");
            }
        }
    }
}

#[test]
fn the_gradient_of_rewards_is_that_of_a_rollout() {
    for (timing, inertia) in [("before", "dflex"), ("after", "exact")] {
        let physics = json!({"precision": "f64", "reward": timing, "inertia": inertia, "stochastic_reset": false});
        let config = json!({"physics": physics, "observe_last_action": false});
        let mut trial = Trial::new("Ant-v0", &config, 19, None);
        for weights in &mut trial.weights {
            weights.obs.fill(0.0);
            weights.final_obs.fill(0.0);
            weights.reward.fill(1.0);
        }
        let gradients = trial.gradients();
        let rows = 19;
        let mut state = vec![0.0; 29];
        state[..15].copy_from_slice(&simulators::articulated::ant::START);
        let row = |row: usize| trial.actions.iter().flat_map(move |step| step[row * 8..(row + 1) * 8].to_vec());
        let actions = (0..rows).flat_map(row).map(f64::from).collect();
        let inputs = Inputs { state: state.repeat(rows), actions, rows, steps: STEPS };
        let options = Options { gradients: true, resets: false };
        let rolled = find("ant").unwrap().rollout(&config, &inputs, options).unwrap();
        for (place, &expected) in rolled.gradients.iter().enumerate() {
            let (row, t, motor) = (place / 8 / STEPS, place / 8 % STEPS, place % 8);
            let found = f64::from(gradients[t][row * 8 + motor]);
            assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1e-2), "{row} {t}: {found}, not {expected}");
        }
    }
}

#[test]
fn an_end_cuts_the_gradient_of_what_follows() {
    let mut trial = Trial::new("Ant-v0", &json!({}), 3, Some(2));
    for (t, weights) in trial.weights.iter_mut().enumerate() {
        weights.obs.fill(0.0);
        weights.final_obs.fill(if t >= 2 { 1.0 } else { 0.0 });
        weights.reward.fill(0.0);
    }
    let gradients = trial.gradients();
    assert!(gradients[..2].iter().flatten().all(|&x| x.to_bits() == 0.0f32.to_bits()), "{gradients:?}");
    assert!(gradients[2..].iter().all(|step| step.iter().all(|&x| x != 0.0)), "{gradients:?}");
}

#[test]
fn a_window_begins_where_it_is_told_to_and_stepping_is_that_of_any_batch() {
    let mut trial = Trial::new("Ant-v0", &json!({}), 5, None);
    let whole = trial.gradients();
    let mut out = StepBatch::for_spec(trial.envs.spec(), 5);
    let mut plain =
        find("ant").unwrap().make(&json!({}), &VectorConfig { num_envs: 5, ..VectorConfig::default() }).unwrap();
    let mut other = out.clone();
    plain.reset(Reset::Seed(Seed(3)), other.obs_mut()).unwrap();
    trial.envs.reset(Reset::Seed(Seed(3)), out.obs_mut()).unwrap();
    for (t, actions) in trial.actions.iter().enumerate() {
        if t == STEPS - 1 {
            trial.envs.forget();
        }
        let actions = Buffer::F32(actions.clone());
        trial.envs.step(&actions, &mut out).unwrap();
        plain.step(&actions, &mut other).unwrap();
        assert_eq!(out, other);
    }
    assert_eq!(trial.envs.remembered(), 1);
    let Weights { obs, final_obs, reward } = &trial.weights[STEPS - 1];
    let mut bar = vec![0.0; 40];
    trial.envs.pull_back(StepBars { obs, final_obs, reward }, &mut bar);
    assert_eq!(bar, whole[STEPS - 1], "the last step owes nothing to those before");
}

#[test]
fn an_env_without_gradients_says_so() {
    let refused = find("mnist-world").unwrap().differentiable(&json!({}), &VectorConfig::default()).err().unwrap();
    assert!(matches!(refused, EnvError::NoGradients { .. }));
    let said = refused.to_string();
    assert!(said.starts_with("MnistWorld-v0 has no gradients") && said.contains("Ant-v0, Hopper-v0"), "{said}");
}
