//! What is tried: every registered env with its default configuration, and the drunkard.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use envs::batch::StepBatch;
use envs::collect::{CollectConfig, RandomWalkSource, Truth};
use envs::dataset::{Control, Dataset, EpisodeSource, Request, collect};
use envs::policy::{BlockWorldWalk, CoverageWalk, Policy, RandomWalk};
use envs::registry::{Entry, entries};
use envs::vector::{AutoresetMode, BatchEnv, Reset, VectorConfig, VectorEnv};
use serde_json::Value;
use simulators::rng::Seed;
use tempfile::TempDir;

use crate::drunkard::Drunkard;

pub const MODES: [AutoresetMode; 3] = [AutoresetMode::NextStep, AutoresetMode::SameStep, AutoresetMode::Disabled];

/// One env under test.
#[derive(Clone, Copy)]
pub enum Subject {
    /// With a configuration, JSON.
    Registered(&'static Entry, &'static str),
    Drunkard,
}

/// Configurations in which an env is tried: the default one, but of large pictures and long episodes small and short ones.
fn configs(entry: &Entry) -> &'static [&'static str] {
    match entry.id {
        "BlockWorld-v0" => &[
            r#"{"frames": 60, "world": {"image": 32}}"#,
            r#"{"frames": 40, "world": {"image": 16, "regime": "physics", "turn": 15, "stride": 0.25, "balls": 0.5}}"#,
        ],
        "BlockWorldFind-v0" => &[r#"{"steps": 60, "world": {"image": 32}}"#],
        _ => &["{}"],
    }
}

pub fn subjects() -> Vec<Subject> {
    let of = |entry| configs(entry).iter().map(move |config| Subject::Registered(entry, config));
    entries().iter().flat_map(of).chain([Subject::Drunkard]).collect()
}

fn parsed(config: &str) -> Value {
    serde_json::from_str(config).unwrap()
}

impl Subject {
    pub fn id(self) -> &'static str {
        match self {
            Self::Registered(entry, _) => entry.id,
            Self::Drunkard => "Drunkard-v0",
        }
    }

    pub fn make(self, vector: &VectorConfig) -> Box<dyn BatchEnv> {
        match self {
            Self::Registered(entry, config) => entry.make(&parsed(config), vector).unwrap(),
            Self::Drunkard => Box::new(VectorEnv::new(vector, &Drunkard::new()).unwrap()),
        }
    }

    /// A batch whose rows have just begun their first episodes, and what they show.
    pub fn started(self, vector: &VectorConfig) -> (Box<dyn BatchEnv>, StepBatch) {
        let mut envs = self.make(vector);
        let mut out = StepBatch::for_spec(envs.spec(), vector.num_envs);
        envs.reset(Reset::Next, out.obs_mut()).unwrap();
        (envs, out)
    }

    pub fn source(self, seed: Seed, truth: Truth) -> Box<dyn EpisodeSource> {
        let config = CollectConfig { seed, truth };
        match self {
            Self::Registered(entry, env) => entry.source(&parsed(env), &config).unwrap(),
            Self::Drunkard => Box::new(RandomWalkSource::new(Drunkard::new(), &config).unwrap()),
        }
    }

    /// The policy whose episodes its collector records.
    pub fn collectors_policy(self) -> Box<dyn Policy> {
        let header = self.source(Seed(0), Truth::None).header();
        match header.config["collector"]["policy"].as_str() {
            Some("random_walk") => Box::new(RandomWalk::default()),
            Some("coverage_walk") => {
                let config = serde_json::from_value(header.config["env"].clone()).unwrap();
                Box::new(CoverageWalk::new(&config).unwrap())
            }
            Some("biased_walk_v2") => Box::new(BlockWorldWalk::default()),
            other => panic!("{}: a collector's policy {other:?} needs a line here", self.id()),
        }
    }

    /// Collects `episodes` episodes in shards of seven.
    pub fn collected(self, seed: Seed, truth: Truth, episodes: u64) -> Collected {
        let folder = tempfile::tempdir().unwrap();
        let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
        let request = Request { episodes, episodes_per_shard: Some(7), codec: None };
        collect(&*self.source(seed, truth), folder.path(), request, control).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        Collected { dataset, folder }
    }
}

/// A dataset in a folder that lives as long.
pub struct Collected {
    pub dataset: Dataset,
    folder: TempDir,
}

impl Collected {
    /// Every file but the lock, by name.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let list = |folder: &Path| fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()).collect::<Vec<_>>();
        let all = list(self.folder.path()).into_iter().chain(list(&self.folder.path().join("shards")));
        let files = all.filter(|path| path.is_file() && path.file_name().unwrap() != ".lock");
        let name = |path: &Path| path.strip_prefix(self.folder.path()).unwrap().display().to_string();
        files.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
    }
}
