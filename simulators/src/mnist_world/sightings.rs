//! When each point of an MNIST World was last in the window: the ground truth of a memory test.

use super::config::MnistWorldConfig;

/// The step at which each point was last in view, for one episode.
///
/// A point is either a point of a digit (digit, patch row, patch column), which travels with the digit, or a pixel of the
/// background, which stays. Ink is added, so no digit hides another: a point is seen whenever it is inside the window.
/// Works from camera and positions alone, so it can be fed from a recorded episode as well as from a live world.
#[derive(Clone, Debug)]
pub struct Sightings {
    config: MnistWorldConfig,
    /// `[N, digit_px, digit_px]`, step or -1.
    digit_points: Vec<i32>,
    /// `[W, W]`, step or -1.
    background: Vec<i32>,
}

impl Sightings {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(config: &MnistWorldConfig) -> Self {
        let points = config.digits * config.digit_px * config.digit_px;
        Self {
            config: config.clone(),
            digit_points: vec![-1; points],
            background: vec![-1; config.world * config.world],
        }
    }

    /// Forgets everything: the start of another episode.
    pub fn clear(&mut self) {
        self.digit_points.fill(-1);
        self.background.fill(-1);
    }

    /// Every point inside the window was last seen at step `t`.
    /// Shapes: `camera (x, y)`, `positions [N]` of top-left corners `(x, y)`.
    ///
    /// # Panics
    /// If there are not `N` positions.
    pub fn observe(&mut self, t: i32, camera: [i16; 2], positions: &[[i16; 2]]) {
        assert_eq!(positions.len(), self.config.digits, "one position a digit");
        let MnistWorldConfig { world, window, digit_px, .. } = self.config;
        let [left, top] = self.config.window_corner(camera);
        for r in 0..window {
            let row = &mut self.background[wrap(top, r, world) * world..][..world];
            for c in 0..window {
                row[wrap(left, c, world)] = t;
            }
        }
        // In window coordinates, modulo the world: inside if less than the window's side.
        let in_view =
            |corner: i16, i: usize, window_start: i32| wrap(i32::from(corner) - window_start, i, world) < window;
        for (points, &[x, y]) in self.digit_points.chunks_exact_mut(digit_px * digit_px).zip(positions) {
            let rows = points.chunks_exact_mut(digit_px).enumerate();
            for (_, row) in rows.filter(|&(i, _)| in_view(y, i, top)) {
                for (_, seen) in row.iter_mut().enumerate().filter(|&(j, _)| in_view(x, j, left)) {
                    *seen = t;
                }
            }
        }
    }

    /// For each window pixel the last step at which the point it shows was seen, -1 for never: the entity's patch point,
    /// or the background pixel where the mask says 0.
    /// Shapes: `entity_mask [w, w]` as from [`super::MnistWorld::entity_mask`], `out [w, w]`.
    ///
    /// # Panics
    /// If a length does not fit, or the mask names a digit that does not exist or does not cover that pixel.
    pub fn last_seen(&self, camera: [i16; 2], positions: &[[i16; 2]], entity_mask: &[u8], out: &mut [i32]) {
        let MnistWorldConfig { world, window, digit_px, digits, .. } = self.config;
        assert_eq!(positions.len(), digits, "one position a digit");
        assert_eq!(entity_mask.len(), window * window, "an entity id a window pixel");
        assert_eq!(out.len(), window * window, "a step a window pixel");
        let [left, top] = self.config.window_corner(camera);
        for (i, (out, &id)) in out.iter_mut().zip(entity_mask).enumerate() {
            let (row, col) = (wrap(top, i / window, world), wrap(left, i % window, world));
            *out = match usize::from(id).checked_sub(1) {
                None => self.background[row * world + col],
                Some(digit) => {
                    let [x, y] = positions[digit].map(|v| -i32::from(v));
                    let (patch_row, patch_col) = (wrap(y, row, world), wrap(x, col, world));
                    assert!(patch_row < digit_px && patch_col < digit_px, "digit {digit} is not at window pixel {i}");
                    self.digit_points[(digit * digit_px + patch_row) * digit_px + patch_col]
                }
            };
        }
    }
}

/// `start + i` on the torus.
fn wrap(start: i32, i: usize, world: usize) -> usize {
    (start + i as i32).rem_euclid(world as i32) as usize
}
