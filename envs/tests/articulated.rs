//! The tasks of articulated bodies against the numbers of the originals, and their gradients against differences.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use std::f64::consts::FRAC_1_SQRT_2;

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::registry::find;
use envs::rollout::{Inputs, Options};
use envs::tasks::articulated::{
    Ant, AntConfig, CartPole, Creature, DoublePendulum, Hopper, HopperConfig, PendulumConfig, Seen, SeenBar,
};
use envs::vector::{Reset, VectorConfig};
use rand::RngExt as _;
use serde_json::json;
use simulators::rng::{Purpose, Seed, stream};

#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} instead of {expected} ± {tolerance}");
}

fn floats(buffer: &Buffer) -> &[f32] {
    match buffer {
        Buffer::F32(values) => values,
        other => panic!("{other:?}"),
    }
}

/// The Ant from its rest pose in double precision; its rewards under `action`, until it ends or for `steps` steps.
fn play(inertia: &str, steps: usize, action: impl Fn(usize) -> Vec<f32>) -> Vec<f64> {
    let config = json!({"physics": {"inertia": inertia, "precision": "f64", "stochastic_reset": false}});
    let mut env = find("ant").unwrap().make(&config, &VectorConfig::default()).unwrap();
    let mut out = StepBatch::for_spec(env.spec(), 1);
    env.reset(Reset::Seed(Seed(0)), out.obs_mut()).unwrap();
    let mut rewards = Vec::new();
    for t in 0..steps {
        env.step(&Buffer::F32(action(t)), &mut out).unwrap();
        rewards.push(f64::from(out.reward()[0]));
        if out.stop()[0].any() {
            break;
        }
    }
    rewards
}

#[test]
fn the_ant_at_rest_looks_as_in_the_original() {
    let config = json!({"physics": {"stochastic_reset": false}});
    let mut env = find("Ant-v0").unwrap().make(&config, &VectorConfig::default()).unwrap();
    let mut obs = Buffer::zeros(env.spec().observation.dtype(), 37);
    env.reset(Reset::Seed(Seed(0)), &mut obs).unwrap();
    let mut golden = [0.0; 37];
    golden[..5].copy_from_slice(&[0.75, -FRAC_1_SQRT_2, 0.0, 0.0, FRAC_1_SQRT_2]);
    for (joint, angle) in [(12, 1.0), (14, -1.0), (16, -1.0), (18, 1.0), (27, 1.0), (28, 1.0)] {
        golden[joint] = angle;
    }
    floats(&obs).iter().zip(golden).for_each(|(&found, golden)| close(found.into(), golden, 1e-5));
}

#[test]
fn the_ants_rewards_are_golden() {
    let scripted = |t: usize| (0..8).map(|j| (0.5 * libm::sin(0.3 * t as f64 + j as f64)) as f32).collect();
    for (inertia, steps, golden) in [
        ("dflex", 1, 1.58),
        ("dflex", 10, 16.755_268),
        ("dflex", 30, 49.486_834),
        ("exact", 10, 16.646_191),
        ("exact", 30, 49.987_087),
    ] {
        close(play(inertia, steps, scripted).iter().sum(), golden, 1e-4);
    }
    let idle = play("dflex", 1000, |_| vec![0.0; 8]);
    assert_eq!(idle.len(), 109);
    close(idle.iter().sum(), 146.11, 5e-3);
}

#[test]
fn a_reward_after_the_step_is_that_of_the_next_observation() {
    let returns = |timing: &str| {
        let config = json!({"physics": {"reward": timing, "stochastic_reset": false}});
        let mut env = find("ant").unwrap().make(&config, &VectorConfig::default()).unwrap();
        let mut out = StepBatch::for_spec(env.spec(), 1);
        env.reset(Reset::Seed(Seed(0)), out.obs_mut()).unwrap();
        let rewards: Vec<f32> = (0..20)
            .map(|_| {
                env.step(&Buffer::F32(vec![0.3; 8]), &mut out).unwrap();
                out.reward()[0]
            })
            .collect();
        rewards
    };
    let (before, after) = (returns("before"), returns("after"));
    assert_eq!(before[1..], after[..19]);
}

