//! FloWM as its equations read: every velocity channel of every sample rolled at every step. Slow, and easy to believe.
//!
//! Lillemark et al. 2026, eq. of the recurrence, and the published loop. State `h [B, V, C, W, W]` in the agent's frame,
//! the window in its top left corner.

use std::collections::HashMap;

use tch::{Kind, Tensor, nn};
use world_models::belief::Clip;
use world_models::flowm::{FlowmConfig, WriteOrder};

pub struct Literal {
    config: FlowmConfig,
    weights: HashMap<String, Tensor>,
}

/// What a clip gave.
pub struct Trace {
    /// The state after each step, `[T][B, V, C, W, W]`.
    pub states: Vec<Tensor>,
    /// `[B, T - context, channels, w, w]`.
    pub predicted: Tensor,
}

/// 3x3 on a torus, tap by tap: `out[r, c] = sum weight[i, j] x[r + i - 1, c + j - 1]`. `x [N, I, H, W]`, `weight [O, I, 3, 3]`.
fn convolve(x: &Tensor, weight: &Tensor) -> Tensor {
    let taps = (0..3).flat_map(|i| (0..3).map(move |j| (i, j)));
    taps.map(|(i, j)| {
        let moved = x.roll([1 - i, 1 - j], [2, 3]);
        Tensor::einsum("oi,nihw->nohw", &[weight.select(3, j).select(2, i), moved], None::<&[i64]>)
    })
    .reduce(|a, b| a + b)
    .expect("there are nine taps")
}

impl Literal {
    /// With the weights of `vs`, by the names of the published checkpoints.
    pub fn new(config: &FlowmConfig, vs: &nn::VarStore) -> Self {
        Self { config: config.clone(), weights: vs.variables() }
    }

    fn weight(&self, name: &str) -> &Tensor {
        &self.weights[&format!("{name}.weight")]
    }

    /// `h1[v] = roll(h[v], (vy rows, vx cols))`, then against the agent's own move, per sample.
    fn moved(&self, h: &Tensor, action: &Tensor) -> Tensor {
        let reach = self.config.v_range;
        let samples = (0..h.size()[0]).map(|b| {
            let [dx, dy] = [action.double_value(&[b, 0]) as i64, action.double_value(&[b, 1]) as i64];
            let mut planes = Vec::new();
            for vx in -reach..=reach {
                for vy in -reach..=reach {
                    let plane = h.get(b).get(planes.len() as i64).roll([vy, vx], [1, 2]); // [C, W, W]
                    planes.push(if self.config.self_motion { plane.roll([-dy, -dx], [1, 2]) } else { plane });
                }
            }
            Tensor::stack(&planes, 0)
        });
        Tensor::stack(&samples.collect::<Vec<_>>(), 0)
    }

    /// `relu(recurrent * h + pad(input * frame))`, the frame in every velocity channel.
    fn written(&self, h: &Tensor, frame: &Tensor) -> Tensor {
        let rest = self.config.world - self.config.window;
        let seen = convolve(frame, self.weight("cell.conv_u")).constant_pad_nd([0, rest, 0, rest]);
        let convolved = convolve(&h.flatten(0, 1), self.weight("cell.conv_h")).view_as(h);
        (convolved + seen.unsqueeze(1)).relu()
    }

    fn read(&self, h: &Tensor) -> Tensor {
        let window = self.config.window;
        let z = h.amax([1i64], false).narrow(2, 0, window).narrow(3, 0, window);
        let z = (0..self.config.decoder_layers)
            .fold(z, |z, layer| convolve(&z, self.weight(&format!("decoder_conv.{}", 2 * layer))).relu());
        convolve(&z, self.weight(&format!("decoder_conv.{}", 2 * self.config.decoder_layers)))
    }

    pub fn run(&self, clip: &Clip) -> Trace {
        let FlowmConfig { hidden, world, .. } = self.config;
        let velocities = (2 * self.config.v_range + 1).pow(2);
        let mut h =
            Tensor::zeros([clip.batch(), velocities, hidden, world, world], (Kind::Float, clip.frames.device()));
        let mut states = Vec::new();
        let mut predicted = Vec::new();
        let mut previous = Tensor::new();
        for t in 0..clip.steps() {
            let moved = self.moved(&h, &clip.action(t));
            h = match (t < clip.context, self.config.write_order) {
                (true, _) => {
                    previous = clip.frame(t);
                    self.written(&moved, &previous)
                }
                (false, WriteOrder::Code) => {
                    let h = self.written(&moved, &previous);
                    previous = self.read(&h);
                    predicted.push(previous.shallow_clone());
                    h
                }
                (false, WriteOrder::Paper) => {
                    let picture = self.read(&moved);
                    let h = self.written(&moved, &picture);
                    predicted.push(picture);
                    h
                }
            };
            states.push(h.shallow_clone());
        }
        Trace { states, predicted: Tensor::stack(&predicted, 1) }
    }

    pub fn loss(&self, clip: &Clip) -> Tensor {
        (self.run(clip).predicted - clip.frames.narrow(1, clip.context, clip.steps() - clip.context))
            .square()
            .mean(Kind::Float)
    }
}
