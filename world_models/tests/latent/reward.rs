//! Rewards as bins: what they can say, their gradients, and what the published loss makes of them.

use simulators::rng::Seed;
use tch::{Device, Kind, Tensor, nn};
use world_models::adam::{Adam, AdamConfig};
use world_models::latent::reward::{RewardHead, RewardLoss, RewardScale, TwoHot};
use world_models::latent::{LatentConfig, LatentModel, Ready, Sequences};
use world_models::mlp::Numbers;

use super::by_name;

const STEPS: i64 = 3;
const ROWS: i64 = 32;

fn model(two_hot: TwoHot) -> (nn::VarStore, LatentModel) {
    let reward = RewardHead::TwoHot(two_hot);
    let config =
        LatentConfig { latent: 16, units: vec![24, 20], encoder_units: vec![12], reward, ..LatentConfig::default() };
    let vs = nn::VarStore::new(Device::Cpu);
    let model = LatentModel::new(&vs.root(), &config, 2, 2, Seed(3));
    (vs, model)
}

/// Rewards of any size that the first number of an observation decides.
fn batch(seed: i64) -> Sequences {
    tch::manual_seed(seed);
    let observations = Tensor::rand([STEPS + 1, ROWS, 2], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let rewards = observations.narrow(0, 0, STEPS).select(2, 0) * 30.0;
    let actions = observations.narrow(0, 0, STEPS).copy();
    Sequences { observations, actions, rewards }
}

fn read(ready: &Ready, batch: &Sequences) -> Tensor {
    let first = ready.encode(&batch.observations.get(0));
    ready.reward.rewards(&Tensor::cat(&[&first, &batch.actions.get(0)], 1)).0
}

fn trained(two_hot: TwoHot, updates: usize) -> (LatentModel, nn::VarStore, f64) {
    let (vs, model) = model(two_hot);
    let mut adam = Adam::new(&vs, AdamConfig::default());
    let mut last = 0.0;
    for update in 0..updates {
        adam.zero_grad();
        last = model.learn(&batch(update as i64), 0.99, Numbers::F32, None).reward;
        let norm = adam.gradient_norm();
        adam.step(3e-3, norm);
    }
    (model, vs, last)
}

fn correlation(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a - a.mean(Kind::Float), b - b.mean(Kind::Float));
    let dot = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt().max(1e-12)
}

/// As published, the reward that is read stays zero however long it is trained, and nothing comes back through it: a policy
/// sees no reward at all. By cross-entropy it follows the true one.
#[test]
fn logits_fitted_by_squared_error_say_nothing() {
    let published = TwoHot { loss: RewardLoss::SquaredError, ..TwoHot::default() };
    let (model, _vs, loss) = trained(published, 1000);
    let (ready, batch) = (model.ready(Numbers::F32), batch(9999));
    assert!(read(&ready, &batch).abs().max().double_value(&[]) < 1e-6);
    let slope = |ready: &Ready| {
        let inputs = Tensor::cat(&[&ready.encode(&batch.observations.get(0)), &batch.actions.get(0)], 1);
        let gradient = ready.reward.rewards(&inputs).1.pull_back(&Tensor::ones([ROWS], (Kind::Float, Device::Cpu)));
        gradient.abs().max().double_value(&[])
    };
    assert!(slope(&ready) < 1e-4 && loss.is_finite(), "{}", slope(&ready));

    let (model, _vs, _) = trained(TwoHot::default(), 300);
    let ready = model.ready(Numbers::F32);
    let found = correlation(&read(&ready, &batch), &batch.rewards.get(0));
    assert!(found > 0.9 && slope(&ready) > 0.1, "{found}, {}", slope(&ready));
}

