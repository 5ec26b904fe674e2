//! When points of a Blockworld were last in view, by hand: turns, a block that comes back elsewhere, sides that were never seen.

use rand::RngExt;
use simulators::block_world::{
    Action, Agent, BlockWorld, BlockWorldConfig, Kind, Pose, Sightings, Surfaces, ThingState,
};
use simulators::rng::{Purpose, Seed, stream};
use simulators::room::Picture;
use simulators::world::World;

/// A world, and what its pictures show.
struct Place {
    world: BlockWorld,
    poses: Vec<Pose>,
    ids: Vec<u8>,
    depth: Vec<f32>,
}

impl Place {
    fn new(config: BlockWorldConfig) -> Self {
        let world = BlockWorld::new(config, Surfaces::drawn()).expect("a valid world");
        let mut place = Self { world, poses: Vec::new(), ids: Vec::new(), depth: Vec::new() };
        place.look();
        place
    }

    /// An agent at `(x, z)`, heading `heading`, in a room of `room` metres with one box at `thing` that goes by `velocity` a step.
    fn with_box(room: u16, agent: [f32; 2], heading: u16, thing: [f32; 2], velocity: [i8; 2]) -> Self {
        let mut place = Self::new(BlockWorldConfig { room, fewest: 1, most: 1, ..Default::default() });
        let mut state = place.world.snapshot();
        let pose = Pose { place: [thing[0], 0.75, thing[1]], turn: [0.0, 0.0, 0.0, 1.0] };
        state.agent = Agent { place: agent, heading };
        state.things = vec![ThingState { kind: Kind::Box, colour: 0, texture: None, pose, velocity }];
        place.world.restore(&state).expect("a state of this world");
        place.look();
        place
    }

    fn side(&self) -> usize {
        self.world.config().image
    }

    fn look(&mut self) {
        let pixels = self.side() * self.side();
        (self.ids, self.depth) = (vec![0; pixels], vec![0.0; pixels]);
        let mut rgb = vec![0; pixels * 3];
        self.world.paint(Picture { rgb: &mut rgb, depth: Some(&mut self.depth), ids: Some(&mut self.ids) });
        self.poses = self.world.things().map(|thing| thing.pose).collect();
    }

    fn step(&mut self, action: Action) {
        self.world.step(action);
        self.look();
    }

    fn sightings(&self) -> Sightings {
        let kinds: Vec<_> = self.world.things().map(|thing| Some(thing.kind)).collect();
        Sightings::new(self.world.config(), &kinds)
    }

    fn seen(&self, sightings: &mut Sightings, t: i32) {
        sightings.observe(t, self.world.agent(), &self.poses, &self.ids);
    }

    fn last_seen(&self, sightings: &Sightings) -> Vec<i32> {
        let mut out = vec![9; self.ids.len()];
        let found = sightings.last_seen(self.world.agent(), &self.poses, &self.ids, &self.depth, &mut out);
        found.expect("depths are those of the picture");
        out
    }
}

#[test]
fn what_was_turned_away_from_is_as_old_as_the_turn() {
    let mut place = Place::with_box(16, [8.0, 8.0], 0, [12.0, 9.0], [0, 0]);
    let mut sightings = place.sightings();
    place.seen(&mut sightings, 0);
    place.step(Action::Left);
    place.seen(&mut sightings, 1);
    place.step(Action::Nothing);
    assert!(place.last_seen(&sightings).iter().all(|&seen| seen == 1), "it stood still");
    place.step(Action::Right);
    let last = place.last_seen(&sightings);
    assert!(place.ids.contains(&1) && last.iter().all(|&seen| seen == 0), "room and box as before the turn");
    place.step(Action::Right);
    assert!(place.last_seen(&sightings).iter().all(|&seen| seen == -1), "it never looked there");
}

