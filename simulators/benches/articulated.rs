//! Control steps of 512 articulated bodies on one thread, forward and with the gradient pulled back through each, and what
//! the core could do at most. One element is one control step, or one floating-point operation of `peak`.
//!
//! `cargo bench -p simulators --bench articulated`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pulp::{Arch, Simd, WithSimd};
use rand::RngExt;
use simulators::articulated::{Body, InertiaMode, Model, Scalar, Simulator, ant, cartpole, hopper};
use simulators::rng::{Purpose, Seed, stream};

const BODIES: usize = 512;
/// Control steps after which all are well in the middle of an episode.
const SETTLED: usize = 64;

fn steps<T: Scalar>(c: &mut Criterion, name: &str, model: &Model, start: &[f64]) {
    let simulator = Simulator::<T>::new(model);
    let mut rng = stream(Seed(1), Purpose::Policy, 0);
    let mut actions =
        || -> Vec<T> { (0..BODIES * simulator.motors()).map(|_| T::of(rng.random_range(-1.0..=1.0))).collect() };
    let mut state = start.to_vec();
    state.resize(simulator.rows(), 0.0);
    let mut bodies: Vec<Body<T>> = (0..BODIES).map(|_| simulator.body(&state)).collect();
    for _ in 0..SETTLED {
        simulator.step_all(&mut bodies, &actions());
    }
    let actions = actions();
    let mut after = bodies.clone();
    let mut bars = vec![T::of(1.0); BODIES * simulator.rows()];
    let mut actions_bar = vec![T::of(0.0); actions.len()];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread starts");
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(BODIES as u64));
    // From the same states each time, so that the bodies stay as they are.
    group.bench_function(BenchmarkId::from_parameter("step"), |b| {
        pool.install(|| {
            b.iter(|| {
                after.clone_from(&bodies);
                simulator.step_all(&mut after, black_box(&actions));
            });
        });
    });
    // Does the step again, then goes back.
    group.bench_function(BenchmarkId::from_parameter("pull_back"), |b| {
        pool.install(|| {
            b.iter(|| {
                bars.fill(T::of(1.0));
                simulator.pull_back_all(&bodies, black_box(&actions), &mut bars, &mut actions_bar);
            });
        });
    });
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let ant = ant::model(InertiaMode::Dflex, ant::SUBSTEPS);
    steps::<f32>(c, "ant", &ant, &ant::START);
    steps::<f64>(c, "ant_f64", &ant, &ant::START);
    steps::<f32>(c, "hopper", &hopper::hopper(), &[]);
    steps::<f32>(c, "cartpole", &cartpole::cartpole(), &[]);
}

/// Fused multiply-adds that nothing has to wait for: sixteen chains, more than the latency times the units of any core.
struct MultiplyAdds;

const CHAINS: usize = 16;
const LINKS: usize = 1_000;

impl WithSimd for MultiplyAdds {
    type Output = usize;

    #[expect(clippy::inline_always, reason = "it is compiled for a processor's features only where it is inlined")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (factor, one) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(1.0)));
        let mut chains = [one; CHAINS];
        for _ in 0..LINKS {
            for chain in &mut chains {
                *chain = simd.mul_add_f32s(*chain, factor, one);
            }
        }
        black_box(chains);
        S::F32_LANES
    }
}

fn peak(c: &mut Criterion) {
    let arch = Arch::new();
    let mut group = c.benchmark_group("peak");
    group.throughput(Throughput::Elements((2 * CHAINS * LINKS * arch.dispatch(MultiplyAdds)) as u64));
    group.bench_function("multiply_adds_f32", |b| b.iter(|| arch.dispatch(MultiplyAdds)));
    group.finish();
}

criterion_group!(benches, bodies, peak);
criterion_main!(benches);