/// The cross-entropy of a reward between two bins is least where they share it, and reads as that reward.
#[test]
fn a_reward_lies_between_two_bins() {
    // Bins at -2, -1, 0, 1, 2 of symlog: 0.3 of the way from the fourth to the fifth.
    let two_hot = TwoHot { bins: 5, limit: 2.0, scale: RewardScale::Reward, ..TwoHot::default() };
    let (vs, model) = model(two_hot);
    let reward = 1.3f64.exp_m1();
    let batch = Sequences { rewards: Tensor::full([STEPS, ROWS], reward, (Kind::Float, Device::Cpu)), ..batch(1) };
    let mut bias = vs.variables().remove("reward.2.bias").unwrap();
    let loss = || model.learn(&batch, 1.0, Numbers::F32, None).reward;
    // The last weight begins at zero, so that the biases alone decide: first all bins alike, then shares of 0.7 and 0.3.
    assert!((loss() - 5.0f64.ln()).abs() < 1e-5);
    let shares = Tensor::from_slice(&[1e-9f32, 1e-9, 1e-9, 0.7, 0.3]).log().view([1, 1, 5]);
    tch::no_grad(|| bias.copy_(&shares));
    let least = -(0.7 * 0.7f64.ln() + 0.3 * 0.3f64.ln());
    assert!((loss() - least).abs() < 1e-5);
    let found = read(&model.ready(Numbers::F32), &batch);
    assert!((found - reward).abs().max().double_value(&[]) < 1e-4);
}

/// What a policy raises may be the symlog of a reward; what is compared with records is the reward.
#[test]
fn rewards_as_recorded_are_not_on_the_policy_s_scale() {
    for scale in [RewardScale::Symlog, RewardScale::Reward] {
        let (vs, model) = model(TwoHot { bins: 5, limit: 2.0, scale, ..TwoHot::default() });
        let mut bias = vs.variables().remove("reward.2.bias").unwrap();
        let shares = Tensor::from_slice(&[0.7f32, 0.3, 1e-9, 1e-9, 1e-9]).log().view([1, 1, 5]);
        tch::no_grad(|| bias.copy_(&shares));
        let (ready, batch) = (model.ready(Numbers::F32), batch(1));
        let inputs = Tensor::cat(&[&ready.encode(&batch.observations.get(0)), &batch.actions.get(0)], 1);
        let found = ready.reward.as_recorded(&inputs);
        assert!((found + 1.7f64.exp_m1()).abs().max().double_value(&[]) < 1e-4, "{scale:?}");
    }
}

#[test]
fn gradients_are_those_of_differences() {
    for (loss, scale) in [
        (RewardLoss::CrossEntropy, RewardScale::Symlog),
        (RewardLoss::CrossEntropy, RewardScale::Reward),
        (RewardLoss::SquaredError, RewardScale::Reward),
    ] {
        let (vs, model) = model(TwoHot { bins: 7, limit: 4.0, loss, scale });
        tch::manual_seed(5);
        for mut variable in by_name(&vs).into_values() {
            let noise = variable.randn_like() * 0.3;
            let _ = tch::no_grad(|| variable.g_add_(&noise));
        }
        let (ready, batch) = (model.ready(Numbers::F32), batch(2));
        let inputs = Tensor::cat(&[&ready.encode(&batch.observations.get(0)), &batch.actions.get(0)], 1);
        let bar = Tensor::randn([ROWS], (Kind::Float, Device::Cpu));
        let gradient = ready.reward.rewards(&inputs).1.pull_back(&bar);
        let moved = |by: f64| {
            let moved = inputs.copy();
            let _ = moved.get(4).get(1).g_add_scalar_(by);
            (ready.reward.rewards(&moved).0 * &bar).sum(Kind::Double).double_value(&[])
        };
        let (expected, found) = ((moved(1e-2) - moved(-1e-2)) / 2e-2, gradient.double_value(&[4, 1]));
        assert!((found - expected).abs() < 2e-2 * expected.abs().max(0.05), "{scale:?}: {found}, not {expected}");

        let mut bias = vs.variables().remove("reward.2.bias").unwrap();
        let place = bias.shallow_clone().detach().flatten(0, -1).get(3);
        let moved = |by: f64| {
            let _ = place.shallow_clone().g_add_scalar_(by);
            let found = model.learn(&batch, 0.9, Numbers::F32, None).reward / STEPS as f64;
            let _ = place.shallow_clone().g_add_scalar_(-by);
            found
        };
        let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        bias.zero_grad();
        model.learn(&batch, 0.9, Numbers::F32, None);
        let found = world_models::mlp::gradient(&bias).flatten(0, -1).double_value(&[3]);
        assert!((found - expected).abs() < 2e-2 * expected.abs().max(0.02), "{loss:?}: {found}, not {expected}");
    }
}
