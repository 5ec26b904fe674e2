//! Where things are on an egocentric map: what is in view, and what goes where when blocks and agent move.
//!
//! The map has `S x S` cells, `S` odd, on a torus. The agent is in the middle and looks along the columns: ahead is a larger
//! column, to its right a larger row. Every *velocity channel* is a map of its own, whose content moves on by the channel's
//! velocity each step.

/// Actions that the agent chooses from.
pub const ACTIONS: i64 = 5;

/// Velocities of the channels in cells a step, as (columns, rows). Each but the first is the one before it turned clockwise.
pub const VELOCITIES: [[i64; 2]; 5] = [[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]];

/// What an action does to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// By 90 degrees to the left.
    Left,
    /// By 90 degrees to the right.
    Right,
    /// One cell ahead.
    Forward,
    /// Nothing, as far as the map is concerned.
    Still,
}

/// Of each action: left, right, forward, backward, nothing. Backward is never taken, and the published model does not know it.
pub const MOTIONS: [Motion; ACTIONS as usize] =
    [Motion::Left, Motion::Right, Motion::Forward, Motion::Still, Motion::Still];

/// The action that steps forward.
pub const FORWARD: i64 = 2;

/// The last action, which does nothing.
pub const STILL: i64 = ACTIONS - 1;

/// The cells of which some point lies at most half of `degrees` off the direction that the agent looks in, by row. A cell has five
/// by five points, 0.2 of a cell apart; there is no limit to the distance.
pub fn in_view(side: i64, degrees: f64) -> Vec<i64> {
    const POINTS: [f64; 5] = [-0.4, -0.2, 0.0, 0.2, 0.4];
    let (middle, least_cosine) = (side / 2, (degrees / 2.0).to_radians().cos());
    let seen = |row: f64, column: f64| column / row.hypot(column).max(1e-9) >= least_cosine;
    (0..side * side)
        .filter(|cell| {
            let (row, column) = ((cell / side - middle) as f64, (cell % side - middle) as f64);
            POINTS.iter().any(|r| POINTS.iter().any(|c| seen(row + r, column + c)))
        })
        .collect()
}

/// Where in the picture the middle of a block in each of `cells` is seen: (row, column), in patches, of a square of `grid` patches
/// that shows `degrees` from side to side. What lies outside of it counts as at its edge.
pub fn sights(side: i64, cells: &[i64], grid: i64, degrees: f64) -> Vec<[f64; 2]> {
    /// How far below the eye, in cells: half the height of a block, which is the eye's.
    const BELOW: f64 = 0.75;
    /// The agent's own cell is looked at from here, so as to be somewhere.
    const NEAREST: f64 = 0.5;
    let (middle, centre) = (side / 2, (grid - 1) as f64 / 2.0);
    let focal = grid as f64 / 2.0 / (degrees / 2.0).to_radians().tan();
    let at = |across: f64, ahead: f64| (centre + focal * across / ahead).clamp(0.0, (grid - 1) as f64);
    let seen = |cell: &i64| {
        let (right, ahead) = ((cell / side - middle) as f64, ((cell % side - middle) as f64).max(NEAREST));
        [at(BELOW, ahead), at(right, ahead)]
    };
    cells.iter().map(seen).collect()
}

/// What is added to the attention that each of `from` pays to each of `to`, `[heads, from, to]`: `-slope` for each patch between
/// them, along rows and columns. The first head has the whole of `slope`, the others ever less, in equal steps, as the heads of
/// `ALiBi` (Press et al. 2022) do for distances in a text.
pub fn nearness(from: &[[f64; 2]], to: &[[f64; 2]], heads: i64, slope: f64) -> Vec<f32> {
    let slopes = (0..heads).map(|head| slope * (heads - head) as f64 / heads as f64);
    let apart = |a: &[f64; 2], b: &[f64; 2]| (a[0] - b[0]).abs() + (a[1] - b[1]).abs();
    slopes
        .flat_map(|slope| from.iter().flat_map(move |a| to.iter().map(move |b| (-slope * apart(a, b)) as f32)))
        .collect()
}

/// Where the content of each place comes from when blocks flow on and then the agent moves: of `[V, S, S]` the place before, as an
/// index into `[V * S * S]`. A permutation.
pub fn sources(side: i64, velocities: &[[i64; 2]], motion: Motion) -> Vec<i64> {
    let channels = velocities.len() as i64;
    // Channels that move turn with the agent; the first one rests.
    let turned = |channel: i64, by: i64| {
        if channel == 0 || channels == 1 { channel } else { 1 + (channel - 1 + by).rem_euclid(channels - 1) }
    };
    let wrap = |x: i64| x.rem_euclid(side);
    let mut sources = Vec::with_capacity((channels * side * side) as usize);
    for channel in 0..channels {
        for (row, column) in (0..side).flat_map(|row| (0..side).map(move |column| (row, column))) {
            // A turn to the left brings what was ahead to the right: from larger columns to larger rows.
            let (from, row, column) = match motion {
                Motion::Left => (turned(channel, -1), side - 1 - column, row),
                Motion::Right => (turned(channel, 1), column, side - 1 - row),
                Motion::Forward => (channel, row, wrap(column + 1)),
                Motion::Still => (channel, row, column),
            };
            let [right, down] = velocities[from as usize];
            sources.push((from * side + wrap(row - down)) * side + wrap(column - right));
        }
    }
    sources
}

