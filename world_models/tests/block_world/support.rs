//! What these tests share: small datasets of Blockworld, as they are recorded and as they should not be.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use envs::collect::{CollectConfig, Truth};
use envs::dataset::{
    Clips, ColumnSpec, Control, Dataset, DatasetHeader, EpisodeBuffer, EpisodeSource, Length, Request, collect,
};
use serde_json::json;
use simulators::rng::Seed;
use tch::Device;
use tempfile::TempDir;
use world_models::clips::ClipLoader;

/// Observations of an episode.
pub const FRAMES: usize = 60;
/// Pixels along the side of a picture.
pub const IMAGE: usize = 24;
/// Metres along the side of the room.
pub const ROOM: usize = 8;
/// Blocks.
pub const BLOCKS: usize = 4;

/// Blockworld's own collector.
pub fn source(truth: Truth) -> Box<dyn EpisodeSource> {
    let config = json!({
        "world": { "room": ROOM, "fewest": BLOCKS, "most": BLOCKS, "image": IMAGE }, "frames": FRAMES,
    });
    envs::registry::find("block-world").unwrap().source(&config, &CollectConfig { seed: Seed(3), truth }).unwrap()
}

pub fn recorded(source: &dyn EpisodeSource, episodes: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(source, folder.path(), Request::episodes(episodes), control).unwrap();
    folder
}

pub fn opened(data: &TempDir) -> Arc<Dataset> {
    // The tests run side by side already, and the pictures are too small to share out.
    world_models::libtorch::set_threads(1);
    Arc::new(Dataset::open(data.path()).unwrap())
}

pub fn loader(data: &TempDir, frames: usize) -> ClipLoader {
    ClipLoader::new(Clips::new(opened(data), frames, Seed(0)).unwrap(), Device::Cpu).unwrap()
}

/// Number of the column called `name` of the collector's.
pub fn number(name: &str) -> usize {
    source(Truth::Full).columns().iter().position(|column| column.name == name).unwrap()
}

/// Makes an episode wrong that has just been recorded.
pub type Spoil = fn(&mut EpisodeBuffer<'_>);

/// Blockworld's collector, whose episodes are made wrong.
pub struct Spoiled(pub Spoil);

impl EpisodeSource for Spoiled {
    fn header(&self) -> DatasetHeader {
        source(Truth::Full).header()
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        source(Truth::Full).columns()
    }

    fn length(&self) -> Length {
        Length::Fixed(FRAMES - 1)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        source(Truth::Full).record(k, episode);
        self.0(episode);
    }
}

/// What claims to be of Blockworld, with other columns; all zero.
pub struct Claimed(pub Vec<ColumnSpec>);

impl EpisodeSource for Claimed {
    fn header(&self) -> DatasetHeader {
        source(Truth::Full).header()
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        self.0.clone()
    }

    fn length(&self) -> Length {
        Length::Fixed(FRAMES - 1)
    }

    fn record(&self, _: u64, _: &mut EpisodeBuffer<'_>) {}
}

/// Columns that are not Blockworld's, and what is said of them.
pub fn claims() -> Vec<(Claimed, &'static str)> {
    use envs::dataset::{Dtype, Follows};
    let with = |name: &str, change: fn(&mut ColumnSpec)| {
        let mut columns = source(Truth::Full).columns();
        change(&mut columns[number(name)]);
        Claimed(columns)
    };
    vec![
        (
            with("truth.camera", |column| column.dtype = Dtype::F64),
            "column `truth.camera` is F64 [3] for each of the Observations; allowed: F32 [3] for each of the Observations",
        ),
        (with("truth.poses", |column| column.shape = vec![BLOCKS, 6]), "column `truth.poses` is F32 [4, 6]"),
        (
            with("truth.kinds", |column| column.follows = Follows::Steps),
            "column `truth.kinds` is U8 [4] for each of the Steps",
        ),
        (with("truth.entity", |column| column.shape = vec![IMAGE, 2]), "column `truth.entity` is U8 [24, 2]"),
    ]
}

/// Episodes that cannot be, and what is said of them.
pub fn wrongs() -> Vec<(Spoil, &'static str)> {
    let wrongs: [(Spoil, &'static str); 5] = [
        (
            |episode| episode.row_mut::<f32>(number("truth.camera"), 13)[2] = 45.5,
            "column `truth.camera` does not fit the world of the dataset: [",
        ),
        (|episode| episode.row_mut::<f32>(number("truth.camera"), 13)[0] = 8.0, "at frame 13, not in a room of 8 m"),
        (
            |episode| episode.row_mut::<f32>(number("truth.poses"), 15)[6] = 0.5,
            "column `truth.poses` does not fit the world of the dataset: a turn of [0.0, 0.0, 0.0, 0.5] at frame 15",
        ),
        (
            |episode| episode.row_mut::<u8>(number("truth.kinds"), 0)[1] = 3,
            "column `truth.kinds` does not fit the world of the dataset: kind 3, not 0, 1 or 2",
        ),
        (
            |episode| episode.row_mut::<u8>(number("truth.entity"), 17)[9] = 5,
            "column `truth.entity` does not fit the world of the dataset: thing 5",
        ),
    ];
    wrongs.into()
}

/// A number that can be found in a file.
const MARK: f32 = 1234.5;

/// An episode with a place of a block, at frame 4, that is `value`, as another program might have written it: our writer refuses it.
pub fn not_finite(value: f32) -> TempDir {
    let data = recorded(&Spoiled(|episode| episode.row_mut::<f32>(number("truth.poses"), 4)[0] = MARK), 1);
    let shard = std::fs::read_dir(data.path().join("shards")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&shard).unwrap();
    let found: Vec<usize> = (0..bytes.len() - 3).filter(|at| bytes[*at..*at + 4] == MARK.to_le_bytes()).collect();
    let [at] = found[..] else { panic!("the mark is there {} times", found.len()) };
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(shard, bytes).unwrap();
    data
}
