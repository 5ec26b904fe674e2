//! PWM's world model, and that of Flow-MBPO, against the originals: latents, rewards, losses and their gradients.

use simulators::rng::Seed;
use tch::{Device, Tensor, nn};
use world_models::latent::{Dynamics, FlowConfig, LatentConfig, LatentModel, Sequences, Solver};
use world_models::mlp::{Numbers, gradient};

use crate::fixture::Fixture;

/// Our name of a parameter of the original's world model, `wm.`; a flow's dynamics are called by what they are there.
fn ours(theirs: &str) -> Option<String> {
    let name = theirs.strip_prefix("wm._")?.replace("velocity", "dynamics");
    Some(name.replace("ln.weight", "gain").replace("ln.bias", "shift"))
}

/// As ours are, `[1, in, out]` or `[1, 1, out]`; linear weights of the original are `[out, in]`.
fn as_ours(theirs: &Tensor) -> Tensor {
    if theirs.dim() == 2 { theirs.tr().unsqueeze(0) } else { theirs.view([1, 1, -1]) }
}

fn model(fixture: &Fixture, dynamics: Dynamics) -> (nn::VarStore, LatentModel) {
    let argument = |name| fixture.argument(name).unwrap();
    let latent = argument("latent_dim");
    let config = LatentConfig { latent, units: vec![32, 28], encoder_units: vec![20], dynamics };
    let vs = nn::VarStore::new(Device::Cpu);
    let model = LatentModel::new(&vs.root(), &config, argument("obs_dim"), argument("act_dim"), Seed(0));
    let mut variables = vs.variables();
    for (name, theirs) in fixture.weights().filter_map(|(name, theirs)| Some((ours(name)?, theirs))) {
        let mut variable = variables.remove(&name).unwrap_or_else(|| panic!("no variable {name}"));
        tch::no_grad(|| variable.copy_(&as_ours(theirs)));
    }
    assert!(variables.is_empty(), "variables without a weight: {:?}", variables.keys());
    (vs, model)
}

fn batch(fixture: &Fixture) -> Sequences {
    let input = |name: &str| fixture.tensor(&format!("input.{name}")).shallow_clone();
    Sequences { observations: input("obs"), actions: input("act"), rewards: input("rew").squeeze_dim(-1) }
}

fn agrees(name: &str, dynamics: Dynamics) {
    let Some(fixture) = Fixture::load(name) else { return };
    let (vs, model) = model(&fixture, dynamics);
    let batch = batch(&fixture);
    let ready = model.ready(Numbers::F32);
    let first = ready.encode(&batch.observations.get(0));
    fixture.check("encode", &first);
    let inputs = Tensor::cat(&[&first, &batch.actions.get(0)], 1).unsqueeze(0);
    fixture.check("reward", &ready.reward.run(&inputs).0.squeeze_dim(0));
    if dynamics == Dynamics::Mlp {
        let (mut latents, mut rollout) = (first, Vec::new());
        for t in 0..batch.actions.size()[0] {
            latents = ready.dynamics.step(&latents, &batch.actions.get(t)).0;
            rollout.push(latents.shallow_clone());
        }
        fixture.check("next", &rollout[0]);
        fixture.check("rollout", &Tensor::stack(&rollout, 0));
    }
    let times = (dynamics != Dynamics::Mlp).then(|| fixture.tensor("input.tau").squeeze_dim(-1));
    let losses = model.learn(&batch, 0.99, Numbers::F32, times.as_ref());
    let steps = batch.actions.size()[0] as f64;
    let scalar = |x: f64| Tensor::from(x as f32);
    fixture.check("wm_loss", &scalar((losses.dynamics + losses.reward) / steps));
    let variables = vs.variables();
    let mut compared = 0;
    for output in fixture.outputs() {
        let Some(name) = output.strip_prefix("wm_loss_grad.").and_then(ours) else { continue };
        let (found, shape) = (gradient(&variables[&name]), fixture.tensor(&format!("output.{output}")).size());
        let as_theirs = if shape.len() == 2 { found.squeeze_dim(0).tr() } else { found.view(shape.as_slice()) };
        fixture.check(output, &as_theirs);
        compared += 1;
    }
    assert!(compared >= 4, "only {compared} gradients");
}

#[test]
fn the_model_of_pwm_agrees() {
    agrees("pwm_single", Dynamics::Mlp);
}

#[test]
fn the_flows_agree() {
    let flow = FlowConfig { solver: Solver::Heun, substeps: 2, ..FlowConfig::default() };
    agrees("flow_mbpo_linear", Dynamics::Flow(flow));
    agrees("flow_mbpo_simnorm", Dynamics::Flow(FlowConfig { simnorm_velocity: true, ..flow }));
}

#[test]
fn solvers_agree() {
    for (name, simnorm_velocity) in [("flow_mbpo_linear", false), ("flow_mbpo_simnorm", true)] {
        let Some(fixture) = Fixture::load(name) else { return };
        for (output, solver, substeps) in [
            ("next_euler_2", Solver::Euler, 2),
            ("next_euler_4", Solver::Euler, 4),
            ("next_heun_2", Solver::Heun, 2),
            ("next_heun_4", Solver::Heun, 4),
        ] {
            let flow = FlowConfig { solver, substeps, simnorm_velocity, ..FlowConfig::default() };
            let (_vs, model) = model(&fixture, Dynamics::Flow(flow));
            let (batch, ready) = (batch(&fixture), model.ready(Numbers::F32));
            let next = ready.dynamics.step(&ready.encode(&batch.observations.get(0)), &batch.actions.get(0)).0;
            fixture.check(output, &next);
        }
    }
}
