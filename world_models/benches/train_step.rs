//! Seconds of one training update: loss, gradients, Adam. FloWM in both precisions, the linear RNN, and FloWM 3D.
//!
//! `cargo bench -p world_models`; one element is one predicted or seen frame, so criterion prints frames a second too.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, Kind, Tensor, nn};
use world_models::adam::{Adam, AdamConfig};
use world_models::belief::Clip;
use world_models::clips::Actions;
use world_models::flowm::{FlowmConfig, Precision};
use world_models::flowm3d::{Flowm3dConfig, Mixing};
use world_models::linear_rnn::LinearRnnConfig;
use world_models::registry::WorldModelConfig;

/// Frames of noise and random moves: the cost does not depend on what is shown.
fn noise(config: &WorldModelConfig, [batch, context, horizon]: [i64; 3]) -> Clip {
    let mut rng = stream(Seed(0), Purpose::World, 0);
    let (steps, [window, colours]) = (context + horizon, config.frame());
    let frames: Vec<f32> = (0..batch * steps * colours * window * window).map(|_| rng.random()).collect();
    let actions = match config.actions() {
        Actions::Vector(n) => {
            let moves: Vec<f32> = (0..batch * steps * n).map(|_| f32::from(rng.random_range(-10i8..=10))).collect();
            Tensor::from_slice(&moves).view([batch, steps, n])
        }
        Actions::Choice(n) => {
            let choices: Vec<i64> = (0..batch * steps).map(|_| rng.random_range(0..n)).collect();
            Tensor::from_slice(&choices).view([batch, steps]).one_hot(n).to_kind(Kind::Float)
        }
    };
    Clip { frames: Tensor::from_slice(&frames).view([batch, steps, colours, window, window]), actions, context }
}

/// What `configs/flowm3d/small.toml` says, of frames of 64 x 64.
fn flowm3d() -> Flowm3dConfig {
    Flowm3dConfig {
        window: 64,
        patch: 8,
        map_side: 13,
        hidden: 64,
        heads: 2,
        encoder_depth: 2,
        decoder_depth: 2,
        mixing: Mixing::None,
        sight: 2.0,
        reconstruction: 1.0,
        recompute: false,
        ..Default::default()
    }
}

fn updates(c: &mut Criterion) {
    let flowm = |precision| WorldModelConfig::Flowm(FlowmConfig { precision, ..Default::default() });
    let models = [
        ("flowm_bf16", flowm(Precision::Bf16)),
        ("flowm_f32", flowm(Precision::F32)),
        ("linear_rnn", WorldModelConfig::LinearRnn(LinearRnnConfig::default())),
        ("flowm3d_small", WorldModelConfig::Flowm3d(flowm3d())),
    ];
    let mut group = c.benchmark_group("train_step");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (name, config) in models {
        let longer = if matches!(config, WorldModelConfig::Flowm3d(_)) { [8, 20, 20] } else { [8, 50, 20] };
        for sizes in [[2, 10, 10], longer] {
            let [batch, context, horizon] = sizes;
            let vs = nn::VarStore::new(Device::Cpu);
            let model = config.build(&vs.root(), Seed(0));
            let mut adam = Adam::new(&vs, AdamConfig::default());
            let clip = noise(&config, sizes);
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
