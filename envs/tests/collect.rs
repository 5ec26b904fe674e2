//! What a collector records beside what the agent sees, and what it refuses. That it records what its policy plays is tried in
//! `determinism`.

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::collect::{CollectConfig, PlayedSource, Player, Truth};
use envs::dataset::{EpisodeSource, RecordedEpisode};
use envs::policy::{CoverageWalk, Policy, RandomWalk, Zero};
use envs::registry::find;
use envs::tasks::mnist_world::MnistWorldEnvConfig;
use envs::vector::{Reset, VectorConfig};
use serde_json::{Value, json};
use simulators::rng::Seed;

const SEED: Seed = Seed(11);

fn small_world() -> Value {
    json!({ "world": { "world": 24, "window": 16, "digits": 2, "digit_px": 14, "step": 6 }, "context": 25, "horizon": 5,
            "digits": { "kind": "drawn", "per_label": 3 } })
}

#[test]
fn truth_columns_hold_the_state_behind_each_frame() {
    let source =
        find("mnist-world").unwrap().source(&small_world(), &CollectConfig { seed: SEED, truth: Truth::Full }).unwrap();
    let episode = RecordedEpisode::new(&*source, 3).unwrap();
    let (camera, positions, velocities) = (
        episode.column::<i16>("truth.camera"),
        episode.column::<i16>("truth.positions"),
        episode.column::<i8>("truth.velocities"),
    );
    let actions = episode.column::<i8>("actions");
    let wrap = |v: i16| v.rem_euclid(24);
    for t in 0..episode.steps() {
        for axis in 0..2 {
            assert_eq!(camera[2 * t + 2 + axis], wrap(camera[2 * t + axis] + i16::from(actions[2 * t + axis])));
        }
        for i in 0..4 {
            assert_eq!(positions[4 * (t + 1) + i], wrap(positions[4 * t + i] + i16::from(velocities[4 * t + i])));
        }
    }
    // The camera rests as the first target frame is made.
    assert_eq!(actions[2 * 24..2 * 25], [0, 0]);
    assert_eq!(episode.column::<u8>("truth.labels").len(), 2);
    // Ink is where an entity is, and nowhere else.
    let (frames, entity) = (episode.column::<u8>("observations"), episode.column::<u8>("truth.entity"));
    assert!(frames.iter().zip(entity).all(|(&ink, &id)| (ink > 0) == (id > 0)));
}

#[test]
fn truth_levels_choose_the_columns() {
    let names = |truth| {
        let source = find("mnist-world").unwrap().source(&small_world(), &CollectConfig { seed: SEED, truth }).unwrap();
        source.columns().into_iter().map(|column| column.name).collect::<Vec<_>>()
    };
    let always = ["observations", "actions", "rewards", "terminations", "truncations"];
    let state = ["truth.camera", "truth.positions", "truth.velocities", "truth.labels"];
    assert_eq!(names(Truth::None), always);
    assert_eq!(names(Truth::State), [&always[..], &state[..]].concat());
    assert_eq!(names(Truth::Full), [&always[..], &state[..], &["truth.entity"]].concat());
}

#[test]
fn a_world_that_cannot_be_covered_is_refused_before_recording() {
    let config = json!({ "world": { "step": 0 }, "digits": { "kind": "drawn", "per_label": 1 } });
    let error = find("mnist-world").unwrap().source(&config, &CollectConfig::default()).err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("`step` 0") && cause.contains("`context` is 50"), "{cause}");
}

#[test]
fn other_policies_are_refused_by_name() {
    let config: MnistWorldEnvConfig = serde_json::from_value(small_world()).unwrap();
    let mut walk = CoverageWalk::new(&config).unwrap();
    let mut envs = find("mnist-world-track").unwrap().make(&json!({}), &VectorConfig::default()).unwrap();
    let mut out = StepBatch::for_spec(envs.spec(), 1);
    envs.reset(Reset::Next, out.obs_mut()).unwrap();
    let error = walk.act(&*envs, out.obs(), &mut Buffer::I8(vec![0; 2])).unwrap_err().to_string();
    assert_eq!(error, "the policy CoverageWalk acts in MnistWorld-v0 only, this is MnistWorldTrack-v0");
}

