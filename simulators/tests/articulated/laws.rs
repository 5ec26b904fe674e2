//! Laws: free fall, momentum, energy, contact; and that place, neighbours, threads and precision change nothing.

use rand::RngExt as _;
use simulators::articulated::{Drive, Ground, InertiaMode, Joint, Link, Model, Shape, ant};
use simulators::rng::{Purpose, Seed, stream};

use crate::world::{Batch, ant_at_start, close, root_velocity, scripted, state};

#[test]
fn it_falls_freely_by_the_discrete_parabola() {
    let mut batch = ant_at_start::<f64>(InertiaMode::Dflex, 1);
    let (g, dt) = (9.81, 1.0 / 960.0);
    for step in 1..=4 {
        batch.step(&[0.0; 8]);
        let n = f64::from(16 * step);
        let now = state(&batch, 0);
        close(now[1], 0.75 - g * dt * dt * n * (n + 1.0) / 2.0, 1e-12);
        close(now[19], -g * n * dt, 1e-12);
        (7..15).for_each(|i| close(now[i], ant::START[i], 1e-12));
    }
}

/// A chain in the air: no ground, gravity, damping, limits or armature.
fn floating(gravity: f64, substep: f64, mass_matrix_every: usize) -> Model {
    let mut model = ant::model(InertiaMode::Exact, mass_matrix_every);
    model.ground = None;
    model.gravity = gravity;
    (model.dt, model.substeps) = (substep, 1);
    if mass_matrix_every > 1 {
        model.substeps = mass_matrix_every;
    }
    for link in &mut model.links {
        if let Joint::Revolute(drive) = &mut link.joint {
            *drive = Drive::free(drive.axis);
        }
    }
    model
}

fn tumbling() -> Vec<f64> {
    let mut rng = stream(Seed(4), Purpose::World, 0);
    let mut state = vec![0.0; 29];
    state[..15].copy_from_slice(&ant::START);
    state[15..].iter_mut().for_each(|v| *v = rng.random_range(-1.0..1.0));
    state
}

#[test]
fn momentum_and_energy_drift_in_proportion_to_the_step() {
    let drift = |substep: f64| -> [f64; 3] {
        let model = floating(0.0, substep, 1);
        let mut batch = Batch::<f64>::new(&model, 1);
        batch.set_state(0, &tumbling());
        let before = model.mechanics(&tumbling(), &[0.0; 8]);
        let steps = (0.25 / substep).round() as usize;
        (0..steps).for_each(|_| batch.step(&[0.0; 8]));
        let after = model.mechanics(&state(&batch, 0), &[0.0; 8]);
        let apart = |range: std::ops::Range<usize>| {
            let norm = |f: &dyn Fn(usize) -> f64| range.clone().map(|i| f(i) * f(i)).sum::<f64>().sqrt();
            norm(&|i| after.momentum[i] - before.momentum[i]) / norm(&|i| before.momentum[i])
        };
        let energy = (after.kinetic_energy - before.kinetic_energy).abs() / before.kinetic_energy;
        [apart(0..3), apart(3..6), energy]
    };
    let (coarse, fine) = (drift(1.0 / 960.0), drift(1.0 / 1920.0));
    for (coarse, fine) in coarse.into_iter().zip(fine) {
        assert!(coarse < 3e-3, "{coarse}");
        close(coarse / fine, 2.0, 0.05);
    }
}

#[test]
fn the_centre_of_mass_flies_along_the_discrete_parabola() {
    let apart = |dt: f64, every: usize| -> f64 {
        let model = floating(9.81, dt, every);
        let mut batch = Batch::<f64>::new(&model, 1);
        batch.set_state(0, &tumbling());
        let before = model.mechanics(&tumbling(), &[0.0; 8]);
        let substeps = (0.5 / dt).round() as usize;
        (0..substeps / model.substeps).for_each(|_| batch.step(&[0.0; 8]));
        let after = model.mechanics(&state(&batch, 0), &[0.0; 8]);
        let n = substeps as f64;
        let error = |axis: usize| {
            let fall = if axis == 1 { 9.81 * dt * dt * n * (n + 1.0) / 2.0 } else { 0.0 };
            after.com[axis] - (before.com[axis] + before.momentum[3 + axis] / before.mass * n * dt - fall)
        };
        (0..3).map(|axis| error(axis).powi(2)).sum::<f64>().sqrt()
    };
    // It flew half a metre and turned by half a radian.
    let coarse = apart(1.0 / 960.0, 1);
    assert!(coarse < 1e-3, "{coarse}");
    close(coarse / apart(1.0 / 1920.0, 1), 2.0, 0.05);
    let cached = apart(1.0 / 960.0, 16);
    assert!(cached < 1e-2, "{cached}");
}

