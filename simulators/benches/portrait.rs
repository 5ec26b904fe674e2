//! Pictures per second of articulated bodies, one core, as `mindseye record` draws them. One element is one picture.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use simulators::articulated::{InertiaMode, ant, cartpole, hopper};

/// States of a body on its way, so that no picture has the ground of another.
const STATES: usize = 64;

fn bodies(c: &mut Criterion) {
    let model = ant::model(InertiaMode::Dflex, ant::SUBSTEPS);
    let ants: Vec<_> = (0..STATES)
        .map(|at| {
            let mut state = [0.0; 29];
            state[..15].copy_from_slice(&ant::START);
            state[..2].copy_from_slice(&[at as f64 * 0.0137, 0.55]);
            ant::portrait(&model, &state)
        })
        .collect();
    let model = hopper::hopper();
    let hoppers: Vec<_> = (0..STATES)
        .map(|at| {
            let mut state = [0.0; 12];
            state[0] = at as f64 * 0.0137;
            hopper::portrait(&model, &state)
        })
        .collect();
    let model = cartpole::cartpole();
    let carts: Vec<_> = (0..STATES)
        .map(|at| cartpole::cartpole_portrait(&model, &[at as f64 * 0.0137, at as f64 * 0.1, 0.0, 0.0]))
        .collect();
    let mut group = c.benchmark_group("portrait");
    group.sample_size(20).throughput(Throughput::Elements(STATES as u64));
    for (name, portraits, [width, height]) in [
        ("ant/480x360", &ants, [480, 360]),
        ("ant/128x128", &ants, [128, 128]),
        ("hopper/480x360", &hoppers, [480, 360]),
        ("cartpole/480x360", &carts, [480, 360]),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                for portrait in portraits {
                    black_box(portrait.draw(width, height));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bodies);
criterion_main!(benches);