#[test]
fn resets_are_spread_as_the_original_spreads_them() {
    let mut env =
        find("ant").unwrap().make(&json!({}), &VectorConfig { num_envs: 4000, ..Default::default() }).unwrap();
    let mut obs = Buffer::zeros(env.spec().observation.dtype(), 37 * 4000);
    env.reset(Reset::Seed(Seed(1)), &mut obs).unwrap();
    let rows = floats(&obs);
    let column = |i: usize| rows.chunks_exact(37).map(move |row| f64::from(row[i]));
    for (i, centre, half) in [(0, 0.75, 0.1), (11, 0.0, 0.2), (12, 1.0, 0.2), (19, 0.0, 0.025)] {
        let mean = column(i).sum::<f64>() / 4000.0;
        close(mean, centre, 0.05 * half);
        let (low, high) = column(i).fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
        assert!(low >= centre - half - 1e-6 && low < centre - 0.98 * half, "{low}");
        assert!(high <= centre + half + 1e-6 && high > centre + 0.98 * half, "{high}");
    }
    // Turned by up to pi / 24 about any axis: the uprightness falls by no more than that much.
    assert!(column(27).all(|up| up >= libm::cos(std::f64::consts::PI / 24.0) - 1e-6));
}

/// Compares the gradients of observation and reward with central differences.
fn gradients_hold<C: Creature>(config: &C::Config) {
    let creature = C::new(config);
    let mut rng = stream(Seed(2), Purpose::World, 0);
    for _ in 0..20 {
        let mut x = creature.start(Some(&mut rng));
        let rows = x.len();
        let motors = creature.model().motors.len();
        for x in &mut x {
            *x += 0.1 * rng.random_range(-1.0..1.0);
        }
        x.extend((0..motors).map(|_| rng.random_range(-1.0..1.0)));
        let weights: Vec<f64> = (0..=C::OBSERVATIONS).map(|_| rng.random_range(-1.0..1.0)).collect();
        let number = |x: &[f64]| {
            let seen = Seen { state: &x[..rows], origin: [3.0, -2.0], action: &x[rows..] };
            let mut obs = vec![0.0; C::OBSERVATIONS];
            creature.observe(&seen, &mut obs);
            obs.push(creature.reward(&seen));
            obs.iter().zip(&weights).map(|(x, weight)| x * weight).sum::<f64>()
        };
        let mut bar = vec![0.0; x.len()];
        let (state, action) = bar.split_at_mut(rows);
        let mut out = SeenBar { state, action };
        let seen = Seen { state: &x[..rows], origin: [3.0, -2.0], action: &x[rows..] };
        creature.observe_bar(&seen, &weights[..C::OBSERVATIONS], &mut out);
        creature.reward_bar(&seen, weights[C::OBSERVATIONS], &mut out);
        for i in 0..x.len() {
            let at = |by: f64| {
                let mut x = x.clone();
                x[i] += by;
                number(&x)
            };
            let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
            close(bar[i], difference, 1e-6 * difference.abs().max(1.0));
        }
    }
}

#[test]
fn gradients_of_observations_and_rewards_are_those_of_differences() {
    gradients_hold::<Ant>(&AntConfig::default());
    gradients_hold::<Hopper>(&HopperConfig::default());
    gradients_hold::<CartPole>(&PendulumConfig::default());
    gradients_hold::<DoublePendulum>(&PendulumConfig::default());
}

