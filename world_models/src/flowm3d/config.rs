//! FloWM 3D's configuration: one model, of which the paper's ablations are settings.

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use simulators::limits::{self, Limit, OutOfRange};

use super::geometry::{self, ACTIONS};
use crate::flowm::Precision;

/// Whether velocity channels are mixed in every step, and how the mixing begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixing {
    /// No mixing: what changes its velocity out of view is lost.
    None,
    /// As the published code begins: one feature of a cell stays as it is, and all others are zero. (It asks for a Dirac
    /// kernel without saying that the convolution has groups.)
    Faithful,
    /// As it was evidently meant: every feature of every channel stays as it is.
    Corrected,
    /// Ours: what moves turns round before what rests, where a gate says that what rests in the cell ahead is a wall. It is the same for
    /// every velocity, so turns and motions change nothing about it, and what is out of view turns round as well. An agent that would step
    /// into a wall stays where it is.
    Reflecting,
}

/// FloWM 3D: a recurrent transformer over an egocentric map (Lillemark et al. 2026, the model of 3D Dynamic Blockworld;
/// the published sizes of `flow_vit_10m` are the defaults).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "parts of a model that can be left out, each without the others")]
pub struct Flowm3dConfig {
    /// Side of a frame, in pixels (128).
    pub window: i64,
    /// Colours of a frame (3).
    pub input_channels: i64,
    /// Side of the square of pixels that is one image token (16).
    pub patch: i64,
    /// `S`, side of the map, in cells (33): odd, so that it has a cell in the middle, where the agent is.
    pub map_side: i64,
    /// `D`, features of a cell and of a token (256).
    pub hidden: i64,
    /// Heads of every attention (8).
    pub heads: i64,
    /// Blocks that write into the map (6).
    pub encoder_depth: i64,
    /// Blocks that draw what is in view (6).
    pub decoder_depth: i64,
    /// Width of a feed-forward layer, in `D` (4).
    pub mlp_ratio: i64,
    /// Whether the map has a channel for each velocity of a block, and one for what rests; `false` is the ablation "no VC".
    pub velocity_channels: bool,
    /// Whether tokens of the map say which velocity they have, as the agent sees it (false, as published; an option of the published code).
    /// With it a model may keep what rests and what moves apart before it has seen them twice.
    pub velocity_embedding: bool,
    /// Whether the map moves against the agent; `false` is the ablation "no SME", which is told the action as a token.
    pub self_motion: bool,
    /// The mixing of velocity channels (faithful).
    pub mixing: Mixing,
    /// How far the agent sees to both sides together, in degrees (60).
    pub field_of_view: f64,
    /// How much less two tokens look at each other for each patch that lies in the picture between where they are seen (0, as
    /// published), whatever else they have in common: so attention begins along lines of sight, rather than having to find them.
    pub sight: f64,
    /// Whether what is predicted is written into the map like what is seen (true, as published). A prediction holds nothing that the map
    /// does not; where it is not written, the map only moves on, and remembers as well after a hundred steps as after one. (Without
    /// `self_motion`, nothing but writing tells the map of a turn.)
    pub feedback: bool,
    /// How many of the frames that a clip predicts training draws, others each time, and as many of those seen that it draws again
    /// (0: all). Fewer only without feedback: what is not written is of no use to later frames, and drawing is most of the work.
    pub draws: i64,
    /// With which probability a step of training writes the true frame in place of the predicted one (0.125).
    pub teacher_forcing: f64,
    /// How much it counts in training to draw each frame that is seen from the map it was just written into, beside the
    /// predictions (0, as published). It says at once what writing and drawing have to do; what is to come is often new.
    pub reconstruction: f64,
    /// The precision of tokens (f32). The map and the weights stay in `f32`.
    pub precision: Precision,
    /// Whether training keeps only the maps of all steps, and computes a step again on its way back: a third more work for a
    /// small part of the memory. The result is the same.
    pub recompute: bool,
}

