//! Bodies other than the Ant against textbook and closed form: a pendulum, the cartpole, the double pendulum, the Hopper.

use simulators::articulated::{Drive, InertiaMode, Joint, Link, Model, Shape, ant, cartpole, hopper};

use crate::world::{Batch, close};

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
