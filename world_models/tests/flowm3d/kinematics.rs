//! The map without any weights, against blocks that move in a world and an agent that turns and walks.

use rand::RngExt;
use tch::{Device, Kind, Tensor};
use world_models::belief::Belief;
use world_models::flowm3d::{Flowm3dConfig, Mixing, part};

use crate::support::{built, random, small, told};

/// An agent or a block on a plane without walls, in (x, z). A heading is a number of turns to the left; heading 0 looks along x.
#[derive(Clone, Copy)]
struct World {
    agent: [i64; 2],
    heading: i64,
    block: [i64; 2],
    velocity: [i64; 2],
}

impl World {
    /// `(cos d, -sin d)` and `(sin d, cos d)`: ahead, and to the right.
    fn axes(&self) -> [[i64; 2]; 2] {
        let (cos, sin) = [(1, 0), (0, 1), (-1, 0), (0, -1)][self.heading.rem_euclid(4) as usize];
        [[cos, -sin], [sin, cos]]
    }

    /// How far ahead and to the right something is, by the agent's axes.
    fn seen(&self, [x, z]: [i64; 2]) -> [i64; 2] {
        self.axes().map(|[along_x, along_z]| along_x * x + along_z * z)
    }

    fn step(&mut self, action: i64) {
        match action {
            0 => self.heading += 1,
            1 => self.heading -= 1,
            2 => (0..2).for_each(|i| self.agent[i] += self.axes()[0][i]),
            _ => {}
        }
        (0..2).for_each(|i| self.block[i] += self.velocity[i]);
    }

    /// Where on a map of `side` the block is, in which channel: all of `velocities` are (columns, rows).
    fn place(&self, side: i64, velocities: &[[i64; 2]]) -> [i64; 3] {
        let [ahead, right] = self.seen([self.block[0] - self.agent[0], self.block[1] - self.agent[1]]);
        let channel = velocities.iter().position(|velocity| *velocity == self.seen(self.velocity)).unwrap();
        [channel as i64, (side / 2 + right).rem_euclid(side), (side / 2 + ahead).rem_euclid(side)]
    }
}

/// A map that is one where `places` are.
fn deltas(side: i64, channels: i64, places: &[[i64; 3]]) -> Tensor {
    let map = Tensor::zeros([places.len() as i64, channels, side, side, 1], (Kind::Float, Device::Cpu));
    for (sample, [channel, row, column]) in (0..).zip(places) {
        let _ = map.get(sample).get(*channel).get(*row).get(*column).fill_(1.0);
    }
    map
}

fn follows(config: &Flowm3dConfig, mut worlds: Vec<World>, steps: &[Vec<i64>]) {
    let (_vs, model) = built(config);
    let (side, velocities) = (config.map_side, config.velocities());
    let places = |worlds: &[World]| -> Vec<[i64; 3]> { worlds.iter().map(|w| w.place(side, velocities)).collect() };
    let mut map = deltas(side, velocities.len() as i64, &places(&worlds));
    for (t, actions) in steps.iter().enumerate() {
        map = model.moved(&map, &told(&Tensor::from_slice(actions)));
        worlds.iter_mut().zip(actions).for_each(|(world, action)| world.step(*action));
        assert_eq!(map, deltas(side, velocities.len() as i64, &places(&worlds)), "step {t}: {actions:?}");
    }
}

/// Blocks of every velocity, seen from every heading.
fn worlds(velocities: &[[i64; 2]]) -> Vec<World> {
    let of = |velocity: &[i64; 2]| {
        let velocity = *velocity;
        (0..4).map(move |heading| World { agent: [2, -1], heading, block: [4, 1], velocity })
    };
    velocities.iter().flat_map(of).collect()
}

#[test]
fn a_block_is_where_it_would_be_after_each_action() {
    let config = small();
    for action in 0..5 {
        let worlds = worlds(config.velocities());
        let steps = vec![vec![action; worlds.len()]; 5];
        follows(&config, worlds, &steps);
    }
}

#[test]
fn a_block_is_where_it_would_be_after_any_walk() {
    let (config, mut rng) = (Flowm3dConfig { map_side: 11, ..small() }, random(1));
    let worlds = worlds(config.velocities());
    let steps: Vec<Vec<i64>> = (0..60).map(|_| worlds.iter().map(|_| rng.random_range(0..5)).collect()).collect();
    follows(&config, worlds, &steps);
}

