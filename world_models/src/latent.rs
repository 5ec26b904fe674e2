//! A world model without pictures (PWM: Georgiev et al. 2024, after TD-MPC2: Hansen et al. 2024): an encoder of observations into
//! latents, dynamics of latents, and the reward of acting there.
//!
//! A latent is `L` numbers in groups of eight, each group soft-maxed ([`Between::SimNorm`]). Everything here is on the CPU and
//! without libtorch's tape: [`LatentModel::ready`] takes the weights of now, its passes leave what the way back needs, and
//! [`LatentModel::learn`] adds the gradients of the training loss to those of the parameters. Columns are time-major.

pub mod config;
pub mod dream;
pub mod dynamics;
pub mod reward;
pub mod shown;

use simulators::rng::{Purpose, Seed, stream};
use tch::{Kind, Tensor, nn};

use crate::mlp::passes::{Gradients, Passes};
use crate::mlp::{Activation, Between, Mlps, Numbers, Shape, Start};
pub use config::{Dynamics, FlowConfig, LatentConfig, Shown, Starts, Times};
use dynamics::Ready as ReadyDynamics;
use reward::Ready as ReadyReward;

/// The networks.
#[derive(Debug)]
pub struct LatentModel {
    config: LatentConfig,
    of_observations: Option<Scales>,
    of_latents: Option<Scales>,
    encoder: Mlps,
    /// One, but for residual dynamics.
    dynamics: Vec<Mlps>,
    reward: Mlps,
    decoder: Option<Mlps>,
}

/// The networks ready to be run, with the weights of now.
pub struct Ready {
    of_observations: Option<Scales>,
    of_latents: Option<Scales>,
    encoder: Passes,
    /// Latents and actions to the next latents.
    pub dynamics: ReadyDynamics,
    /// Latents and actions to rewards.
    pub reward: ReadyReward,
    /// Latents to observations as the encoder is given them.
    decoder: Option<Passes>,
    projects: bool,
}

/// What columns are normalised by; kept with the weights, though not trained.
#[derive(Debug)]
struct Scales {
    /// `[columns]`.
    mean: Tensor,
    /// One over the deviation, `[columns]`.
    scale: Tensor,
}

/// Normalised observations beyond it are cut.
const CLIP: f64 = 10.0;

impl Scales {
    /// That change nothing.
    fn new(path: &nn::Path<'_>, of: &str, columns: i64) -> Self {
        Self {
            mean: path.zeros_no_train(&format!("{of}_mean"), &[columns]),
            scale: path.ones_no_train(&format!("{of}_scale"), &[columns]),
        }
    }

    fn set(&self, mean: &[f64], scale: &[f64]) {
        let set = |tensor: &Tensor, values: &[f64]| tensor.shallow_clone().copy_(&Tensor::from_slice(values));
        tch::no_grad(|| (set(&self.mean, mean), set(&self.scale, scale)));
    }

    fn applied(&self, rows: &Tensor) -> Tensor {
        (rows - &self.mean) * &self.scale
    }

    fn shallow_clone(&self) -> Self {
        Self { mean: self.mean.shallow_clone(), scale: self.scale.shallow_clone() }
    }
}

/// Recorded experience: `observations[t], actions[t] -> rewards[t], observations[t + 1]`.
#[derive(Debug)]
pub struct Sequences {
    /// `[T + 1, B, O]`.
    pub observations: Tensor,
    /// `[T, B, A]`.
    pub actions: Tensor,
    /// `[T, B]`.
    pub rewards: Tensor,
}

impl Sequences {
    /// Pieces of `steps` steps each, side by side: `[steps, B T / steps]`.
    ///
    /// # Panics
    /// If `steps` does not divide `T`.
    #[must_use]
    pub fn cut(&self, steps: i64) -> Self {
        let pieces = self.actions.size()[0] / steps;
        assert_eq!(pieces * steps, self.actions.size()[0], "whole pieces");
        let side_by_side = |column: &Tensor, length: i64| {
            Tensor::cat(&(0..pieces).map(|piece| column.narrow(0, piece * steps, length)).collect::<Vec<_>>(), 1)
        };
        Self {
            observations: side_by_side(&self.observations, steps + 1),
            actions: side_by_side(&self.actions, steps),
            rewards: side_by_side(&self.rewards, steps),
        }
    }
}

