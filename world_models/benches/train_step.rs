//! Seconds of one training update: loss, gradients, Adam. FloWM in both precisions, and the linear RNN.
//!
//! `cargo bench -p world_models`; one element is one predicted or seen frame, so criterion prints frames a second too.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, Tensor, nn};
use world_models::adam::{Adam, AdamConfig};
use world_models::belief::Clip;
use world_models::flowm::{FlowmConfig, Precision};
use world_models::linear_rnn::LinearRnnConfig;
use world_models::registry::WorldModelConfig;

/// Frames of noise and random moves: the cost does not depend on what is shown.
fn noise(batch: i64, context: i64, horizon: i64, window: i64) -> Clip {
    let mut rng = stream(Seed(0), Purpose::World, 0);
    let steps = context + horizon;
    let frames: Vec<f32> = (0..batch * steps * window * window).map(|_| rng.random()).collect();
    let actions: Vec<f32> = (0..batch * steps * 2).map(|_| f32::from(rng.random_range(-10i8..=10))).collect();
    Clip {
        frames: Tensor::from_slice(&frames).view([batch, steps, 1, window, window]),
        actions: Tensor::from_slice(&actions).view([batch, steps, 2]),
        context,
    }
}

fn updates(c: &mut Criterion) {
    let flowm = |precision| WorldModelConfig::Flowm(FlowmConfig { precision, ..Default::default() });
    let models = [
        ("flowm_bf16", flowm(Precision::Bf16)),
        ("flowm_f32", flowm(Precision::F32)),
        ("linear_rnn", WorldModelConfig::LinearRnn(LinearRnnConfig::default())),
    ];
    let mut group = c.benchmark_group("train_step");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (name, config) in models {
        for [batch, context, horizon] in [[2, 10, 10], [8, 50, 20]] {
            let vs = nn::VarStore::new(Device::Cpu);
            let model = config.build(&vs.root(), Seed(0));
            let mut adam = Adam::new(&vs, AdamConfig::default());
            let clip = noise(batch, context, horizon, 32);
            group.throughput(Throughput::Elements((batch * clip.steps()) as u64));
            group.bench_function(BenchmarkId::new(name, format!("b{batch}_{context}_{horizon}")), |b| {
                b.iter(|| {
                    adam.zero_grad();
                    model.loss(&clip).backward();
                    adam.step(1e-4, adam.gradient_norm());
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, updates);
criterion_main!(benches);