/// A box that is ahead goes away to the left, and is met again there, ten metres further on.
///
/// At step 2 it is 4 m ahead and 2 m to the left. Its side towards the agent, 3.65 m ahead, reaches from 1.65 to 2.35 m to the left; the picture
/// ends at 2.11 m. So the farthest third of that side was in view at step 1 last.
#[test]
fn a_box_that_moved_out_of_view_keeps_the_age_of_its_points() {
    let mut place = Place::with_box(32, [8.0, 24.0], 0, [12.0, 24.0], [0, -1]);
    let mut sightings = place.sightings();
    for t in 0..3 {
        place.seen(&mut sightings, t);
        place.step(Action::Nothing);
    }
    assert!(!place.ids.contains(&1), "it is out of view");
    place.step(Action::Left);
    (0..6).for_each(|_| place.step(Action::Nothing));
    assert_eq!(place.poses[0].place[2] as i32, 14);
    let last = place.last_seen(&sightings);
    let shown: Vec<(usize, i32)> =
        (0..last.len()).filter(|&at| place.ids[at] == 1).map(|at| (at % 128, last[at])).collect();
    let columns = (shown.iter().map(|pixel| pixel.0).min(), shown.iter().map(|pixel| pixel.0).max());
    assert_eq!(columns, (Some(103), Some(113)));
    // The side that it turned to the agent fills three columns; the farthest third of it was in view at step 1 only.
    assert!(shown.iter().all(|&(column, seen)| seen == if column == 103 { 1 } else { 2 }), "{shown:?}");
    assert!((0..last.len()).all(|at| place.ids[at] == 1 || last[at] == -1), "but nothing of the room there");
}

#[test]
fn a_side_that_was_never_seen_is_never_seen_and_what_is_behind_is_hidden() {
    let before = Place::with_box(16, [8.0, 8.0], 0, [11.0, 8.0], [0, 0]);
    let mut sightings = before.sightings();
    before.seen(&mut sightings, 5);
    // From the other side: the floor beside the box was in view, its other side, the floor behind it and the wall were not.
    let after = Place::with_box(16, [14.0, 8.0], 180, [11.0, 8.0], [0, 0]);
    let last = after.last_seen(&sightings);
    let things = (0..last.len()).filter(|&at| after.ids[at] == 1);
    assert!(things.clone().count() > 100 && things.into_iter().all(|at| last[at] == -1));
    let [bottom, middle] = [127 * 128, 64];
    assert_eq!((after.ids[bottom], last[bottom]), (0, 5), "floor on the left");
    assert_eq!((after.ids[bottom + middle], last[bottom + middle]), (0, -1), "floor behind the box");
    assert_eq!((after.ids[70 * 128], last[60 * 128]), (0, -1), "the wall behind the agent");
}

#[test]
fn what_is_in_view_is_seen_now() {
    for (preset, seed) in [("dynamic", 1), ("tex", 2), ("physics", 3), ("physics", 4)] {
        let mut place = Place::new(BlockWorldConfig { image: 48, ..BlockWorldConfig::preset(preset).unwrap() });
        place.world.reset(&mut stream(Seed(seed), Purpose::World, 0));
        place.look();
        let mut rng = stream(Seed(seed), Purpose::Policy, 0);
        let (mut sightings, mut things, mut missed) = (place.sightings(), 0, 0);
        for t in 0..60 {
            place.seen(&mut sightings, t);
            for (&id, seen) in place.ids.iter().zip(place.last_seen(&sightings)) {
                things += usize::from(id > 0);
                // Rays that graze an edge may count for its other side.
                missed += usize::from(seen != t && id > 0);
                assert!(seen == t || id > 0, "{preset} at {t}: room");
            }
            place.step(Action::ALL[rng.random_range(0..5)]);
        }
        assert!(things > 50 && missed * 1000 <= things, "{preset}: {missed} of {things}");
    }
}

#[test]
fn a_depth_where_the_thing_is_not_is_named() {
    let mut place = Place::with_box(16, [8.0, 8.0], 0, [11.0, 8.0], [0, 0]);
    let pixel = 70 * 128 + 64;
    assert_eq!((place.ids[pixel], place.depth[pixel]), (1, 2.65));
    place.depth[pixel] = 2.7;
    let mut out = vec![0; place.ids.len()];
    let error = place.sightings().last_seen(place.world.agent(), &place.poses, &place.ids, &place.depth, &mut out);
    assert_eq!(error.unwrap_err().to_string(), format!("pixel {pixel} shows thing 1 at 2.7 m, where that is not"));
}