/// Parts of the training loss; the loss is their sum over `T`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// Sum over steps of the discounted mean squared error of latents (or of velocities).
    pub dynamics: f64,
    /// Mean over steps of the discounted mean squared error of rewards, or of the cross-entropy of their bins.
    pub reward: f64,
    /// Mean squared error of observations read from latents, those that were imagined too; 0 where they are not.
    pub decoding: f64,
}

impl LatentModel {
    /// A model from `inputs` observed numbers and `actions`, its weights made under `path`. The reward's last layer begins at
    /// zero.
    #[must_use]
    pub fn new(path: &nn::Path<'_>, config: &LatentConfig, inputs: i64, actions: i64, seed: Seed) -> Self {
        let made = |name: &str, index: u64, shape: &Shape| {
            Mlps::new(&(path / name), 1, shape, Start::Normal, &mut stream(seed, Purpose::Weights, index))
        };
        let Shapes { encoder, before, dynamics, reward, decoder } = shapes(config, inputs, actions);
        // A name and a stream for each: those of the last are the same whatever comes before it.
        let before = before.iter().enumerate().map(|(k, shape)| made(&format!("before_{k}"), 5 + k as u64, shape));
        let model = Self {
            config: config.clone(),
            of_observations: config.normalise_observations.then(|| Scales::new(path, "observation", inputs)),
            of_latents: config.normalise_latents.then(|| Scales::new(path, "latent", config.latent)),
            encoder: made("encoder", 2, &encoder),
            dynamics: before.chain([made("dynamics", 3, &dynamics)]).collect(),
            reward: made("reward", 4, &reward),
            decoder: decoder.map(|shape| made("decoder", 101, &shape)),
        };
        let _ = tch::no_grad(|| model.reward.last_weight().zero_());
        model
    }

    /// The networks with the weights of now.
    #[must_use]
    pub fn ready(&self, numbers: Numbers) -> Ready {
        Ready {
            of_observations: self.of_observations.as_ref().map(Scales::shallow_clone),
            of_latents: self.of_latents.as_ref().map(Scales::shallow_clone),
            encoder: self.encoder.passes(numbers),
            dynamics: ReadyDynamics::new(self.config.dynamics, self.passes_of_dynamics(numbers)),
            reward: ReadyReward::new(self.config.reward, self.reward.passes(numbers)),
            decoder: self.decoder.as_ref().map(|network| network.passes(numbers)),
            projects: self.config.shown == Shown::Projected,
        }
    }

    /// From now on observations are normalised by `mean` and `scale` (one over the deviation), `[O]`, if they are at all.
    ///
    /// # Panics
    /// If they are of another length.
    pub fn rescale_observations(&self, mean: &[f64], scale: &[f64]) {
        if let Some(scales) = &self.of_observations {
            scales.set(mean, scale);
        }
    }

    /// From now on a policy is given latents normalised by `mean` `[L]` and `scale` (one over the deviation of all numbers), if they are
    /// at all.
    ///
    /// # Panics
    /// If they are of another length.
    pub fn rescale_latents(&self, mean: &[f64], scale: f64) {
        if let Some(scales) = &self.of_latents {
            scales.set(mean, &vec![scale; mean.len()]);
        }
    }

    fn passes_of_dynamics(&self, numbers: Numbers) -> Vec<Passes> {
        self.dynamics.iter().map(|network| network.passes(numbers)).collect()
    }

