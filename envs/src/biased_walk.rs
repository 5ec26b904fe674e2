//! The walk of Blockworld's published episodes: look at the room from a wall, crawl along the wall, cross the room, look again. Blocks are out
//! of view for long, which is what makes memory necessary.
//!
//! Source: `biased_walk_v2` of the released generator (Lillemark et al. 2026).

use rand::RngExt as _;
use simulators::block_world::{Action, BlockWorld};
use simulators::rng::Rng;

/// Steps that it looks at the room.
const LOOKS: u8 = 5;
/// Beyond half a turn, by how many degrees it may miss a direction.
const SLACK: f64 = 5.0;

/// What it does. Going over to something else takes a step in which it does nothing. Targets are directions, degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Forward to the first wall.
    SpawnToWall,
    /// Towards the middle of the room.
    LookAlign,
    /// Looks, so many steps more.
    LookObserve(u8),
    /// To a side of the middle, 1 for left and -1 for right.
    CrawlAlign(f64),
    Crawl(f64),
    CrossAlign(f64),
    Cross,
    WallAlign(f64),
    ToWall,
    TurnAround(f64),
}

/// What it knows of the world.
#[derive(Clone, Copy, Debug)]
struct Footing {
    /// Where it faces, degrees.
    heading: f64,
    /// Whether the way ahead is free.
    free: bool,
    /// Where the middle of the room is, degrees.
    middle: f64,
    /// By how many degrees it may miss a direction.
    near: f64,
}

impl Footing {
    fn of(world: &BlockWorld) -> Self {
        let (agent, config) = (world.agent(), world.config());
        let half = f64::from(config.room) / 2.0;
        let [x, z] = agent.place.map(|at| half - f64::from(at));
        Self {
            heading: f64::from(agent.heading),
            free: world.is_free(1.0),
            middle: libm::atan2(-z, x).to_degrees(),
            near: f64::from(config.turn) / 2.0 + SLACK,
        }
    }

    /// The turn towards a direction, the shorter way, left of two; none where it is near enough.
    fn turn_to(&self, target: f64) -> Option<Action> {
        let by = (target - self.heading).rem_euclid(360.0);
        let (left, apart) = if by <= 180.0 { (true, by) } else { (false, 360.0 - by) };
        (apart > self.near).then_some(if left { Action::Left } else { Action::Right })
    }
}

/// The walk, as far as it has come.
#[derive(Clone, Debug)]
pub struct BiasedWalk {
    state: State,
    /// How likely it goes on where it may.
    forward: f64,
}

impl BiasedWalk {
    /// A walk that begins, and goes on along walls and through the room with a probability of `forward` a step.
    #[must_use]
    pub fn new(forward: f64) -> Self {
        Self { state: State::SpawnToWall, forward }
    }

    /// What it does next.
    pub fn act(&mut self, world: &BlockWorld, rng: &mut Rng) -> Action {
        let (action, state) = self.next(Footing::of(world), rng);
        self.state = state;
        action
    }

