//! Bits written down: every machine, profile, compiler and version of a dependency has to give these.
//!
//! `scripts/test` runs this test without optimisation too. A change of trajectories that is meant raises the version in the
//! env's id, and has new numbers here; a new env has its own.
#![expect(clippy::unwrap_used, reason = "a test fails where a helper panics")]

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use envs::collect::{CollectConfig, Truth};
use envs::conformance::transitions;
use envs::dataset::{Control, Dataset, Request, collect};
use envs::policy::RandomWalk;
use envs::registry::{Entry, entries, find};
use envs::vector::{AutoresetMode, VectorConfig};
use serde_json::Value;
use simulators::rng::Seed;

/// Id; configuration; digest of its dataset of three episodes; blake3 of three episodes of random play.
const GOLDEN: &[[&str; 4]] = &[
    [
        "MnistWorld-v0",
        "{}",
        "1ff4da18cdc27fc5b09bb54f6439e1dfabafc35bf54a7c76bbe363e4254e11c3",
        "111b1c8cfe2f52b6e5888c0e7284d9adaad9d91dec57354923c4545e4395a017",
    ],
    [
        "MnistWorldTrack-v0",
        "{}",
        "8ef272e5c996d095248ed6e662d9f882f5378c47ca9702bef69703267970b856",
        "17d85573123d226f772e10b36aac8fe774745c9795a3864f3f71aece754d1f77",
    ],
    [
        "BlockWorld-v0",
        r#"{"frames": 30, "world": {"image": 48}}"#,
        "278b61f6f18576ee5ffd9694968e8fed89342ac835cbf508453bddf64bce91f4",
        "85b0f2ba5c631396dd5b45ad85517cc63d7b3c3b1ebdc97d178667feda8fde22",
    ],
    [
        "BlockWorld-v0",
        r#"{"frames": 30, "world": {"image": 48, "textures": true, "balls": 0.5, "collisions": true}}"#,
        "178c510173b3137c7d216357305663ddc1059facb8d7378d2b6438382ede58fd",
        "80938d74c0471b2fbefd1c1bb383a692c9de90503185086e52f5e28ae6fa26a1",
    ],
    [
        "BlockWorld-v0",
        r#"{"frames": 30, "world": {"image": 48, "regime": "physics", "balls": 0.5, "turn": 15, "stride": 0.25}}"#,
        "976dcc2185d08e3606446e8c25d55a9533ab3afbc38b2c401237d78f9a28ace3",
        "67c3105e9dd60aaa475e60ee0fffcf390f20912e61e46ffa2ed186a097cf31a2",
    ],
    [
        "BlockWorldFind-v0",
        r#"{"steps": 30, "world": {"image": 48}}"#,
        "3f283eba4fcecb2d58c7b8f41c85bdbcab6dfedf81d1af4765c32fd375495057",
        "c6dc5c0d9c593e448bcc1e5341906f1fb03a420df55ba3d06b245a153af2ec69",
    ],
    [
        "Ant-v0",
        "{}",
        "5eeab96b5062a54f18de7f600830841864dc0df3d0e73a68138f1f657a2784c2",
        "7e96c97521319349b7eb4028177dc17e82a198ea1110d8409c50087d8017feac",
    ],
    [
        "Hopper-v0",
        "{}",
        "f7dc2993c759d26facf1d318dc00d333d641d67fdec2b4e8d8343bd7024e62a7",
        "93019c223d5ac51469cb55a46efd0071eb6715284cd5b478f608acf82e907893",
    ],
    [
        "CartPoleSwingUp-v0",
        "{}",
        "cf16bfa8f51bdc9bec32337d33ee5d3bac121dcf7687e7f2122786351a7d3ca7",
        "6d7332a1f6c7a225329e019916ced89537b7c8416d4da083a8a11032e25f5194",
    ],
    [
        "DoublePendulum-v0",
        "{}",
        "a3e5a5974e1baa414d60681dc5dc25abf7bc4a0fd349a5de04f5b9fb8572373e",
        "a6ee05919eae8b783e639355d78460050c21e814bafe59fffc87d2c8c82add5e",
    ],
];

const SEED: Seed = Seed(7);

fn dataset(entry: &Entry, config: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let source = entry.source(config, &CollectConfig { seed: SEED, truth: Truth::Full }).unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(&*source, folder.path(), Request::episodes(3), control).unwrap();
    Dataset::open(folder.path()).unwrap().digest()
}

/// Every frame, action, reward and end of episodes 0 to 2, and the state that is left.
fn play(entry: &Entry, config: &Value) -> String {
    let vector = VectorConfig { num_envs: 2, seed: SEED, autoreset: AutoresetMode::SameStep, max_steps: None };
    let mut envs = entry.make(config, &vector).unwrap();
    let mut hasher = blake3::Hasher::new();
    for step in transitions(&mut *envs, vector.autoreset, &mut RandomWalk::default(), 3).unwrap() {
        hasher.update(&step.obs).update(&step.action).update(&step.reward.to_le_bytes());
        hasher.update(&[step.stop.terminated.into(), step.stop.truncated.into()]).update(&step.next_obs);
    }
    let state = serde_json::to_value(envs.snapshot()).unwrap()["rows"].to_string();
    hasher.update(state.as_bytes()).finalize().to_string()
}

#[test]
fn every_registered_env_gives_the_bits_that_were_written_down() {
    let all: BTreeSet<&str> = entries().iter().map(|entry| entry.id).collect();
    assert_eq!(GOLDEN.iter().map(|[id, ..]| *id).collect::<BTreeSet<_>>(), all);
    let found: Vec<_> = GOLDEN
        .iter()
        .map(|&[id, text, ..]| {
            let (entry, config) = (find(id).unwrap(), serde_json::from_str(text).unwrap());
            [id.to_owned(), text.to_owned(), dataset(entry, &config), play(entry, &config)]
        })
        .collect();
    assert_eq!(found, GOLDEN);
}