    /// Adds the gradients of the training loss, `(dynamics + reward + decoding) / T`, to those of the parameters. Where dynamics are a
    /// flow, `times` `[T, B]` are those at which velocities are matched.
    ///
    /// Targets of latents are what the encoder makes of the observations, without gradient; the rollout begins with what it
    /// makes of the first, with gradient, and takes the recorded actions.
    ///
    /// # Panics
    /// If a shape does not fit.
    #[expect(clippy::must_use_candidate, reason = "it is called for the gradients")]
    pub fn learn(&self, batch: &Sequences, gamma: f64, numbers: Numbers, times: Option<&Tensor>) -> Losses {
        tch::no_grad(|| {
            let [horizon, rows, _] = sizes(&batch.actions);
            let ready = self.ready(numbers);
            let observations = ready.normalised(&batch.observations);
            let (first, mut encoder_run) = ready.encoder.run(&observations.narrow(0, 0, 1));
            let targets = ready.encoder.run(&observations.narrow(0, 1, horizon).flatten(0, 1).unsqueeze(0)).0;
            let targets = targets.view([horizon, rows, self.config.latent]);
            let mut latents = vec![first.squeeze_dim(0)];
            let mut steps = Vec::new();
            for t in 0..horizon {
                let (next, step) = ready.dynamics.step(&latents[t as usize], &batch.actions.get(t));
                latents.push(next);
                steps.push(step);
            }
            let latents = Tensor::stack(&latents, 0);
            let discounts: Vec<f32> = (0..horizon).map(|t| gamma.powi(t as i32) as f32).collect();
            let discounts = Tensor::from_slice(&discounts).view([-1, 1, 1]);
            let over = horizon as f64;

            let inputs = Tensor::cat(&[&latents.narrow(0, 0, horizon), &batch.actions], 2).flatten(0, 1);
            let (outputs, mut reward_run) = ready.reward.outputs(&inputs);
            let outputs = outputs.view([horizon, rows, -1]);
            let (reward, bar) = ready.reward.head().loss(&outputs, &batch.rewards, &discounts);
            let bar = (bar / over).flatten(0, 1).unsqueeze(0);
            let bar = reward_run.pull_back(&bar, true).expect("it was wanted");
            let of_latents = bar.view([horizon, rows, -1]).narrow(2, 0, self.config.latent);

            let matched = if let Dynamics::Flow(flow) = self.config.dynamics {
                let times = times.expect("times to match velocities at");
                Matched::flow(&ready, flow, [&latents, &targets, &batch.actions, times], &discounts)
            } else {
                Matched::latents(&latents, &targets, &discounts)
            };
            let decoded = ready.decoder.as_ref().zip(self.decoder.as_ref()).map(|(passes, network)| {
                let (found, mut run) = passes.run(&latents.flatten(0, 1).unsqueeze(0));
                let error = found.view_as(&observations) - &observations;
                let (loss, numbers) = (error.square().mean(Kind::Double).double_value(&[]), error.numel() as f64);
                let bar = error * (2.0 / (numbers * over));
                let bar = run.pull_back(&bar.flatten(0, 1).unsqueeze(0), true).expect("it was wanted");
                network.add(run.gradients());
                (loss, bar.view_as(&latents))
            });
            let (decoding, of_decoded) = decoded.unzip();
            let mut onward = latents.get(0).zeros_like();
            if let Some(bars) = &of_decoded {
                let _ = onward.g_add_(&bars.get(horizon));
            }
            for (t, step) in steps.iter_mut().enumerate().rev() {
                if let Some(ends) = &matched.ends {
                    let _ = onward.g_add_(&ends.get(t as i64));
                }
                onward = step.pull_back(&onward).0;
                let _ = onward.g_add_(&of_latents.get(t as i64));
                if let Some(bars) = &of_decoded {
                    let _ = onward.g_add_(&bars.get(t as i64));
                }
                if let Some(starts) = &matched.starts {
                    let _ = onward.g_add_(&starts.get(t as i64));
                }
            }
            let _ = encoder_run.pull_back(&onward.unsqueeze(0), false);
            self.encoder.add(encoder_run.gradients());
            self.reward.add(reward_run.gradients());
            for (network, gradients) in self.dynamics.iter().zip(dynamics::gradients(steps)) {
                network.add(gradients);
            }
            if let Some(gradients) = matched.gradients {
                self.dynamics[0].add(gradients);
            }
            Losses { dynamics: matched.loss, reward, decoding: decoding.unwrap_or(0.0) }
        })
    }
}

/// The loss of the dynamics, and its gradients.
struct Matched {
    loss: f64,
    /// With respect to what each step led to, `[T, B, L]`.
    ends: Option<Tensor>,
    /// With respect to what each step began with, `[T, B, L]`.
    starts: Option<Tensor>,
    /// Of the parameters, where they do not come through the steps.
    gradients: Option<Gradients>,
}

impl Matched {
    /// `Σ γᵗ mean (z[t+1] - ẑ[t+1])²`.
    fn latents(latents: &Tensor, targets: &Tensor, discounts: &Tensor) -> Self {
        let [horizon, rows, width] = sizes(targets);
        let error = latents.narrow(0, 1, horizon) - targets;
        let each = (rows * width) as f64;
        let loss = (error.square() * discounts).sum(Kind::Double).double_value(&[]) / each;
        let ends = error * discounts * (2.0 / (each * horizon as f64));
        Self { loss, ends: Some(ends), starts: None, gradients: None }
    }

