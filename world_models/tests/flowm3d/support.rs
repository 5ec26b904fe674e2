//! What these tests share: small models, random clips, gradients.

use rand::RngExt;
use simulators::rng::{Purpose, Rng, Seed, stream};
use tch::{Device, Kind, Tensor, nn};
use world_models::belief::Clip;
use world_models::flowm::Precision;
use world_models::flowm3d::{ACTIONS, Flowm3d, Flowm3dConfig, Mixing};

/// A stream of random numbers of its own for each `index`.
pub fn random(index: u64) -> Rng {
    stream(Seed(7), Purpose::World, index)
}

/// A model of a few thousand weights in single precision.
pub fn small() -> Flowm3dConfig {
    Flowm3dConfig {
        window: 8,
        input_channels: 2,
        patch: 4,
        map_side: 7,
        hidden: 8,
        heads: 2,
        encoder_depth: 2,
        decoder_depth: 1,
        mixing: Mixing::Corrected,
        precision: Precision::F32,
        ..Default::default()
    }
}

/// A model on the CPU with its weights; the same weights for the same configuration.
pub fn built(config: &Flowm3dConfig) -> (nn::VarStore, Flowm3d) {
    // The tests run side by side already, and the maps are too small to share out.
    world_models::libtorch::set_threads(1);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Flowm3d::new(&vs.root(), config, Seed(3));
    (vs, model)
}

/// Uniform in `[-1, 1)`.
pub fn uniform(shape: &[i64], rng: &mut Rng) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_: i64| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Actions as a model is told of them: any shape of numbers of choices, and one axis more. What is not a choice is none.
pub fn told(choices: &Tensor) -> Tensor {
    let choice = Tensor::arange(ACTIONS, (Kind::Int64, Device::Cpu));
    choices.unsqueeze(-1).eq_tensor(&choice).to_kind(Kind::Float)
}

/// Random frames, and random actions but for the first.
pub fn random_clip(config: &Flowm3dConfig, batch: i64, context: i64, horizon: i64, rng: &mut Rng) -> Clip {
    let (steps, window) = (context + horizon, config.window);
    let choices: Vec<i64> =
        (0..batch * steps).map(|i| if i % steps == 0 { -1 } else { rng.random_range(0..ACTIONS) }).collect();
    Clip {
        frames: uniform(&[batch, steps, config.input_channels, window, window], rng).abs(),
        actions: told(&Tensor::from_slice(&choices).view([batch, steps])),
        context,
    }
}

/// Loss and the gradient of every weight by name.
pub fn with_gradients(vs: &nn::VarStore, loss: impl FnOnce() -> Tensor) -> (f64, Vec<(String, Tensor)>) {
    let mut weights: Vec<_> = vs.variables().into_iter().collect();
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, weight) in &mut weights {
        weight.zero_grad();
    }
    let loss = loss();
    loss.backward();
    let gradient = |weight: Tensor| if weight.grad().defined() { weight.grad().copy() } else { weight.zeros_like() };
    (loss.double_value(&[]), weights.into_iter().map(|(name, weight)| (name, gradient(weight))).collect())
}
