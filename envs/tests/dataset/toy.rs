//! A source that is nothing but a function of seed and number, with a column of every kind and episodes of any length.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use envs::dataset::{
    Codec, ColumnSpec, Control, DatasetError, DatasetHeader, Dtype, EpisodeBuffer, EpisodeSource, Length, Outcome,
    Progress, Request, Zstd, collect,
};
use rand::Rng as _;
use serde_json::json;
use simulators::rng::{Purpose, Seed, stream};

/// 4 x 4 frames of noise. Episodes have up to `most` steps, or exactly so many.
#[derive(Clone)]
pub struct Toy {
    pub seed: u64,
    pub length: Length,
    pub gain: f64,
    /// An episode that cannot be recorded.
    pub broken: Option<u64>,
    pub codec: Codec,
}

/// Blocks of three frames, so that short episodes have several.
pub const PACKED: Codec = Codec::Zstd(Zstd { level: 1, block_bytes: 3 * 16 });

impl Toy {
    pub fn varied() -> Self {
        Self { seed: 3, length: Length::AtMost(9), gain: 0.1, broken: None, codec: Codec::Raw }
    }

    pub fn fixed(steps: usize) -> Self {
        Self { length: Length::Fixed(steps), ..Self::varied() }
    }

    /// The same with its frames packed.
    pub fn packed(self) -> Self {
        Self { codec: PACKED, ..self }
    }

    /// As it is, and packed.
    pub fn in_both_codecs(self) -> [Self; 2] {
        [self.clone(), self.packed()]
    }
}

/// The columns, as `Toy::columns` numbers them.
pub const COLUMNS: [&str; 8] = [
    "observations",
    "actions",
    "rewards",
    "terminations",
    "truth.camera",
    "truth.energy",
    "episode.goal",
    "episode.tag",
];

impl EpisodeSource for Toy {
    fn header(&self) -> DatasetHeader {
        DatasetHeader {
            env_id: "Toy-v0".to_owned(),
            env_version: 2,
            config: json!({"gain": self.gain, "nested": {"side": 4}}),
            spaces: json!({"observation": [4, 4, 1]}),
            fps: 10.0,
            seed: Seed(self.seed),
        }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations(COLUMNS[0], Dtype::U8, &[4, 4, 1]),
            ColumnSpec::steps(COLUMNS[1], Dtype::I8, &[2]),
            ColumnSpec::steps(COLUMNS[2], Dtype::F32, &[]),
            ColumnSpec::steps(COLUMNS[3], Dtype::Bool, &[]),
            ColumnSpec::observations(COLUMNS[4], Dtype::I16, &[3]),
            ColumnSpec::observations(COLUMNS[5], Dtype::F64, &[]),
            ColumnSpec::episode(COLUMNS[6], Dtype::I32, &[3]),
            ColumnSpec::episode(COLUMNS[7], Dtype::I64, &[]),
        ]
    }

    fn length(&self) -> Length {
        self.length
    }

    fn codec(&self) -> Codec {
        self.codec
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        if self.broken == Some(k) {
            return episode.fail("reward is NaN at step 3");
        }
        let mut rng = stream(Seed(self.seed), Purpose::World, k);
        let steps = match self.length {
            Length::Fixed(steps) => steps,
            Length::AtMost(most) => (rng.next_u64() % (most as u64 + 1)) as usize,
        };
        episode.set_steps(steps);
        for t in 0..=steps {
            rng.fill_bytes(episode.row_mut(0, t));
            episode.row_mut::<i16>(4, t).copy_from_slice(&[t as i16, k as i16, -1]);
            episode.row_mut::<f64>(5, t)[0] = t as f64 * self.gain;
        }
        for t in 0..steps {
            let action = rng.next_u32() as i8;
            episode.row_mut::<i8>(1, t).copy_from_slice(&[action, t as i8]);
            episode.row_mut::<f32>(2, t)[0] = f32::from(action);
            episode.row_mut::<u8>(3, t)[0] = u8::from(t + 1 == steps);
        }
        episode.rows_mut::<i32>(6).copy_from_slice(&[k as i32, 7, -7]);
        episode.rows_mut::<i64>(7)[0] = k as i64;
    }
}

/// Shards of four episodes, so that a few dozen make many.
pub fn request(episodes: u64) -> Request {
    Request { episodes, episodes_per_shard: Some(4), codec: None }
}

pub fn collect_toy(source: &Toy, dir: &Path, episodes: u64) -> Result<Outcome, DatasetError> {
    let control = Control { stop: &AtomicBool::new(false), progress: &|_: Progress| {} };
    collect(source, dir, request(episodes), control)
}

/// Every file of a dataset but the lock, by name: what "the same bytes" means.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let list = |dir: &Path| fs::read_dir(dir).unwrap().map(|item| item.unwrap().path()).collect::<Vec<_>>();
    let files = list(dir).into_iter().chain(list(&dir.join("shards")));
    let files = files.filter(|path| path.is_file() && path.file_name().unwrap() != ".lock");
    files.map(|path| (path.strip_prefix(dir).unwrap().display().to_string(), fs::read(path).unwrap())).collect()
}

/// The contents of a dataset of `episodes` episodes that nothing ever disturbed.
pub fn undisturbed(source: &Toy, episodes: u64) -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    collect_toy(source, dir.path(), episodes).unwrap();
    contents(dir.path())
}
