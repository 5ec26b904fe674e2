//! FloWM 2D as a [`WorldModel`]: the map, its weights, and one step of it in ordinary tensor operations.
//!
//! Shapes: `B` batch, `V` velocity channels, `C` features, `W` side of the map, `w` side of the window.
//!
//! The map is stored in co-moving frames. Velocity channel `v` of the egocentric map `h` is the stored plane rolled by an
//! offset that grows by `v - a` each step (`a` the agent's move): `h_v = roll(map_v, offset_v)`. A roll commutes with a
//! circular convolution, so no map is ever copied to move it; only the place of the window changes.

use std::cell::RefCell;

use rand::RngExt;
use simulators::rng::{Purpose, Seed, stream};
use tch::{Kind, Tensor, nn};

use super::config::{Cell, FlowmConfig, Init, Precision, WriteOrder};
use super::kernels::{Geometry, Origin};
use super::unroll::Workspace;
use crate::belief::{Belief, Clip, WorldModel};
use crate::panorama;

/// Names of a FloWM belief's parts.
pub mod part {
    /// `[B, V, W, W, C]`, the stored map.
    pub const MAP: &str = "map";
    /// `[B, V, 2]` int64, how far (rows, columns) each plane's content has moved since the start, modulo `W`.
    pub const OFFSET: &str = "offset";
    /// `[B, channels, w, w]`, the frame last seen or predicted.
    pub const FRAME: &str = "frame";
    /// `[B, 2]`, how far the agent has moved with its eyes shut; what counts is its gradient.
    pub const DISPLACEMENT: &str = "displacement";
}

/// The model; see the folder's documentation.
#[derive(Debug)]
pub struct Flowm {
    pub(crate) config: FlowmConfig,
    /// Input convolution, `[C, channels (+2), 3, 3]`.
    pub(crate) input: Tensor,
    /// Recurrent convolution, `[C, C (+2), 3, 3]`.
    pub(crate) recurrent: Tensor,
    /// Decoder, `[C, C, 3, 3]` each and `[channels, C, 3, 3]` last.
    pub(crate) decoder: Vec<Tensor>,
    pub(crate) workspace: RefCell<Workspace>,
}

/// A 3x3 convolution on a torus: `x [N, I, H, W]`, `weight [O, I, 3, 3]` -> `[N, O, H, W]`.
pub(crate) fn circular_conv(x: &Tensor, weight: &Tensor) -> Tensor {
    x.pad([1, 1, 1, 1], "circular", None).conv2d(weight, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1)
}

/// `z [B, C, w, w]` -> `[B, channels, w, w]`.
pub(crate) fn decode(z: &Tensor, decoder: &[Tensor]) -> Tensor {
    let (last, hidden) = decoder.split_last().expect("a decoder has at least two convolutions");
    let z = hidden.iter().fold(z.shallow_clone(), |z, weight| circular_conv(&z, weight).relu());
    circular_conv(&z, last)
}

