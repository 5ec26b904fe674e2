//! Articulated bodies against closed forms, conserved quantities and the golden numbers of the original simulator.

use rand::RngExt as _;
use simulators::articulated::{
    Body, Drive, Ground, InertiaMode, Joint, Link, Model, Scalar, Shape, Simulator, ant, cartpole, hopper,
};
use simulators::rng::{Purpose, Seed, stream};

/// Bodies of one model.
struct Batch<T> {
    simulator: Simulator<T>,
    bodies: Vec<Body<T>>,
}

impl<T: Scalar> Batch<T> {
    fn new(model: &Model, count: usize) -> Self {
        let simulator = Simulator::new(model);
        let mut state = vec![0.0; simulator.rows()];
        if state.len() > 6 {
            state[6] = 1.0;
        }
        Self { bodies: vec![simulator.body(&state); count], simulator }
    }

    fn set_state(&mut self, body: usize, state: &[f64]) {
        self.bodies[body] = self.simulator.body(state);
    }

    fn state(&self, body: usize, state: &mut [f64]) {
        self.simulator.state(&self.bodies[body], state);
    }

    fn step(&mut self, actions: &[T]) {
        self.simulator.step_all(&mut self.bodies, actions);
    }
}

fn ant_at_start<T: Scalar>(mode: InertiaMode, count: usize) -> Batch<T> {
    let mut batch = Batch::new(&ant::model(mode, 16), count);
    let mut state = [0.0; 29];
    state[..15].copy_from_slice(&ant::START);
    for body in 0..count {
        batch.set_state(body, &state);
    }
    batch
}

fn state<T: Scalar>(batch: &Batch<T>, body: usize) -> Vec<f64> {
    let mut state = vec![0.0; 29];
    batch.state(body, &mut state);
    state
}

/// Velocity of the root: `v + w x p`.
fn root_velocity(s: &[f64]) -> [f64; 3] {
    let ([x, y, z], [wx, wy, wz]) = ([s[0], s[1], s[2]], [s[15], s[16], s[17]]);
    [s[18] + wy * z - wz * y, s[19] + wz * x - wx * z, s[20] + wx * y - wy * x]
}

/// The action of the golden runs: `0.5 sin(0.3 t + j)`.
fn scripted<T: Scalar>(t: usize) -> Vec<T> {
    (0..8).map(|j| T::of(0.5 * libm::sin(0.3 * t as f64 + j as f64))).collect()
}

#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} instead of {expected} ± {tolerance}");
}

#[test]
fn masses_are_those_of_the_original() {
    for (mode, torso, leg, foot) in [
        (
            InertiaMode::Dflex,
            [1.996_885, 2.176_695, 2.717_143, 0.085_211],
            [0.011_844, 0.056_797, 0.113_593, 0.0],
            [0.020_943, 0.267_479, 0.534_958, 0.0],
        ),
        (
            InertiaMode::Exact,
            [2.224_071, 2.224_071, 2.717_143, 0.0],
            [0.068_641, 0.068_641, 0.113_593, -0.044_952],
            [0.288_422, 0.288_422, 0.534_958, -0.246_536],
        ),
    ] {
        let masses = ant::model(mode, 16).mass_properties();
        close(masses.iter().map(|m| m.mass).sum(), 182.176, 5e-4);
        for (mass, expected) in [(&masses[0], torso), (&masses[1], leg), (&masses[2], foot)] {
            (0..4).for_each(|i| close(mass.inertia[i], expected[i], 1e-6));
        }
        let right = &masses[3].inertia;
        close(right[3], -leg[3], 1e-6);
    }
}

