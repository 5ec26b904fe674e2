//! Observations that are read from latents, and what a policy is shown.

use simulators::rng::Seed;
use tch::{Device, Kind, Tensor, nn};
use world_models::adam::{Adam, AdamConfig};
use world_models::latent::{LatentConfig, LatentModel, Sequences, Shown, parameters};
use world_models::mlp::{Numbers, gradient};

use super::by_name;

const INPUTS: i64 = 3;

fn model(shown: Shown) -> (nn::VarStore, LatentModel) {
    let (units, encoder_units) = (vec![24, 20], vec![12]);
    let config = LatentConfig { latent: 16, units, encoder_units, shown, ..LatentConfig::default() };
    let vs = nn::VarStore::new(Device::Cpu);
    let model = LatentModel::new(&vs.root(), &config, INPUTS, 2, Seed(3));
    let built: usize = vs.variables().values().map(Tensor::numel).sum();
    assert_eq!(parameters(&config, INPUTS, 2), built as u64);
    (vs, model)
}

fn batch(seed: i64) -> Sequences {
    tch::manual_seed(seed);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let observations = random(&[4, 64, INPUTS]);
    Sequences { actions: observations.narrow(0, 1, 3).narrow(2, 0, 2), observations, rewards: random(&[3, 64]) }
}

fn first_weight(vs: &nn::VarStore) -> Tensor {
    vs.variables()["encoder.0.weight"].shallow_clone()
}

/// What reading costs is the squared error of observations, those of imagined latents too, and its gradient goes through the rollout.
#[test]
fn errors_of_reading_shape_latents() {
    let ((vs, reading), (plain_vs, plain)) = (model(Shown::Observations), model(Shown::Latents));
    tch::manual_seed(7);
    let same = plain_vs.variables();
    for (name, mut weight) in by_name(&vs) {
        let noise = weight.randn_like() * 0.3;
        let _ = tch::no_grad(|| weight.g_add_(&noise));
        if let Some(same) = same.get(&name) {
            tch::no_grad(|| same.shallow_clone().copy_(&weight));
        }
    }
    let learned = |model: &LatentModel, vs: &nn::VarStore| {
        vs.variables().into_values().for_each(|mut weight| weight.zero_grad());
        model.learn(&batch(1), 0.9, Numbers::F32, None)
    };
    let place = |vs: &nn::VarStore| first_weight(vs).detach().flatten(0, -1).get(0);
    let moved = |by: f64| {
        let _ = place(&vs).g_add_scalar_(by);
        let found = learned(&reading, &vs).decoding;
        let _ = place(&vs).g_add_scalar_(-by);
        found
    };
    let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
    let (with, without) = (learned(&reading, &vs), learned(&plain, &plain_vs));
    assert_eq!((with.dynamics, without.decoding), (without.dynamics, 0.0));
    let of = |vs: &nn::VarStore| gradient(&first_weight(vs)).flatten(0, -1).double_value(&[0]);
    // The loss is a sum over the three steps, divided by their number.
    let found = (of(&vs) - of(&plain_vs)) * 3.0;
    assert!((found - expected).abs() < 2e-2 * expected.abs().max(1e-3), "{found}, not {expected}");
}

/// Latents, observations read from them, or latents of these: all without a model's errors where nothing was imagined.
#[test]
fn a_policy_is_shown_what_is_set() {
    let (vs, reading) = model(Shown::Observations);
    let mut adam = Adam::new(&vs, AdamConfig::default());
    for seed in 0..600 {
        adam.zero_grad();
        let _ = reading.learn(&batch(seed), 0.9, Numbers::F32, None);
        let norm = adam.gradient_norm();
        adam.step(3e-3, norm);
    }
    let seen = batch(1000).observations.get(0);
    let ready = reading.ready(Numbers::F32);
    let shown = ready.shown(&ready.encode(&seen)).0;
    let error = (&shown - &seen).square().mean(Kind::Double).double_value(&[]);
    assert!(error < 0.1, "{error}");

    let (other_vs, projecting) = model(Shown::Projected);
    let others = other_vs.variables();
    for (name, weight) in by_name(&vs) {
        tch::no_grad(|| others[&name].shallow_clone().copy_(&weight));
    }
    let ready = projecting.ready(Numbers::F32);
    assert!(ready.shown(&ready.encode(&seen)).0.allclose(&ready.encode(&shown), 1e-5, 1e-6, false));
}

/// Slopes of what is shown, down to the observations, are those of differences.
#[test]
fn slopes_go_back_to_observations() {
    for shown in [Shown::Latents, Shown::Observations, Shown::Projected] {
        for normalise in [false, true] {
            let (units, encoder_units) = (vec![24], vec![12]);
            let (normalise_observations, normalise_latents) = (normalise, normalise);
            let sizes = LatentConfig { latent: 16, units, encoder_units, shown, ..LatentConfig::default() };
            let config = LatentConfig { normalise_observations, normalise_latents, ..sizes };
            let vs = nn::VarStore::new(Device::Cpu);
            let model = LatentModel::new(&vs.root(), &config, INPUTS, 2, Seed(3));
            tch::manual_seed(5);
            for mut weight in vs.trainable_variables() {
                let noise = weight.randn_like() * 0.3;
                let _ = tch::no_grad(|| weight.g_add_(&noise));
            }
            model.rescale_observations(&[0.3; 3], &[2.0; 3]);
            model.rescale_latents(&[0.1; 16], 3.0);
            let ready = model.ready(Numbers::F32);
            let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
            let (seen, weights) = (random(&[4, INPUTS]), random(&[4, config.features(INPUTS)]));
            let total = |seen: &Tensor| (ready.shown(&ready.encode(seen)).0 * &weights).sum(Kind::Double);
            let found = ready.pull_back_to_observations(&seen, &weights);
            for place in [[0, 0], [2, 1], [3, 2]] {
                let moved = |by: f64| {
                    let moved = seen.copy();
                    let _ = moved.get(place[0]).get(place[1]).g_add_scalar_(by);
                    total(&moved).double_value(&[])
                };
                let (expected, found) = ((moved(1e-2) - moved(-1e-2)) / 2e-2, found.double_value(&place));
                let near = (found - expected).abs() < 2e-2 * expected.abs().max(0.1);
                assert!(near, "{shown:?}, {normalise}: {found}, not {expected}");
            }
        }
    }
}
