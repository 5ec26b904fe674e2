//! A world model without pictures (PWM: Georgiev et al. 2024, after TD-MPC2: Hansen et al. 2024): an encoder of observations into
//! latents, dynamics of latents, and the reward of acting there.
//!
//! A latent is `L` numbers in groups of eight, each group soft-maxed ([`Between::SimNorm`]). Everything here is on the CPU and
//! without libtorch's tape: [`LatentModel::ready`] takes the weights of now, its passes leave what the way back needs, and
//! [`LatentModel::learn`] adds the gradients of the training loss to those of the parameters. Columns are time-major.

pub mod config;
pub mod dream;
pub mod dynamics;
mod learning;
pub mod reward;
pub mod shown;

use simulators::rng::{Purpose, Seed, stream};
use tch::{Tensor, nn};

use crate::mlp::passes::{Keeps, Passes};
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
}

impl Ready {
    /// The same networks, to be run on one thread, another one.
    #[must_use]
    pub fn on_one_thread(&self) -> Self {
        self.with(Passes::on_one_thread)
    }

    /// With what `change` makes of all passes.
    fn with(&self, change: impl Fn(&Passes) -> Passes) -> Self {
        Self {
            of_observations: self.of_observations.as_ref().map(Scales::shallow_clone),
            of_latents: self.of_latents.as_ref().map(Scales::shallow_clone),
            encoder: change(&self.encoder),
            dynamics: self.dynamics.with(&change),
            reward: self.reward.with(&change),
            decoder: self.decoder.as_ref().map(&change),
            projects: self.projects,
        }
    }

    /// The same networks, whose runs keep something else.
    #[must_use]
    pub fn keeping(&self, keeps: Keeps) -> Self {
        self.with(|passes| passes.keeping(keeps))
    }

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
