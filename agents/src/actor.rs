//! The actor of SHAC and PWM, Gaussian or a flow, and the centring and scaling of what it sees.

use simulators::rng::Rng;
use tch::{Device, Kind, Tensor, nn};
use world_models::flow::Path;
use world_models::mlp::passes::{Gradients, Keeps, Passes, Run, gradients};
use world_models::mlp::{Mlps, Numbers, gradient};

use crate::moments::{CLIP, Moments};
use crate::networks::ActorConfig;

/// `tanh(μ(x) + σ ε)`; of a flow, `tanh` of where the path from `σ ε` at the velocity `v(x, ·, τ)` ends.
#[derive(Debug)]
pub struct Actor {
    /// The mean, or the velocity.
    network: Mlps,
    flow: Option<Path>,
    /// `[A]`.
    log_std: Tensor,
    min_log_std: f64,
}

/// An actor with the weights of now, ready to act.
pub struct ReadyActor {
    passes: Passes,
    flow: Option<Path>,
    /// `[A]`.
    deviation: Tensor,
}

/// What [`ReadyActor::pull_back`] needs of the actions, and what it leaves.
pub struct ActorTape {
    inputs: Tensor,
    /// In the order in which they were made.
    runs: Vec<Run>,
    noise: Tensor,
    actions: Tensor,
    /// With respect to the deviations' logarithms, `[A]`, after the way back.
    of_log_std: Option<Tensor>,
}

/// Gradients of an actor's parameters.
pub struct ActorGradients {
    network: Gradients,
    log_std: Tensor,
}

impl ActorTape {
    /// What the actor was given, `[B, in]`.
    pub fn inputs(&self) -> Tensor {
        self.inputs.shallow_clone()
    }
}

impl Actor {
    /// An actor from `inputs` numbers to `actions`, its weights made under `path`.
    #[must_use]
    pub fn new(path: &nn::Path<'_>, config: &ActorConfig, inputs: i64, actions: i64, rng: &mut Rng) -> Self {
        let name = if config.flow.is_some() { "velocity" } else { "mean" };
        let network = Mlps::new(&(path / name), 1, &config.shape(inputs, actions), config.start, rng);
        let log_std = path.var("log_std", &[actions], nn::Init::Const(config.initial_log_std));
        Self { network, flow: config.flow, log_std, min_log_std: config.min_log_std }
    }

    /// The actor with the weights of now.
    pub fn ready(&self, numbers: Numbers) -> ReadyActor {
        let deviation = tch::no_grad(|| self.log_std.exp());
        ReadyActor { passes: self.network.passes(numbers), flow: self.flow, deviation }
    }

    /// Adds to the gradients of the parameters.
    pub fn add(&self, gradients: &ActorGradients) {
        self.network.add(&gradients.network);
        let _ = gradient(&self.log_std).g_add_(&gradients.log_std);
    }

    /// Lifts deviations that have fallen below their floor. The parameter itself is written: with a clamp in the function it
    /// would have no gradient there, and the deviation could never rise again.
    pub fn keep_exploring(&mut self) {
        tch::no_grad(|| {
            let _ = self.log_std.clamp_min_(self.min_log_std);
        });
    }

    /// The mean deviation.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        tch::no_grad(|| self.log_std.exp().mean(Kind::Float).double_value(&[]))
    }
}

impl ReadyActor {
    /// The same actor, for another thread, to act on that one alone.
    pub fn on_one_thread(&self) -> Self {
        Self { passes: self.passes.on_one_thread(), flow: self.flow, deviation: self.deviation.shallow_clone() }
    }

    /// The same actor, whose runs keep something else.
    pub fn keeping(&self, keeps: Keeps) -> Self {
        Self { passes: self.passes.keeping(keeps), flow: self.flow, deviation: self.deviation.shallow_clone() }
    }

