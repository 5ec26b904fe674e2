//! Play is one function: however many rows a batch has and however they are reset, episode `k` is episode `k`, and it is the
//! one that a collector records.

use envs::collect::Truth;
use envs::conformance::{Transition, transitions};
use envs::dataset::Dataset;
use envs::policy::{Policy, RandomWalk};
use envs::stop::Stop;
use envs::vector::{AutoresetMode, VectorConfig};
use simulators::rng::Seed;

use crate::scaled;
use crate::subject::{MODES, Subject, subjects};

const SEED: Seed = Seed(11);

fn played(subject: Subject, vector: &VectorConfig, policy: &mut dyn Policy, episodes: u64) -> Vec<Transition> {
    transitions(&mut *subject.make(vector), vector.autoreset, policy, episodes).unwrap()
}

#[track_caller]
fn assert_same(found: &[Transition], expected: &[Transition], what: &str) {
    if let Some((found, expected)) = found.iter().zip(expected).find(|(a, b)| a != b) {
        panic!("{what}: {found:?}, not {expected:?}");
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

/// The episodes of a dataset, step by step.
fn recorded(dataset: &Dataset) -> Vec<Transition> {
    let column = |name| dataset.column_index(name).unwrap();
    let [obs, actions, rewards, deaths, cuts] =
        ["observations", "actions", "rewards", "terminations", "truncations"].map(column);
    let row_bytes = |column: usize| dataset.columns()[column].row_bytes();
    let mut all = Vec::new();
    for episode in dataset.episodes() {
        let rows: Vec<_> = (0..dataset.columns().len()).map(|column| episode.bytes(column).unwrap()).collect();
        let row = |column: usize, t: usize| &rows[column][t * row_bytes(column)..][..row_bytes(column)];
        let hash = |t| blake3::hash(row(obs, t)).into();
        all.extend((0..episode.steps()).map(|t| Transition {
            episode: episode.number(),
            t: t as u32,
            obs: hash(t),
            action: row(actions, t).to_vec(),
            reward: u32::from_le_bytes(row(rewards, t).try_into().unwrap()),
            stop: Stop { terminated: row(deaths, t) == [1], truncated: row(cuts, t) == [1] },
            next_obs: hash(t + 1),
        }));
    }
    all
}

#[test]
fn any_number_of_envs_plays_what_the_collector_records() {
    for subject in subjects() {
        // Enough that every row of the largest batch begins a second episode.
        let episodes = scaled(130, 650);
        let expected = recorded(&subject.collected(SEED, Truth::None, episodes).dataset);
        for num_envs in [1, 2, 7, 8, 64] {
            for autoreset in MODES {
                let vector = VectorConfig { num_envs, seed: SEED, autoreset, max_steps: None };
                let found = played(subject, &vector, &mut *subject.collectors_policy(), episodes);
                assert_same(&found, &expected, &format!("{}, {num_envs} envs, {autoreset:?}", subject.id()));
            }
        }
    }
}

#[test]
fn auto_reset_modes_give_the_same_transitions() {
    let steps: usize = scaled(5_000, 100_000);
    for subject in subjects() {
        for max_steps in [None, Some(9)] {
            let play = |autoreset, episodes| {
                let vector = VectorConfig { num_envs: 5, seed: SEED, autoreset, max_steps };
                played(subject, &vector, &mut RandomWalk::default(), episodes)
            };
            let ten_episodes = play(AutoresetMode::Disabled, 10).len();
            // With a fifth to spare, since episodes differ in length.
            let episodes = (12 * steps).div_ceil(ten_episodes) as u64;
            let expected = play(AutoresetMode::Disabled, episodes);
            assert!(expected.len() >= steps, "{}: {} steps", subject.id(), expected.len());
            assert!(expected.is_sorted_by_key(|step| (step.episode, step.t)), "{}", subject.id());
            for autoreset in [AutoresetMode::NextStep, AutoresetMode::SameStep] {
                assert_same(&play(autoreset, episodes), &expected, &format!("{}, {autoreset:?}", subject.id()));
            }
        }
    }
}

/// Else what is said above of episodes that die would be said of none.
#[test]
fn the_drunkard_dies_at_odd_times_and_is_cut_off_too() {
    let vector = VectorConfig { seed: SEED, ..VectorConfig::default() };
    let all = played(Subject::Drunkard, &vector, &mut RandomWalk::default(), 100);
    let mut deaths: Vec<u32> = all.iter().filter(|step| step.stop.terminated).map(|step| step.t).collect();
    assert!(all.iter().any(|step| step.stop.truncated && !step.stop.terminated));
    deaths.sort_unstable();
    deaths.dedup();
    assert!(deaths.len() > 10, "{deaths:?}");
}
