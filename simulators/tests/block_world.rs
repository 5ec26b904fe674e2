//! Blockworld from outside: kinematics, what a reset draws, bodies, snapshots, pictures.

use std::collections::BTreeSet;

use rand::RngExt as _;
use simulators::block_world::{Action, BlockWorld, BlockWorldConfig, COLOURS, Kind, Surfaces, ThingState};
use simulators::rng::{Purpose, Seed, stream};
use simulators::room::Picture;
use simulators::world::World;

fn preset(name: &str) -> BlockWorldConfig {
    BlockWorldConfig::preset(name).expect("a preset")
}

fn world(config: BlockWorldConfig, seed: u64) -> BlockWorld {
    let mut world = BlockWorld::new(config, Surfaces::drawn()).expect("a valid world");
    world.reset(&mut stream(Seed(seed), Purpose::World, 0));
    world
}

fn actions(seed: u64, steps: usize) -> Vec<Action> {
    let mut rng = stream(Seed(seed), Purpose::Policy, 0);
    (0..steps).map(|_| Action::ALL[rng.random_range(0..5)]).collect()
}

#[test]
fn a_block_turns_back_at_a_wall_without_staying_there() {
    let mut world = world(preset("dynamic"), 3);
    let mut state = world.snapshot();
    state.things.truncate(6);
    state.things[0].pose.place = [13.0, 0.75, 4.0];
    state.things[0].velocity = [1, 0];
    world.restore(&state).unwrap();
    let mut xs = vec![13.0];
    for _ in 0..30 {
        world.step(Action::Nothing);
        xs.push(world.things().next().unwrap().pose.place[0]);
    }
    assert_eq!(xs[..6], [13.0, 14.0, 15.0, 14.0, 13.0, 12.0]);
    assert_eq!((xs[14], xs[15], xs[16], xs[17]), (3.0, 2.0, 1.0, 2.0));
    // All the way and back is 28 steps.
    assert_eq!(xs[..2], xs[28..30]);
}

#[test]
fn turns_are_quarters_and_walls_stop_the_agent() {
    let mut world = world(preset("static"), 5);
    let mut state = world.snapshot();
    state.agent.place = [14.0, 2.0];
    world.restore(&state).unwrap();
    let mut after = |action| {
        world.step(action);
        (world.agent().place, world.agent().heading)
    };
    assert_eq!(after(Action::Forward), ([15.0, 2.0], 0));
    assert_eq!(after(Action::Forward), ([15.0, 2.0], 0));
    // Left of x is minus z.
    assert_eq!(after(Action::Left), ([15.0, 2.0], 90));
    assert_eq!(after(Action::Forward), ([15.0, 1.0], 90));
    assert_eq!(after(Action::Forward), ([15.0, 1.0], 90));
    assert_eq!(after(Action::Back), ([15.0, 2.0], 90));
    assert_eq!(after(Action::Right), ([15.0, 2.0], 0));
    assert_eq!(after(Action::Right), ([15.0, 2.0], 270));
    assert_eq!(after(Action::Forward), ([15.0, 3.0], 270));
    assert_eq!(after(Action::Nothing), ([15.0, 3.0], 270));
}

#[test]
fn a_reset_draws_what_the_original_does() {
    let mut counts = BTreeSet::new();
    let (mut edges, mut cells) = (0, 0);
    for seed in 0..400 {
        let world = world(preset("dynamic"), seed);
        counts.insert(world.count());
        assert_eq!(world.agent().heading, 0);
        let things: Vec<ThingState> = world.things().collect();
        let first: BTreeSet<u8> = things[..6].iter().map(|thing| thing.colour).collect();
        assert_eq!(first.len(), COLOURS.len(), "one of each colour comes first");
        for thing in &things {
            assert_eq!((thing.kind, thing.texture, thing.pose.place[1]), (Kind::Box, None, 0.75));
            assert_eq!(thing.velocity.iter().map(|v| v.abs()).sum::<i8>(), 1);
            for at in [thing.pose.place[0], thing.pose.place[2]] {
                assert!((1.0..=15.0).contains(&at) && at.fract() == 0.0);
                (edges, cells) = (edges + u32::from(!(1.5..14.5).contains(&at)), cells + 1);
            }
        }
    }
    assert_eq!(counts, (6..=10).collect());
    // Rounding makes the outermost cells half as likely as others: 1 in 14 together.
    let share = f64::from(edges) / f64::from(cells);
    assert!((share - 1.0 / 14.0).abs() < 0.015, "{share}");
    assert!(world(preset("static"), 1).things().all(|thing| thing.velocity == [0, 0]));
    let balls: usize =
        (0..100).map(|seed| world(preset("tex"), seed).things().filter(|t| t.kind == Kind::Ball).count()).sum();
    assert!((200..340).contains(&balls), "a third of about 800: {balls}");
}

#[test]
fn with_collisions_nobody_shares_a_cell() {
    for seed in 0..20 {
        let mut world = world(BlockWorldConfig { room: 8, ..preset("tex_bounce") }, seed);
        for action in actions(seed, 200) {
            world.step(action);
            let mut cells: Vec<[i32; 2]> =
                world.things().map(|t| [t.pose.place[0] as i32, t.pose.place[2] as i32]).collect();
            cells.push(world.agent().place.map(|at| at as i32));
            assert!(cells.iter().flatten().all(|at| (1..8).contains(at)));
            assert_eq!(cells.iter().collect::<BTreeSet<_>>().len(), cells.len(), "{cells:?}");
        }
    }
}

