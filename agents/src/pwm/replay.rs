//! Finished episodes to learn from: a ring of steps, and the episodes that are being played.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use simulators::rng::Rng;
use tch::{Kind, Tensor};
use world_models::checkpoint::Named;
use world_models::latent::Sequences;

/// Where an episode lies in the ring: `steps + 1` rows from `begin` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    begin: usize,
    steps: usize,
}

/// Rows of observations, and of the actions and rewards that followed them.
#[derive(Debug, Default)]
struct Rows {
    observations: Vec<f32>,
    actions: Vec<f32>,
    rewards: Vec<f32>,
}

/// What a checkpoint keeps of a replay beside its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayState {
    /// Rows of the ring that were ever written.
    used: usize,
    /// Where the next episode begins.
    next: usize,
    /// Oldest first.
    episodes: VecDeque<Place>,
    /// Steps so far of each env's episode.
    open: Vec<usize>,
}

/// The last episodes that ended, as many as fit, of at least a sequence's length; and one that is being played in each env.
#[derive(Debug)]
pub(super) struct Replay {
    /// Rows of the ring.
    capacity: usize,
    /// Steps of a sequence.
    horizon: usize,
    /// Numbers of an observation and an action.
    sizes: [usize; 2],
    ring: Rows,
    open: Vec<Rows>,
    next: usize,
    episodes: VecDeque<Place>,
}

impl Rows {
    fn steps(&self) -> usize {
        self.rewards.len()
    }
}

impl Replay {
    pub fn new(capacity: usize, horizon: usize, sizes: [usize; 2], envs: usize) -> Self {
        let open = (0..envs).map(|_| Rows::default()).collect();
        Self { capacity, horizon, sizes, ring: Rows::default(), open, next: 0, episodes: VecDeque::new() }
    }

    /// Whether there is an episode to learn from.
    pub fn is_empty(&self) -> bool {
        self.episodes.is_empty()
    }

    /// An episode of env `row` begins with this observation; one that was being played is forgotten.
    pub fn begin(&mut self, row: usize, observation: &[f32]) {
        self.open[row] = Rows { observations: observation.to_vec(), ..Rows::default() };
    }

    /// A step of the episode of env `row`, and what it led to.
    pub fn step(&mut self, row: usize, action: &[f32], reward: f32, observation: &[f32]) {
        let open = &mut self.open[row];
        open.observations.extend_from_slice(observation);
        open.actions.extend_from_slice(action);
        open.rewards.push(reward);
    }

    /// The episode of env `row` has ended. It is kept if it is long enough for a sequence.
    pub fn end(&mut self, row: usize) {
        let Rows { observations, actions, rewards } = std::mem::take(&mut self.open[row]);
        self.keep(&observations, actions, rewards);
    }

    /// Whether an episode of so many steps has room beside those that are here, and is long enough.
    pub fn has_room(&self, steps: usize) -> bool {
        steps >= self.horizon && self.next + steps < self.capacity
    }

    /// Takes in an episode: `[T + 1, O]`, `[T, A]` and `[T]`.
    pub fn keep(&mut self, observations: &[f32], mut actions: Vec<f32>, mut rewards: Vec<f32>) {
        let (steps, [o, a]) = (rewards.len(), self.sizes);
        if steps < self.horizon || steps + 1 > self.capacity {
            return;
        }
        // Nothing follows the last observation.
        actions.resize((steps + 1) * a, 0.0);
        rewards.resize(steps + 1, 0.0);
        if self.next + steps + 1 > self.capacity {
            // What is behind is older than what is at the beginning.
            while self.episodes.front().is_some_and(|oldest| oldest.begin >= self.next) {
                self.episodes.pop_front();
            }
            self.next = 0;
        }
        let rows = self.next..self.next + steps + 1;
        while let Some(oldest) = self.episodes.front() {
            if oldest.begin >= rows.end || oldest.begin + oldest.steps < rows.start {
                break;
            }
            self.episodes.pop_front();
        }
        let used = self.ring.steps().max(rows.end);
        self.ring.observations.resize(used * o, 0.0);
        self.ring.actions.resize(used * a, 0.0);
        self.ring.rewards.resize(used, 0.0);
        self.ring.observations[rows.start * o..rows.end * o].copy_from_slice(observations);
        self.ring.actions[rows.start * a..rows.end * a].copy_from_slice(&actions);
        self.ring.rewards[rows.clone()].copy_from_slice(&rewards);
        self.episodes.push_back(Place { begin: rows.start, steps });
        self.next = rows.end;
    }