    fn next(&self, footing: Footing, rng: &mut Rng) -> (Action, State) {
        let Footing { heading, free, middle, .. } = footing;
        let over = |to: State| (Action::Nothing, to);
        // Turns, and goes over once it faces the target.
        let turned = |target: f64, to: State| match footing.turn_to(target) {
            Some(turn) => (turn, self.state),
            None => over(to),
        };
        match self.state {
            State::SpawnToWall | State::ToWall if free => (Action::Forward, self.state),
            State::SpawnToWall => over(State::LookAlign),
            State::LookAlign => turned(middle, State::LookObserve(LOOKS)),
            State::LookObserve(0) => over(State::CrawlAlign(if rng.random_bool(0.5) { 1.0 } else { -1.0 })),
            State::LookObserve(left) => (Action::Nothing, State::LookObserve(left - 1)),
            State::CrawlAlign(side) if free => over(State::Crawl(side)),
            State::CrawlAlign(side) => turned(side.mul_add(90.0, middle), State::Crawl(side)),
            State::Crawl(side) => match (rng.random_bool(self.forward), free) {
                (true, true) => (Action::Forward, self.state),
                (_, false) => (if side > 0.0 { Action::Right } else { Action::Left }, self.state),
                (false, true) => over(State::CrossAlign(middle)),
            },
            State::CrossAlign(target) => turned(target, State::Cross),
            State::Cross if rng.random_bool(self.forward) && free => (Action::Forward, self.state),
            State::Cross => {
                let side = if rng.random_bool(0.5) { 90.0 } else { -90.0 };
                over(State::WallAlign(heading + side))
            }
            State::WallAlign(target) => turned(target, State::ToWall),
            State::ToWall => over(State::TurnAround(heading + 180.0)),
            State::TurnAround(target) => turned(target, State::LookAlign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulators::block_world::{BlockWorldConfig, Surfaces};
    use simulators::rng::{Purpose, Seed, stream};
    use simulators::world::World;

    fn walk(preset: &str, seed: u64, steps: usize) -> Vec<(Action, simulators::block_world::Agent)> {
        let config = BlockWorldConfig::preset(preset).unwrap();
        let mut world = BlockWorld::new(config, Surfaces::drawn()).unwrap();
        world.reset(&mut stream(Seed(seed), Purpose::World, 0));
        let (mut walk, mut rng) = (BiasedWalk::new(0.92), stream(Seed(seed), Purpose::Policy, 0));
        let mut done = Vec::new();
        for _ in 0..steps {
            let action = walk.act(&world, &mut rng);
            world.step(action);
            done.push((action, world.agent()));
        }
        done
    }

    #[test]
    fn it_begins_at_a_wall_and_looks_at_the_room_for_six_steps() {
        for seed in 0..30 {
            let done = walk("dynamic", seed, 60);
            let ahead = done.iter().take_while(|(action, _)| *action == Action::Forward).count();
            // It looks along x, so the wall is the one of the greatest x.
            let (action, agent) = done[ahead];
            assert_eq!((action, agent.place[0], agent.heading), (Action::Nothing, 15.0, 0));
            // Turns until the middle is near, goes over, looks five times, and goes over.
            let rest = &done[ahead + 1..];
            let turns = rest.iter().take_while(|(action, _)| matches!(action, Action::Left | Action::Right)).count();
            assert!((1..=2).contains(&turns), "{turns}");
            assert!(rest[turns..turns + 7].iter().all(|(action, _)| *action == Action::Nothing));
            let facing = f64::from(rest[turns].1.heading).to_radians();
            let [x, z] = rest[turns].1.place.map(|at| 8.0 - f64::from(at));
            let cosine = (facing.cos() * x - facing.sin() * z) / x.hypot(z);
            assert!(cosine >= 50f64.to_radians().cos() - 1e-9, "{cosine}");
        }
    }

    #[test]
    fn it_never_goes_back_nor_into_a_wall_and_sees_all_of_the_room() {
        for preset in ["dynamic", "physics"] {
            let mut quarters = [0; 4];
            for seed in 0..20 {
                let mut last = None;
                for (action, agent) in walk(preset, seed, 499) {
                    assert_ne!(action, Action::Back);
                    if preset == "dynamic" && action == Action::Forward {
                        assert_ne!(Some(agent.place), last);
                    }
                    last = Some(agent.place);
                    let [x, z] = agent.place.map(|at| usize::from(at > 8.0));
                    quarters[2 * z + x] += 1;
                }
            }
            assert!(quarters.iter().all(|&steps| steps > 500), "{preset}: {quarters:?}");
        }
    }

    #[test]
    fn most_of_the_time_it_goes_ahead_and_often_it_stands_still() {
        let done: Vec<Action> = (0..50).flat_map(|seed| walk("dynamic", seed, 499)).map(|(action, _)| action).collect();
        let share = |of: Action| done.iter().filter(|&&action| action == of).count() as f64 / done.len() as f64;
        let [left, right, ahead, _, nothing] = Action::ALL.map(share);
        assert!(ahead > 0.45 && nothing > 0.15 && left > 0.02 && right > 0.02, "{left} {right} {ahead} {nothing}");
    }
}
