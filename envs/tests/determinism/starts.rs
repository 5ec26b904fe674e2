//! Every episode is another one: auto-resets never repeat a start, and seeds share no episode.

use std::collections::HashMap;

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::policy::{Policy, RandomWalk};
use envs::vector::{AutoresetMode, BatchEnv, Reset, VectorConfig};
use simulators::rng::Seed;

use crate::scaled;
use crate::subject::{MODES, Subject, subjects};

/// The state of each row, the generator apart.
fn states(envs: &dyn BatchEnv) -> Vec<String> {
    let snapshot = serde_json::to_value(envs.snapshot()).unwrap();
    snapshot["rows"].as_array().unwrap().iter().map(|row| row["env"].to_string()).collect()
}

#[track_caller]
fn assert_distinct<T: Eq + std::hash::Hash>(all: impl IntoIterator<Item = (String, T)>) {
    let mut seen = HashMap::new();
    for (what, key) in all {
        if let Some(before) = seen.insert(key, what.clone()) {
            panic!("{what} is {before}");
        }
    }
}

/// State and frame at the start of the first `resets` episodes that four rows begin after their first.
fn starts(subject: Subject, autoreset: AutoresetMode, resets: usize) -> Vec<(String, (String, Vec<u8>))> {
    // Episodes as short as can be: what is looked at is how they start.
    let vector = VectorConfig { num_envs: 4, autoreset, max_steps: Some(1), ..VectorConfig::default() };
    let (mut envs, mut out) = subject.started(&vector);
    let spec = envs.spec().clone();
    let mut actions = Buffer::zeros(spec.action.dtype(), 4 * spec.action.size());
    let mut policy = RandomWalk::default();
    let mut found = Vec::new();
    while found.len() < resets {
        policy.act(&*envs, out.obs(), &mut actions).unwrap();
        envs.step(&actions, &mut out).unwrap();
        let begun: Vec<bool> = match autoreset {
            AutoresetMode::NextStep => out.ignored().to_vec(),
            AutoresetMode::SameStep | AutoresetMode::Disabled => out.stop().iter().map(|stop| stop.any()).collect(),
        };
        if autoreset == AutoresetMode::Disabled {
            envs.reset(Reset::Rows(&begun), out.obs_mut()).unwrap();
        }
        for (row, state) in states(&*envs).into_iter().enumerate().filter(|&(row, _)| begun[row]) {
            let frame = out.obs().bytes(row * spec.observation.size(), spec.observation.size()).to_vec();
            found.push((format!("the start of episode {}", envs.row(row).episode), (state, frame)));
        }
    }
    found.truncate(resets);
    found
}

#[test]
fn a_thousand_auto_resets_are_a_thousand_starts() {
    for subject in subjects() {
        for autoreset in MODES {
            let all = starts(subject, autoreset, 1_000);
            assert_eq!(all.len(), 1_000);
            assert_distinct(all);
        }
    }
}

#[test]
fn seeds_share_no_episode() {
    let episodes = scaled(10, 100);
    for subject in subjects() {
        let vector = VectorConfig { num_envs: episodes, ..VectorConfig::default() };
        let mut envs = subject.make(&vector);
        let spec = envs.spec().clone();
        let mut out = StepBatch::for_spec(&spec, episodes);
        let mut actions = Buffer::zeros(spec.action.dtype(), episodes * spec.action.size());
        let mut policy = RandomWalk::default();
        let (mut starts, mut histories) = (Vec::new(), Vec::new());
        for seed in (0..100).map(Seed) {
            let name = |k: usize| format!("{}: episode {k} of seed {seed}", subject.id());
            envs.reset(Reset::Seed(seed), out.obs_mut()).unwrap();
            starts.extend(states(&*envs).into_iter().enumerate().map(|(k, state)| (name(k), state)));
            let mut frames = vec![blake3::Hasher::new(); episodes];
            for _ in 0..5 {
                for (k, frames) in frames.iter_mut().enumerate() {
                    frames.update(out.obs().bytes(k * spec.observation.size(), spec.observation.size()));
                }
                policy.act(&*envs, out.obs(), &mut actions).unwrap();
                envs.step(&actions, &mut out).unwrap();
            }
            // Who looks at a wall sees what others see: the state counts too.
            for (frames, state) in frames.iter_mut().zip(states(&*envs)) {
                frames.update(state.as_bytes());
            }
            histories.extend(frames.iter().enumerate().map(|(k, frames)| (name(k), frames.finalize())));
        }
        assert_distinct(starts);
        assert_distinct(histories);
    }
}
