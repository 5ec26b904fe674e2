//! The Ant against the golden numbers of the original simulator: masses, first forces, and where it is after many steps.

use rand::RngExt as _;
use simulators::articulated::{InertiaMode, ant};
use simulators::rng::{Purpose, Seed, stream};

use crate::world::{ant_at_start, close, root_velocity, scripted, state};

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
