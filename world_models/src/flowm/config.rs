//! FloWM's configuration: one model, of which the paper's ablations are settings.

use serde::{Deserialize, Serialize};
use simulators::limits::{self, Limit, OutOfRange};
use tch::Kind;

/// How the map is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Velocity channels that flow, a map that moves against the agent.
    Flow,
    /// A convolutional RNN that is told the action as two constant planes (an ablation: neither flow nor self-motion).
    ActionConcat,
}

/// When a predicted frame is written into the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteOrder {
    /// As the paper's equation reads: move, predict, write the prediction where it was predicted.
    Paper,
    /// As the published code does: move, write the *previous* frame where the new one belongs, predict. The last frame
    /// of the context is written twice.
    Code,
}

/// How weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// PyTorch's default for convolutions, as the published code: uniform in `±1/sqrt(fan_in)`.
    Pytorch,
    /// The same, but the recurrence starts near the identity, so that a map remembers before it has learned to.
    NearIdentity,
}

/// Storage and convolution of the map. Encoder, decoder and weights stay in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Brain floats: half the memory traffic, and matrix units where the processor has them.
    Bf16,
    /// Single precision.
    F32,
}

impl Precision {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Bf16 => Kind::BFloat16,
            Self::F32 => Kind::Float,
        }
    }
}

/// FloWM 2D: a recurrent map on a torus (Lillemark et al. 2026, §3; the published sizes are the comments).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowmConfig {
    /// `C`, features per cell of the map (64).
    pub hidden: i64,
    /// Velocity channels are all `(vx, vy)` with components in `-v_range..=v_range` (2); 0 is the ablation "no VC".
    pub v_range: i64,
    /// Side of the map, in cells; equal to the world's torus, so that wrapping is exact (50).
    pub world: i64,
    /// Side of the window, in pixels (32).
    pub window: i64,
    /// Colours of a frame (1).
    pub input_channels: i64,
    /// Hidden convolutions of the decoder (1).
    pub decoder_layers: i64,
    /// Whether the map moves against the agent's action; `false` is the ablation "no SME".
    pub self_motion: bool,
    /// The cell (flow).
    pub cell: Cell,
    /// The write order (code).
    pub write_order: WriteOrder,
    /// The initialisation (pytorch).
    pub init: Init,
    /// The precision of the map (f32).
    pub precision: Precision,
}

impl Default for FlowmConfig {
    fn default() -> Self {
        Self {
            hidden: 32,
            v_range: 1,
            world: 50,
            window: 32,
            input_channels: 1,
            decoder_layers: 1,
            self_motion: true,
            cell: Cell::Flow,
            write_order: WriteOrder::Paper,
            init: Init::NearIdentity,
            precision: Precision::Bf16,
        }
    }
}

impl FlowmConfig {
    /// The velocity channels as `(vx, vy)`, ordered as the published code has them: vx outside, vy inside.
    #[must_use]
    pub fn velocities(&self) -> Vec<[i64; 2]> {
        match self.cell {
            Cell::ActionConcat => vec![[0, 0]],
            Cell::Flow => (-self.v_range..=self.v_range)
                .flat_map(|vx| (-self.v_range..=self.v_range).map(move |vy| [vx, vy]))
                .collect(),
        }
    }

    /// Constant planes appended to the input of both convolutions: the action's two numbers, or nothing.
    pub(crate) fn action_planes(&self) -> i64 {
        match self.cell {
            Cell::Flow => 0,
            Cell::ActionConcat => 2,
        }
    }

    /// The maps of all steps; the rest is small beside them.
    pub(crate) fn training_bytes(&self, batch: i64, steps: i64) -> i64 {
        let bytes = match self.precision {
            Precision::Bf16 => 2,
            Precision::F32 => 4,
        };
        let plane = (self.world + 2) * (self.world + 2);
        [batch, steps, self.velocities().len() as i64, plane, self.hidden, bytes]
            .into_iter()
            .fold(1, i64::saturating_mul)
    }

    /// Trainable numbers: convolutions of 3 x 3 without bias.
    pub(crate) fn parameters(&self) -> u64 {
        let (c, planes) = (self.hidden, self.action_planes());
        let cell = c * (self.input_channels + planes) + c * (c + planes);
        let decoder = self.decoder_layers * c * c + self.input_channels * c;
        9 * (cell + decoder) as u64
    }

    /// What every field may hold, alone and beside the others.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        vec![
            Limit::whole("hidden", self.hidden.into(), 1..=1024),
            Limit::whole("v_range", self.v_range.into(), 0..=7),
            Limit::whole("world", self.world.into(), 3..=1024),
            Limit::whole("window", self.window.into(), 3..=i128::from(self.world.min(512))).because("at most `world`"),
            Limit::whole("input_channels", self.input_channels.into(), 1..=16),
            Limit::whole("decoder_layers", self.decoder_layers.into(), 1..=16),
        ]
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        limits::check(&self.limits())
    }
}