#[test]
fn a_snapshot_goes_on_to_the_last_bit() {
    for name in ["dynamic", "tex_bounce", "physics"] {
        let config = BlockWorldConfig { image: 32, ..preset(name) };
        let mut one = world(config.clone(), 7);
        let mut other = BlockWorld::new(config, Surfaces::drawn()).unwrap();
        let (mut a, mut b) = (vec![0; 32 * 32 * 3], vec![0; 32 * 32 * 3]);
        for (t, action) in actions(7, 120).into_iter().enumerate() {
            if t % 20 == 0 {
                let saved = serde_json::to_string(&one.snapshot()).unwrap();
                other.restore(&serde_json::from_str(&saved).unwrap()).unwrap();
            }
            one.step(action);
            other.step(action);
            assert!(one.snapshot() == other.snapshot() && one.clone().snapshot() == one.snapshot(), "{name} at {t}");
            one.render(&mut a);
            other.render(&mut b);
            assert_eq!(a, b, "{name} at {t}");
        }
    }
}

#[test]
fn snapshots_of_other_worlds_are_refused_by_field() {
    let mut grid = world(preset("dynamic"), 0);
    let before = grid.snapshot();
    let mut cases = Vec::new();
    let mut state = before.clone();
    state.agent.heading = 45;
    cases.push((state, "`agent.heading` is 45, allowed: multiples of 90 below 360"));
    let mut state = before.clone();
    state.agent.place = [0.5, 3.0];
    cases.push((state, "`agent.place` is [0.5, 3.0]"));
    let mut state = before.clone();
    state.things.truncate(2);
    cases.push((state, "`things` is 2 of them, allowed: 6..=10 of them"));
    let mut state = before.clone();
    state.things[1].colour = 6;
    cases.push((state, "`things` is ThingState"));
    cases.push((world(preset("physics"), 0).snapshot(), "`agent.place` is"));
    let mut state = before.clone();
    state.physics = world(preset("physics"), 0).snapshot().physics;
    cases.push((
        state,
        "`physics` is 9 bodies, allowed: a body of each thing and of the agent, in the physics regime only",
    ));
    for (state, said) in cases {
        let refusal = grid.restore(&state).unwrap_err().to_string();
        assert!(refusal.contains(said), "{refusal}");
        assert!(grid.snapshot() == before);
    }
}

#[test]
fn bodies_fall_collide_and_stay_in_the_room() {
    for seed in 0..6 {
        let config = preset("physics");
        let mut world = world(config.clone(), seed);
        let begin: Vec<ThingState> = world.things().collect();
        for action in actions(seed, 300) {
            world.step(action);
            for thing in world.things() {
                let [x, y, z] = thing.pose.place;
                let side = f32::from(config.room);
                assert!((0.2..side - 0.2).contains(&x) && (0.2..side - 0.2).contains(&z), "{thing:?}");
                assert!((0.2..6.0).contains(&y), "{thing:?}");
            }
        }
        // All lie, stand, or are stacked: none hangs in the air. Some have been moved.
        let still = world.things().collect::<Vec<_>>();
        (0..30).for_each(|_| world.step(Action::Nothing));
        for (before, after) in still.iter().zip(world.things()) {
            assert!((before.pose.place[1] - after.pose.place[1]).abs() < 0.6);
        }
        let moved = begin.iter().zip(&still).filter(|(a, b)| (a.pose.place[0] - b.pose.place[0]).abs() > 0.3).count();
        assert!(moved > 0);
    }
}

#[test]
fn the_agent_pushes_a_box() {
    let config = BlockWorldConfig { fewest: 1, most: 1, balls: 0.0, moving: false, ..preset("physics") };
    let mut pushed = 0;
    for seed in 0..40 {
        let mut world = world(config.clone(), seed);
        let (agent, thing) = (world.agent().place, world.things().next().unwrap().pose.place);
        // Ahead of the agent, who looks along x, and with room to go.
        if (thing[2] - agent[1]).abs() > 0.3 || thing[0] < agent[0] + 1.0 || thing[0] > 12.0 {
            continue;
        }
        for _ in 0..40 {
            world.step(Action::Forward);
        }
        let after = world.things().next().unwrap().pose.place;
        assert!(after[0] > thing[0] + 0.5, "from {thing:?} to {after:?}, pushed from {agent:?} to {:?}", world.agent());
        pushed += 1;
    }
    assert!(pushed > 0, "no seed has a box ahead");
}

#[test]
fn pictures_are_the_same_with_any_painter_and_thread() {
    let world = world(preset("tex"), 11);
    let draw = || {
        let (mut rgb, mut depth, mut ids) = (vec![0; 128 * 128 * 3], vec![0.0; 128 * 128], vec![0; 128 * 128]);
        world.paint(Picture { rgb: &mut rgb, depth: Some(&mut depth), ids: Some(&mut ids) });
        (rgb, depth, ids)
    };
    let here = draw();
    let mut plain = vec![0; 128 * 128 * 3];
    world.render(&mut plain);
    assert_eq!(here.0, plain);
    let copy = world.clone();
    let there = std::thread::spawn(move || {
        let mut rgb = vec![0; 128 * 128 * 3];
        copy.render(&mut rgb);
        rgb
    });
    assert_eq!(here.0, there.join().unwrap());
    assert_eq!(here, draw());
    assert!(here.1.iter().all(|&far| far > 0.0 && far < 30.0));
    assert!(here.2.iter().all(|&id| usize::from(id) <= world.count()));
}
