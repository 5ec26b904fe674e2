//! PWM's world model, and that of Flow-MBPO, against the originals: latents, rewards, losses and their gradients.

use simulators::rng::Seed;
use tch::{Device, Kind, Tensor, nn};
use world_models::flow::Solver;
use world_models::latent::reward::{RewardHead, RewardLoss, RewardScale, TwoHot};
use world_models::latent::{Dynamics, FlowConfig, LatentConfig, LatentModel, Sequences};
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

/// Numbers of a latent, an action, and a task's embedding; here the embedding stands after observations and before actions.
const SIZES: [i64; 3] = [24, 3, 6];

/// Where the columns of our weights stand in the original's; the same, if it is none of these.
fn columns(name: &str, tasks: bool, dynamics: Dynamics) -> Option<Tensor> {
    let ([z, a, e], Dynamics::Flow(_), true) = (SIZES, dynamics, tasks) else { return None };
    // What stands between a latent and a task there: an action and a time, or an action.
    let between = match name {
        "dynamics.0.weight" => a + 1,
        "reward.0.weight" => a,
        _ => return None,
    };
    let parts = [(0, z), (z + between, e), (z, between)];
    let order = parts.into_iter().flat_map(|(first, count)| (0..count).map(move |column| first + column));
    Some(Tensor::from_slice(&order.collect::<Vec<i64>>()))
}

/// The embedding of each row's task, none longer than one.
fn embedded(fixture: &Fixture) -> Option<Tensor> {
    fixture.argument("obs_dim")?;
    let (_, table) = fixture.weights().find(|(name, _)| *name == "wm._task_emb.weight")?;
    let lengths = table.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Float).sqrt();
    Some((table / lengths.clamp_min(1.0)).index_select(0, fixture.tensor("input.task")))
}

/// With the scalar reward, or 21 bins where there are tasks.
fn model(fixture: &Fixture, dynamics: Dynamics, scale: RewardScale) -> (nn::VarStore, LatentModel) {
    let argument = |name| fixture.argument(name).unwrap();
    let (latent, tasks) = (argument("latent_dim"), embedded(fixture).is_some());
    let two_hot = TwoHot { bins: 21, limit: 10.0, loss: RewardLoss::SquaredError, scale };
    let reward = if tasks { RewardHead::TwoHot(two_hot) } else { RewardHead::Scalar };
    let config = LatentConfig {
        latent,
        units: vec![32, 28],
        encoder_units: vec![20],
        dynamics,
        reward,
        ..LatentConfig::default()
    };
    let vs = nn::VarStore::new(Device::Cpu);
    let more = if tasks { SIZES[2] } else { 0 };
    let model = LatentModel::new(&vs.root(), &config, argument("obs_dim") + more, argument("act_dim") + more, Seed(0));
    let mut variables = vs.variables();
    let weights = fixture.weights().filter_map(|(name, theirs)| Some((ours(name)?, theirs)));
    for (name, theirs) in weights.filter(|(name, _)| name != "task_emb.weight") {
        let mut variable = variables.remove(&name).unwrap_or_else(|| panic!("no variable {name}"));
        let theirs = match columns(&name, tasks, dynamics) {
            Some(columns) => theirs.index_select(1, &columns),
            None => theirs.shallow_clone(),
        };
        tch::no_grad(|| variable.copy_(&as_ours(&theirs)));
    }
    assert!(variables.is_empty(), "variables without a weight: {:?}", variables.keys());
    (vs, model)
}

fn batch(fixture: &Fixture) -> Sequences {
    let input = |name: &str| fixture.tensor(&format!("input.{name}")).shallow_clone();
    let (mut observations, mut actions) = (input("obs"), input("act"));
    if let Some(tasks) = embedded(fixture) {
        let each = |steps: i64| tasks.unsqueeze(0).expand([steps, -1, -1], false);
        observations = Tensor::cat(&[&observations, &each(observations.size()[0])], 2);
        actions = Tensor::cat(&[&each(actions.size()[0]), &actions], 2);
    }
    Sequences { observations, actions, rewards: input("rew").squeeze_dim(-1) }
}

fn agrees(name: &str, dynamics: Dynamics) {
    let Some(fixture) = Fixture::load(name) else { return };
    let (vs, model) = model(&fixture, dynamics, RewardScale::Symlog);
    let batch = batch(&fixture);
    let ready = model.ready(Numbers::F32);
    let first = ready.encode(&batch.observations.get(0));
    fixture.check("encode", &first);
    let inputs = Tensor::cat(&[&first, &batch.actions.get(0)], 1);
    fixture.check("reward", &ready.reward.outputs(&inputs).0);
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
        let mut as_theirs = if shape.len() == 2 { found.squeeze_dim(0).tr() } else { found.view(shape.as_slice()) };
        if let Some(columns) = columns(&name, embedded(&fixture).is_some(), dynamics) {
            as_theirs = as_theirs.index_select(1, &columns.argsort(0, false));
        }
        fixture.check(output, &as_theirs);
        compared += 1;
    }
    assert!(compared >= 4, "only {compared} gradients");
}

#[test]
fn the_model_of_pwm_agrees() {
    agrees("pwm_single", Dynamics::Mlp);
    agrees("pwm_multi", Dynamics::Mlp);
}

#[test]
fn rewards_of_bins_agree() {
    let Some(fixture) = Fixture::load("pwm_multi") else { return };
    for (output, scale) in [("reward_value", RewardScale::Symlog), ("reward_symexp", RewardScale::Reward)] {
        let (_vs, model) = model(&fixture, Dynamics::Mlp, scale);
        let (batch, ready) = (batch(&fixture), model.ready(Numbers::F32));
        let inputs = Tensor::cat(&[&ready.encode(&batch.observations.get(0)), &batch.actions.get(0)], 1);
        fixture.check(output, &ready.reward.rewards(&inputs).0.unsqueeze(-1));
    }
}

#[test]
fn the_flows_agree() {
    let flow = FlowConfig { solver: Solver::Heun, substeps: 2, ..FlowConfig::default() };
    agrees("flow_mbpo_linear", Dynamics::Flow(flow));
    agrees("flow_mbpo_multi", Dynamics::Flow(flow));
    agrees("flow_mbpo_simnorm", Dynamics::Flow(FlowConfig { simnorm_velocity: true, ..flow }));
}

#[test]
fn solvers_agree() {
    for (name, simnorm_velocity) in
        [("flow_mbpo_linear", false), ("flow_mbpo_simnorm", true), ("flow_mbpo_multi", false)]
    {
        let Some(fixture) = Fixture::load(name) else { return };
        for (output, solver, substeps) in [
            ("next_euler_2", Solver::Euler, 2),
            ("next_euler_4", Solver::Euler, 4),
            ("next_heun_2", Solver::Heun, 2),
            ("next_heun_4", Solver::Heun, 4),
        ] {
            let flow = FlowConfig { solver, substeps, simnorm_velocity, ..FlowConfig::default() };
            let (_vs, model) = model(&fixture, Dynamics::Flow(flow), RewardScale::Symlog);
            let (batch, ready) = (batch(&fixture), model.ready(Numbers::F32));
            let next = ready.dynamics.step(&ready.encode(&batch.observations.get(0)), &batch.actions.get(0)).0;
            fixture.check(output, &next);
        }
    }
}