    /// Actions before they are squashed, from `start` `[B, A]`: noise, or zero.
    fn from(&self, x: &Tensor, start: &Tensor) -> (Tensor, Vec<Run>) {
        let mut runs = Vec::new();
        let mut at = |inputs: &Tensor| {
            let (result, run) = self.passes.run(&inputs.unsqueeze(0));
            runs.push(run);
            result.squeeze_dim(0)
        };
        let actions = match self.flow {
            None => at(x) + start,
            Some(path) => path.follow(start, |place, time| {
                let time = place.narrow(1, 0, 1).full_like(time);
                at(&Tensor::cat(&[x, place, &time], 1))
            }),
        };
        (actions, runs)
    }

    /// The likeliest actions `[B, A]` for inputs `x` `[B, in]`.
    pub fn likeliest(&self, x: &Tensor) -> Tensor {
        let zero = Tensor::zeros([x.size()[0], self.deviation.numel() as i64], (Kind::Float, Device::Cpu));
        tch::no_grad(|| self.from(x, &zero).0.tanh())
    }

    /// Actions `[B, A]` for inputs `x` `[B, in]` and standard normal `noise` `[B, A]`, and what the way back needs.
    pub fn explore(&self, x: &Tensor, noise: Tensor) -> (Tensor, ActorTape) {
        let (actions, runs) = tch::no_grad(|| self.from(x, &(&self.deviation * &noise)));
        let actions = actions.tanh();
        let tape =
            ActorTape { inputs: x.shallow_clone(), runs, noise, actions: actions.shallow_clone(), of_log_std: None };
        (actions, tape)
    }

    /// The way back through a step, given the gradient with respect to its actions, `[B, A]`. Returns that with respect to the
    /// inputs, `[B, in]`, if it is wanted. [`gather`] makes gradients of the parameters of what is left in the tape.
    ///
    /// # Panics
    /// If the tape is of another actor.
    pub fn pull_back(&self, tape: &mut ActorTape, actions_bar: &Tensor, wants_x: bool) -> Option<Tensor> {
        let ActorTape { inputs, runs, noise, actions, of_log_std } = tape;
        let bar: Tensor = actions_bar * (1.0 - actions.square());
        let (of_start, of_x) = match self.flow {
            None => {
                let of_x = runs[0].pull_back(&bar.unsqueeze(0), wants_x);
                (bar, of_x.map(|of_x| of_x.squeeze_dim(0)))
            }
            Some(path) => {
                let ([width, count], mut of_x) = ([inputs.size()[1], actions.size()[1]], inputs.zeros_like());
                let mut runs = runs.iter_mut().rev();
                let of_start = path.pull_back(&bar, |bar| {
                    let run = runs.next().expect("a run for each velocity");
                    let bar = run.pull_back(&bar.unsqueeze(0), true).expect("it was wanted").squeeze_dim(0);
                    let _ = of_x.g_add_(&bar.narrow(1, 0, width));
                    bar.narrow(1, width, count)
                });
                (of_start, wants_x.then_some(of_x))
            }
        };
        let each = of_start * &*noise * &self.deviation;
        *of_log_std = Some(each.sum_dim_intlist([0i64].as_slice(), false, Kind::Float));
        of_x
    }
}

/// Gradients of the actor's parameters after the ways back through all of these steps.
///
/// # Panics
/// If there is no step, or one whose way back was not gone.
pub fn gather(tapes: Vec<ActorTape>) -> ActorGradients {
    let (mut runs, mut log_std) = (Vec::new(), None);
    for ActorTape { runs: of_step, of_log_std, .. } in tapes {
        let of_log_std = of_log_std.expect("tapes whose way back was gone");
        log_std = Some(log_std.map_or_else(|| of_log_std.shallow_clone(), |sum: Tensor| sum + &of_log_std));
        runs.extend(of_step);
    }
    ActorGradients { network: gradients(runs), log_std: log_std.expect("a step") }
}

/// Centres and scales observations by running moments, as tensors.
#[derive(Debug)]
pub struct Normaliser(Option<[Tensor; 2]>);

impl Normaliser {
    /// By these moments; by none, observations stay as they are.
    #[must_use]
    pub fn new(moments: Option<&Moments>) -> Self {
        Self(moments.map(|moments| {
            let floats = |values: &mut dyn Iterator<Item = f64>| {
                Tensor::from_slice(&values.map(|x| x as f32).collect::<Vec<_>>())
            };
            [floats(&mut moments.mean.iter().copied()), floats(&mut moments.scales())]
        }))
    }

