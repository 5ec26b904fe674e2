//! Pictures of rooms, one core.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt as _;
use simulators::rng::{Purpose, Seed, stream};
use simulators::room::{Around, Eye, Form, Painter, Picture, Room, Scene, Texture, Thing};

const SIDE: usize = 128;

fn noise(side: usize, seed: u64) -> Arc<Texture> {
    let mut rng = stream(Seed(seed), Purpose::World, 0);
    let pixels: Vec<[u8; 3]> = (0..side * side).map(|_| [rng.random_range(100..140); 3]).collect();
    Arc::new(Texture::new(side, &pixels))
}

fn rooms(c: &mut Criterion) {
    let mut group = c.benchmark_group("room");
    let white = Arc::new(Texture::new(1, &[[255; 3]]));
    for (name, wall) in [("plain walls", white), ("textured walls", noise(1024, 2))] {
        let room = Room { size: [16.0; 2], height: 2.74, wall, floor: noise(512, 0), ceiling: noise(512, 1) };
        let mut rng = stream(Seed(3), Purpose::World, 0);
        let scenes: Vec<(Vec<Thing>, Eye)> = (0..256)
            .map(|_| {
                let mut cell = || rng.random_range(1..16) as f32;
                let things = (0..8)
                    .map(|i| Thing {
                        form: Form::standing([cell(), cell()], [0.7, 1.5, 0.7]),
                        colour: [1.0, i as f32 / 8.0, 0.0],
                        texture: None,
                    })
                    .collect();
                let place = [cell(), 1.5, cell()];
                let heading = f64::from(rng.random_range(0..4)) * std::f64::consts::FRAC_PI_2;
                (things, Eye { place, heading, field: 60f64.to_radians(), horizon: 0.5 })
            })
            .collect();
        let mut painter = Painter::new(SIDE, SIDE);
        let (mut rgb, mut depth, mut ids) = (vec![0; SIDE * SIDE * 3], vec![0.0; SIDE * SIDE], vec![0; SIDE * SIDE]);
        group.throughput(Throughput::Elements(scenes.len() as u64));
        for truth in [false, true] {
            let kind = if truth { "picture, depth and ids" } else { "picture" };
            group.bench_function(format!("{name}/{kind}"), |b| {
                b.iter(|| {
                    for (things, eye) in &scenes {
                        let (depth, ids) = (truth.then_some(&mut depth[..]), truth.then_some(&mut ids[..]));
                        let picture = Picture { rgb: &mut rgb, depth, ids };
                        painter.draw(&Scene { around: Around::Room(&room), things, eye: *eye }, picture);
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, rooms);
criterion_main!(benches);
