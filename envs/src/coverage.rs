//! Camera walks that see the whole world: the context of a memory test must show everything that is asked for later.
//!
//! Source: the released generator's full-coverage walk (Lillemark et al. 2026), see [`CoveragePlanner`].

use std::sync::Arc;

use rand::RngExt;
use simulators::mnist_world::MnistWorldConfig;
use simulators::rng::{Purpose, Rng, Seed, stream};

/// Whole walks that are tried before an episode is given up.
const MAX_ATTEMPTS: u32 = 100;
/// Walks tried when a planner is made, and how many of them must succeed: with a third, an episode fails all its attempts
/// once in 10^17.
const TRIALS: u32 = 60;
const MIN_SUCCESSES: u32 = TRIALS / 3;

/// Plans the camera moves of an episode of MNIST World.
///
/// Within the context, while some world pixel has never been in the window: choose one of those pixels uniformly, take the
/// shortest way to it on the torus, and move as far along it as one step allows. Once all is seen: uniform random moves. A
/// walk that has not seen everything by the last observation of the context is thrown away whole and drawn again. Then the
/// camera rests for one step, and the rest is uniform random moves.
///
/// The rule has a further clause, for a chosen pixel that asks for no move at all; it cannot arise here, because the camera's
/// own pixel is always in the window and a world where the camera cannot move is refused.
#[derive(Clone, Debug)]
pub struct CoveragePlanner {
    world: usize,
    window: usize,
    step: i8,
    context: usize,
    /// 64-bit words of a row of the bitmap.
    words: usize,
    /// Columns in view when the camera is at `x`, `[W, words]`.
    in_view: Arc<[u64]>,
    /// Bitmap of pixels not seen yet, `[W, words]`.
    unseen: Vec<u64>,
    /// Number of them in each row, `[W]`.
    unseen_in_row: Vec<u32>,
}

/// Why there is no covering walk.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoverageError {
    /// The configuration makes it impossible, or too rare to collect with.
    #[error(
        "`context` is {context}: with `world` {world}, `window` {window} and `step` {step}, {successes} of {TRIALS} walks \
         of that length see the whole world, at least {MIN_SUCCESSES} must; take a longer context, a larger window or step, \
         or a smaller world"
    )]
    Infeasible {
        /// Observations in which everything must be seen.
        context: usize,
        /// Side of the torus, pixels.
        world: usize,
        /// Side of the window, pixels.
        window: usize,
        /// Largest move along an axis, pixels.
        step: i8,
        /// Trial walks that succeeded.
        successes: u32,
    },
    /// The walk was planned for another configuration.
    #[error("the walk was made for another configuration")]
    OtherConfig,
    /// None of the walks of this episode covered the world.
    #[error("none of {MAX_ATTEMPTS} walks saw the whole world")]
    NotCovered,
}

impl CoveragePlanner {
    /// A planner for this world, after trying that it can do its work.
    ///
    /// # Errors
    /// [`CoverageError::Infeasible`] where too few walks of this length cover the world.
    ///
    /// # Panics
    /// If the world's configuration is not valid, or `context` is 0.
    pub fn new(config: &MnistWorldConfig, context: u32) -> Result<Self, CoverageError> {
        config.validate().expect("a valid world");
        assert!(context > 0, "an episode starts with an observation");
        let MnistWorldConfig { world, window, step, .. } = *config;
        let words = world.div_ceil(64);
        let mut in_view = vec![0u64; world * words];
        for (x, row) in in_view.chunks_exact_mut(words).enumerate() {
            for column in (0..window).map(|c| (x + world - window / 2 + c) % world) {
                row[column / 64] |= 1 << (column % 64);
            }
        }
        let mut walk = Self {
            world,
            window,
            step,
            context: context as usize,
            words,
            in_view: in_view.into(),
            unseen: vec![0; world * words],
            unseen_in_row: vec![0; world],
        };
        let mut rng = stream(Seed(0), Purpose::Policy, 0);
        let mut moves = vec![[0; 2]; walk.context - 1];
        let successes = (0..TRIALS).map(|_| u32::from(walk.attempt(&mut rng, &mut moves))).sum();
        if successes >= MIN_SUCCESSES {
            return Ok(walk);
        }
        Err(CoverageError::Infeasible { context: walk.context, world, window, step, successes })
    }