    /// Sequences, each of an episode that is drawn whatever its length, from a step that is.
    ///
    /// # Panics
    /// If there is no episode.
    pub fn sample(&self, count: usize, rng: &mut Rng) -> Sequences {
        let (horizon, [o, a]) = (self.horizon, self.sizes);
        let begins: Vec<usize> = (0..count)
            .map(|_| {
                let Place { begin, steps } = self.episodes[rng.random_range(0..self.episodes.len())];
                begin + rng.random_range(0..=steps - horizon)
            })
            .collect();
        let gathered = |rows: usize, width: usize, from: &[f32]| {
            let at = |t: usize, begin: &usize| &from[(begin + t) * width..(begin + t + 1) * width];
            let values: Vec<f32> =
                (0..rows).flat_map(|t| begins.iter().flat_map(move |begin| at(t, begin))).copied().collect();
            Tensor::from_slice(&values).view([rows as i64, count as i64, width as i64])
        };
        Sequences {
            observations: gathered(horizon + 1, o, &self.ring.observations),
            actions: gathered(horizon, a, &self.ring.actions),
            rewards: gathered(horizon, 1, &self.ring.rewards).squeeze_dim(-1),
        }
    }

    pub fn state(&self) -> ReplayState {
        let open = self.open.iter().map(Rows::steps).collect();
        ReplayState { used: self.ring.steps(), next: self.next, episodes: self.episodes.clone(), open }
    }

    /// All rows as tensors; those of the ring, then of each env's episode.
    pub fn tensors(&self) -> Named {
        let all = |of: fn(&Rows) -> &[f32]| {
            let values: Vec<f32> = [&self.ring].into_iter().chain(&self.open).flat_map(of).copied().collect();
            Tensor::from_slice(&values)
        };
        BTreeMap::from([
            ("replay.observations".to_owned(), all(|rows| &rows.observations)),
            ("replay.actions".to_owned(), all(|rows| &rows.actions)),
            ("replay.rewards".to_owned(), all(|rows| &rows.rewards)),
        ])
    }

