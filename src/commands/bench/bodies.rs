//! Articulated bodies: control steps a second, without gradients and with them, alone and as a task.

use std::mem::replace;

use anyhow::{Context, Result};
use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::registry::find;
use envs::vector::{AutoresetMode, Reset, VectorConfig};
use rand::RngExt;
use serde_json::json;
use simulators::articulated::{Body, InertiaMode, Model, Scalar, Simulator, ant, cartpole, hopper};
use simulators::rng::{Purpose, Seed, stream};

use super::{Rate, seconds_per_call};

pub const BENCHES: [Rate; 12] = [
    ("ant/step", "steps/s", || ant::<f32>(all(), false)),
    ("ant/step_1_thread", "steps/s", || ant::<f32>(1, false)),
    ("ant/step_f64", "steps/s", || ant::<f64>(all(), false)),
    ("ant/step_f64_1_thread", "steps/s", || ant::<f64>(1, false)),
    ("ant/step_and_gradient", "steps/s", || ant::<f32>(all(), true)),
    ("ant/step_and_gradient_1_thread", "steps/s", || ant::<f32>(1, true)),
    ("ant/step_and_gradient_f64", "steps/s", || ant::<f64>(all(), true)),
    ("ant/step_and_gradient_f64_1_thread", "steps/s", || ant::<f64>(1, true)),
    ("ant/env_step", "steps/s", || env_step(all())),
    ("ant/env_step_1_thread", "steps/s", || env_step(1)),
    ("hopper/step", "steps/s", || rate::<f32>(&hopper::hopper(), &[], all(), false)),
    ("cartpole/step", "steps/s", || rate::<f32>(&cartpole::cartpole(), &[], all(), false)),
];

/// Bodies, or rows of a batch.
const BODIES: usize = 512;
/// Control steps after which the first and the last body are well in the middle of an episode.
const AGES: std::ops::Range<usize> = 32..96;
/// Control steps that bodies do before they are put back there: later, ever more of them lie on the ground.
const TOGETHER: usize = 32;

fn all() -> usize {
    rayon::current_num_threads()
}

/// Random actions for a while, `[BODIES, motors]` each.
fn random_actions<T: Scalar>(motors: usize) -> Vec<Vec<T>> {
    let mut rng = stream(Seed(1), Purpose::Policy, 0);
    let mut step = || (0..BODIES * motors).map(|_| T::of(rng.random_range(-1.0..=1.0))).collect();
    (0..AGES.end).map(|_| step()).collect()
}

fn ant<T: Scalar>(threads: usize, gradient: bool) -> Result<f64> {
    rate::<T>(&ant::model(InertiaMode::Dflex, ant::SUBSTEPS), &ant::START, threads, gradient)
}

/// Control steps a second of bodies in the middle of their episodes under random actions, each pulled back through at once
/// where `gradient` says so. `start` are coordinates; those it lacks are zero.
fn rate<T: Scalar>(model: &Model, start: &[f64], threads: usize, gradient: bool) -> Result<f64> {
    let simulator = Simulator::<T>::new(model);
    let actions = random_actions::<T>(simulator.motors());
    let mut state = start.to_vec();
    state.resize(simulator.rows(), 0.0);
    let mut bodies: Vec<Body<T>> = (0..BODIES).map(|_| simulator.body(&state)).collect();
    let mut of_all_ages = bodies.clone();
    for (age, actions) in actions.iter().enumerate() {
        for number in (0..BODIES).filter(|number| age == AGES.start + number % AGES.len()) {
            of_all_ages[number] = bodies[number].clone();
        }
        simulator.step_all(&mut bodies, actions);
    }
    let mut bars = vec![T::of(1.0); BODIES * simulator.rows()];
    let mut actions_bar = vec![T::of(0.0); BODIES * simulator.motors()];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
    let mut steps = 0;
    let seconds = pool.install(|| {
        seconds_per_call(|| {
            if steps % TOGETHER == 0 {
                bodies.clone_from(&of_all_ages);
            }
            let actions = &actions[steps % actions.len()];
            steps += 1;
            if gradient {
                let after = bodies.clone();
                let before = replace(&mut bodies, after);
                simulator.step_all(&mut bodies, actions);
                bars.fill(T::of(1.0));
                simulator.pull_back_all(&before, actions, &mut bars, &mut actions_bar);
            } else {
                simulator.step_all(&mut bodies, actions);
            }
        })
    });
    Ok(BODIES as f64 / seconds)
}

/// Steps a second of `Ant-v0`: checked actions, observations, rewards, resets where an Ant falls.
fn env_step(threads: usize) -> Result<f64> {
    let config = VectorConfig { num_envs: BODIES, autoreset: AutoresetMode::SameStep, ..Default::default() };
    let mut envs = find("Ant-v0")?.make(&json!({}), &config)?;
    let mut out = StepBatch::for_spec(envs.spec(), BODIES);
    envs.reset(Reset::Next, out.obs_mut())?;
    let actions: Vec<Buffer> = random_actions::<f32>(envs.spec().action.size()).into_iter().map(Buffer::F32).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start threads")?;
    let mut next = actions.iter().cycle();
    let mut step = || envs.step(next.next().expect("it never ends"), &mut out).expect("the actions are legal");
    let seconds = pool.install(|| {
        (0..AGES.end).for_each(|_| step());
        seconds_per_call(step)
    });
    Ok(BODIES as f64 / seconds)
}