    /// `Σ γᵗ mean (v(z_τ, a, τ) - (ẑ[t+1] - z[t]))²` with `z_τ = (1 - τ) z[t] + τ ẑ[t+1]` (Lipman et al. 2023, eq. 23, without
    /// noise).
    fn flow(ready: &Ready, flow: FlowConfig, columns: [&Tensor; 4], discounts: &Tensor) -> Self {
        let [latents, targets, actions, times] = columns;
        let [horizon, rows, width] = sizes(targets);
        let first = latents.narrow(0, 0, 1);
        let starts = match flow.starts {
            Starts::Rollout => latents.narrow(0, 0, horizon),
            Starts::TeacherForced => Tensor::cat(&[first, targets.narrow(0, 0, horizon - 1)], 0),
        };
        let times = times.unsqueeze(-1);
        let between = starts.lerp_tensor(targets, &times);
        let inputs = Tensor::cat(&[&between, actions, &times], 2).flatten(0, 1).unsqueeze(0);
        let (velocities, mut run) = ready.dynamics.velocities().run(&inputs);
        let error = velocities.view([horizon, rows, width]) - (targets - starts);
        let each = (rows * width) as f64;
        let loss = (error.square() * discounts).sum(Kind::Double).double_value(&[]) / each;
        let bar = error * discounts * (2.0 / (each * horizon as f64));
        let of_inputs = run.pull_back(&bar.flatten(0, 1).unsqueeze(0), true).expect("it was wanted");
        let of_between = of_inputs.narrow(2, 0, width).view([horizon, rows, width]);
        // A start moves the point in between, and the velocity that is asked for.
        let of_starts: Tensor = of_between * (1.0 - times) + bar;
        let starts = match flow.starts {
            Starts::Rollout => of_starts,
            Starts::TeacherForced => {
                let zeros = of_starts.narrow(0, 1, horizon - 1).zeros_like();
                Tensor::cat(&[of_starts.narrow(0, 0, 1), zeros], 0)
            }
        };
        Self { loss, ends: None, starts: Some(starts), gradients: Some(run.gradients()) }
    }
}

impl Ready {
    /// Latents `[B, L]` of observations `[B, O]`.
    pub fn encode(&self, observations: &Tensor) -> Tensor {
        self.encoder.run(&self.normalised(&observations.unsqueeze(0))).0.squeeze_dim(0)
    }

    fn normalised(&self, observations: &Tensor) -> Tensor {
        self.of_observations
            .as_ref()
            .map_or_else(|| observations.shallow_clone(), |scales| scales.applied(observations).clamp(-CLIP, CLIP))
    }
}

/// Shapes of the networks.
struct Shapes {
    encoder: Shape,
    /// Those of residual dynamics but the last.
    before: Vec<Shape>,
    dynamics: Shape,
    reward: Shape,
    decoder: Option<Shape>,
}

fn shapes(config: &LatentConfig, inputs: i64, actions: i64) -> Shapes {
    let shape = |sizes: [&[i64]; 3], last| Shape {
        sizes: sizes.concat(),
        hidden: Between::NormActivation(Activation::Mish),
        last,
    };
    let (latent, units) = ([config.latent], config.units.as_slice());
    let (dynamics, last) = match config.dynamics {
        Dynamics::Mlp | Dynamics::Residual { .. } => (config.latent + actions, Some(Between::SimNorm)),
        Dynamics::Flow(flow) => (config.latent + actions + 1, flow.simnorm_velocity.then_some(Between::SimNorm)),
    };
    let before = match config.dynamics {
        Dynamics::Residual { blocks } => blocks.saturating_sub(1) as usize,
        _ => 0,
    };
    Shapes {
        encoder: shape([&[inputs], &config.encoder_units, &latent], Some(Between::SimNorm)),
        before: vec![shape([&[dynamics], units, &latent], None); before],
        dynamics: shape([&[dynamics], units, &latent], last),
        reward: shape([&[config.latent + actions], units, &[config.reward.outputs()]], None),
        decoder: (config.shown != Shown::Latents).then(|| shape([&latent, &[inputs], &[]], None)),
    }
}

/// Trainable numbers of a model from `inputs` observed numbers and `actions`.
#[must_use]
pub fn parameters(config: &LatentConfig, inputs: i64, actions: i64) -> u64 {
    let Shapes { encoder, before, dynamics, reward, decoder } = shapes(config, inputs, actions);
    [&encoder, &dynamics, &reward]
        .into_iter()
        .chain(&decoder)
        .chain(&before)
        .map(Shape::parameters)
        .fold(0, u64::saturating_add)
}

fn sizes(tensor: &Tensor) -> [i64; 3] {
    tensor.size3().map_or_else(|_| panic!("three dimensions, not {:?}", tensor.size()), |(a, b, c)| [a, b, c])
}