    /// Tensors of the shapes that a replay of this state has, to be loaded into; what is wrong with the state otherwise.
    pub fn room(&self, state: &ReplayState) -> Result<Named, &'static str> {
        let [o, a] = self.sizes;
        let fits = |place: &Place| {
            place.steps >= self.horizon && place.begin.checked_add(place.steps).is_some_and(|last| last < state.used)
        };
        if state.used > self.capacity || state.next > state.used || !state.episodes.iter().all(fits) {
            return Err("its replay has episodes where there are no rows");
        }
        if state.open.len() != self.open.len() || state.open.iter().any(|&steps| steps > 1 << 24) {
            return Err("its envs are of another number or kind");
        }
        let steps: usize = state.open.iter().sum();
        let zeros = |count: usize| Tensor::zeros([count as i64], (Kind::Float, tch::Device::Cpu));
        Ok(BTreeMap::from([
            ("replay.observations".to_owned(), zeros((state.used + steps + state.open.len()) * o)),
            ("replay.actions".to_owned(), zeros((state.used + steps) * a)),
            ("replay.rewards".to_owned(), zeros(state.used + steps)),
        ]))
    }

    /// Takes the place of this replay what a checkpoint has kept.
    pub fn restore(&mut self, state: ReplayState, tensors: &Named) {
        let [o, a] = self.sizes;
        let values = |name: &str| Vec::<f32>::try_from(&tensors[name]).expect("floats");
        let [mut observations, mut actions, mut rewards] =
            ["replay.observations", "replay.actions", "replay.rewards"].map(|name| values(name).into_iter());
        let mut rows = |observed: usize, steps: usize| Rows {
            observations: observations.by_ref().take(observed * o).collect(),
            actions: actions.by_ref().take(steps * a).collect(),
            rewards: rewards.by_ref().take(steps).collect(),
        };
        self.ring = rows(state.used, state.used);
        self.open = state.open.iter().map(|&steps| rows(steps + 1, steps)).collect();
        (self.next, self.episodes) = (state.next, state.episodes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulators::rng::{Purpose, Seed, stream};

    /// Episodes that count: observation `t` of episode `e` is `100 e + t`, the action and the reward after it the same.
    fn play(replay: &mut Replay, row: usize, episode: usize, steps: usize) {
        let number = |t: usize| (100 * episode + t) as f32;
        replay.begin(row, &[number(0)]);
        for t in 0..steps {
            replay.step(row, &[number(t)], number(t), &[number(t + 1)]);
        }
    }

    fn firsts(replay: &Replay) -> Vec<i64> {
        let sequences = replay.sample(400, &mut stream(Seed(1), Purpose::Replay, 0));
        let (observations, actions) = (sequences.observations.squeeze_dim(-1), sequences.actions.squeeze_dim(-1));
        let horizon = actions.size()[0];
        // What was done and earned at an observation, and the next one.
        assert_eq!(actions, observations.narrow(0, 0, horizon));
        assert_eq!(sequences.rewards, observations.narrow(0, 0, horizon));
        assert_eq!(observations.narrow(0, 1, horizon), &actions + 1.0);
        let mut firsts: Vec<i64> = Vec::try_from(observations.get(0).to_kind(Kind::Int64)).unwrap();
        firsts.sort_unstable();
        firsts.dedup();
        firsts
    }

    #[test]
    fn sequences_lie_within_finished_episodes() {
        let mut replay = Replay::new(1000, 3, [1, 1], 2);
        play(&mut replay, 0, 1, 5);
        assert!(replay.is_empty(), "it is being played");
        replay.end(0);
        play(&mut replay, 1, 2, 2);
        replay.end(1);
        play(&mut replay, 1, 3, 3);
        replay.end(1);
        assert_eq!(firsts(&replay), [100, 101, 102, 300]);
    }

    #[test]
    fn the_oldest_make_room() {
        let mut replay = Replay::new(20, 3, [1, 1], 1);
        for episode in 1..=3 {
            play(&mut replay, 0, episode, 5);
            replay.end(0);
        }
        assert_eq!(firsts(&replay).len(), 9);
        // It does not fit behind the third, so it takes the place of the first.
        play(&mut replay, 0, 4, 4);
        replay.end(0);
        assert_eq!(firsts(&replay), [200, 201, 202, 300, 301, 302, 400, 401]);
        play(&mut replay, 0, 5, 9);
        replay.end(0);
        assert_eq!(firsts(&replay), [400, 401, 500, 501, 502, 503, 504, 505, 506]);
        play(&mut replay, 0, 6, 30);
        replay.end(0);
        assert_eq!(firsts(&replay).len(), 9, "longer than the ring");
    }

    #[test]
    fn whatever_their_lengths_episodes_stay_whole() {
        let mut replay = Replay::new(57, 3, [1, 1], 1);
        for episode in 0..200 {
            play(&mut replay, 0, episode, 3 + episode * 37 % 23);
            replay.end(0);
            firsts(&replay);
        }
    }

    #[test]
    fn a_restored_replay_goes_on_as_the_first() {
        let mut replay = Replay::new(20, 3, [1, 1], 2);
        play(&mut replay, 0, 1, 5);
        replay.end(0);
        replay.begin(0, &[200.0]);
        play(&mut replay, 1, 3, 4);
        let mut other = Replay::new(20, 3, [1, 1], 2);
        let room = other.room(&replay.state()).unwrap();
        for (name, tensor) in replay.tensors() {
            room[&name].shallow_clone().copy_(&tensor);
        }
        other.restore(replay.state(), &room);
        assert_eq!(other.state(), replay.state());
        for replay in [&mut replay, &mut other] {
            replay.step(1, &[304.0], 304.0, &[305.0]);
            replay.end(1);
        }
        assert_eq!(firsts(&other), firsts(&replay));
        assert_eq!(firsts(&other), [100, 101, 102, 300, 301, 302]);
    }

    #[test]
    fn impossible_states_are_refused() {
        let replay = Replay::new(20, 3, [1, 1], 2);
        let state = |used, begin, steps, open: &[usize]| ReplayState {
            used,
            next: 0,
            episodes: [Place { begin, steps }].into(),
            open: open.to_vec(),
        };
        assert!(replay.room(&state(8, 0, 5, &[0, 0])).is_ok());
        for wrong in [
            state(8, 5, 5, &[0, 0]),
            state(30, 0, 5, &[0, 0]),
            state(8, 0, 2, &[0, 0]),
            state(8, usize::MAX, 5, &[0, 0]),
            state(8, 0, 5, &[0]),
        ] {
            assert!(replay.room(&wrong).is_err(), "{wrong:?}");
        }
    }
}
