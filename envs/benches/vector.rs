//! Steps per second of `VectorEnv` on `MnistWorld-v0`: move, draw, check actions, auto-reset. Unit: env steps.
//!
//! `cargo bench -p envs --bench vector`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::policy::{Policy, RandomWalk};
use envs::registry::find;
use envs::vector::{AutoresetMode, Reset, VectorConfig};
use serde_json::json;

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("vector_env/mnist_world");
    for num_envs in [1, 64, 1024] {
        let config = VectorConfig { num_envs, autoreset: AutoresetMode::SameStep, ..VectorConfig::default() };
        let mut envs =
            find("MnistWorld-v0").expect("registered").make(&json!({}), &config).expect("the defaults are valid");
        let mut out = StepBatch::for_spec(envs.spec(), num_envs);
        envs.reset(Reset::Next, out.obs_mut()).expect("the columns are its own");
        let mut actions = Buffer::zeros(envs.spec().action.dtype(), 2 * num_envs);
        RandomWalk::default().act(&*envs, out.obs(), &mut actions).expect("a random walk acts anywhere");
        // Past the first auto-reset, so that resets have their share.
        for _ in 0..100 {
            envs.step(&actions, &mut out).expect("the actions are legal");
        }
        group.throughput(Throughput::Elements(num_envs as u64));
        group.bench_function(BenchmarkId::from_parameter(num_envs), |bencher| {
            bencher.iter(|| envs.step(&actions, &mut out).expect("the actions are legal"));
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
