//! State and step of an MNIST World.

use super::config::MnistWorldConfig;
use crate::digits::{DigitBank, PATCH_STRIDE};
use crate::limits::OutOfRange;
use crate::rng::{Purpose, Rng, Seed, stream};
use crate::world::{SnapshotError, World};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why an MNIST World could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MnistWorldError {
    /// A field of the configuration is out of range.
    #[error(transparent)]
    Config(#[from] OutOfRange),
    /// Patches of the bank and of the configuration differ in size.
    #[error("`digit_px` is {digit_px}, but the digit bank holds patches of {bank} x {bank} pixels")]
    PatchSide {
        /// The configuration's patch side, pixels.
        digit_px: usize,
        /// The bank's patch side, pixels.
        bank: usize,
    },
}

/// A torus of moving digits and the camera over it.
///
/// `Action` is `[dx, dy]`, the camera's move in pixels (taken modulo the world). A step moves the camera first, then
/// every digit by its velocity. A frame is `[w, w, 1]`, and pixel `(r, c)` of it shows world pixel
/// `((cy - w/2 + r) mod W, (cx - w/2 + c) mod W)`, with `(cx, cy)` the camera and `w/2` rounded down.
#[derive(Clone, Debug)]
pub struct MnistWorld {
    config: MnistWorldConfig,
    bank: Arc<DigitBank>,
    state: MnistWorldSnapshot,
    labels: Vec<u8>,
    /// Patches of all digits but the first with their ink scaled, `[N - 1, digit_px, PATCH_STRIDE]`; empty where they are
    /// drawn in full, straight from the bank, which many worlds share and the cache then holds once.
    scaled: Vec<u8>,
}

/// The state of an [`MnistWorld`]. Positions are patches' top-left corners, pixels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MnistWorldSnapshot {
    /// Camera centre `(x, y)`, each in `0..W`.
    pub camera: [i16; 2],
    /// Top-left corners `(x, y)`, `[N]`, each in `0..W`.
    pub positions: Vec<[i16; 2]>,
    /// Pixels per step `(x, y)`, `[N]`.
    pub velocities: Vec<[i8; 2]>,
    /// Which image of the bank each digit shows, `[N]`.
    pub images: Vec<u32>,
}

impl MnistWorld {
    /// A world of this configuration over this bank, in the start state of `stream(Seed(0), Purpose::World, 0)`.
    ///
    /// # Errors
    /// If the configuration is not valid or the bank's patches have another size.
    pub fn new(config: MnistWorldConfig, bank: Arc<DigitBank>) -> Result<Self, MnistWorldError> {
        config.validate()?;
        if bank.side() != config.digit_px {
            return Err(MnistWorldError::PatchSide { digit_px: config.digit_px, bank: bank.side() });
        }
        let n = config.digits;
        let scaled_digits = if config.distractor_ink < 1.0 { n - 1 } else { 0 };
        let scaled = vec![0; scaled_digits * config.digit_px * PATCH_STRIDE];
        let state = MnistWorldSnapshot {
            camera: [0; 2],
            positions: Vec::with_capacity(n),
            velocities: Vec::with_capacity(n),
            images: Vec::with_capacity(n),
        };
        let mut world = Self { config, bank, state, labels: Vec::with_capacity(n), scaled };
        world.reset(&mut stream(Seed(0), Purpose::World, 0));
        Ok(world)
    }

    /// The configuration this world was made with.
    #[must_use]
    pub fn config(&self) -> &MnistWorldConfig {
        &self.config
    }

    /// The bank its digits come from.
    #[must_use]
    pub fn bank(&self) -> &Arc<DigitBank> {
        &self.bank
    }

    /// Camera centre `(x, y)`, each in `0..W`.
    #[must_use]
    pub fn camera(&self) -> [i16; 2] {
        self.state.camera
    }

    /// Top-left corners `(x, y)` of the patches, `[N]`, each in `0..W`.
    #[must_use]
    pub fn positions(&self) -> &[[i16; 2]] {
        &self.state.positions
    }

    /// Velocities `(x, y)`, `[N]`, pixels per step.
    #[must_use]
    pub fn velocities(&self) -> &[[i8; 2]] {
        &self.state.velocities
    }

    /// Which image of the bank each digit shows, `[N]`.
    #[must_use]
    pub fn digit_images(&self) -> &[u32] {
        &self.state.images
    }

    /// The digits' labels, `[N]`, each in `0..10`.
    #[must_use]
    pub fn digit_labels(&self) -> &[u8] {
        &self.labels
    }

    /// The whole torus as it is now, `[W, W]` bytes; pixel `(r, c)` is world pixel `(r, c)`.
    ///
    /// # Panics
    /// If `picture` has another length.
    pub fn render_world(&self, picture: &mut [u8]) {
        self.paint([0, 0], self.config.world, picture);
    }

    /// Who is seen at each window pixel, `[w, w]`: 0 the background, `i + 1` the digit with most ink there (of equals,
    /// the first).
    ///
    /// # Panics
    /// If `ids` has another length.
    pub fn entity_mask(&self, ids: &mut [u8]) {
        self.paint_entities(self.window_corner(), self.config.window, ids);
    }