/// The inverse of a permutation.
pub fn inverse(permutation: &[i64]) -> Vec<i64> {
    let mut inverse = vec![0; permutation.len()];
    for (to, &from) in (0..).zip(permutation) {
        inverse[from as usize] = to;
    }
    inverse
}

/// Positional codes of the cells of a square, `[side * side, width]`: the first half of a code is of the row, the second of the
/// column; in each, sines and cosines of falling frequency take turns (Vaswani et al. 2017, in two dimensions).
pub fn positions(side: i64, width: i64) -> Vec<f32> {
    let half = width / 2;
    let code = |at: i64| {
        (0..half).map(move |i| {
            let angle = at as f64 * 10_000f64.powf(-((i - i % 2) as f64) / half as f64);
            (if i % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
        })
    };
    (0..side * side).flat_map(|cell| code(cell / side).chain(code(cell % side))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use simulators::room::{Around, Eye, Form, Painter, Picture, Room, Scene, Texture, Thing};

    use super::*;

    #[test]
    fn the_view_widens_as_the_specification_says() {
        let half_widths = [0i64, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 6, 7, 8, 8, 9, 9];
        let seen = in_view(33, 60.0);
        assert_eq!(seen.len(), 177);
        let expected: Vec<i64> = (0i64..33 * 33)
            .filter(|cell| {
                let (row, column) = (cell / 33 - 16, cell % 33 - 16);
                column >= 0 && row.abs() <= half_widths[column as usize]
            })
            .collect();
        assert_eq!(seen, expected);
        assert_eq!([31, 29, 9].map(|side| in_view(side, 60.0).len()), [158, 139, 17]);
    }

    #[test]
    fn a_motion_is_a_permutation_and_its_inverse_undoes_it() {
        for velocities in [&VELOCITIES[..], &VELOCITIES[..1]] {
            for motion in MOTIONS {
                let there = sources(5, velocities, motion);
                let back = inverse(&there);
                assert!((0..).zip(&there).all(|(to, &from)| back[from as usize] == to));
                let mut sorted = there;
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(0..5 * 5 * velocities.len() as i64), "{motion:?}");
            }
        }
    }

    /// At frequency `10000^(-2k / half)`; by hand for a width of 8, so halves of 4 with frequencies 1 and 0.01.
    #[test]
    fn positions_are_of_row_then_column() {
        let code = &positions(3, 8)[(2 * 3 + 1) * 8..][..8];
        let [two, one] = [2.0f32, 1.0].map(|at| [at.sin(), at.cos(), (at * 0.01).sin(), (at * 0.01).cos()]);
        for (found, expected) in code.iter().zip(two.iter().chain(&one)) {
            assert!((found - expected).abs() < 1e-6, "{code:?}");
        }
    }

    /// Whose middle is within the picture shows it there, as Blockworld draws it.
    #[test]
    fn a_block_is_seen_where_it_is_said_to_be() {
        let (map_side, grid, patch) = (13, 8, 8usize);
        let white = Arc::new(Texture::new(1, &[[255; 3]]));
        let [wall, floor, ceiling] = [0, 1, 2].map(|_| Arc::clone(&white));
        let room = Room { size: [16.0; 2], height: 2.74, wall, floor, ceiling };
        let eye = Eye { place: [8.0, 1.5, 8.0], heading: 0.0, field: 60f64.to_radians(), horizon: 0.5 };
        let cells = in_view(map_side, 60.0);
        let mut shown = 0;
        for (cell, [row, column]) in cells.iter().zip(sights(map_side, &cells, grid, 60.0)) {
            let [right, ahead] = [cell / map_side - map_side / 2, cell % map_side - map_side / 2].map(|at| at as f32);
            if [row, column].iter().any(|at| *at <= 0.0 || *at >= (grid - 1) as f64) {
                continue;
            }
            let form = Form::standing([8.0 + ahead, 8.0 + right], [0.7, 1.5, 0.7]);
            let things = [Thing { form, colour: [1.0, 0.0, 0.0], texture: None }];
            let side = grid as usize * patch;
            let (mut rgb, mut ids) = (vec![0; side * side * 3], vec![0; side * side]);
            let picture = Picture { rgb: &mut rgb, depth: None, ids: Some(&mut ids) };
            Painter::new(side, side).draw(&Scene { around: Around::Room(&room), things: &things, eye }, picture);
            let [y, x] = [row, column].map(|at| ((at + 0.5) * patch as f64) as usize);
            assert_eq!(ids[y * side + x], 1, "{ahead} ahead, {right} to the right");
            shown += 1;
        }
        assert_eq!(shown, 23);
    }

    #[test]
    fn every_patch_between_two_tokens_costs_attention() {
        let (from, to) = ([[0.0, 1.0], [2.0, 2.0]], [[2.0, 0.5]]);
        assert_eq!(nearness(&from, &to, 2, 3.0), [-7.5, -4.5, -3.75, -2.25]);
    }
}
