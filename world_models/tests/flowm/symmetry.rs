//! The exact symmetries of FloWM (spec §3.4), on random weights and random scenes.

use simulators::rng::Rng;
use tch::{Kind, Tensor};
use world_models::belief::{Belief, Clip, WorldModel};
use world_models::flowm::{Flowm, FlowmConfig, Init};

use crate::support::{assert_near, built, random, random_clip, small, uniform};

/// The order in which a convolution adds may depend on the place; nothing else may.
const EXACT: f64 = 1e-6;

fn watched(model: &Flowm, clip: &Clip) -> Belief {
    tch::no_grad(|| {
        (0..clip.steps())
            .fold(model.start(clip.batch()), |belief, t| model.observe(&belief, &clip.action(t), &clip.frame(t)))
    })
}

fn whole_world_in_view(v_range: i64) -> FlowmConfig {
    FlowmConfig { window: 12, init: Init::NearIdentity, ..small(v_range) }
}

#[test]
fn a_shifted_scene_is_a_shifted_map() {
    let (_vs, model) = built(&whole_world_in_view(1));
    let clip = random_clip(model.config(), 2, 6, 0, &mut random(1));
    let map = model.egocentric_map(&watched(&model, &clip));
    for shift in [[1, 0], [0, 1], [-5, 3]] {
        let moved =
            Clip { frames: clip.frames.roll(shift, [3, 4]), actions: clip.actions.copy(), context: clip.context };
        let found = model.egocentric_map(&watched(&model, &moved));
        assert_near("map of the shifted scene", &found, &map.roll(shift, [3, 4]), EXACT);
    }
}

#[test]
fn where_the_agent_starts_does_not_matter() {
    // The first action moves an empty map: it names another place of the world for the same experience.
    let (_vs, model) = built(&FlowmConfig { init: Init::NearIdentity, ..small(2) });
    let clip = random_clip(model.config(), 2, 6, 0, &mut random(2));
    let map = model.egocentric_map(&watched(&model, &clip));
    let elsewhere = Clip { frames: clip.frames.copy(), actions: clip.actions.copy(), context: clip.context };
    let _ = elsewhere.actions.select(1, 0).g_add_(&Tensor::from_slice(&[5.0f32, -4.0]));
    assert_near("map", &model.egocentric_map(&watched(&model, &elsewhere)), &map, EXACT);
}

#[test]
fn a_common_velocity_permutes_the_channels() {
    // Frames moved by t * delta: channel v + delta then holds what channel v held, moved by t * delta.
    let (_vs, model) = built(&whole_world_in_view(2));
    let velocities = model.config().velocities();
    let clip = random_clip(model.config(), 1, 7, 0, &mut random(3));
    let map = model.egocentric_map(&watched(&model, &clip));
    for delta in [[1, 0], [0, -1], [2, 1], [-3, 4]] {
        let [dx, dy] = delta;
        let frames: Vec<Tensor> = (0..clip.steps()).map(|t| clip.frame(t).roll([t * dy, t * dx], [2, 3])).collect();
        let moving = Clip { frames: Tensor::stack(&frames, 1), actions: clip.actions.copy(), context: clip.context };
        let found = model.egocentric_map(&watched(&model, &moving));
        let last = clip.steps() - 1;
        let mut kept = 0;
        for (from, [vx, vy]) in velocities.iter().enumerate() {
            let Some(to) = velocities.iter().position(|v| *v == [vx + dx, vy + dy]) else { continue };
            let expected = map.select(1, from as i64).roll([last * dy, last * dx], [2, 3]);
            assert_near(&format!("channel {to}"), &found.select(1, to as i64), &expected, EXACT);
            kept += 1;
        }
        assert_eq!(kept, (5 - dx.abs()) * (5 - dy.abs()), "all others fell off the edge");
    }
}

/// A model that adds up what it sees: every weight zero but the centre of one tap, which is one.
fn counting(v_range: i64) -> (tch::nn::VarStore, Flowm) {
    let (vs, model) = built(&FlowmConfig { hidden: 1, ..whole_world_in_view(v_range) });
    tch::no_grad(|| {
        for mut weight in vs.variables().into_values() {
            let _ = weight.zero_();
            let _ = weight.select(3, 1).select(2, 1).fill_(1.0);
        }
    });
    (vs, model)
}

fn imprints(velocity: [i64; 2], steps: i64, rng: &mut Rng) {
    let (_vs, model) = counting(2);
    let velocities = model.config().velocities();
    let start = Tensor::zeros([1, 1, 12, 12], (Kind::Float, tch::Device::Cpu));
    let _ = start.get(0).get(0).get(4).get(9).fill_(1.0);
    let frames: Vec<Tensor> = (0..steps).map(|t| start.roll([t * velocity[1], t * velocity[0]], [2, 3])).collect();
    let frames = Tensor::stack(&frames, 1);
    let actions = (uniform(&[1, steps, 2], rng) * 19.0 - 9.0).floor();
    // What the agent sees moves against the way it went.
    let mut gone = [0, 0];
    let seen: Vec<Tensor> = (0..steps)
        .map(|t| {
            let step = [actions.double_value(&[0, t, 0]) as i64, actions.double_value(&[0, t, 1]) as i64];
            gone = [gone[0] + step[0], gone[1] + step[1]];
            frames.select(1, t).roll([-gone[1], -gone[0]], [2, 3])
        })
        .collect();
    let clip = Clip { frames: Tensor::stack(&seen, 1), actions, context: steps };
    let map = model.egocentric_map(&watched(&model, &clip));
    for (channel, candidate) in velocities.iter().enumerate() {
        let most = map.select(1, channel as i64).max().double_value(&[]);
        let expected = if *candidate == velocity { steps as f64 } else { 1.0 };
        assert!(
            (most - expected).abs() < EXACT,
            "velocity {velocity:?}, channel of {candidate:?}: {most}, not {expected}"
        );
    }
    let own = velocities.iter().position(|v| *v == velocity).unwrap() as i64;
    assert_eq!(map.select(1, own).squeeze(), seen.last().unwrap().squeeze() * steps as f64, "it lies where it is seen");
}

#[test]
fn what_moves_with_a_channel_leaves_its_imprints_in_one_place_there_and_nowhere_else() {
    // Three steps: too few for imprints that drift apart to meet again around a torus of 12.
    let mut rng = random(4);
    for velocity in [[0, 0], [1, 0], [0, -1], [2, -2], [-1, 2]] {
        imprints(velocity, 3, &mut rng);
    }
}
