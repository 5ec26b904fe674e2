//! Sizes and ranges of an MNIST World, and the paper's presets.

use crate::digits::{MAX_SIDE, MIN_SIDE};
use crate::limits::{self, Limit, OutOfRange};
use serde::{Deserialize, Serialize};

/// Everything that defines an MNIST World except its digits and its seed. The default is the preset `dynamic_po`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MnistWorldConfig {
    /// Side `W` of the torus, pixels.
    pub world: usize,
    /// Side `w` of the window that is seen, pixels.
    pub window: usize,
    /// Number `N` of digits.
    pub digits: usize,
    /// Side of a digit's patch, pixels; the digit bank must have the same.
    pub digit_px: usize,
    /// Each velocity component is an independent uniform integer in `-velocity..=velocity`, pixels per step.
    pub velocity: i8,
    /// Largest camera move along one axis, pixels per step. The world obeys larger moves too: this is what collectors
    /// and action spaces keep to.
    pub step: i8,
    /// Digit 0 is drawn in full, the ink of the others is scaled by this.
    pub distractor_ink: f32,
}

impl Default for MnistWorldConfig {
    fn default() -> Self {
        Self { world: 50, window: 32, digits: 5, digit_px: 28, velocity: 1, step: 10, distractor_ink: 1.0 }
    }
}

/// Largest side of a torus: its pixels still fit comfortably in memory, its coordinates in 16 bits.
const MAX_WORLD: i128 = 4096;
/// Entity ids are bytes, and 0 is the background.
const MAX_DIGITS: i128 = 255;

impl MnistWorldConfig {
    /// Names that [`Self::preset`] knows: partially or fully observed (`po`, `fo`), without self-motion (`no_sm`).
    #[must_use]
    pub const fn preset_names() -> &'static [&'static str] {
        &["dynamic_po", "static_po", "dynamic_fo", "dynamic_fo_no_sm"]
    }

    /// A configuration of the paper by its released name; `None` if there is none of that name.
    ///
    /// The fully observed sets are the "small world" ones: world and window of one size, three digits.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let partial = Self::default();
        let full = Self { world: 32, digits: 3, ..Self::default() };
        match name {
            "dynamic_po" => Some(partial),
            "static_po" => Some(Self { velocity: 0, ..partial }),
            "dynamic_fo" => Some(full),
            "dynamic_fo_no_sm" => Some(Self { step: 0, ..full }),
            _ => None,
        }
    }

    /// What every field may hold, alone and beside the others.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let world = self.world as i128;
        // A digit or camera that crosses the whole world in one step would be a typo, and is harder to wrap.
        let largest_move = (world - 1).clamp(0, i128::from(i8::MAX));
        vec![
            Limit::whole("world", world, MIN_SIDE as i128..=MAX_WORLD),
            Limit::whole("window", self.window as i128, 1..=world).because("at most `world`"),
            Limit::whole("digits", self.digits as i128, 1..=MAX_DIGITS),
            Limit::whole("digit_px", self.digit_px as i128, MIN_SIDE as i128..=world.min(MAX_SIDE as i128))
                .because("at most `world`"),
            Limit::whole("velocity", self.velocity.into(), 0..=largest_move).because("less than `world`"),
            Limit::whole("step", self.step.into(), 0..=largest_move).because("less than `world`"),
            Limit::real("distractor_ink", self.distractor_ink, 0.0..=1.0),
        ]
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field at fault, its value and what is allowed.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        limits::check(&self.limits())
    }
}

impl MnistWorldConfig {
    /// World coordinates `(x, y)` of the top-left pixel of the window around `camera`; may lie before 0.
    pub(super) fn window_corner(&self, camera: [i16; 2]) -> [i32; 2] {
        camera.map(|centre| i32::from(centre) - (self.window / 2) as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_the_released_configurations() {
        let sizes = |name| {
            let c = MnistWorldConfig::preset(name).unwrap();
            c.validate().unwrap();
            (c.world, c.window, c.digits, c.digit_px, c.velocity, c.step)
        };
        assert_eq!(sizes("dynamic_po"), (50, 32, 5, 28, 1, 10));
        assert_eq!(sizes("static_po"), (50, 32, 5, 28, 0, 10));
        assert_eq!(sizes("dynamic_fo"), (32, 32, 3, 28, 1, 10));
        assert_eq!(sizes("dynamic_fo_no_sm"), (32, 32, 3, 28, 1, 0));
        assert!(MnistWorldConfig::preset_names().iter().all(|name| MnistWorldConfig::preset(name).is_some()));
        assert_eq!(MnistWorldConfig::preset("dynamic"), None);
    }

    #[test]
    fn each_field_is_refused_by_name() {
        let base = MnistWorldConfig::default();
        let refused = |config: MnistWorldConfig| config.validate().unwrap_err().to_string();
        assert_eq!(
            refused(MnistWorldConfig { window: 51, ..base.clone() }),
            "`window` is 51, allowed: 1..=50 (at most `world`)"
        );
        let cases = [
            ("`world` is 7", MnistWorldConfig { world: 7, ..base.clone() }),
            ("`digits` is 0", MnistWorldConfig { digits: 0, ..base.clone() }),
            ("`digit_px` is 33", MnistWorldConfig { digit_px: 33, ..base.clone() }),
            ("`digit_px` is 28", MnistWorldConfig { world: 24, window: 16, ..base.clone() }),
            ("`velocity` is -1", MnistWorldConfig { velocity: -1, ..base.clone() }),
            ("`step` is 50", MnistWorldConfig { step: 50, ..base.clone() }),
            ("`distractor_ink` is NaN", MnistWorldConfig { distractor_ink: f32::NAN, ..base.clone() }),
        ];
        for (start, config) in cases {
            let message = refused(config);
            assert!(message.starts_with(start), "{message}");
        }
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let refused = serde_json::from_str::<MnistWorldConfig>(r#"{"wolrd": 24}"#).unwrap_err().to_string();
        assert!(refused.contains("wolrd") && refused.contains("`world`"), "{refused}");
        assert_eq!(serde_json::from_str::<MnistWorldConfig>("{}").unwrap(), MnistWorldConfig::default());
    }
}
