//! Of a run's parts: gradients, what is learned when, and what a policy is shown.

use super::*;
use crate::moments::EPSILON;
use envs::registry::find;
use envs::vector::{AutoresetMode, VectorConfig};
use serde_json::json;
use tch::Kind;
use world_models::dream::Dream as _;
use world_models::mlp::{Numbers, gradient};

use crate::window::{Dreamt as _, Window};

fn run(more: &Value) -> Pwm {
    let mut config = json!({"num_envs": 6, "horizon": 5,
        "model": {"latent": 16, "units": [24], "encoder_units": [16]},
        "model_training": {"batch": 10, "updates": 2, "first_updates": 3},
        "actor": {"hidden": [16, 8]}, "critic": {"hidden": [16], "passes": 2, "minibatches": 2}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = PwmConfig::deserialize(&config).unwrap();
    let vector =
        VectorConfig { num_envs: config.num_envs, autoreset: AutoresetMode::SameStep, ..VectorConfig::default() };
    let envs = find("hopper").unwrap().make(&json!({}), &vector).unwrap();
    Pwm::new(&config, Seed(5), envs).unwrap()
}

/// Where the actor sees latents with gradient, its own is that of differences of what it lowers; where it does not, credit
/// through what it sees is missing.
#[test]
fn the_actor_s_gradient_is_that_of_the_objective() {
    for (dynamics, shown, detach) in [
        (json!({"kind": "mlp"}), "latents", false),
        (json!({"kind": "flow", "solver": "euler"}), "latents", false),
        (json!({"kind": "mlp"}), "observations", false),
        (json!({"kind": "mlp"}), "projected", false),
        (json!({"kind": "mlp"}), "latents", true),
    ] {
        let model = json!({"latent": 16, "units": [24], "encoder_units": [16], "dynamics": dynamics, "shown": shown,
            "normalise_latents": shown == "projected"});
        let mut pwm = run(&json!({"detach": detach, "model": model}));
        tch::manual_seed(3);
        // By name: the order of a map is another one each time.
        for mut weight in pwm.model_weights.variables().into_iter().collect::<Named>().into_values() {
            let noise = weight.randn_like() * 0.5;
            let _ = tch::no_grad(|| weight.g_add_(&noise));
        }
        let observations = Tensor::randn([6, 11], (Kind::Float, Device::Cpu));
        let ready = pwm.model.ready(pwm.config.numbers);
        let objective = |pwm: &mut Pwm| {
            pwm.state.returns = Moments::new(1);
            let window = pwm.dream(&ready, &pwm.actor(), &observations);
            let objective = pwm.config.objective();
            pwm.agent.pull_back(objective, &mut pwm.state.returns, window, vec![Course::On; 6 * 5]).loss
        };
        let mut furthest = 0.0f64;
        for (name, parameter) in pwm.agent.actor_weights.variables().into_iter().collect::<Named>() {
            let place = parameter.detach().flatten(0, -1).get(0);
            let mut moved = |by: f64| {
                let _ = place.shallow_clone().g_add_scalar_(by);
                let found = objective(&mut pwm);
                let _ = place.shallow_clone().g_add_scalar_(-by);
                found
            };
            let expected = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            objective(&mut pwm);
            let deviation = (pwm.state.returns.variance[0] + EPSILON).sqrt();
            let found = gradient(&parameter).flatten(0, -1).double_value(&[0]) * deviation;
            let error = (found - expected).abs() / expected.abs().max(0.05);
            assert!(detach || error < 3e-2, "{name}: {found}, not {expected}");
            furthest = furthest.max(error);
        }
        assert!(!detach || furthest > 0.05, "nothing is missing");
    }
}

/// Rows that are shared among threads are dreamt, and gone back, as all together are.
#[test]
fn shares_of_a_window_are_the_whole() {
    let mut pwm = run(
        &json!({"detach": false, "model": {"latent": 16, "units": [24], "encoder_units": [16], "shown": "projected"}}),
    );
    tch::manual_seed(4);
    let rows = 600;
    let [observations, noise] =
        [vec![rows, 11], vec![5, rows, 3]].map(|shape| Tensor::randn(shape, (Kind::Float, Device::Cpu)));
    let courses: Vec<Course> =
        (0..5 * rows).map(|at| if at % 7 == 0 { Course::Terminated } else { Course::On }).collect();
    let (ready, actor) = (pwm.model.ready(pwm.config.numbers), pwm.agent.actor.ready(Numbers::F32));
    let objective = pwm.config.objective();
    let shares = pwm.window(&ready, &actor, &observations).dreamt(&noise);
    let whole =
        Window::new(LatentDream::new(ready.on_one_thread(), &observations), actor, false).dreamt(noise.unbind(0));
    let gradients = |pwm: &Pwm| {
        let weights: Named = pwm.agent.actor_weights.variables().into_iter().collect();
        weights.values().map(|weight| gradient(weight).copy()).collect::<Vec<_>>()
    };
    let shares = pwm.agent.pull_back(objective, &mut Moments::new(1), shares, courses.clone());
    let of_shares = gradients(&pwm);
    let whole = pwm.agent.pull_back(objective, &mut Moments::new(1), whole, courses);
    let of_whole = gradients(&pwm);
    // Some processors' matrix products are not of the same bits for a part of the rows.
    assert!((shares.loss / whole.loss - 1.0).abs() < 1e-5, "{}, not {}", shares.loss, whole.loss);
    assert!(shares.seen.allclose(&whole.seen, 1e-4, 1e-5, false));
    for (shares, whole) in of_shares.iter().zip(&of_whole) {
        let scale = whole.abs().max().double_value(&[]);
        assert!(scale > 0.0 && (shares - whole).abs().max().double_value(&[]) < 1e-4 * scale);
    }
    for (shares, whole) in shares.lengths.iter().zip(whole.lengths) {
        assert!((shares - whole).abs() < 1e-4 * whole);
    }
}

#[test]
fn a_state_that_is_not_finite_ends_its_own_env_and_is_not_learned_from() {
    let mut pwm = run(&json!({}));
    pwm.epoch().unwrap();
    let mut snapshot = serde_json::to_value(pwm.envs.snapshot()).unwrap();
    snapshot["rows"][2]["env"]["state"][9] = json!(1e30);
    pwm.envs.restore(&serde_json::from_value(snapshot).unwrap()).unwrap();
    let (report, wrong) = pwm.epoch().unwrap();
    assert_eq!((wrong, pwm.state.broken_steps), (None, 1));
    // That step, and the reset that came instead of the next one.
    assert_eq!(report.terminated, 2);
    for _ in 0..20 {
        assert_eq!(pwm.epoch().unwrap().1, None);
    }
    assert!(!pwm.replay.is_empty() && pwm.state.broken_steps == 1);
    assert!(pwm.replay.tensors().values().all(|rows| rows.isfinite().all().int64_value(&[]) == 1));
}

/// Nothing is learned before an episode has ended; then the model first.
#[test]
fn learning_begins_with_the_first_episode() {
    let mut pwm = run(&json!({}));
    let (first, _) = pwm.epoch().unwrap();
    assert_eq!((first.model, pwm.state.batches), (None, 0));
    while pwm.state.batches == 0 {
        pwm.epoch().unwrap();
    }
    assert_eq!((pwm.state.batches, pwm.agent.updates()[0]), (3, 1));
    let before: Vec<Tensor> = pwm.model_weights.variables().into_values().map(|weight| weight.copy()).collect();
    pwm.epoch().unwrap();
    assert_eq!((pwm.state.batches, pwm.agent.updates()), (5, [2, 8]));
    assert!(pwm.model_weights.variables().into_values().zip(before).any(|(now, before)| now != before));
}

/// Where rollouts are real, latents are those of what the envs have shown; where they are imagined, after a first window, they are not.
#[test]
fn latents_of_a_window_are_real_or_imagined() {
    for (rollouts, real) in [("real", true), ("imagined", false)] {
        let mut pwm = run(&json!({"rollouts": rollouts}));
        let ready = pwm.model.ready(pwm.config.numbers);
        let Lived { mut window, courses, .. } = pwm.play(&ready).unwrap();
        let now = ready.encode(&Tensor::from_slice(&pwm.state.obs).view([6, 11]));
        assert!(courses.iter().all(|&course| course == Course::On));
        let seen = window.each(&now, |window, _| window.dream.seen()).remove(0);
        for shown in [seen, window.columns().ends.get(4)] {
            assert_eq!(shown.allclose(&now, 1e-5, 1e-6, false), real);
        }
    }
}

/// A policy sees latents around zero, of deviation one, wherever the encoder puts them.
#[test]
fn latents_are_normalised_for_the_policy() {
    let model = json!({"latent": 16, "units": [24], "encoder_units": [16], "normalise_latents": true});
    let mut pwm = run(&json!({"model": model, "model_training": {"batch": 10, "updates": 2, "first_updates": 300}}));
    while pwm.agent.updates()[0] < 20 {
        pwm.epoch().unwrap();
    }
    let batch = pwm.replay.sample(100, &mut stream(Seed(1), Purpose::Latents, 0));
    let ready = pwm.model.ready(pwm.config.numbers);
    let shown = ready.shown(&ready.encode(&batch.observations.flatten(0, 1))).0;
    let mean = shown.mean_dim([0i64].as_slice(), false, Kind::Float).abs().max().double_value(&[]);
    let variance = shown.var_dim([0i64].as_slice(), false, false).mean(Kind::Float).double_value(&[]);
    assert!(mean < 1.0 && (0.5..2.0).contains(&variance), "{mean}, {variance}");
}

/// A reward that nobody has learned has no slope; the more is learned, the more slopes are those of the simulator: of rewards, and of values.
#[test]
fn slopes_of_a_model_that_has_learned_are_those_of_the_simulator() {
    let model = json!({"latent": 64, "units": [64], "encoder_units": [64], "normalise_observations": true,
        "shown": "observations"});
    let training = json!({"batch": 16, "updates": 1, "first_updates": 1, "learning_rate": 1e-3});
    let mut pwm = run(&json!({"model": model, "model_training": training, "rollouts": "real"}));
    let agreement = |pwm: &mut Pwm| {
        let ready = pwm.model.ready(pwm.config.numbers);
        pwm.diagnose(&ready).agreement
    };
    assert_eq!(agreement(&mut pwm)[0], None);
    for _ in 0..40 {
        pwm.epoch().unwrap();
    }
    let hardly = agreement(&mut pwm).map(Option::unwrap);
    pwm.train_model(3000, |_| 1e-3).unwrap();
    pwm.train_model(500, |_| 1e-4).unwrap();
    let found = agreement(&mut pwm).map(Option::unwrap);
    assert!(found.iter().zip(hardly).all(|(&found, hardly)| found > hardly && found < 1.0), "{hardly:?}, {found:?}");
    assert!(found[0] > 0.55 && found[1] > 0.4, "{found:?}");
}

/// Before the first epoch the learning rate falls along a line, however its updates are cut; afterwards it is that of the epochs.
#[test]
fn the_rate_of_pretraining_falls_to_that_of_the_epochs() {
    let training = |first: Option<f64>| {
        json!({"batch": 10, "updates": 1, "first_updates": 1, "pretraining_updates": 4, "learning_rate": 1e-9,
            "first_learning_rate": first})
    };
    let moved = |first: Option<f64>| {
        let mut pwm = run(&json!({"model_training": training(first)}));
        for _ in 0..60 {
            pwm.replay.step(0, &[0.3, -0.2, 0.1], 1.0, &[0.1; 11]);
        }
        pwm.replay.end(0);
        let mut steps = Vec::new();
        for updates in [1, 2, 1] {
            let weights = |pwm: &Pwm| pwm.model_weights.variables()["model.encoder.0.weight"].copy();
            let before = weights(&pwm);
            pwm.pretrain(updates).unwrap();
            steps.push((weights(&pwm) - before).abs().max().double_value(&[]));
        }
        assert_eq!(pwm.pretrained(), [4, 4]);
        steps
    };
    // A step of Adam is at most about as long as its learning rate: 1e-3, 7.5e-4 and 5e-4, 2.5e-4.
    let found = moved(Some(1e-3));
    assert!((0.9e-3..1.1e-3).contains(&found[0]) && found[1] > 1.0e-3 && found[2] < 0.3e-3, "{found:?}");
    assert!(moved(None).iter().all(|&step| step < 1e-7));
    // Where nothing came before, so do those of the first epoch that has an episode.
    let config = run(&json!({"model_training": training(Some(1e-3))})).config.model_training;
    for (update, expected) in [(0, 1e-3), (5, 5e-4), (9, 1e-4), (10, 0.0)] {
        assert!((config.first_rate(update, 10) - expected).abs() < 1e-8);
    }
}