#[test]
fn who_does_nothing_does_nothing() {
    let track = json!({ "digits": { "kind": "drawn", "per_label": 3 } });
    let nothing = Buffer::I64(vec![4; 2]);
    let envs = [
        ("block-world", json!({}), nothing.clone()),
        ("block-world-find", json!({}), nothing),
        ("mnist-world-track", track, Buffer::I8(vec![0; 4])),
    ];
    for (env, config, expected) in envs {
        let config_of_two = VectorConfig { num_envs: 2, ..VectorConfig::default() };
        let mut envs = find(env).unwrap().make(&config, &config_of_two).unwrap();
        let mut out = StepBatch::for_spec(envs.spec(), 2);
        envs.reset(Reset::Next, out.obs_mut()).unwrap();
        let mut actions = expected.clone();
        RandomWalk::default().act(&*envs, out.obs(), &mut actions).unwrap();
        Zero.act(&*envs, out.obs(), &mut actions).unwrap();
        assert_eq!(actions, expected, "{env}");
    }
}

/// Episodes end on the ground, at their limit, and after two steps.
#[test]
fn policies_that_take_turns_play_what_each_plays_alone() {
    let config = json!({ "digits": { "kind": "drawn", "per_label": 3 } });
    for (env, config) in [("hopper", json!({})), ("cartpole-swing-up", json!({})), ("mnist-world-track", config)] {
        let entry = find(env).unwrap();
        let random = || Player { about: json!("random"), make: Box::new(|| Ok(Box::new(RandomWalk::default()))) };
        let zero = || Player { about: json!("zero"), make: Box::new(|| Ok(Box::new(Zero))) };
        let played = |players| PlayedSource::new(entry, &config, SEED, players).unwrap();
        let own = entry.source(&config, &CollectConfig { seed: SEED, truth: Truth::None }).unwrap();
        let (both, still) = (played(vec![random(), zero()]), played(vec![zero()]));
        let same = |a: &dyn EpisodeSource, b: &dyn EpisodeSource, k: u64| {
            let [a, b] = [a, b].map(|source| RecordedEpisode::new(source, k).unwrap());
            assert_eq!(a.steps(), b.steps(), "{env} {k}");
            assert_eq!(a.column::<f32>("rewards"), b.column::<f32>("rewards"), "{env} {k}");
            for column in ["terminations", "truncations"] {
                assert_eq!(a.column::<u8>(column), b.column::<u8>(column), "{env} {k}");
            }
            if env == "mnist-world-track" {
                assert_eq!(a.column::<u8>("observations"), b.column::<u8>("observations"));
                assert_eq!(a.column::<i8>("actions"), b.column::<i8>("actions"));
            } else {
                assert_eq!(a.column::<f32>("observations"), b.column::<f32>("observations"));
                assert_eq!(a.column::<f32>("actions"), b.column::<f32>("actions"));
            }
        };
        for k in [0, 2] {
            same(&both, &*own, k);
            same(&both, &still, k + 1);
        }
        assert_eq!(both.header().config["collector"], json!({"policies": ["random", "zero"]}));
    }
}

#[test]
fn a_policy_that_cannot_play_is_an_error_of_its_episode() {
    let entry = find("hopper").unwrap();
    let broken = Player { about: json!("broken"), make: Box::new(|| Err("its weights are gone".to_owned())) };
    let source = PlayedSource::new(entry, &json!({}), SEED, vec![broken]).unwrap();
    let said = RecordedEpisode::new(&source, 0).err().unwrap().to_string();
    assert!(said.contains("its weights are gone"), "{said}");
}
