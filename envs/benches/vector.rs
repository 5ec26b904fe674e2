//! Steps per second of `VectorEnv`: actions checked, worlds moved, seen and rewarded, auto-reset. Unit: env steps.
//!
//! `cargo bench -p envs --bench vector`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::policy::{Policy, RandomWalk};
use envs::registry::find;
use envs::vector::{AutoresetMode, Reset, VectorConfig};
use rand::RngExt;
use serde_json::json;
use simulators::rng::{Purpose, Seed, stream};

fn mnist_world(criterion: &mut Criterion) {
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

fn ant(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("vector_env/ant");
    for num_envs in [16, 512] {
        let config = VectorConfig { num_envs, autoreset: AutoresetMode::SameStep, ..VectorConfig::default() };
        let mut envs = find("Ant-v0").expect("registered").make(&json!({}), &config).expect("the defaults are valid");
        let mut out = StepBatch::for_spec(envs.spec(), num_envs);
        envs.reset(Reset::Next, out.obs_mut()).expect("the columns are its own");
        let mut rng = stream(Seed(1), Purpose::Policy, 0);
        let mut random = || (0..num_envs * 8).map(|_| rng.random_range(-1.0..=1.0)).collect();
        let actions: Vec<Buffer> = (0..100).map(|_| Buffer::F32(random())).collect();
        let mut next = actions.iter().cycle();
        let mut step = || envs.step(next.next().expect("it never ends"), &mut out).expect("the actions are legal");
        // Past the first falls.
        (0..100).for_each(|_| step());
        group.throughput(Throughput::Elements(num_envs as u64));
        group.bench_function(BenchmarkId::from_parameter(num_envs), |bencher| bencher.iter(&mut step));
    }
    group.finish();
}

criterion_group!(benches, mnist_world, ant);
criterion_main!(benches);
