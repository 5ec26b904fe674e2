//! Blockworld: pictures of steps, and steps of bodies. One element is one step.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt as _;
use simulators::block_world::{Action, BlockWorld, BlockWorldConfig, Surfaces};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::{World, step_and_render};

const WORLDS: usize = 64;

fn worlds(config: &BlockWorldConfig, surfaces: &Arc<Surfaces>) -> Vec<BlockWorld> {
    let fresh = |i| {
        let mut world = BlockWorld::new(config.clone(), Arc::clone(surfaces)).expect("a preset is valid");
        world.reset(&mut stream(Seed(1), Purpose::World, i));
        world
    };
    (0..WORLDS as u64).map(fresh).collect()
}

fn steps(c: &mut Criterion) {
    let surfaces = Surfaces::drawn();
    let mut group = c.benchmark_group("block_world");
    group.throughput(Throughput::Elements(WORLDS as u64));
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rng = stream(Seed(1), Purpose::Policy, 0);
    let mut actions = [Action::Nothing; WORLDS];
    for (name, image) in [("dynamic", 128), ("dynamic", 256), ("tex", 128), ("physics", 128)] {
        let config = BlockWorldConfig { image, ..BlockWorldConfig::preset(name).expect("a preset") };
        for threads in [1, all] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            let mut worlds = worlds(&config, &surfaces);
            let mut frames = vec![0; WORLDS * image * image * 3];
            group.bench_function(format!("{name}/{image} pixels/{threads} threads"), |b| {
                pool.install(|| {
                    b.iter(|| {
                        actions.fill_with(|| Action::ALL[rng.random_range(0..5)]);
                        step_and_render(&mut worlds, &actions, &mut frames);
                    });
                });
            });
        }
    }
    let config = BlockWorldConfig::preset("physics").expect("a preset");
    let mut worlds = worlds(&config, &surfaces);
    group.bench_function("physics/steps alone", |b| {
        b.iter(|| {
            for world in &mut worlds {
                world.step(Action::ALL[rng.random_range(0..5)]);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
