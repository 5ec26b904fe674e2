//! Plays 64 copies of a task side by side with random actions: `cargo run --release -p envs --example track`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::policy::{Policy, RandomWalk};
use envs::registry::find;
use envs::vector::{AutoresetMode, Reset, VectorConfig};
use serde_json::json;
use simulators::rng::Seed;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vector = VectorConfig { num_envs: 64, autoreset: AutoresetMode::SameStep, ..VectorConfig::default() };
    let mut envs = find("MnistWorldTrack-v0")?.make(&json!({ "steps": 50 }), &vector)?;
    let (spec, mut policy) = (envs.spec().clone(), RandomWalk::default());

    let mut out = StepBatch::for_spec(&spec, 64); // columns that every step writes into
    let mut actions = Buffer::zeros(spec.action.dtype(), 64 * spec.action.size()); // [64, 2]: how far to look right, down
    envs.reset(Reset::Seed(Seed(7)), out.obs_mut())?;
    let (mut reward, mut ended) = (0.0, 0);
    for _ in 0..500 {
        policy.act(&*envs, out.obs(), &mut actions)?; // or fill `actions` yourself, from `out.obs()`, [64, 32, 32, 1]
        envs.step(&actions, &mut out)?;
        reward += out.reward().iter().sum::<f32>();
        ended += out.stop().iter().filter(|stop| stop.any()).count(); // .terminated and .truncated, never one "done"
    }
    println!("{ended} episodes, {:.1} of 50 steps with the digit in view", reward / ended as f32);
    Ok(())
}