#[test]
fn the_mass_matrix_at_the_start_is_golden_symmetric_and_positive() {
    for (mode, rotation, hip, ankle) in [
        (InertiaMode::Dflex, [105.918, 37.759, 106.810], 3.094_339, 1.225_686),
        (InertiaMode::Exact, [107.360, 37.469, 107.360], 3.021_885, 1.616_433),
    ] {
        let mut state = [0.0; 29];
        state[..15].copy_from_slice(&ant::START);
        let at_start = ant::model(mode, 16).mechanics(&state, &[0.0; 8]);
        let h = |i: usize, j: usize| at_start.mass_matrix[i * 14 + j];
        (0..3).for_each(|i| close(h(i, i), rotation[i], 5e-4));
        (3..6).for_each(|i| close(h(i, i), 182.176, 5e-4));
        (0..4).for_each(|leg| {
            close(h(6 + 2 * leg, 6 + 2 * leg), hip, 1e-6);
            close(h(7 + 2 * leg, 7 + 2 * leg), ankle, 1e-6);
        });
        // Positive: every vector has energy. And what solves it solves it.
        let mut rng = stream(Seed(1), Purpose::World, 0);
        let x: Vec<f64> = (0..14).map(|_| rng.random_range(-1.0..1.0)).collect();
        let energy: f64 = (0..14).map(|i| (0..14).map(|j| x[i] * h(i, j) * x[j]).sum::<f64>()).sum();
        assert!(energy > 0.0);
        let state: Vec<f64> = state.iter().map(|s| s + 0.1 * rng.random_range(-1.0..1.0)).collect();
        let model = ant::model(mode, 16);
        let now = model.mechanics(&state, &[0.3; 8]);
        for i in 0..14 {
            let armature = if i < 6 { 0.0 } else { 0.05 };
            let left: f64 = (0..14).map(|j| now.mass_matrix[i * 14 + j] * now.accelerations[j]).sum();
            close(left + armature * now.accelerations[i], now.forces[i], 1e-9 * now.forces[i].abs().max(1.0));
        }
    }
}

#[test]
fn the_first_forces_are_golden() {
    let mut state = [0.0; 29];
    state[..15].copy_from_slice(&ant::START);
    let golden = [0.0, 104.413_537, 90.929_743, -6.154_437, -75.680_250, -116.158_866, -27.941_550, 85.965_098];
    for mode in [InertiaMode::Dflex, InertiaMode::Exact] {
        let now = ant::model(mode, 16).mechanics(&state, &scripted::<f64>(0));
        (0..8).for_each(|i| close(now.forces[6 + i], golden[i], 1e-6));
    }
}

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

#[test]
fn the_ant_without_action_bounces_as_the_original_does() {
    let mut batch = ant_at_start::<f64>(InertiaMode::Dflex, 1);
    let golden = [
        (1, 0.748_552_3),
        (5, 0.715_511_7),
        (10, 0.612_898_4),
        (13, 0.520_943_2),
        (14, 0.497_081_2),
        (15, 0.485_955_1),
        (16, 0.487_371_4),
        (20, 0.559_569_4),
        (30, 0.602_659_2),
        (40, 0.493_486_8),
        (60, 0.501_181_2),
    ];
    let mut steps = 0;
    let fell = loop {
        batch.step(&[0.0; 8]);
        steps += 1;
        let height = state(&batch, 0)[1];
        if let Some((_, golden)) = golden.iter().find(|(at, _)| *at == steps) {
            close(height, *golden, 1e-6);
        }
        if height < 0.27 {
            break steps;
        }
    };
    assert_eq!(fell, 109);
}

#[test]
fn a_held_action_holds_it_up() {
    for (k, height) in [(0.5, 0.605), (1.0, 0.582)] {
        let mut batch = ant_at_start::<f64>(InertiaMode::Dflex, 1);
        for _ in 0..150 {
            batch.step(&[0.0, k, 0.0, -k, 0.0, -k, 0.0, k]);
        }
        close(state(&batch, 0)[1], height, 1e-3);
    }
}

/// Height, velocity, first four angles, place after the scripted action.
type Golden = (InertiaMode, usize, f64, [f64; 3], [f64; 4], [f64; 2]);

const SCRIPTED: [Golden; 6] = [
    (
        InertiaMode::Dflex,
        1,
        0.748_858,
        [0.064_142, -0.130_009, 0.013_233],
        [0.002_025, 1.012_199, 0.004_817, -0.993_118],
        [0.000_588, 0.000_124],
    ),
    (
        InertiaMode::Dflex,
        10,
        0.625_314,
        [0.102_964, -1.562_823, 0.234_305],
        [0.507_502, 1.496_375, 0.170_689, -1.262_335],
        [0.022_480, 0.017_876],
    ),
    (
        InertiaMode::Dflex,
        30,
        0.644_373,
        [0.205_628, -0.726_631, 0.562_090],
        [0.706_228, 1.845_831, 0.613_552, -0.949_417],
        [0.086_798, 0.140_159],
    ),
    (
        InertiaMode::Exact,
        1,
        0.748_789,
        [0.053_464, -0.137_337, 0.009_727],
        [0.001_078, 1.008_911, 0.004_331, -0.995_118],
        [0.000_485, 0.000_091],
    ),
    (
        InertiaMode::Exact,
        10,
        0.624_538,
        [0.085_486, -1.571_184, 0.237_619],
        [0.493_733, 1.405_640, 0.187_312, -1.204_147],
        [0.020_695, 0.019_779],
    ),
    (
        InertiaMode::Exact,
        30,
        0.652_137,
        [0.249_388, -0.701_857, 0.378_845],
        [0.656_873, 1.701_142, 0.597_087, -0.907_874],
        [0.094_458, 0.113_569],
    ),
];

