//! The baseline without a map: convolutions, a vector of memory, a linear picture (spec §3.4).

use rand::RngExt;
use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use simulators::rng::{Purpose, Rng, Seed, stream};
use tch::{Kind, Tensor, nn};

use crate::belief::{Belief, Clip, WorldModel, roll_out};

/// Sizes of the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinearRnnConfig {
    /// `H`, numbers it remembers.
    pub hidden: i64,
    /// Side of the window, in pixels.
    pub window: i64,
    /// Colours of a frame.
    pub input_channels: i64,
    /// Whether it is told the action.
    pub actions: bool,
}

impl Default for LinearRnnConfig {
    fn default() -> Self {
        Self { hidden: 256, window: 32, input_channels: 1, actions: true }
    }
}

impl LinearRnnConfig {
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        vec![
            Limit::whole("hidden", self.hidden.into(), 1..=65_536),
            Limit::whole("window", self.window.into(), 1..=512),
            Limit::whole("input_channels", self.input_channels.into(), 1..=16),
        ]
    }

    pub(crate) fn training_bytes(&self, batch: i64, steps: i64) -> i64 {
        let pixels = self.window * self.window;
        let frame = pixels * (2 * (FEATURES[0] + FEATURES[1]) + self.input_channels) + 2 * self.hidden;
        [4, batch, steps, frame].into_iter().fold(1, i64::saturating_mul)
    }

    /// Trainable numbers: two convolutions and three or four linear layers, with biases.
    pub(crate) fn parameters(&self) -> u64 {
        let (h, c, pixels) = (self.hidden, self.input_channels, self.window * self.window);
        let convolutions = FEATURES[0] * (9 * c + 1) + FEATURES[1] * (9 * FEATURES[0] + 1);
        let linear = |from: i64, to: i64| (from + 1) * to;
        let act = if self.actions { linear(2, h) } else { 0 };
        (convolutions + linear(FEATURES[1] * pixels, h) + act + linear(h, h) + linear(h, c * pixels)) as u64
    }
}

/// Features of the two convolutions.
const FEATURES: [i64; 2] = [16, 32];

/// The model: `h' = tanh(W_x (conv(frame)) + W_a a + W_h h)`, the picture a linear function of `h`.
#[derive(Debug)]
pub struct LinearRnn {
    config: LinearRnnConfig,
    convolutions: Vec<nn::Conv2D>,
    see: nn::Linear,
    act: Option<nn::Linear>,
    remember: nn::Linear,
    draw: nn::Linear,
}

/// PyTorch's default: weights and bias uniform in `±1/sqrt(fan_in)`.
fn fill(rng: &mut Rng, fan_in: i64, tensors: [&mut Tensor; 2]) {
    let bound = 1.0 / (fan_in as f32).sqrt();
    for tensor in tensors {
        let values: Vec<f32> = (0..tensor.numel()).map(|_| rng.random_range(-bound..bound)).collect();
        tch::no_grad(|| tensor.copy_(&Tensor::from_slice(&values).view_as(tensor)));
    }
}

impl LinearRnn {
    /// Creates the weights under `path`, drawn from `seed`.
    ///
    /// # Panics
    /// Never: layers are made with the biases that are filled here.
    #[must_use]
    pub fn new(path: &nn::Path, config: &LinearRnnConfig, seed: Seed) -> Self {
        let mut rng = stream(seed, Purpose::Weights, 0);
        let mut linear = |name: &str, from: i64, to: i64| {
            let mut layer = nn::linear(path / name, from, to, nn::LinearConfig::default());
            fill(&mut rng, from, [&mut layer.ws, layer.bs.as_mut().expect("a linear layer has a bias by default")]);
            layer
        };
        let pixels = config.window * config.window;
        let see = linear("see", FEATURES[1] * pixels, config.hidden);
        let act = config.actions.then(|| linear("act", 2, config.hidden));
        let remember = linear("remember", config.hidden, config.hidden);
        let draw = linear("draw", config.hidden, config.input_channels * pixels);
        let same = nn::ConvConfig { padding: 1, ..Default::default() };
        let convolutions = [config.input_channels, FEATURES[0]]
            .into_iter()
            .zip(FEATURES)
            .enumerate()
            .map(|(i, (from, to))| {
                let mut layer = nn::conv2d(path / format!("conv_{i}"), from, to, 3, same);
                let bias = layer.bs.as_mut().expect("a convolution has a bias by default");
                fill(&mut rng, from * 9, [&mut layer.ws, bias]);
                layer
            })
            .collect();
        Self { config: config.clone(), convolutions, see, act, remember, draw }
    }

    fn next(&self, h: &Tensor, action: &Tensor, frame: &Tensor) -> Tensor {
        let seen = self.convolutions.iter().fold(frame.shallow_clone(), |x, layer| x.apply(layer).relu());
        let mut sum = seen.flatten(1, -1).apply(&self.see) + h.apply(&self.remember); // [B, H]
        if let Some(act) = &self.act {
            sum += action.apply(act);
        }
        sum.tanh()
    }
}

impl WorldModel for LinearRnn {
    fn start(&self, batch: i64) -> Belief {
        let (window, place) = (self.config.window, (Kind::Float, self.see.ws.device()));
        Belief::new([
            ("h", Tensor::zeros([batch, self.config.hidden], place)),
            ("frame", Tensor::zeros([batch, self.config.input_channels, window, window], place)),
        ])
    }

    fn observe(&self, belief: &Belief, action: &Tensor, observation: &Tensor) -> Belief {
        let h = self.next(belief.part("h"), action, observation);
        Belief::new([("h", h), ("frame", observation.shallow_clone())])
    }

    /// The frame before this step goes in, the picture of the new memory comes out.
    fn imagine(&self, belief: &Belief, action: &Tensor) -> Belief {
        let frame = belief.part("frame");
        let h = self.next(belief.part("h"), action, frame);
        let frame = h.apply(&self.draw).view_as(frame);
        Belief::new([("h", h), ("frame", frame)])
    }

    fn picture(&self, belief: &Belief) -> Tensor {
        belief.part("frame").shallow_clone()
    }

    fn loss(&self, clip: &Clip) -> Tensor {
        roll_out(self, clip).mse_loss(&clip.frames.slice(1, clip.context, clip.steps(), 1), tch::Reduction::Mean)
    }
}