impl Flowm {
    /// Creates the weights under `path`, with the names of the published checkpoints, drawn from `seed`.
    ///
    /// # Panics
    /// If the configuration does not validate: callers check it first.
    #[must_use]
    pub fn new(path: &nn::Path, config: &FlowmConfig, seed: Seed) -> Self {
        config.validate().expect("the configuration was validated");
        let (c, planes) = (config.hidden, config.action_planes());
        let mut rng = stream(seed, Purpose::Weights, 0);
        let mut conv = |path: nn::Path, out: i64, from: i64| {
            let bound = 1.0 / (from as f32 * 9.0).sqrt();
            let values: Vec<f32> = (0..out * from * 9).map(|_| rng.random_range(-bound..bound)).collect();
            path.var_copy("weight", &Tensor::from_slice(&values).view([out, from, 3, 3]))
        };
        let cell = path / "cell";
        let input = conv(&cell / "conv_u", c, config.input_channels + planes);
        let mut recurrent = conv(&cell / "conv_h", c, c + planes);
        let decoder_path = path / "decoder_conv";
        // The published decoder is a list conv, relu, conv, ...: every second index has weights.
        let decoder = (0..=config.decoder_layers)
            .map(|layer| {
                let out = if layer == config.decoder_layers { config.input_channels } else { c };
                conv(&decoder_path / (2 * layer), out, c)
            })
            .collect();
        if config.init == Init::NearIdentity {
            tch::no_grad(|| {
                let _ = recurrent.g_mul_scalar_(NEAR_IDENTITY_NOISE);
                let centre = recurrent.narrow(1, 0, c).select(3, 1).select(2, 1);
                let _ = centre.shallow_clone().g_add_(&Tensor::eye(c, (Kind::Float, recurrent.device())));
            });
        }
        Self { config: config.clone(), input, recurrent, decoder, workspace: RefCell::default() }
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &FlowmConfig {
        &self.config
    }

    /// The map in the agent's frame, `[B, V, C, W, W]`: cell `(r, c)` is world pixel `(cy - w/2 + r, cx - w/2 + c)`.
    pub fn egocentric_map(&self, belief: &Belief) -> Tensor {
        let (map, offset) = (belief.part(part::MAP), belief.part(part::OFFSET));
        let (b, v) = (map.size()[0], map.size()[1]);
        let planes: Vec<Tensor> = (0..b * v)
            .map(|i| {
                let shift = [offset.int64_value(&[i / v, i % v, 0]), offset.int64_value(&[i / v, i % v, 1])];
                map.get(i / v).get(i % v).roll(shift, [0, 1]) // [W, W, C]
            })
            .collect();
        Tensor::stack(&planes, 0).view([b, v, self.config.world, self.config.world, -1]).permute([0, 1, 4, 2, 3])
    }

    /// How a step with `action [B, 2]` (dx, dy) moves the content of each plane: `[B, V, 2]` (rows, columns) int64.
    fn moved(&self, offset: &Tensor, action: &Tensor) -> Tensor {
        if self.config.cell == Cell::ActionConcat {
            return offset.shallow_clone();
        }
        let flow: Vec<i64> = self.config.velocities().iter().flat_map(|[vx, vy]| [*vy, *vx]).collect();
        let flow = Tensor::from_slice(&flow).view([1, -1, 2]).to_device(offset.device()); // [1, V, 2]
        let mut offset = offset + flow;
        if self.config.self_motion {
            let step = action.to_kind(Kind::Int64).flip([1]).unsqueeze(1); // fractions are cut toward zero, as published
            offset -= step;
        }
        offset.remainder(self.config.world)
    }

    /// Where the first `window` rows and columns of cells from the agent's lie in the stored planes: indices into `[B*V*W*W]`,
    /// `[B, V, window * window]`.
    fn index(&self, offset: &Tensor, window: i64) -> Tensor {
        let world = self.config.world;
        let (b, v) = (offset.size()[0], offset.size()[1]);
        let place = (Kind::Int64, offset.device());
        let cells = Tensor::arange(window, place);
        let rows = (cells.view([1, 1, -1]) - offset.select(2, 0).unsqueeze(2)).remainder(world); // [B, V, w]
        let columns = (cells.view([1, 1, -1]) - offset.select(2, 1).unsqueeze(2)).remainder(world);
        let planes = Tensor::arange(b * v, place).view([b, v, 1, 1]) * (world * world);
        (planes + rows.unsqueeze(3) * world + columns.unsqueeze(2)).view([b, v, window * window])
    }

    /// What the window saw, as the map takes it: `frame [B, channels, w, w]` -> `[B, C, w, w]`.
    fn encode(&self, frame: &Tensor, action: &Tensor) -> Tensor {
        match self.config.cell {
            Cell::Flow => circular_conv(frame, &self.input),
            Cell::ActionConcat => circular_conv(&with_planes(frame, action), &self.input),
        }
    }

    /// The new map: `relu(recurrent * map + write(frame at offset))`.
    fn write(&self, map: &Tensor, offset: &Tensor, frame: &Tensor, action: &Tensor) -> Tensor {
        let (b, v) = (map.size()[0], map.size()[1]);
        let (world, c) = (self.config.world, self.config.hidden);
        let kind = self.config.precision.kind();
        let nchw = map.view([b * v, world, world, c]).permute([0, 3, 1, 2]);
        let weight = self.recurrent.to_kind(kind);
        let pre = match self.config.cell {
            Cell::Flow => circular_conv(&nchw, &weight),
            Cell::ActionConcat => circular_conv(&with_planes(&nchw, &action.to_kind(kind)), &weight),
        };
        let pre = pre.permute([0, 2, 3, 1]).reshape([b * v * world * world, c]);
        let seen = self.encode(frame, action).permute([0, 2, 3, 1]).to_kind(kind); // [B, w, w, C]
        let seen = seen.reshape([b, 1, -1, c]).expand([b, v, -1, c], false).reshape([-1, c]);
        pre.index_add(0, &self.index(offset, self.config.window).view([-1]), &seen).relu().view([b, v, world, world, c])
    }

    /// What the map says is in the first `window` rows and columns from the agent's: the maximum over velocity channels, decoded,
    /// `[B, channels, window, window]`.
    fn draw(&self, map: &Tensor, offset: &Tensor, window: i64) -> Tensor {
        let (b, v, c) = (map.size()[0], map.size()[1], self.config.hidden);
        let seen = map.reshape([-1, c]).index_select(0, &self.index(offset, window).view([-1]));
        let strongest = seen.view([b, v, window, window, c]).amax([1i64], false).to_kind(Kind::Float); // [B, w, w, C]
        decode(&strongest.permute([0, 3, 1, 2]), &self.decoder)
    }

    /// Where the window lies at each step of a clip, `[T][B*V]`, computed on the host.
    pub(crate) fn origins(&self, clip: &Clip) -> Vec<Vec<Origin>> {
        let (b, t, world) = (clip.batch(), clip.steps(), self.config.world);
        let actions: Vec<f32> =
            Vec::try_from(clip.actions.reshape([-1])).expect("actions are a float tensor that fits memory");
        let velocities = self.config.velocities();
        let mut origin = vec![[0i64; 2]; (b as usize) * velocities.len()];
        (0..t as usize)
            .map(|step| {
                for (i, place) in origin.iter_mut().enumerate() {
                    let (sample, [vx, vy]) = (i / velocities.len(), velocities[i % velocities.len()]);
                    let action = &actions[(sample * t as usize + step) * 2..][..2];
                    let [dx, dy] = if self.config.self_motion { [action[0] as i64, action[1] as i64] } else { [0, 0] };
                    *place = [(place[0] + dy - vy).rem_euclid(world), (place[1] + dx - vx).rem_euclid(world)];
                }
                origin.iter().map(|[row, column]| [*row as usize, *column as usize]).collect()
            })
            .collect()
    }

    pub(crate) fn geometry(&self, batch: i64) -> Geometry {
        Geometry {
            batch: batch as usize,
            velocities: self.config.velocities().len(),
            world: self.config.world as usize,
            window: self.config.window as usize,
            features: self.config.hidden as usize,
        }
    }

    /// The loss through autograd's own tape: the plain form of what `loss` does on a CPU, on any device.
    ///
    /// Mean squared error of the predicted frames, each prediction fed back unclamped (§3.5).
    pub fn taped_loss(&self, clip: &Clip) -> Tensor {
        let predicted = crate::belief::roll_out(self, clip);
        predicted.mse_loss(&clip.frames.slice(1, clip.context, clip.steps(), 1), tch::Reduction::Mean)
    }
}

/// The spread of the recurrence around the identity at the start, as a share of PyTorch's default.
const NEAR_IDENTITY_NOISE: f64 = 0.1;

/// Appends the action's two numbers as constant planes: `[N, I, H, W]`, `[N, 2]` -> `[N, I+2, H, W]`.
fn with_planes(x: &Tensor, action: &Tensor) -> Tensor {
    let size = x.size();
    let planes = action.view([size[0], -1, 1, 1]).expand([size[0], -1, size[2], size[3]], false);
    Tensor::cat(&[x, &planes], 1)
}

impl WorldModel for Flowm {
    fn start(&self, batch: i64) -> Belief {
        let (v, world, window) = (self.config.velocities().len() as i64, self.config.world, self.config.window);
        let device = self.input.device();
        let kind = self.config.precision.kind();
        Belief::new([
            (part::MAP, Tensor::zeros([batch, v, world, world, self.config.hidden], (kind, device))),
            (part::OFFSET, Tensor::zeros([batch, v, 2], (Kind::Int64, device))),
            (part::FRAME, Tensor::zeros([batch, self.config.input_channels, window, window], (Kind::Float, device))),
            (part::DISPLACEMENT, Tensor::zeros([batch, 2], (Kind::Float, device))),
        ])
    }

