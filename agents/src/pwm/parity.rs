//! PWM against the original: what is imagined, the actor's loss and gradient, and a whole update.

use envs::registry::find;
use envs::vector::{AutoresetMode, VectorConfig};
use serde_json::json;
use world_models::latent::{LatentConfig, Sequences};
use world_models::mlp::{Numbers, gradient};

use super::*;
use crate::critic;
use crate::fixture::{Fixture, assert_close};
use crate::inside::Imagined;
use crate::moments::EPSILON;
use crate::networks::{ActorConfig, CriticConfig};
use crate::returns::WindowEnd;
use crate::returns::td_lambda;

/// The Hopper has as many observed numbers and actions as the fixtures.
fn fresh(fixture: &Fixture, dynamics: Dynamics) -> Pwm {
    let latent = fixture.argument("latent_dim").unwrap();
    let (actor, critic) = (ActorConfig::default(), CriticConfig::default());
    let config = PwmConfig {
        num_envs: 5,
        horizon: 4,
        window_end: WindowEnd::Faithful,
        model: LatentConfig {
            latent,
            units: vec![32, 28],
            encoder_units: vec![20],
            dynamics,
            ..LatentConfig::default()
        },
        actor: ActorConfig { hidden: vec![24, 16, 12], min_log_std: -1.427, ..actor },
        critic: CriticConfig { hidden: vec![24, 16], passes: 8, ..critic },
        ..PwmConfig::default()
    };
    let vector = VectorConfig { num_envs: 5, autoreset: AutoresetMode::SameStep, ..VectorConfig::default() };
    let envs = find("hopper").unwrap().make(&json!({}), &vector).unwrap();
    let mut pwm = Pwm::new(&config, Seed(0), envs).unwrap();
    load(&mut pwm, fixture);
    pwm
}

/// Our name of a parameter of the original.
fn ours(theirs: &str) -> String {
    if let Some(rest) = theirs.strip_prefix("wm._") {
        let name = rest.replace("velocity", "dynamics").replace("ln.weight", "gain").replace("ln.bias", "shift");
        return format!("model.{name}");
    }
    if theirs == "actor.logstd" {
        return "actor.log_std".to_owned();
    }
    // Linear, norm, linear, norm, ..., linear, with an activation before each norm that has no parameters.
    let (network, layer, parameter) = if let Some(rest) = theirs.strip_prefix("actor.mu_net.") {
        let (module, parameter) = rest.split_once('.').unwrap();
        let module: usize = module.parse().unwrap();
        let norm = module % 3 == 2;
        ("actor.mean", module / 3, if norm { ["gain", "shift"][usize::from(parameter == "bias")] } else { parameter })
    } else {
        let number: usize = theirs.strip_prefix("critic.params.").unwrap().parse().unwrap();
        ("critic", number / 4, ["weight", "bias", "gain", "shift"][number % 4])
    };
    format!("{network}.{layer}.{parameter}")
}

/// A tensor of the original in the shape of ours: linear weights are `[out, in]` there.
fn as_ours(theirs: &Tensor, ours: &Tensor, name: &str) -> Tensor {
    if name.ends_with("weight") { theirs.transpose(-1, -2).contiguous().view_as(ours) } else { theirs.view_as(ours) }
}

fn load(pwm: &mut Pwm, fixture: &Fixture) {
    let mut variables = pwm.model();
    for (name, theirs) in fixture.weights() {
        let name = ours(name);
        let mut variable = variables.remove(&name).unwrap_or_else(|| panic!("no variable {name}"));
        tch::no_grad(|| variable.copy_(&as_ours(theirs, &variable, &name)));
    }
    assert!(variables.is_empty(), "variables without a weight: {:?}", variables.keys());
    pwm.agent.actor.keep_exploring();
}

/// What is imagined from the fixture's first observations with its noise, and the gradient; no env has a say.
fn imagined(pwm: &mut Pwm, fixture: &Fixture) -> Imagined {
    let ready = pwm.model.ready(Numbers::F32);
    let window =
        pwm.window(&ready, &pwm.actor(), &fixture.tensor("input.obs").get(0)).dreamt(fixture.tensor("input.noise"));
    let courses = vec![Course::On; 20];
    pwm.agent.pull_back(pwm.config.objective(), &mut pwm.state.returns, window, courses)
}