#[test]
fn the_scripted_ant_moves_as_the_original_does() {
    for (mode, steps, height, velocity, angles, place) in SCRIPTED {
        let mut batch = ant_at_start::<f64>(mode, 1);
        (0..steps).for_each(|t| batch.step(&scripted(t)));
        let now = state(&batch, 0);
        // The table has six decimals.
        let tolerance = if steps == 30 { 1e-4 } else { 1.5e-6 };
        close(now[1], height, tolerance);
        (0..3).for_each(|i| close(root_velocity(&now)[i], velocity[i], tolerance));
        (0..4).for_each(|i| close(now[7 + i], angles[i], tolerance));
        close(now[0], place[0], tolerance);
        close(now[2], place[1], tolerance);
    }
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

/// A rod on a hinge at height 3, which swings in the xy plane.
fn pendulum(damping: f64) -> (Model, f64, f64) {
    let rod = Shape::Capsule { from: [0.0, -0.2, 0.0], to: [0.0, -1.0, 0.0], radius: 0.05 };
    let mut model = ant::model(InertiaMode::Exact, 1);
    model.ground = None;
    let joint = Joint::Revolute(Drive { damping, ..Drive::free([0.0, 0.0, 1.0]) });
    model.links = vec![Link { parent: None, joint, offset: [0.0, 3.0, 0.0], turn: None, shapes: vec![rod] }];
    model.motors = vec![];
    let mass = model.mass_properties()[0];
    let inertia = mass.inertia[2] + mass.mass * mass.com[1] * mass.com[1];
    (model, inertia, mass.mass * 9.81 * -mass.com[1])
}

#[test]
fn a_pendulum_has_the_period_and_the_decay_of_the_textbook() {
    let (model, inertia, stiffness) = pendulum(0.0);
    let mut batch = Batch::<f64>::new(&model, 1);
    batch.set_state(0, &[0.01, 0.0]);
    let mut crossings = Vec::new();
    let (mut now, mut last) = ([0.0; 2], 0.01);
    for step in 1..60 * 60 {
        batch.step(&[]);
        batch.state(0, &mut now);
        if last > 0.0 && now[0] <= 0.0 {
            crossings.push((step as f64 - now[0] / (now[0] - last)) / 60.0);
        }
        last = now[0];
    }
    let period = (crossings.last().unwrap() - crossings[0]) / (crossings.len() - 1) as f64;
    let expected = std::f64::consts::TAU * (inertia / stiffness).sqrt();
    close(period / expected, 1.0, 1e-3);

    let damping = 2.0;
    let (model, inertia, _) = pendulum(damping);
    let mut batch = Batch::<f64>::new(&model, 1);
    batch.set_state(0, &[0.01, 0.0]);
    let (mut peak, seconds) = (0.0f64, 20.0);
    for step in 0..(60.0 * seconds) as usize {
        batch.step(&[]);
        batch.state(0, &mut now);
        if step as f64 > 60.0 * (seconds - expected) {
            peak = peak.max(now[0].abs());
        }
    }
    let decay = 0.01 * libm::exp(-damping * (seconds - expected / 2.0) / (2.0 * inertia));
    close(peak / decay, 1.0, damping * expected / (4.0 * inertia) + 0.02);
}

#[test]
fn a_pendulum_keeps_its_energy_for_a_hundred_periods() {
    let (model, ..) = pendulum(0.0);
    let mass = model.mass_properties()[0];
    let mut batch = Batch::<f64>::new(&model, 1);
    batch.set_state(0, &[1.5, 0.0]);
    let mut now = [0.0; 2];
    let mut energies = Vec::new();
    for _ in 0..60 * 200 {
        batch.step(&[]);
        batch.state(0, &mut now);
        let mechanics = model.mechanics(&now, &[]);
        energies.push(mechanics.kinetic_energy + mass.mass * 9.81 * mechanics.com[1]);
    }
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (early, late) = (mean(&energies[..1200]), mean(&energies[energies.len() - 1200..]));
    let swing = mass.mass * 9.81 * 0.6;
    close(late, early, 1e-3 * swing);
}

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

#[test]
fn the_cartpole_hangs_still_and_falls_when_upright() {
    let model = cartpole::cartpole();
    let masses = model.mass_properties();
    close(masses[0].mass, 50.0, 1e-9);
    close(masses[1].mass, 2.5, 1e-9);
    let mut batch = Batch::<f64>::new(&model, 2);
    batch.set_state(0, &[0.0, std::f64::consts::PI, 0.0, 0.0]);
    batch.set_state(1, &[0.0, 0.01, 0.0, 0.0]);
    (0..60).for_each(|_| batch.step(&[0.0; 2]));
    let mut now = [0.0; 4];
    batch.state(0, &mut now);
    close(now[1], std::f64::consts::PI, 1e-9);
    batch.state(1, &mut now);
    assert!(now[1] > 0.1, "upright is no rest: {}", now[1]);
    assert!(now[0] < 0.0, "the cart gives way");
}

#[test]
fn a_push_accelerates_cart_and_pole_by_newtons_law() {
    let model = cartpole::cartpole();
    let now = model.mechanics(&[0.0, 0.0, 0.0, 0.0], &[0.5]);
    // Upright, the pole's centre is half a metre up: [50 + 2.5 + armature, 2.5 / 2; 2.5 / 2, I + 2.5 / 4 + armature].
    let inertia = 2.5 / 12.0 * (1.0 + 0.05 * 0.05) + 2.5 * 0.25 + 0.1;
    let determinant = 52.6 * inertia - 1.25 * 1.25;
    close(now.accelerations[0], 500.0 * inertia / determinant, 1e-9);
    close(now.accelerations[1].abs(), 500.0 * 1.25 / determinant, 1e-9);
}

#[test]
fn the_double_pendulum_keeps_its_energy_without_a_motor() {
    let mut model = cartpole::double_pendulum();
    (model.dt, model.substeps, model.mass_matrix_every) = (1.0 / 9600.0, 160, 1);
    for link in &mut model.links {
        if let Joint::Revolute(drive) = &mut link.joint {
            drive.armature = 0.0;
        }
    }
    let mut batch = Batch::<f64>::new(&model, 1);
    batch.set_state(0, &[1.0, 0.5, 0.0, 0.0]);
    let energy = |state: &[f64]| {
        let mechanics = model.mechanics(state, &[0.0]);
        mechanics.kinetic_energy + mechanics.mass * 9.81 * mechanics.com[1]
    };
    let mut now = [0.0; 4];
    let before = energy(&[1.0, 0.5, 0.0, 0.0]);
    (0..120).for_each(|_| batch.step(&[0.0]));
    batch.state(0, &mut now);
    close(energy(&now), before, 5e-3 * 5.0 * 9.81);
    assert!(now[2].abs() + now[3].abs() > 0.1, "it swings");
}

#[test]
fn the_hopper_stands_on_its_foot_at_first_and_then_falls() {
    let model = hopper::hopper();
    // Torso, thigh, leg, foot: capsules of known size.
    let capsule = |r: f64, l: f64| 1000.0 * std::f64::consts::PI * r * r * (4.0 / 3.0 * r + l);
    let expected = [0.0, 0.0, capsule(0.05, 0.4), capsule(0.05, 0.45), capsule(0.04, 0.5), capsule(0.06, 0.39)];
    model.mass_properties().iter().zip(expected).for_each(|(mass, expected)| close(mass.mass, expected, 1e-9));
    let mut batch = Batch::<f64>::new(&model, 1);
    batch.set_state(0, &[0.0; 12]);
    let mut now = [0.0; 12];
    // The foot's underside is 0.04 above the ground at rest height.
    for step in 0..300 {
        batch.step(&[0.0; 3]);
        batch.state(0, &mut now);
        assert!(now.iter().all(|x| x.is_finite()), "step {step}");
        if step == 20 {
            assert!(now[1] > -0.2 && now[1] < 0.0, "{now:?}");
        }
    }
    assert!(now[1] < -0.2, "nothing holds it up: {now:?}");
}
