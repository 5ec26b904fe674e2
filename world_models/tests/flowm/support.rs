//! What these tests share: small models, random clips, comparisons.

use rand::RngExt;
use simulators::rng::{Purpose, Rng, Seed, stream};
use tch::{Device, Kind, Tensor, nn};
use world_models::belief::Clip;
use world_models::flowm::{Flowm, FlowmConfig, Init, Precision, WriteOrder};

pub const ORDERS: [WriteOrder; 2] = [WriteOrder::Paper, WriteOrder::Code];

/// A stream of random numbers of its own for each `index`.
pub fn random(index: u64) -> Rng {
    stream(Seed(7), Purpose::World, index)
}

/// A small `f32` configuration whose weights are drawn as PyTorch draws them.
pub fn small(v_range: i64) -> FlowmConfig {
    FlowmConfig {
        hidden: 4,
        v_range,
        world: 12,
        window: 7,
        init: Init::Pytorch,
        precision: Precision::F32,
        ..Default::default()
    }
}

/// A model on the CPU with its weights; the same weights for the same configuration.
pub fn built(config: &FlowmConfig) -> (nn::VarStore, Flowm) {
    // The tests run side by side already, and the maps are too small to share out.
    world_models::libtorch::set_threads(1);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Flowm::new(&vs.root(), config, Seed(3));
    (vs, model)
}

/// Uniform in `[0, 1)`.
pub fn uniform(shape: &[i64], rng: &mut Rng) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random()).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Whole numbers in `-reach..=reach`, as `f32`.
pub fn whole(shape: &[i64], reach: i8, rng: &mut Rng) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| f32::from(rng.random_range(-reach..=reach))).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Random frames, and moves of up to 9 cells that led to them.
pub fn random_clip(config: &FlowmConfig, batch: i64, context: i64, horizon: i64, rng: &mut Rng) -> Clip {
    let (steps, window) = (context + horizon, config.window);
    Clip {
        frames: uniform(&[batch, steps, config.input_channels, window, window], rng),
        actions: whole(&[batch, steps, 2], 9, rng),
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
    (loss.double_value(&[]), weights.into_iter().map(|(name, weight)| (name, weight.grad().copy())).collect())
}

/// Panics unless `|a - b| <= relative * max |b|` everywhere.
pub fn assert_near(what: &str, found: &Tensor, expected: &Tensor, relative: f64) {
    let error = distance(found, expected);
    assert!(error <= relative, "{what}: differs by {error:e} of the largest expected, allowed is {relative:e}");
}

/// `max |a - b| / max |b|`.
pub fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size(), "shapes differ");
    let largest = |t: &Tensor| t.abs().max().double_value(&[]);
    let (found, expected) = (found.detach().to_kind(Kind::Double), expected.detach().to_kind(Kind::Double));
    largest(&(&found - &expected)) / largest(&expected).max(1e-30)
}
