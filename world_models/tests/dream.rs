//! Dreams: the gradients that come back through them, step by step, are those of the whole.

use simulators::rng::{Purpose, Seed, stream};
use tch::{Device, Kind, Tensor, nn};
use world_models::belief::{Belief, WorldModel};
use world_models::dream::{ActionScale, Dream, Taped};
use world_models::latent::dream::LatentDream;
use world_models::latent::{LatentConfig, LatentModel};
use world_models::linear_rnn::{LinearRnn, LinearRnnConfig};
use world_models::mlp::{Activation, Mlps, Numbers, Shape, Start};

const STEPS: i64 = 4;
const ROWS: i64 = 3;
const ACTIONS: i64 = 2;

fn random(shape: &[i64], seed: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// What comes of actions `[T, N, A]`: weighed rewards, and weighed features after each step.
fn worth(dream: &mut dyn Dream, actions: &Tensor, weights: [&Tensor; 2]) -> f64 {
    let mut total = 0.0;
    for t in 0..STEPS {
        dream.act(&actions.get(t));
        total += (dream.seen() * weights[1].get(t)).sum(Kind::Double).double_value(&[]);
    }
    total + (dream.rewards() * weights[0].flatten(0, -1)).sum(Kind::Double).double_value(&[])
}

fn agrees<'a>(begin: &dyn Fn() -> Box<dyn Dream + 'a>) {
    let features = begin().seen().size()[1];
    let actions = random(&[STEPS, ROWS, ACTIONS], 1).tanh();
    let (of_rewards, of_features) = (random(&[STEPS, ROWS], 2), random(&[STEPS, ROWS, features], 3));
    let weights = [&of_rewards, &of_features];

    let gradient = |[of_rewards, of_features]: [&Tensor; 2], cut: Option<i64>| {
        let mut dream = begin();
        worth(dream.as_mut(), &actions, [of_rewards, of_features]);
        dream.pull_back_rewards(&of_rewards.flatten(0, -1));
        let mut gradients = Vec::new();
        for t in (0..STEPS).rev() {
            let on = Tensor::ones([ROWS, 1], (Kind::Float, Device::Cpu));
            if cut == Some(t) {
                let _ = on.get(1).fill_(0.0);
            }
            gradients.push(dream.pull_back(&of_features.get(t), &on));
        }
        gradients.reverse();
        Tensor::stack(&gradients, 0)
    };
    // Where a row begins anew after a step, nothing comes back from later ones.
    let early = weights.map(|weights| {
        let early = weights.copy();
        let _ = early.narrow(0, 2, STEPS - 2).select(1, 1).zero_();
        early
    });
    let (cut, expected) =
        (gradient(weights, Some(1)).narrow(0, 0, 2), gradient(early.each_ref(), None).narrow(0, 0, 2));
    assert!(cut.allclose(&expected, 1e-4, 1e-6, false));
    let gradient = gradient(weights, None);
    assert!(!cut.allclose(&gradient.narrow(0, 0, 2), 1e-4, 1e-6, false));
    for place in [[0, 0, 0], [0, 2, 1], [1, 1, 0], [3, 0, 1]] {
        let moved = |by: f64| {
            let moved = actions.copy();
            let _ = place.iter().fold(moved.shallow_clone(), |x, &i| x.get(i)).g_add_scalar_(by);
            worth(begin().as_mut(), &moved, weights)
        };
        let (expected, found) = ((moved(1e-2) - moved(-1e-2)) / 2e-2, gradient.double_value(&place));
        assert!((found - expected).abs() < 2e-2 * expected.abs().max(0.1), "{place:?}: {found}, not {expected}");
    }
}

/// A recurrent network is any world model: nothing of it is known but what libtorch's tape remembers.
#[test]
fn gradients_come_back_through_any_model() {
    let mut vs = nn::VarStore::new(Device::Cpu);
    let config = LinearRnnConfig { hidden: 6, window: 5, ..LinearRnnConfig::default() };
    let model = LinearRnn::new(&vs.root(), &config, Seed(2));
    vs.freeze();
    let heads = nn::VarStore::new(Device::Cpu);
    let shape = Shape::plain(&[25, 16, 1], Activation::Mish);
    let reward = Mlps::new(&heads.root(), 1, &shape, Start::Uniform, &mut stream(Seed(1), Purpose::Weights, 0));
    let (passes, scale) = (reward.passes(Numbers::F32), ActionScale::new(&[[-3.0, 3.0], [0.0, 1.0]], false));
    let seen = random(&[ROWS, 1, 5, 5], 4);
    let belief = tch::no_grad(|| {
        model.observe(&model.start(ROWS), &Tensor::zeros([ROWS, 2], (Kind::Float, Device::Cpu)), &seen)
    });
    agrees(&|| Box::new(Taped::new(&model, &scale, &passes, belief.shallow_clone())));
}

#[test]
fn gradients_come_back_through_latents() {
    let sizes = LatentConfig { latent: 16, units: vec![24], encoder_units: vec![12], ..LatentConfig::default() };
    for normalise_latents in [false, true] {
        let vs = nn::VarStore::new(Device::Cpu);
        let config = LatentConfig { normalise_latents, ..sizes.clone() };
        let model = LatentModel::new(&vs.root(), &config, 5, ACTIONS, Seed(3));
        for (number, mut variable) in vs.trainable_variables().into_iter().enumerate() {
            let noise = random(&variable.size(), number as i64) * 0.3;
            let _ = tch::no_grad(|| variable.g_add_(&noise));
        }
        model.rescale_latents(&[0.125; 16], 3.0);
        let (ready, seen) = (model.ready(Numbers::F32), random(&[ROWS, 5], 4));
        agrees(&|| Box::new(LatentDream::new(ready.on_one_thread(), &seen)));
        let shown = LatentDream::new(ready.on_one_thread(), &seen).seen();
        let expected = ready.encode(&seen);
        let expected = if normalise_latents { (expected - 0.125) * 3.0 } else { expected };
        assert!(shown.allclose(&expected, 1e-5, 1e-6, false));
    }
}

#[test]
fn whole_actions_are_rounded_and_passed_over_on_the_way_back() {
    let scale = ActionScale::new(&[[-5.0, 5.0], [0.0, 4.0]], true);
    let actions = Tensor::from_slice(&[0.33f32, -1.0, -0.71, 0.2]).view([2, 2]).set_requires_grad(true);
    let found = scale.apply(&actions);
    assert_eq!(Vec::<f32>::try_from(found.flatten(0, -1)).unwrap(), [2.0, 0.0, -4.0, 2.0]);
    found.sum(Kind::Float).backward();
    assert_eq!(Vec::<f32>::try_from(actions.grad().flatten(0, -1)).unwrap(), [5.0, 2.0, 5.0, 2.0]);
}

#[test]
fn rows_of_beliefs_are_exchanged() {
    let belief = |x: f32| {
        let part = |shape: &[i64]| Tensor::full(shape, f64::from(x), (Kind::Float, Device::Cpu));
        Belief::new([("map", part(&[3, 2, 2])), ("offset", part(&[3]).to_kind(Kind::Int64))])
    };
    let mixed = belief(1.0).with_rows_of(&belief(7.0), &Tensor::from_slice(&[false, true, false]));
    for name in ["map", "offset"] {
        let of = |row: i64| mixed.part(name).get(row).max().double_value(&[]);
        assert_eq!([of(0), of(1), of(2)].map(|x| x as i64), [1, 7, 1]);
    }
}