#[test]
fn without_velocity_channels_only_what_rests_is_where_it_would_be() {
    let (config, mut rng) = (Flowm3dConfig { velocity_channels: false, ..small() }, random(2));
    let worlds = worlds(config.velocities());
    let steps: Vec<Vec<i64>> = (0..40).map(|_| worlds.iter().map(|_| rng.random_range(0..5)).collect()).collect();
    follows(&config, worlds, &steps);
}

#[test]
fn a_map_that_does_not_know_of_the_agent_flows_whatever_is_done() {
    let config = Flowm3dConfig { self_motion: false, ..small() };
    let (_vs, model) = built(&config);
    let map = crate::support::uniform(&[5, 5, 7, 7, 2], &mut random(3));
    let all = told(&Tensor::arange(5, (Kind::Int64, Device::Cpu)));
    let still = told(&Tensor::full([5], 4, (Kind::Int64, Device::Cpu)));
    assert_eq!(model.moved(&map, &all), model.moved(&map, &still));
    assert_ne!(model.moved(&map, &all), map);
}

#[test]
fn what_is_told_of_no_action_is_that_none_was_taken() {
    let config = small();
    let (_vs, model) = built(&config);
    let map = crate::support::uniform(&[2, 5, 7, 7, 2], &mut random(4));
    let nothing = Tensor::zeros([2, 5], (Kind::Float, Device::Cpu));
    for choice in [3, 4] {
        let taken = told(&Tensor::full([2], choice, (Kind::Int64, Device::Cpu)));
        assert_eq!(model.moved(&map, &nothing), model.moved(&map, &taken));
    }
}

/// A room of `ROOM x ROOM` cells that has walls around it, which the agent stays within.
const ROOM: i64 = 4;

/// Feature 0 of what rests is one where a wall is, feature 1 of a block's channel where a block is.
fn walls_and_block(world: &World, side: i64, velocities: &[[i64; 2]]) -> Tensor {
    let map = Tensor::zeros([1, velocities.len() as i64, side, side, 8], (Kind::Float, Device::Cpu));
    let ring = (-1..=ROOM).flat_map(|i| [[i, -1], [i, ROOM], [-1, i], [ROOM, i]]);
    for cell in ring {
        let [_, row, column] = World { block: cell, velocity: [0, 0], ..*world }.place(side, velocities);
        let _ = map.get(0).get(0).get(row).get(column).get(0).fill_(1.0);
    }
    let [channel, row, column] = world.place(side, velocities);
    let _ = map.get(0).get(channel).get(row).get(column).get(1).fill_(1.0);
    map
}

#[test]
fn a_block_turns_round_before_a_wall_and_the_agent_stops_there() {
    let config = Flowm3dConfig { map_side: 13, mixing: Mixing::Reflecting, ..small() };
    let (vs, model) = built(&config);
    let weights = vs.variables();
    tch::no_grad(|| {
        let _ = weights["reflection.weight"].shallow_clone().fill_(0.0).narrow(1, 0, 1).fill_(4.0);
        let _ = weights["reflection.bias"].shallow_clone().fill_(-2.0);
    });
    let velocities = config.velocities();
    let mut rng = random(5);
    for velocity in &velocities[1..] {
        let mut world = World { agent: [1, 2], heading: 0, block: [2, 1], velocity: *velocity };
        let mut map = walls_and_block(&world, 13, velocities);
        for step in 0..60 {
            let wanted = rng.random_range(0..5);
            let ahead: [i64; 2] = std::array::from_fn(|i| world.agent[i] + world.axes()[0][i]);
            let blocked = ahead.iter().any(|at| !(0..ROOM).contains(at));
            world.step(if wanted == 2 && blocked { 4 } else { wanted });
            let on: [i64; 2] = std::array::from_fn(|i| world.block[i] + world.velocity[i]);
            if on.iter().any(|at| !(0..ROOM).contains(at)) {
                world.velocity = world.velocity.map(|v| -v);
            }
            let belief = Belief::new([(part::MAP, map)]);
            map = tch::no_grad(|| model.before_looking(&belief, &told(&Tensor::from_slice(&[wanted]))));
            let error = (&map - walls_and_block(&world, 13, velocities)).abs().max().double_value(&[]);
            assert!(error < 1e-5, "step {step}, action {wanted}: {error}");
        }
    }
}