impl Default for Flowm3dConfig {
    fn default() -> Self {
        Self {
            window: 128,
            input_channels: 3,
            patch: 16,
            map_side: 33,
            hidden: 256,
            heads: 8,
            encoder_depth: 6,
            decoder_depth: 6,
            mlp_ratio: 4,
            velocity_channels: true,
            velocity_embedding: false,
            self_motion: true,
            mixing: Mixing::Faithful,
            field_of_view: 60.0,
            sight: 0.0,
            feedback: true,
            draws: 0,
            teacher_forcing: 0.125,
            reconstruction: 0.0,
            precision: Precision::F32,
            recompute: true,
        }
    }
}

impl Flowm3dConfig {
    /// The velocity channels, in cells a step, as (columns, rows).
    #[must_use]
    pub fn velocities(&self) -> &'static [[i64; 2]] {
        if self.velocity_channels { &geometry::VELOCITIES } else { &geometry::VELOCITIES[..1] }
    }

    /// `V`, their number.
    #[must_use]
    pub fn channels(&self) -> i64 {
        self.velocities().len() as i64
    }

    /// Image tokens.
    #[must_use]
    pub fn patches(&self) -> i64 {
        (self.window / self.patch).pow(2)
    }

    /// The cells in view, as indices into a map of `S * S`, by row.
    #[must_use]
    pub fn in_view(&self) -> Vec<i64> {
        geometry::in_view(self.map_side, self.field_of_view)
    }

    /// About what one update holds: the maps of all steps, and what the way back needs of all steps or of one.
    pub(crate) fn training_bytes(&self, batch: i64, steps: i64) -> i64 {
        let (d, n) = (self.hidden, self.in_view().len() as i64);
        let map = self.channels() * self.map_side.pow(2) * d * 4;
        let token = match self.precision {
            Precision::Bf16 => 2,
            Precision::F32 => 4,
        };
        // A block keeps what its three products and its attention were given, and what they gave.
        let block = (8 + 2 * self.mlp_ratio) * d * token;
        let tokens = self.channels() * n + self.patches() + i64::from(!self.self_motion);
        let encoder = tokens * (self.encoder_depth * block + 8 * d * 4);
        let decoder = self.decoder_depth * (self.patches() * (block + 6 * d * token) + n * 6 * d * token);
        let biases = if self.sight > 0.0 { self.heads * (tokens + self.patches()).pow(2) * token } else { 0 };
        let kept = if self.recompute { 1 } else { steps };
        let of_steps = steps.saturating_mul(map).saturating_add(kept.saturating_mul(encoder + decoder));
        // Beside them a handful of maps are in hand.
        batch.saturating_mul(of_steps.saturating_add(6 * map)).saturating_add(biases)
    }

    /// Trainable numbers.
    pub(crate) fn parameters(&self) -> u64 {
        let (d, v) = (self.hidden, self.channels());
        let linear = |from: i64, to: i64| (from + 1) * to;
        let (norm, attention) = (2 * d, 4 * linear(d, d));
        let forward = linear(d, self.mlp_ratio * d) + linear(self.mlp_ratio * d, d);
        let pixels = self.input_channels * self.patch.pow(2);
        let encoder_block = 2 * norm + attention + forward;
        let encoder = linear(pixels, d) + self.encoder_depth * encoder_block + norm + linear(2 * d, d);
        let decoder_block = 4 * norm + 2 * attention + 3 * linear(d, d) + forward;
        let decoder = d + self.decoder_depth * decoder_block + norm + linear(d, pixels);
        let mixing = match self.mixing {
            Mixing::None => 0,
            Mixing::Faithful | Mixing::Corrected => 9 * d * v * v,
            Mixing::Reflecting => (d + 1) * i64::from(self.velocity_channels),
        };
        let action = if self.self_motion { 0 } else { ACTIONS * d };
        let velocities = if self.velocity_embedding && v > 1 { v * d } else { 0 };
        (encoder + decoder + mixing + action + velocities) as u64
    }

    /// The largest `sight`: none where there are too many tokens to hold a number for each head and each two of them. Other fields may
    /// be anything.
    fn steepest_sight(&self) -> f64 {
        /// 1 GiB of them.
        const MOST_BIASES: i64 = 1 << 28;
        if self.sight == 0.0 {
            return 100.0;
        }
        let grid = self.window.clamp(1, 512) / self.patch.clamp(1, 512);
        let cells = geometry::in_view(self.map_side.clamp(3, 129), self.field_of_view).len() as i64;
        let tokens = self.channels() * cells + grid.pow(2) + 1;
        if self.heads.saturating_mul(tokens.pow(2)) > MOST_BIASES { 0.0 } else { 100.0 }
    }

    /// What every field may hold, alone and beside the others.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let exactly = |field: &str, value: i64, allowed: i64, why: &str| {
            Limit::whole(field, value.into(), allowed.into()..=allowed.into()).because(why)
        };
        let finest = (self.window + 63) / 64;
        vec![
            Limit::whole("window", self.window.into(), 1..=512),
            Limit::whole("input_channels", self.input_channels.into(), 1..=16),
            Limit::whole("patch", self.patch.into(), finest.into()..=self.window.max(finest).into())
                .because("at most `window`, and at most 64 to a side"),
            exactly("patch", self.patch, divisor(self.window, self.patch), "divides `window`"),
            Limit::whole("map_side", self.map_side.into(), 3..=129),
            exactly("map_side", self.map_side, self.map_side | 1, "odd: the agent is in the middle"),
            Limit::whole("hidden", self.hidden.into(), 4..=2048),
            exactly("hidden", self.hidden, self.hidden - self.hidden % 4, "a multiple of 4, for positions"),
            Limit::whole("heads", self.heads.into(), 1..=self.hidden.into()).because("at most `hidden`"),
            exactly("heads", self.heads, divisor(self.hidden, self.heads), "divides `hidden`"),
            Limit::whole("encoder_depth", self.encoder_depth.into(), 1..=48),
            Limit::whole("decoder_depth", self.decoder_depth.into(), 1..=48),
            Limit::whole("mlp_ratio", self.mlp_ratio.into(), 1..=8),
            Limit::real("field_of_view", self.field_of_view, (Bound::Excluded(0.0), Bound::Included(180.0))),
            Limit::real("sight", self.sight, 0.0..=self.steepest_sight()).because("0 where biases would not fit"),
            Limit::whole("draws", self.draws.into(), 0..=if self.feedback { 0 } else { 10_000 })
                .because("0 with feedback, which writes what it draws"),
            Limit::real("teacher_forcing", self.teacher_forcing, 0.0..=1.0),
            Limit::real("reconstruction", self.reconstruction, 0.0..=100.0),
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

/// The largest number up to `most` that divides `whole`.
fn divisor(whole: i64, most: i64) -> i64 {
    (1..=most.min(whole)).rev().find(|part| whole % part == 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_drawn() {
        let some = Flowm3dConfig { draws: 4, ..Default::default() };
        let refused = some.validate().unwrap_err().to_string();
        assert!(refused.starts_with("`draws` is 4, allowed: 0"), "{refused}");
        Flowm3dConfig { feedback: false, ..some }.validate().unwrap();
    }

    #[test]
    fn lines_of_sight_are_refused_where_their_biases_would_not_fit() {
        let many = Flowm3dConfig { window: 512, patch: 8, hidden: 256, heads: 256, ..Default::default() };
        many.validate().unwrap();
        let refused = Flowm3dConfig { sight: 1.0, ..many }.validate().unwrap_err().to_string();
        assert!(refused.starts_with("`sight` is 1, allowed: 0"), "{refused}");
        Flowm3dConfig { sight: 1.0, ..Default::default() }.validate().unwrap();
        let broken = Flowm3dConfig { sight: 1.0, patch: 0, map_side: i64::MAX, heads: i64::MAX, ..Default::default() };
        assert!(broken.validate().is_err());
    }
}