#[test]
fn bad_actions_are_refused_by_name() {
    let mut env = find("ant").unwrap().make(&json!({}), &VectorConfig { num_envs: 2, ..Default::default() }).unwrap();
    let mut out = StepBatch::for_spec(env.spec(), 2);
    env.reset(Reset::Seed(Seed(0)), out.obs_mut()).unwrap();
    let mut step = |actions: Vec<f32>| env.step(&Buffer::F32(actions), &mut out).unwrap_err().to_string();
    assert!(step(vec![0.0; 15]).contains("15"));
    let mut actions = vec![0.0; 16];
    actions[11] = f32::NAN;
    let message = step(actions.clone());
    assert!(message.contains("env 1, component 3 is NaN"), "{message}");
    actions[11] = 1.5;
    let message = step(actions);
    assert!(message.contains("component 3 is 1.5") && message.contains("-1..=1"), "{message}");
}

/// One row from the rest pose, and a held action.
fn held(steps: usize, action: [f64; 8]) -> Inputs {
    let mut state = vec![0.0; 29];
    state[..15].copy_from_slice(&simulators::articulated::ant::START);
    Inputs { state, actions: action.repeat(steps), rows: 1, steps }
}

#[test]
fn a_rollout_is_what_stepping_gives_and_its_gradient_that_of_differences() {
    let entry = find("ant").unwrap();
    for timing in ["before", "after"] {
        let config = json!({"physics": {"precision": "f64", "reward": timing}});
        let options = Options { gradients: true, resets: false };
        let inputs = held(24, [0.3, -0.2, 0.1, 0.4, -0.3, 0.2, 0.1, -0.1]);
        let out = entry.rollout(&config, &inputs, options).unwrap();
        assert_eq!((out.states.len(), out.observations.len(), out.rewards.len()), (24 * 29, 24 * 37, 24));
        if timing == "before" {
            close(out.rewards[0], 1.58, 1e-12);
        }
        for place in [0, 9, 40, 95, 190] {
            let at = |by: f64| {
                let mut inputs = inputs.clone();
                inputs.actions[place] += by;
                entry.rollout(&config, &inputs, Options::default()).unwrap().rewards.iter().sum::<f64>()
            };
            let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
            close(out.gradients[place], difference, 1e-5 * difference.abs().max(1e-2));
        }
    }
}

#[test]
fn rows_of_a_rollout_are_independent_and_bad_input_is_named() {
    let entry = find("ant").unwrap();
    let alone = entry.rollout(&json!({}), &held(5, [0.2; 8]), Options::default()).unwrap();
    let one = held(5, [0.2; 8]);
    let many = Inputs { state: one.state.repeat(33), actions: one.actions.repeat(33), rows: 33, steps: 5 };
    let together = entry.rollout(&json!({}), &many, Options::default()).unwrap();
    for row in [0, 16, 32] {
        assert_eq!(together.states[row * 145..(row + 1) * 145], alone.states[..]);
    }
    let mut bad = many.clone();
    bad.state[29 + 3] = f64::NAN;
    let message = entry.rollout(&json!({}), &bad, Options::default()).unwrap_err().to_string();
    assert!(message.contains("`state` is NaN at number 3 of row 1"), "{message}");
    bad.state.pop();
    let message = entry.rollout(&json!({}), &bad, Options::default()).unwrap_err().to_string();
    assert!(message.contains("`state` has 956 numbers, 957 are needed for 33 rows"), "{message}");
    let message = find("mnist-world").unwrap().rollout(&json!({}), &many, Options::default()).unwrap_err().to_string();
    assert!(message.contains("Ant-v0, Hopper-v0"), "{message}");
}

#[test]
fn a_reset_cuts_the_gradient() {
    // Without action it falls after 109 steps.
    let entry = find("ant").unwrap();
    let config = json!({"physics": {"precision": "f64"}});
    let options = Options { gradients: true, resets: true };
    let long = entry.rollout(&config, &held(120, [0.0; 8]), options).unwrap();
    let short = entry.rollout(&config, &held(109, [0.0; 8]), options).unwrap();
    assert_eq!(long.terminations.iter().position(|&end| end), Some(108));
    close(long.rewards[109], 1.58, 1e-12);
    assert_eq!(long.gradients[..109 * 8], short.gradients[..]);
}
