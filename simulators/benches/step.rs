//! Frames per second of MNIST World: step with a random action, render the window. One element is one frame.
//!
//! `cargo bench -p simulators` prints one thread and all threads side by side, for several sizes of batch.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use simulators::digits::DigitBank;
use simulators::mnist_world::{MnistWorld, MnistWorldConfig};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::{World, step_and_render};
use std::hint::black_box;
use std::sync::Arc;

/// Worlds well into their episodes, each in its own state.
fn worlds(config: &MnistWorldConfig, n: u64) -> Vec<MnistWorld> {
    let bank = Arc::new(DigitBank::draw(Seed(1), 100, config.digit_px));
    let fresh = |i| {
        let mut world = MnistWorld::new(config.clone(), Arc::clone(&bank)).expect("a preset is valid");
        world.reset(&mut stream(Seed(1), Purpose::World, i));
        world
    };
    (0..n).map(fresh).collect()
}

fn step_and_render_frames(c: &mut Criterion) {
    let config = MnistWorldConfig::default();
    let reach = config.step;
    let mut group = c.benchmark_group("mnist_world/step_and_render");
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in if all > 1 { vec![1, all] } else { vec![1] } {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        for n in [64, 1024, 8192] {
            let mut worlds = worlds(&config, n as u64);
            let mut rng = stream(Seed(1), Purpose::Policy, 0);
            let mut actions = vec![[0_i8; 2]; n];
            let mut frames = vec![0; n * config.window * config.window];
            let mut advance = || {
                for action in &mut actions {
                    *action = [rng.random_range(-reach..=reach), rng.random_range(-reach..=reach)];
                }
                step_and_render(&mut worlds, &actions, &mut frames);
                black_box(&frames);
            };
            pool.install(|| (0..50).for_each(|_| advance()));
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(BenchmarkId::new(format!("{threads}_threads"), n), |b| {
                pool.install(|| b.iter(&mut advance));
            });
        }
    }
    group.finish();
}

fn ground_truth(c: &mut Criterion) {
    let config = MnistWorldConfig::default();
    let mut world = worlds(&config, 1).remove(0);
    let mut ids = vec![0; config.window * config.window];
    let mut group = c.benchmark_group("mnist_world");
    group.throughput(Throughput::Elements(1));
    group.bench_function("entity_mask", |b| {
        b.iter(|| {
            world.step([3, -2]);
            world.entity_mask(black_box(&mut ids));
        });
    });
    group.finish();
}

fn draw_digits(c: &mut Criterion) {
    let mut group = c.benchmark_group("digits");
    group.throughput(Throughput::Elements(1000)).sample_size(20);
    group.bench_function("draw", |b| b.iter(|| DigitBank::draw(black_box(Seed(3)), 100, 28)));
    group.finish();
}

criterion_group!(benches, step_and_render_frames, ground_truth, draw_digits);
criterion_main!(benches);