    fn observe(&self, belief: &Belief, action: &Tensor, observation: &Tensor) -> Belief {
        let offset = self.moved(belief.part(part::OFFSET), action);
        let map = self.write(belief.part(part::MAP), &offset, observation, action);
        Belief::new([
            (part::MAP, map),
            (part::OFFSET, offset),
            (part::FRAME, observation.shallow_clone()),
            (part::DISPLACEMENT, belief.part(part::DISPLACEMENT).zeros_like()),
        ])
    }

    fn imagine(&self, belief: &Belief, action: &Tensor) -> Belief {
        let (map, frame) = (belief.part(part::MAP), belief.part(part::FRAME));
        let offset = self.moved(belief.part(part::OFFSET), action);
        let (map, frame) = match self.config.write_order {
            WriteOrder::Code => {
                let map = self.write(map, &offset, frame, action);
                let frame = self.draw(&map, &offset, self.config.window);
                (map, frame)
            }
            WriteOrder::Paper => {
                let frame = self.draw(map, &offset, self.config.window);
                (self.write(map, &offset, &frame, action), frame)
            }
        };
        let displacement = belief.part(part::DISPLACEMENT) + action;
        Belief::new([
            (part::MAP, map),
            (part::OFFSET, offset),
            (part::FRAME, frame),
            (part::DISPLACEMENT, displacement),
        ])
    }

    fn picture(&self, belief: &Belief) -> Tensor {
        belief.part(part::FRAME).shallow_clone()
    }

    /// Of the whole torus, in view or not, from where the agent stands.
    fn features(&self, belief: &Belief) -> Tensor {
        let everything = self.draw(belief.part(part::MAP), belief.part(part::OFFSET), self.config.world);
        panorama::features(&panorama::with_slopes(&everything, belief.part(part::DISPLACEMENT)))
    }

    fn loss(&self, clip: &Clip) -> Tensor {
        let unrolled = self.config.cell == Cell::Flow && clip.frames.device() == tch::Device::Cpu;
        match (unrolled, self.config.precision) {
            (true, Precision::Bf16) => self.unrolled_loss::<crate::raw::Bf16>(clip),
            (true, Precision::F32) => self.unrolled_loss::<f32>(clip),
            (false, _) => self.taped_loss(clip),
        }
    }
}
