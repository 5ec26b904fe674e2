//! What the targets share: a small dataset, whose files are what the fuzzer starts from and fits its inputs to.

#[cfg(feature = "torch")]
mod torch;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use envs::dataset::{
    Codec, ColumnSpec, Control, DatasetHeader, Description, Dtype, EpisodeBuffer, EpisodeSource, Length, Manifest,
    Request, Zstd, collect,
};
use envs::registry::find;
use envs::vector::{BatchEnv, VectorConfig};
use serde_json::json;
use simulators::rng::Seed;
use tempfile::TempDir;

#[cfg(feature = "torch")]
pub use torch::{shapes, torch_seeds};

/// Episodes of up to five steps with a column of every kind.
struct Toy;

impl EpisodeSource for Toy {
    fn header(&self) -> DatasetHeader {
        DatasetHeader {
            env_id: "Toy-v0".to_owned(),
            env_version: 0,
            config: json!({"gain": 0.5}),
            spaces: json!({"observation": [2, 2, 1]}),
            fps: 8.0,
            seed: Seed(1),
        }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations("observations", Dtype::U8, &[2, 2, 1]),
            ColumnSpec::steps("actions", Dtype::I8, &[2]),
            ColumnSpec::steps("rewards", Dtype::F32, &[]),
            ColumnSpec::observations("truth.camera", Dtype::I16, &[2]),
            ColumnSpec::episode("goal", Dtype::I64, &[]),
        ]
    }

    fn length(&self) -> Length {
        Length::AtMost(5)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        let steps = k as usize * 7 % 6;
        episode.set_steps(steps);
        for t in 0..steps {
            episode.row_mut::<u8>(0, t).fill((k as usize + t) as u8);
            episode.row_mut::<f32>(2, t)[0] = t as f32;
        }
        episode.rows_mut::<i64>(4)[0] = k as i64;
    }
}

/// The files of a dataset of seven episodes in three shards.
pub struct Files {
    pub description_text: Vec<u8>,
    pub description: Description,
    pub manifest_text: Vec<u8>,
    pub manifest: Manifest,
    pub shards: Vec<(String, Vec<u8>)>,
}

pub static FILES: LazyLock<Files> = LazyLock::new(|| Files::of(Codec::Raw));

/// The same with its frames packed, two in a block.
pub static PACKED: LazyLock<Files> = LazyLock::new(|| Files::of(Codec::Zstd(Zstd { level: 1, block_bytes: 8 })));

impl Files {
    fn of(codec: Codec) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
        let request = Request { episodes: 7, episodes_per_shard: Some(3), codec: Some(codec) };
        collect(&Toy, dir.path(), request, control).expect("the toy can be recorded");
        let read = |name: &str| fs::read(dir.path().join(name)).expect("it was just written");
        let description_text = read("dataset.json");
        let description =
            Description::parse(&description_text, Path::new("dataset.json")).expect("it was just written");
        let manifest_text = read("manifest.jsonl");
        let manifest = Manifest::parse(&manifest_text, &description);
        let shards =
            manifest.entries.iter().map(|entry| (entry.shard.clone(), read(&format!("shards/{}", entry.shard))));
        let shards = shards.collect();
        Self { description_text, description, manifest_text, manifest, shards }
    }
}

/// A folder in memory, where the system has a place for that.
pub fn memory_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a temporary folder")
}

/// Two small MNIST Worlds.
pub fn batch() -> Box<dyn BatchEnv> {
    let config = json!({"world": {"world": 16, "window": 8, "digit_px": 8, "digits": 2}, "context": 2, "horizon": 3,
                        "digits": {"kind": "drawn", "per_label": 1}});
    let vector = VectorConfig { num_envs: 2, ..VectorConfig::default() };
    find("mnist-world").expect("it is registered").make(&config, &vector).expect("the configuration is valid")
}
