//! Gradients of the Ant's steps against those of the original simulator, and against central differences.

use simulators::articulated::{InertiaMode, ant};

use crate::world::{Batch, ant_at_start, close, root_velocity, scripted, state};

/// Of height, forward and upward speed of the root after `steps`, the derivatives with respect to the start and the held action.
fn derivatives(batch: &mut Batch<f64>, action: &[f64; 8], steps: usize) -> [([f64; 29], [f64; 8]); 3] {
    let mut before = Vec::new();
    for _ in 0..steps {
        before.push(batch.bodies.clone());
        batch.step(action);
    }
    let now = state(batch, 0);
    // The root's velocity is v + w x p, and in the centred frame p is (0, h, 0).
    let [h, wx, wy, wz] = [now[1], now[15], now[16], now[17]];
    let seeds: [&[(usize, f64)]; 3] =
        [&[(1, 1.0)], &[(18, 1.0), (17, -h), (1, -wz), (2, wy)], &[(19, 1.0), (0, wz), (2, -wx)]];
    seeds.map(|seed| {
        let mut bar = [0.0; 29];
        for &(row, x) in seed {
            bar[row] = x;
        }
        let mut total = [0.0; 8];
        for before in before.iter().rev() {
            let mut here = [0.0; 8];
            batch.simulator.pull_back_all(before, action, &mut bar, &mut here);
            total.iter_mut().zip(here).for_each(|(total, here)| *total += here);
        }
        (bar, total)
    })
}

#[test]
fn the_gradient_is_the_golden_one() {
    let action = [0.3, -0.2, 0.1, 0.4, -0.3, 0.2, 0.1, -0.1];
    for (rest, steps, golden) in [
        (0, 1, [2.715_860e-4, 6.096_670_8e-2, 3.005_204_6e-2]),
        (0, 3, [2.215_436e-3, 1.303_648_12e-1, 8.442_054_4e-2]),
        (0, 32, [3.487_409e-2, -2.612_286_0e-1, 1.570_208_5e-1]),
        (14, 1, [7.117_824e-5, 4.233_798_9e-2, 6.572_899e-3]),
        (14, 3, [4.573_74e-4, 1.265_645_02e-1, 1.703_171_6e-2]),
    ] {
        let mut batch = ant_at_start::<f64>(InertiaMode::Dflex, 1);
        (0..rest).for_each(|_| batch.step(&[0.0; 8]));
        for ((_, found), golden) in derivatives(&mut batch, &action, steps).iter().zip(golden) {
            close(found[1] / golden, 1.0, 1e-6 + 1e-9 / golden.abs());
        }
    }
}

#[test]
fn the_gradient_is_that_of_central_differences() {
    let action = [0.3, -0.2, 0.1, 0.4, -0.3, 0.2, 0.1, -0.1];
    for (rest, every) in [(0, 16), (0, 4), (14, 16), (14, 1), (22, 16)] {
        let model = ant::model(InertiaMode::Dflex, every);
        let mut batch = Batch::<f64>::new(&model, 1);
        let mut start = vec![0.0; 29];
        start[..15].copy_from_slice(&ant::START);
        batch.set_state(0, &start);
        (0..rest).for_each(|t| batch.step(&scripted(t)));
        let start = state(&batch, 0);
        // From here on the body's place is the origin.
        let mut start = start;
        let ([x, z], [wx, wy, wz]) = ([start[0], start[2]], [start[15], start[16], start[17]]);
        start[18] += wy * z;
        start[19] += wz * x - wx * z;
        start[20] -= wy * x;
        (start[0], start[2]) = (0.0, 0.0);
        batch.set_state(0, &start);
        let analytic = derivatives(&mut batch, &action, 2);
        let measure = |start: &[f64], action: &[f64; 8]| -> [f64; 3] {
            let mut batch = Batch::<f64>::new(&model, 1);
            batch.set_state(0, start);
            (0..2).for_each(|_| batch.step(action));
            let now = state(&batch, 0);
            let velocity = root_velocity(&now);
            [now[1], velocity[0], velocity[1]]
        };
        let eps = 1e-6;
        for row in 0..37 {
            let moved = |by: f64| {
                let (mut start, mut action) = (start.clone(), action);
                if row < 29 {
                    start[row] += by;
                } else {
                    action[row - 29] += by;
                }
                measure(&start, &action)
            };
            let (up, down, far_up, far_down) = (moved(eps), moved(-eps), moved(3.0 * eps), moved(-3.0 * eps));
            for output in 0..3 {
                let numeric = (up[output] - down[output]) / (2.0 * eps);
                let wider = (far_up[output] - far_down[output]) / (6.0 * eps);
                let (start_bar, action_bar) = &analytic[output];
                let exact = if row < 29 { start_bar[row] } else { action_bar[row - 29] };
                // Where a contact or limit switches inside the interval, the two differences disagree.
                if (numeric - wider).abs() < 1e-6 * numeric.abs().max(1e-3) {
                    close(exact, numeric, 2e-6 * numeric.abs().max(1e-2));
                }
            }
        }
    }
}