    /// `[B, O]` to `[B, O]`.
    pub fn apply(&self, obs: &Tensor) -> Tensor {
        match &self.0 {
            Some([mean, scale]) => ((obs - mean) * scale).clamp(-CLIP, CLIP),
            None => obs.shallow_clone(),
        }
    }

    /// The gradient with respect to observations, given what they became, `inputs`, and that with respect to it.
    pub fn pull_back(&self, inputs: &Tensor, bar: &Tensor) -> Tensor {
        match &self.0 {
            Some([_, scale]) => bar * scale * inputs.abs().lt(CLIP),
            None => bar.shallow_clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::fixture::{Fixture, assert_close};
    use rand_distr::{Distribution as _, StandardNormal};
    use simulators::rng::{Purpose, Seed, stream};
    use world_models::flow::Solver;

    fn random(rng: &mut Rng, shape: [i64; 2]) -> Tensor {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| StandardNormal.sample(rng)).collect();
        Tensor::from_slice(&values).view(shape)
    }

    #[test]
    fn the_way_back_is_that_of_differences() {
        for flow in [None, Some(Path { solver: Solver::Euler, substeps: 3 }), Some(Path::default())] {
            way_back(flow);
        }
    }

    fn way_back(flow: Option<Path>) {
        let vs = nn::VarStore::new(Device::Cpu);
        let rng = &mut stream(Seed(4), Purpose::Weights, 0);
        let config = ActorConfig { flow, hidden: vec![24, 12], ..ActorConfig::default() };
        let actor = Actor::new(&vs.root(), &config, 5, 3, rng);
        let moments = Moments { count: 1.0, mean: vec![0.5; 5], variance: vec![0.3; 5] };
        let normaliser = Normaliser::new(Some(&moments));
        let (obs, noise, bar) = (random(rng, [6, 5]), random(rng, [6, 3]), random(rng, [6, 3]));
        let objective = |obs: &Tensor| {
            let (actions, _) = actor.ready(Numbers::F32).explore(&normaliser.apply(obs), noise.shallow_clone());
            (actions * &bar).sum(Kind::Double).double_value(&[])
        };
        let inputs = normaliser.apply(&obs);
        let ready = actor.ready(Numbers::F32);
        let (_, mut tape) = ready.explore(&inputs, noise.shallow_clone());
        let bar = ready.pull_back(&mut tape, &bar, true).expect("it was wanted");
        let gradient = normaliser.pull_back(&inputs, &bar);
        actor.add(&gather(vec![tape]));
        let difference = |more: f64, less: f64, width: f64| (more - less) / width;
        for (row, column) in [(0, 0), (3, 4), (5, 2)] {
            let moved = |by: f64| {
                let moved = obs.copy();
                let _ = moved.get(row).get(column).g_add_scalar_(by);
                objective(&moved)
            };
            let expected = difference(moved(1e-2), moved(-1e-2), 2e-2);
            let found = gradient.double_value(&[row, column]);
            assert!((found - expected).abs() < 1e-2 * expected.abs().max(0.1), "{found}, not {expected}");
        }
        for (name, parameter) in vs.variables().into_iter().collect::<BTreeMap<_, _>>() {
            let place = parameter.shallow_clone().detach().flatten(0, -1).get(1);
            let moved = |by: f64| {
                let _ = place.shallow_clone().g_add_scalar_(by);
                let found = objective(&obs);
                let _ = place.shallow_clone().g_add_scalar_(-by);
                found
            };
            let expected = difference(moved(1e-2), moved(-1e-2), 2e-2);
            let found = parameter.grad().flatten(0, -1).double_value(&[1]);
            assert!((found - expected).abs() < 1e-2 * expected.abs().max(0.1), "{name}: {found}, not {expected}");
        }
    }

    #[test]
    fn half_the_bytes_give_nearly_the_same_actions() {
        let vs = nn::VarStore::new(Device::Cpu);
        let rng = &mut stream(Seed(5), Purpose::Weights, 0);
        let actor = Actor::new(&vs.root(), &ActorConfig { hidden: vec![24, 12], ..ActorConfig::default() }, 5, 3, rng);
        let (x, noise) = (random(rng, [200, 5]), random(rng, [200, 3]));
        let actions = |numbers| actor.ready(numbers).explore(&x, noise.shallow_clone()).0;
        let most = (actions(Numbers::F32) - actions(Numbers::Bf16)).abs().max().double_value(&[]);
        assert!(most > 0.0 && most < 0.03, "{most}");
    }

    /// The flow actor of Flow-MBPO, which leaves squashing to others.
    #[test]
    fn flows_agree_with_the_original() {
        for (name, solver, substeps) in [
            ("flow_actor_euler_2", Solver::Euler, 2),
            ("flow_actor_euler_4", Solver::Euler, 4),
            ("flow_actor_heun_2", Solver::Heun, 2),
            ("flow_actor_heun_4", Solver::Heun, 4),
        ] {
            let Some(fixture) = Fixture::load(name) else { return };
            let vs = nn::VarStore::new(Device::Cpu);
            let flow = Some(Path { solver, substeps });
            let config = ActorConfig { flow, hidden: vec![24, 16], ..ActorConfig::default() };
            let actor = Actor::new(&vs.root(), &config, 24, 3, &mut stream(Seed(0), Purpose::Weights, 0));
            let mut variables = vs.variables();
            let ours = |theirs: &str| {
                // Linear, activation, norm, linear, ...
                let Some(rest) = theirs.strip_prefix("velocity_net.") else { return "log_std".to_owned() };
                let (module, parameter) = rest.split_once('.').unwrap();
                let module: usize = module.parse().unwrap();
                let norm = if parameter == "weight" { "gain" } else { "shift" };
                format!("velocity.{}.{}", module / 3, if module % 3 == 2 { norm } else { parameter })
            };
            for (theirs, weight) in fixture.weights() {
                let mut variable = variables.remove(&ours(theirs)).unwrap();
                let weight = if weight.dim() == 2 { weight.tr().contiguous() } else { weight.shallow_clone() };
                tch::no_grad(|| variable.copy_(&weight.view_as(&variable)));
            }
            assert!(variables.is_empty(), "{variables:?}");
            let input = |name: &str| fixture.tensor(&format!("input.{name}")).shallow_clone();
            let (x, noise) = (input("obs"), input("noise"));
            let ready = actor.ready(Numbers::F32);
            fixture.check("deterministic", &ready.likeliest(&x).atanh());
            let (actions, mut tape) = ready.explore(&x, noise);
            fixture.check("sample", &actions.atanh());

            // The gradient of the mean of squares of what is not squashed.
            let raw = actions.atanh();
            let bar = &raw * (2.0 / raw.numel() as f64) / (1.0 - actions.square());
            ready.pull_back(&mut tape, &bar, false);
            actor.add(&gather(vec![tape]));
            let variables = vs.variables();
            for output in fixture.outputs().filter(|output| output.starts_with("grad.")) {
                let found = gradient(&variables[&ours(&output["grad.".len()..])]);
                let theirs = fixture.tensor(&format!("output.{output}"));
                let found = if theirs.dim() == 2 { found.squeeze_dim(0).tr() } else { found };
                assert_close(output, &found, theirs, 2e-3, 1e-4);
            }
        }
    }

    #[test]
    fn what_is_cut_has_no_gradient() {
        let normaliser = Normaliser::new(Some(&Moments { count: 1.0, mean: vec![0.0], variance: vec![1.0] }));
        let inputs = normaliser.apply(&Tensor::from_slice(&[100.0f32, 1.0]).view([2, 1]));
        let bar = normaliser.pull_back(&inputs, &Tensor::from_slice(&[1.0f32, 1.0]).view([2, 1]));
        assert!(bar.double_value(&[0, 0]) == 0.0 && bar.double_value(&[1, 0]) > 0.9);
    }
}