    /// Draws the moves `(dx, dy)` of an episode, `[T]`.
    ///
    /// # Errors
    /// [`CoverageError::NotCovered`], about never.
    ///
    /// # Panics
    /// If the episode ends before its context.
    pub fn plan(&mut self, rng: &mut Rng, moves: &mut [[i8; 2]]) -> Result<(), CoverageError> {
        let (context, after) = moves.split_at_mut(self.context - 1);
        if !(0..MAX_ATTEMPTS).any(|_| self.attempt(rng, context)) {
            return Err(CoverageError::NotCovered);
        }
        if let Some((pause, walk)) = after.split_first_mut() {
            *pause = [0, 0];
            walk.fill_with(|| random_move(self.step, rng));
        }
        Ok(())
    }

    /// One walk through the context; whether it saw everything.
    fn attempt(&mut self, rng: &mut Rng, moves: &mut [[i8; 2]]) -> bool {
        let mut camera = [0i32; 2];
        let mut left = self.forget();
        left -= self.look(camera);
        for by in moves {
            *by = if left == 0 { random_move(self.step, rng) } else { self.toward_unseen(camera, left, rng) };
            if left > 0 {
                for (centre, &by) in camera.iter_mut().zip(by.iter()) {
                    *centre = (*centre + i32::from(by)).rem_euclid(self.world as i32);
                }
                left -= self.look(camera);
            }
        }
        left == 0
    }

    /// Makes every pixel unseen; returns how many there are.
    fn forget(&mut self) -> u32 {
        for row in self.unseen.chunks_exact_mut(self.words) {
            for (word, bits) in row.iter_mut().enumerate() {
                let columns = (self.world - 64 * word).min(64);
                *bits = u64::MAX >> (64 - columns);
            }
        }
        self.unseen_in_row.fill(self.world as u32);
        (self.world * self.world) as u32
    }

    /// Sees what is in the window around `camera = (x, y)`; returns how many pixels of it are new.
    fn look(&mut self, [x, y]: [i32; 2]) -> u32 {
        let in_view = &self.in_view[x as usize * self.words..][..self.words];
        let top = y as usize + self.world - self.window / 2;
        let mut new = 0;
        for row in (0..self.window).map(|r| (top + r) % self.world) {
            let mut new_in_row = 0;
            for (bits, view) in self.unseen[row * self.words..][..self.words].iter_mut().zip(in_view) {
                new_in_row += (*bits & view).count_ones();
                *bits &= !view;
            }
            self.unseen_in_row[row] -= new_in_row;
            new += new_in_row;
        }
        new
    }

    /// The move from `camera` toward a uniformly random one of the `left` unseen pixels.
    fn toward_unseen(&self, camera: [i32; 2], left: u32, rng: &mut Rng) -> [i8; 2] {
        let [x, y] = self.nth_unseen(rng.random_range(0..left));
        [
            shortest_move(camera[0], x as i32, self.world, self.step),
            shortest_move(camera[1], y as i32, self.world, self.step),
        ]
    }

    /// Coordinates `(x, y)` of the unseen pixel with `n` others before it, row by row.
    fn nth_unseen(&self, mut n: u32) -> [usize; 2] {
        let mut rows = self.unseen_in_row.iter();
        let row = rows.position(|&count| {
            if n < count {
                true
            } else {
                n -= count;
                false
            }
        });
        let row = row.expect("fewer than all unseen pixels");
        for (word, &bits) in self.unseen[row * self.words..][..self.words].iter().enumerate() {
            let mut bits = bits;
            if n >= bits.count_ones() {
                n -= bits.count_ones();
                continue;
            }
            for _ in 0..n {
                bits &= bits - 1; // drops the lowest
            }
            return [64 * word + bits.trailing_zeros() as usize, row];
        }
        unreachable!("a row's count is the number of its bits")
    }
}

