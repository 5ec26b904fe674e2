//! Perfect memory, set by hand: FloWM's algebra can hold a world exactly, so what training loses is not the algebra's.
//!
//! Two features are enough. `M` is what is remembered, `D` what was new in the last frame: `M' = M + D` and
//! `D' = relu(f - (M + D))`, so that `M + D` is the largest value ever seen at a place. Inside the window that overwrites
//! a static world with itself; outside nothing changes.

use std::sync::Arc;

use rand::RngExt;
use simulators::digits::DigitBank;
use simulators::mnist_world::{MnistWorld, MnistWorldConfig};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::World;
use tch::{Kind, Tensor, nn};
use world_models::belief::WorldModel;
use world_models::flowm::{Flowm, FlowmConfig, Precision};

use crate::support::{built, random};

fn oracle(v_range: i64) -> (nn::VarStore, Flowm) {
    let config =
        FlowmConfig { hidden: 2, v_range, world: 24, window: 16, precision: Precision::F32, ..Default::default() };
    let (vs, model) = built(&config);
    let centre = |name: &str, values: &[f32]| {
        let mut weight = vs.variables().remove(name).expect("a published name");
        tch::no_grad(|| {
            let _ = weight.zero_();
            let centre = weight.select(3, 1).select(2, 1);
            centre.shallow_clone().copy_(&Tensor::from_slice(values).view_as(&centre));
        });
    };
    // Rows are what comes out, columns what goes in, both (M, D).
    centre("cell.conv_u.weight", &[0.0, 1.0]);
    centre("cell.conv_h.weight", &[1.0, 1.0, -1.0, -1.0]);
    centre("decoder_conv.0.weight", &[1.0, 1.0, 0.0, 0.0]);
    centre("decoder_conv.2.weight", &[1.0, 0.0]);
    (vs, model)
}

fn simulated(digits: usize, velocity: i8, episode: u64) -> MnistWorld {
    let config =
        MnistWorldConfig { world: 24, window: 16, digits, digit_px: 12, velocity, step: 5, ..Default::default() };
    let mut world = MnistWorld::new(config, Arc::new(DigitBank::draw(Seed(1), 3, 12))).unwrap();
    world.reset(&mut stream(Seed(1), Purpose::World, episode));
    world
}

fn picture(bytes: &[u8], side: i64) -> Tensor {
    Tensor::from_slice(bytes).view([1, 1, side, side]).to_kind(Kind::Float) / 255.0
}

fn frame(world: &MnistWorld) -> Tensor {
    let mut bytes = vec![0; 16 * 16];
    world.render(&mut bytes);
    picture(&bytes, 16)
}

fn action([dx, dy]: [i8; 2]) -> Tensor {
    Tensor::from_slice(&[f32::from(dx), f32::from(dy)]).view([1, 2])
}

#[test]
fn a_static_world_comes_back_after_every_loop_of_the_camera() {
    let (_vs, model) = oracle(0);
    for episode in 0..3 {
        let (mut world, mut rng) = (simulated(3, 0, episode), random(episode));
        let mut belief = model.observe(&model.start(1), &action([0, 0]), &frame(&world));
        // Four looks cover the torus.
        for step in [[12, 0], [0, 12], [-12, 0]] {
            world.step(step);
            belief = model.observe(&belief, &action(step), &frame(&world));
        }
        for t in 0..60 {
            let step = [rng.random_range(-10..=10), rng.random_range(-10..=10)];
            world.step(step);
            belief = model.imagine(&belief, &action(step));
            assert_eq!(model.picture(&belief), frame(&world), "episode {episode}, step {t} with closed eyes");
        }
    }
}

#[test]
fn a_moving_digit_stands_in_the_channel_of_its_velocity() {
    let (_vs, model) = oracle(1);
    for episode in 0..4 {
        let (mut world, mut rng) = (simulated(1, 1, episode), random(10 + episode));
        let mut belief = model.observe(&model.start(1), &action([0, 0]), &frame(&world));
        for _ in 0..60 {
            let step = [rng.random_range(-5..=5), rng.random_range(-5..=5)];
            world.step(step);
            belief = model.observe(&belief, &action(step), &frame(&world));
        }
        let mut bytes = vec![0; 24 * 24];
        world.render_world(&mut bytes);
        let [x, y] = world.camera().map(i64::from);
        let truth = picture(&bytes, 24).roll([8 - y, 8 - x], [2, 3]); // cell (r, c) is world pixel (y - 8 + r, x - 8 + c)
        let velocity = world.velocities()[0].map(i64::from);
        let channel = model.config().velocities().iter().position(|v| *v == velocity).unwrap();
        let map = model.egocentric_map(&belief).get(0).get(channel as i64); // [(M, D), W, W]
        assert_eq!(map.get(0) + map.get(1), truth.squeeze(), "episode {episode}, velocity {velocity:?}");
    }
}