#[test]
fn a_ball_rests_where_its_weight_meets_the_ground() {
    let ball = Shape::Sphere { centre: [0.0; 3], radius: 0.25 };
    let mut model = ant::model(InertiaMode::Exact, 16);
    model.links = vec![Link { parent: None, joint: Joint::Free, offset: [0.0; 3], turn: None, shapes: vec![ball] }];
    model.motors = vec![];
    let mut batch = Batch::<f64>::new(&model, 1);
    let mut now = vec![0.0; 13];
    (now[1], now[6]) = (0.25, 1.0);
    batch.set_state(0, &now);
    (0..6000).for_each(|_| batch.step(&[]));
    batch.state(0, &mut now);
    close(model.mass_properties()[0].mass, 65.45, 5e-3);
    close(now[1], 0.233_95, 2e-5);
}

#[test]
fn a_block_slides_to_rest_by_coulombs_law() {
    let block = Shape::Cuboid { centre: [0.0; 3], sides: [1.0, 0.2, 1.0] };
    let mut model = ant::model(InertiaMode::Exact, 16);
    model.ground = Some(Ground { ke: 4e5, kd: 1e6, kf: 3e4, mu: 0.5 });
    model.links = vec![Link { parent: None, joint: Joint::Free, offset: [0.0; 3], turn: None, shapes: vec![block] }];
    model.motors = vec![];
    let mut batch = Batch::<f64>::new(&model, 1);
    let weight = model.mass_properties()[0].mass * 9.81;
    let mut now = vec![0.0; 13];
    (now[1], now[6], now[10]) = (0.1 - weight / (4.0 * 4e5), 1.0, 5.0);
    batch.set_state(0, &now);
    (0..30).for_each(|_| batch.step(&[]));
    batch.state(0, &mut now);
    // It leans on its leading edge a little, which leaves the sum of the normal forces alone.
    let velocity = now[10] + now[8] * now[2] - now[9] * now[1];
    close(velocity, 5.0 - 0.5 * 9.81 * 0.5, 0.03);
}

#[test]
fn single_precision_stays_near_double_far_away_too() {
    for x in [0.0, 140.0] {
        let (mut double, mut single) =
            (ant_at_start::<f64>(InertiaMode::Dflex, 1), ant_at_start::<f32>(InertiaMode::Dflex, 1));
        // A start in which it is already on the ground and moves.
        (0..20).for_each(|t| double.step(&scripted(t)));
        let mut start = state(&double, 0);
        let (wy, wz) = (start[16], start[17]);
        start[0] += x;
        start[19] -= wz * x;
        start[20] += wy * x;
        double.set_state(0, &start);
        single.set_state(0, &start);
        for t in 0..10 {
            double.step(&scripted(t));
            single.step(&scripted(t));
        }
        let (double, single) = (state(&double, 0), state(&single, 0));
        (0..15).for_each(|i| close(single[i], double[i], 1e-4));
        (0..3).for_each(|i| close(root_velocity(&single)[i], root_velocity(&double)[i], 1e-3));
    }
}

#[test]
fn bodies_do_not_notice_each_other_nor_threads_nor_lanes() {
    let count = 37;
    let run = |count: usize, threads: usize, first: usize| -> Vec<Vec<f64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut batch = ant_at_start::<f32>(InertiaMode::Dflex, count);
        for t in 0..40 {
            let actions: Vec<f32> = (0..count)
                .flat_map(|body| {
                    let mut rng = stream(Seed((first + body) as u64), Purpose::Policy, t);
                    (0..8).map(move |_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>()
                })
                .collect();
            pool.install(|| batch.step(&actions));
        }
        (0..count).map(|body| state(&batch, body)).collect()
    };
    let all = run(count, 1, 0);
    assert!(all == run(count, 3, 0), "threads");
    for body in [0, 5, 15, 16, 36] {
        assert!(run(1, 1, body)[0] == all[body], "body {body} alone");
    }
    assert!(all[0] != all[1]);
}