    /// World coordinates `(x, y)` of the window's top-left pixel.
    fn window_corner(&self) -> [i32; 2] {
        self.config.window_corner(self.state.camera)
    }

    /// What digit `i` looks like, `[digit_px, PATCH_STRIDE]`.
    #[inline]
    pub(super) fn patch(&self, i: usize) -> &[u8] {
        let len = self.config.digit_px * PATCH_STRIDE;
        let scaled = i.checked_sub(1).and_then(|distractor| self.scaled.get(distractor * len..(distractor + 1) * len));
        scaled.unwrap_or_else(|| self.bank.patch(self.state.images[i] as usize))
    }

    /// Derives labels and scaled ink from the images of the state.
    fn load_images(&mut self) {
        let Self { config, bank, state, labels, scaled } = self;
        labels.clear();
        labels.extend(state.images.iter().map(|&image| bank.label(image as usize)));
        // In 1/65536ths, rounded: whole numbers, so that no float mode can change a pixel.
        let scale = (config.distractor_ink * 65536.0) as u32;
        for (patch, &image) in scaled.chunks_exact_mut(config.digit_px * PATCH_STRIDE).zip(&state.images[1..]) {
            for (to, &from) in patch.iter_mut().zip(bank.patch(image as usize)) {
                *to = ((u32::from(from) * scale + 0x8000) >> 16) as u8;
            }
        }
    }

    fn check(&self, state: &MnistWorldSnapshot) -> Result<(), SnapshotError> {
        let n = self.config.digits;
        let fail = |field, value: String, allowed| Err(SnapshotError { field, value, allowed });
        let lengths = [
            ("positions", state.positions.len()),
            ("velocities", state.velocities.len()),
            ("images", state.images.len()),
        ];
        if let Some((field, len)) = lengths.into_iter().find(|&(_, len)| len != n) {
            return fail(field, format!("{len} entries"), format!("{n} entries"));
        }
        let inside = |[x, y]: [i16; 2]| [x, y].iter().all(|&v| (0..self.config.world as i32).contains(&i32::from(v)));
        let in_world = || format!("both in 0..{}", self.config.world);
        if !inside(state.camera) {
            return fail("camera", format!("{:?}", state.camera), in_world());
        }
        if let Some(p) = state.positions.iter().find(|&&p| !inside(p)) {
            return fail("positions", format!("{p:?}"), in_world());
        }
        let fastest = self.config.velocity;
        if let Some(v) = state.velocities.iter().find(|v| v.iter().any(|&v| !(-fastest..=fastest).contains(&v))) {
            return fail("velocities", format!("{v:?}"), format!("both in -{fastest}..={fastest}"));
        }
        if let Some(image) = state.images.iter().find(|&&i| i as usize >= self.bank.len()) {
            return fail("images", image.to_string(), format!("0..{}", self.bank.len()));
        }
        Ok(())
    }
}

impl World for MnistWorld {
    type Action = [i8; 2];
    type Snapshot = MnistWorldSnapshot;

    /// For each digit in turn: image (label, then image of that label), `x`, `y`, `vx`, `vy`. The camera starts at (0, 0).
    fn reset(&mut self, rng: &mut Rng) {
        let (world, fastest) = (self.config.world as i16, self.config.velocity);
        let state = &mut self.state;
        state.camera = [0; 2];
        state.images.clear();
        state.positions.clear();
        state.velocities.clear();
        for _ in 0..self.config.digits {
            state.images.push(self.bank.pick(rng) as u32);
            state.positions.push([rng.random_range(0..world), rng.random_range(0..world)]);
            state.velocities.push([rng.random_range(-fastest..=fastest), rng.random_range(-fastest..=fastest)]);
        }
        self.load_images();
    }

    fn step(&mut self, action: [i8; 2]) {
        let world = self.config.world as i16;
        for (centre, by) in self.state.camera.iter_mut().zip(action) {
            *centre = (*centre + i16::from(by)).rem_euclid(world);
        }
        for (corner, velocity) in self.state.positions.iter_mut().zip(&self.state.velocities) {
            for (at, &by) in corner.iter_mut().zip(velocity) {
                // `validate` keeps speeds below the world's side, so one correction wraps; a division here would cost
                // a tenth of a frame.
                let moved = *at + i16::from(by);
                *at = moved + if moved < 0 { world } else { 0 } - if moved >= world { world } else { 0 };
            }
        }
    }

    fn frame_shape(&self) -> [usize; 3] {
        [self.config.window, self.config.window, 1]
    }

    fn render(&self, frame: &mut [u8]) {
        self.paint(self.window_corner(), self.config.window, frame);
    }

    fn snapshot(&self) -> MnistWorldSnapshot {
        self.state.clone()
    }

    fn restore(&mut self, snapshot: &MnistWorldSnapshot) -> Result<(), SnapshotError> {
        self.check(snapshot)?;
        self.state.clone_from(snapshot);
        self.load_images();
        Ok(())
    }
}