/// The move along one axis that goes from `from` toward `to` the shorter way round the torus, at most `step` at once; half
/// way round is forward.
pub(crate) fn shortest_move(from: i32, to: i32, world: usize, step: i8) -> i8 {
    let world = world as i32;
    let ahead = (to - from).rem_euclid(world);
    let shortest = if 2 * ahead > world { ahead - world } else { ahead };
    shortest.clamp(-i32::from(step), i32::from(step)) as i8
}

/// A move with both components uniform in `-step..=step`.
pub(crate) fn random_move(step: i8, rng: &mut Rng) -> [i8; 2] {
    [rng.random_range(-step..=step), rng.random_range(-step..=step)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts what a walk leaves unseen, pixel by pixel.
    fn unseen_by(config: &MnistWorldConfig, moves: &[[i8; 2]]) -> usize {
        let MnistWorldConfig { world, window, .. } = *config;
        let mut seen = vec![false; world * world];
        let mut camera = [0i32; 2];
        for by in std::iter::once(&[0, 0]).chain(moves) {
            camera = [camera[0] + i32::from(by[0]), camera[1] + i32::from(by[1])];
            for (r, c) in (0..window * window).map(|i| (i / window, i % window)) {
                let at =
                    |centre: i32, i: usize| (centre - (window / 2) as i32 + i as i32).rem_euclid(world as i32) as usize;
                seen[at(camera[1], r) * world + at(camera[0], c)] = true;
            }
        }
        seen.iter().filter(|&&seen| !seen).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn everything_is_seen_within_the_context_then_the_camera_rests(
            seed in 0u64..1000, world in 20usize..90, window in 16usize..33, step in 4i8..12,
        ) {
            let window = window.min(world);
            let config = MnistWorldConfig { world, window, step, digit_px: 16, ..Default::default() };
            let context = 60;
            let Ok(mut walk) = CoveragePlanner::new(&config, context) else {
                // Only worlds that are large for their window are ever refused.
                prop_assert!(world > 2 * window);
                return Ok(());
            };
            let mut moves = vec![[0; 2]; 80];
            walk.plan(&mut stream(Seed(seed), Purpose::Policy, 1), &mut moves).unwrap();
            prop_assert_eq!(unseen_by(&config, &moves[..context as usize - 1]), 0);
            prop_assert_eq!(moves[context as usize - 1], [0, 0]);
            prop_assert!(moves.iter().flatten().all(|by| (-step..=step).contains(by)));
        }
    }

    #[test]
    fn a_fully_observed_world_needs_no_moves() {
        let still = MnistWorldConfig::preset("dynamic_fo_no_sm").unwrap();
        let mut moves = [[9; 2]; 3];
        CoveragePlanner::new(&still, 1).unwrap().plan(&mut stream(Seed(0), Purpose::Policy, 0), &mut moves).unwrap();
        assert_eq!(moves, [[0; 2]; 3]);
    }

    #[test]
    fn a_camera_that_cannot_see_everything_is_refused_with_the_numbers() {
        let stuck = MnistWorldConfig { step: 0, ..Default::default() };
        let message = CoveragePlanner::new(&stuck, 50).unwrap_err().to_string();
        assert!(message.contains("`world` 50, `window` 32 and `step` 0, 0 of 60 walks"), "{message}");
        assert!(CoveragePlanner::new(&MnistWorldConfig::default(), 2).is_err(), "two looks cannot cover this world");
    }

    #[test]
    fn random_moves_reach_both_ends_of_their_range() {
        let mut rng = stream(Seed(1), Purpose::Policy, 0);
        let moves: Vec<i8> = (0..2000).flat_map(|_| random_move(10, &mut rng)).collect();
        assert_eq!((moves.iter().min(), moves.iter().max()), (Some(&-10), Some(&10)));
        let mean = moves.iter().map(|&m| f64::from(m)).sum::<f64>() / 4000.0;
        assert!(mean.abs() < 0.5, "4000 draws of variance 36.7 have a mean within 0.5 of 0: {mean}");
    }
}
