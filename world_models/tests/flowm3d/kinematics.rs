//! The map without any weights, against blocks that move in a world and an agent that turns and walks.

use rand::RngExt;
use tch::{Device, Kind, Tensor};
use world_models::flowm3d::Flowm3dConfig;

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