fn check(fixture: &Fixture, output: &str, found: &[f32]) {
    fixture.check(output, &Tensor::from_slice(found).view_as(fixture.tensor(&format!("output.{output}"))));
}

/// Their loss is divided by the deviation of returns.
fn scaled(pwm: &Pwm, imagined: &Imagined) -> f32 {
    (imagined.loss / (pwm.state.returns.variance[0] + EPSILON).sqrt()) as f32
}

fn agrees(name: &str, dynamics: Dynamics) {
    let Some(fixture) = Fixture::load(name) else { return };
    let mut pwm = fresh(&fixture, dynamics);
    let imagined = imagined(&mut pwm, &fixture);
    fixture.check("buf_obs", &imagined.seen.view([4, 5, 24]));
    check(&fixture, "buf_rew", &imagined.rewards);
    check(&fixture, "buf_next_values", &imagined.worth);
    check(&fixture, "actor_loss", &[scaled(&pwm, &imagined)]);
    let variables = pwm.model();
    for output in fixture.outputs().filter(|output| output.starts_with("actor_loss_grad.")) {
        let name = ours(output.strip_prefix("actor_loss_grad.").unwrap());
        let found = gradient(&variables[&name]);
        let theirs = as_ours(fixture.tensor(&format!("output.{output}")), &found, &name);
        assert_close(output, &found, &theirs, 1e-3, 2.2e-4);
    }
}

#[test]
fn what_is_imagined_and_the_actor_s_gradient_agree() {
    agrees("pwm_single", Dynamics::Mlp);
    agrees("flow_mbpo_linear", Dynamics::Flow(FlowConfig::default()));
    agrees("flow_mbpo_simnorm", Dynamics::Flow(FlowConfig { simnorm_velocity: true, ..FlowConfig::default() }));
}

/// The world model, then the actor with the updated model, then the critics; every step counts as the end of an episode.
#[test]
fn a_whole_update_agrees() {
    let Some(fixture) = Fixture::load("pwm_update") else { return };
    let mut pwm = fresh(&fixture, Dynamics::Mlp);
    let input = |name: &str| fixture.tensor(&format!("input.{name}")).shallow_clone();
    let batch = Sequences { observations: input("obs"), actions: input("act"), rewards: input("rew").squeeze_dim(-1) };
    let losses = pwm.model.learn(&batch, 0.99, Numbers::F32, None);
    check(&fixture, "metric.wm_loss", &[((losses.dynamics + losses.reward) / 4.0) as f32]);
    let norm = pwm.model_adam.gradient_norm();
    pwm.model_adam.step(3e-4, norm);

    let imagined = imagined(&mut pwm, &fixture);
    check(&fixture, "metric.actor_loss", &[scaled(&pwm, &imagined)]);
    let norm = pwm.agent.actor_adam.gradient_norm();
    pwm.agent.actor_adam.step(5e-4, norm);
    pwm.agent.actor.keep_exploring();
    let ends = vec![Course::Truncated; 20];
    let targets = Tensor::from_slice(&td_lambda(&imagined.rewards, &imagined.worth, &ends, 5, 0.99, 0.95));
    let (critics, config) = (&pwm.agent.critic, &pwm.config.critic);
    let rng = &mut stream(Seed(0), Purpose::Critics, 0);
    let adam = &mut pwm.agent.critic_adam;
    let (loss, _) = critic::fit(critics, adam, config, 5e-4, &imagined.seen, &targets, rng);
    check(&fixture, "metric.value_loss", &[loss as f32]);
    let variables = pwm.model();
    for output in fixture.outputs().filter(|output| output.starts_with("after.")) {
        let name = ours(output.strip_prefix("after.").unwrap());
        let theirs = as_ours(fixture.tensor(&format!("output.{output}")), &variables[&name], &name);
        assert_close(output, &variables[&name], &theirs, 1e-4, 2e-5);
    }
}
