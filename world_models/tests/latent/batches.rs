//! What becomes of a batch before a model learns it: pieces, and scales of observations.

use simulators::rng::Seed;
use tch::{Device, Kind, Tensor, nn};
use world_models::latent::{LatentConfig, LatentModel, Losses, Sequences};
use world_models::mlp::{Numbers, gradient};

const INPUTS: i64 = 3;

fn model(normalise_observations: bool) -> (nn::VarStore, LatentModel) {
    let sizes = LatentConfig { latent: 16, units: vec![24], encoder_units: vec![12], ..LatentConfig::default() };
    let vs = nn::VarStore::new(Device::Cpu);
    let config = LatentConfig { normalise_observations, ..sizes };
    let model = LatentModel::new(&vs.root(), &config, INPUTS, 2, Seed(3));
    (vs, model)
}

fn batch() -> Sequences {
    tch::manual_seed(2);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    Sequences { observations: random(&[7, 5, INPUTS]), actions: random(&[6, 5, 2]), rewards: random(&[6, 5]) }
}

/// Losses, and the gradient of the encoder's first weights.
fn learned(model: &LatentModel, vs: &nn::VarStore, batch: &Sequences) -> (Losses, Tensor) {
    let weight = &vs.variables()["encoder.0.weight"];
    weight.shallow_clone().zero_grad();
    let losses = model.learn(batch, 0.9, Numbers::F32, None);
    (losses, gradient(weight).copy())
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-5 * b.abs().max(1e-3)
}

/// To learn pieces side by side is to learn each of them alone, on average.
#[test]
fn pieces_stand_side_by_side() {
    let (vs, model) = model(false);
    let whole = batch();
    let (together, gradient) = learned(&model, &vs, &whole.cut(2));
    let part = |from: i64| Sequences {
        observations: whole.observations.narrow(0, from, 3),
        actions: whole.actions.narrow(0, from, 2),
        rewards: whole.rewards.narrow(0, from, 2),
    };
    let parts: Vec<(Losses, Tensor)> = [0, 2, 4].map(|from| learned(&model, &vs, &part(from))).into();
    let mean = |of: fn(&Losses) -> f64| parts.iter().map(|(losses, _)| of(losses)).sum::<f64>() / 3.0;
    assert!(close(together.dynamics, mean(|losses| losses.dynamics)), "{together:?}, of {parts:?}");
    assert!(close(together.reward, mean(|losses| losses.reward)), "{together:?}, of {parts:?}");
    let expected = parts.iter().fold(gradient.zeros_like(), |sum, (_, gradient)| sum + gradient) / 3.0;
    assert!(gradient.allclose(&expected, 1e-4, 1e-7, false));
    let uncut = whole.cut(6);
    assert_eq!((uncut.observations, uncut.rewards), (whole.observations, whole.rewards));
}

/// A model that normalises is the one that does not, given what was normalised before; also where it learns.
#[test]
fn observations_are_normalised_before_the_encoder() {
    let (plain_vs, plain) = model(false);
    let (vs, normalising) = model(true);
    let (mean, scale) = ([1.0, -2.0, 30.0], [0.5, 2.0, 0.1]);
    let first = batch();
    let shifted = Sequences {
        observations: &first.observations / Tensor::from_slice(&scale.map(|x| x as f32))
            + Tensor::from_slice(&mean.map(|x| x as f32)),
        ..batch()
    };
    normalising.rescale_observations(&mean, &scale);
    let latents = |model: &LatentModel, batch: &Sequences| model.ready(Numbers::F32).encode(&batch.observations.get(0));
    assert!(latents(&normalising, &shifted).allclose(&latents(&plain, &first), 1e-4, 1e-5, false));
    let ((found, of_found), (expected, of_expected)) =
        (learned(&normalising, &vs, &shifted), learned(&plain, &plain_vs, &first));
    assert!((found.dynamics - expected.dynamics).abs() < 1e-4 * expected.dynamics);
    assert!(of_found.allclose(&of_expected, 1e-2, 1e-5, false));
    // The scales are kept with the weights, and are not trained.
    let kept: Vec<Tensor> = ["observation_mean", "observation_scale"].map(|name| vs.variables()[name].copy()).into();
    assert!(kept.iter().all(|kept| !kept.requires_grad()) && kept[1] == Tensor::from_slice(&scale.map(|x| x as f32)));
    // What is far away counts as ten deviations.
    let far = Sequences { observations: shifted.observations * 1e30, ..batch() };
    assert!(latents(&normalising, &far).isfinite().all().int64_value(&[]) == 1);
}
