//! The room from above: a plan that people and position probes read.

use super::form::Form;
use super::scene::{Eye, Room, Thing};

/// Ground, walls, and who looks.
const GROUND: [u8; 3] = [46, 52, 64];
const VIEW: [u8; 3] = [76, 86, 106];
const AGENT: [u8; 3] = [236, 239, 244];
/// How large the agent is, m.
const AGENT_RADIUS: f32 = 0.4;

/// Draws the plan of a room, `[side, side, 3]`: `x` to the right, `z` down, things in their colours, the eye as a wedge in what it sees.
///
/// # Panics
/// If `rgb` has another length.
pub fn plan(room: &Room, things: &[Thing], eye: Eye, side: usize, rgb: &mut [u8]) {
    assert_eq!(rgb.len(), side * side * 3, "bytes of a plan");
    let longest = room.size[0].max(room.size[1]);
    let metre = side as f32 / longest;
    let pixels = rgb.as_chunks_mut::<3>().0;
    let (cos, sin) = (libm::cos(eye.heading) as f32, libm::sin(eye.heading) as f32);
    let slope = libm::tan(eye.field / 2.0) as f32;
    for (row, pixels) in pixels.chunks_exact_mut(side).enumerate() {
        let z = (row as f32 + 0.5) / metre - eye.place[2];
        for (column, pixel) in pixels.iter_mut().enumerate() {
            let x = (column as f32 + 0.5) / metre - eye.place[0];
            let (ahead, aside) = (cos * x - sin * z, sin * x + cos * z);
            *pixel = if aside.abs() <= ahead * slope { VIEW } else { GROUND };
        }
    }
    let mut fill = |least: [f32; 2], most: [f32; 2], colour: [u8; 3], inside: &dyn Fn([f32; 2]) -> bool| {
        let range = |i: usize| {
            let clamp = |x: f32| (x * metre).clamp(0.0, side as f32) as usize;
            clamp(least[i])..(clamp(most[i]) + 1).min(side)
        };
        for row in range(1) {
            for column in range(0) {
                if inside([column, row].map(|at| (at as f32 + 0.5) / metre)) {
                    pixels[row * side + column] = colour;
                }
            }
        }
    };
    for thing in things {
        let colour = thing.colour.map(|x| (x * 255.0 + 0.5) as u8);
        match thing.form {
            Form::Box { centre, half, axes } => {
                // The square that its floor plan fills, whichever way it lies.
                let reach = [0, 2].map(|i: usize| (0..3).map(|axis| half[axis] * axes[axis][i].abs()).sum::<f32>());
                let (least, most) =
                    ([centre[0] - reach[0], centre[2] - reach[1]], [centre[0] + reach[0], centre[2] + reach[1]]);
                let upright = axes[1][1].abs() > 0.99;
                fill(least, most, colour, &|[x, z]| {
                    let from = [x - centre[0], z - centre[2]];
                    !upright
                        || [0, 2].iter().all(|&axis: &usize| {
                            (axes[axis][0] * from[0] + axes[axis][2] * from[1]).abs() <= half[axis]
                        })
                });
            }
            Form::Capsule { ends: [a, b], radius, .. } => {
                let edge =
                    |i: usize, sign: f32| if sign < 0.0 { a[i].min(b[i]) - radius } else { a[i].max(b[i]) + radius };
                let line = [b[0] - a[0], b[2] - a[2]];
                let squared = (line[0] * line[0] + line[1] * line[1]).max(1e-12);
                fill([edge(0, -1.0), edge(2, -1.0)], [edge(0, 1.0), edge(2, 1.0)], colour, &|[x, z]| {
                    let from = [x - a[0], z - a[2]];
                    let share = ((from[0] * line[0] + from[1] * line[1]) / squared).clamp(0.0, 1.0);
                    let apart = [from[0] - share * line[0], from[1] - share * line[1]];
                    apart[0] * apart[0] + apart[1] * apart[1] <= radius * radius
                });
            }
        }
    }
    let [x, _, z] = eye.place;
    fill([x - AGENT_RADIUS, z - AGENT_RADIUS], [x + AGENT_RADIUS, z + AGENT_RADIUS], AGENT, &|at| {
        let (x, z) = (at[0] - x, at[1] - z);
        let (ahead, aside) = (cos * x - sin * z, sin * x + cos * z);
        // A wedge that points ahead.
        ahead.abs() <= AGENT_RADIUS && aside.abs() <= (AGENT_RADIUS - ahead) / 2.0
    });
}
