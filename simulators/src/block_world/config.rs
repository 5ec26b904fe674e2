//! Sizes and ranges of a Blockworld, and the paper's presets.

use serde::{Deserialize, Serialize};

use crate::limits::{self, Limit, OutOfRange};
use crate::room::Scene;

/// How things move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// On whole cells, at cardinal speeds.
    #[default]
    Grid,
    /// As rigid bodies.
    Physics,
}

/// Everything that defines a Blockworld except its textures and its seed. The default is the preset `dynamic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockWorldConfig {
    /// How things move.
    pub regime: Regime,
    /// Side of the room, m. In the grid regime cells are `1..room`.
    pub room: u16,
    /// Fewest things.
    pub fewest: u8,
    /// Most things; how many there are is uniform.
    pub most: u8,
    /// How likely a thing is a ball rather than a box.
    pub balls: f64,
    /// Whether things move by themselves: one cell a step, or in the physics regime at up to 2 m/s when an episode begins.
    pub moving: bool,
    /// Whether things and the agent keep each other out of their cells. In the physics regime bodies always do.
    pub collisions: bool,
    /// Whether walls, floor and boxes get textures at random; else walls are white, the floor is concrete and boxes are plain.
    pub textures: bool,
    /// Degrees that the agent turns in a step; 90 in the grid regime.
    pub turn: u16,
    /// Metres that the agent goes in a step; 1 in the grid regime.
    pub stride: f32,
    /// Side of a picture, pixels.
    pub image: usize,
}

impl Default for BlockWorldConfig {
    fn default() -> Self {
        Self {
            regime: Regime::Grid,
            room: 16,
            fewest: 6,
            most: 10,
            balls: 0.0,
            moving: true,
            collisions: false,
            textures: false,
            turn: 90,
            stride: 1.0,
            image: 128,
        }
    }
}

/// Smallest and largest room, m.
const ROOMS: std::ops::RangeInclusive<i128> = 4..=64;

impl BlockWorldConfig {
    /// Names that [`Self::preset`] knows.
    #[must_use]
    pub const fn preset_names() -> &'static [&'static str] {
        &["dynamic", "static", "tex", "tex_bounce", "probe", "physics"]
    }

    /// A configuration of the paper by its name, or `physics`; `None` if there is none of that name.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let dynamic = Self::default();
        let tex = Self { balls: 1.0 / 3.0, textures: true, ..Self::default() };
        match name {
            "dynamic" => Some(dynamic),
            "static" => Some(Self { moving: false, ..dynamic }),
            "tex" => Some(tex),
            "tex_bounce" => Some(Self { room: 12, collisions: true, most: 8, ..tex }),
            "probe" => Some(Self { most: 6, ..dynamic }),
            "physics" => Some(Self {
                regime: Regime::Physics,
                fewest: 8,
                most: 8,
                balls: 0.5,
                collisions: true,
                turn: 15,
                stride: 0.25,
                ..dynamic
            }),
            _ => None,
        }
    }

    /// What every field may hold, alone and beside the others.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let things = i128::try_from(Scene::MOST).unwrap_or(i128::MAX);
        let grid = self.regime == Regime::Grid;
        let (turns, strides) = if grid { (90..=90, 1.0..=1.0) } else { (1..=90, 0.01..=1.0) };
        let by_regime = if grid { "in the grid regime" } else { "in the physics regime" };
        let mut limits = vec![
            Limit::whole("room", self.room.into(), ROOMS),
            Limit::whole("fewest", self.fewest.into(), 1..=self.most.into()).because("at most `most`"),
            Limit::whole("most", self.most.into(), 1..=things),
            Limit::real("balls", self.balls as f32, 0.0..=1.0),
            Limit::whole("turn", self.turn.into(), turns).because(by_regime),
            Limit::real("stride", self.stride, strides).because(by_regime),
            Limit::whole("image", i128::try_from(self.image).unwrap_or(i128::MAX), 16..=1024),
        ];
        if self.collisions {
            // Each keeps a cell, and some room to move.
            let cells = i128::from(self.room.saturating_sub(1)).pow(2);
            limits.push(Limit::whole("most", self.most.into(), 1..=(cells / 4).max(1)).because("in so small a `room`"));
        }
        limits
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field at fault, its value and what is allowed.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        limits::check(&self.limits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_the_published_configurations() {
        for name in BlockWorldConfig::preset_names() {
            BlockWorldConfig::preset(name).unwrap().validate().unwrap();
        }
        let of = |name| {
            let c = BlockWorldConfig::preset(name).unwrap();
            (c.room, c.fewest, c.most, c.moving, c.textures, c.collisions, c.image)
        };
        assert_eq!(of("dynamic"), (16, 6, 10, true, false, false, 128));
        assert_eq!(of("static"), (16, 6, 10, false, false, false, 128));
        assert_eq!(of("tex"), (16, 6, 10, true, true, false, 128));
        assert_eq!(of("tex_bounce"), (12, 6, 8, true, true, true, 128));
        assert_eq!(of("probe"), (16, 6, 6, true, false, false, 128));
        assert_eq!(BlockWorldConfig::preset("dynamic_po"), None);
    }

    #[test]
    fn each_field_is_refused_by_name() {
        let base = BlockWorldConfig::default();
        let cases = [
            ("`room` is 3", BlockWorldConfig { room: 3, ..base.clone() }),
            ("`fewest` is 11", BlockWorldConfig { fewest: 11, ..base.clone() }),
            ("`most` is 43", BlockWorldConfig { most: 43, ..base.clone() }),
            ("`most` is 8", BlockWorldConfig { most: 8, room: 5, collisions: true, ..base.clone() }),
            ("`balls` is NaN", BlockWorldConfig { balls: f64::NAN, ..base.clone() }),
            ("`turn` is 45", BlockWorldConfig { turn: 45, ..base.clone() }),
            ("`stride` is 0.5", BlockWorldConfig { stride: 0.5, ..base.clone() }),
            ("`image` is 8", BlockWorldConfig { image: 8, ..base.clone() }),
        ];
        for (start, config) in cases {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(start), "{message}");
        }
        assert!(serde_json::from_str::<BlockWorldConfig>(r#"{"rooom": 16}"#).is_err());
    }
}
