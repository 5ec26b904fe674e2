//! Recording to disk, and clips back from it: 32 x 32 frames of a world that costs next to nothing, and frames of 128 x 128 x 3
//! that look around among a few views, raw and packed.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use envs::dataset::{
    Clips, Codec, ColumnSpec, Control, Dataset, DatasetHeader, Dtype, EpisodeBuffer, EpisodeSource, Length, Request,
    Zstd, collect, verify,
};
use rand::{Rng as _, RngExt as _};
use simulators::rng::{Purpose, Seed, stream};

const SIDE: usize = 32;
const STEPS: usize = 69;

/// Frames that are copies of a strip at a drawn offset: the cost is that of writing them.
struct Strip {
    pixels: Vec<u8>,
    mask: bool,
}

impl Strip {
    fn new(mask: bool) -> Self {
        let mut pixels = vec![0; 2 * SIDE * SIDE];
        stream(Seed(0), Purpose::World, 0).fill_bytes(&mut pixels);
        Self { pixels, mask }
    }
}

impl EpisodeSource for Strip {
    fn header(&self) -> DatasetHeader {
        DatasetHeader {
            env_id: "Strip-v0".to_owned(),
            env_version: 0,
            config: serde_json::json!({"mask": self.mask}),
            spaces: serde_json::Value::Null,
            fps: 10.0,
            seed: Seed(0),
        }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        let mut columns = vec![
            ColumnSpec::observations("observations", Dtype::U8, &[SIDE, SIDE, 1]),
            ColumnSpec::steps("actions", Dtype::I8, &[2]),
            ColumnSpec::steps("rewards", Dtype::F32, &[]),
            ColumnSpec::observations("truth.camera", Dtype::I16, &[2]),
        ];
        if self.mask {
            columns.push(ColumnSpec::observations("truth.entity", Dtype::U8, &[SIDE, SIDE]));
        }
        columns
    }

    fn length(&self) -> Length {
        Length::Fixed(STEPS)
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        let mut rng = stream(Seed(0), Purpose::World, k);
        for t in 0..=STEPS {
            let offset = rng.next_u32() as usize % (SIDE * SIDE);
            let frame = &self.pixels[offset..offset + SIDE * SIDE];
            episode.row_mut::<u8>(0, t).copy_from_slice(frame);
            episode.row_mut::<i16>(3, t)[0] = offset as i16;
            if self.mask {
                episode.row_mut::<u8>(4, t).copy_from_slice(frame);
            }
        }
    }
}

fn collect_strip(mask: bool, episodes: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk that is measured");
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(&Strip::new(mask), dir.path(), Request::episodes(episodes), control).expect("collects");
    dir
}

/// A side of the frames of `Around`.
const WIDE: usize = 128;
const LONG: usize = 500;
const AROUND_BYTES: u64 = ((LONG + 1) * WIDE * WIDE * 3) as u64;

/// An agent that turns to and fro among views of its own, while a block moves through the picture.
struct Around {
    views: usize,
    /// Whether views have grain, which no codec foresees, or are tiles with a slope.
    grain: bool,
    codec: Codec,
}

impl EpisodeSource for Around {
    fn header(&self) -> DatasetHeader {
        let config = serde_json::json!({"views": self.views, "grain": self.grain});
        DatasetHeader { env_id: "Around-v0".to_owned(), config, ..Strip::new(false).header() }
    }

    fn columns(&self) -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations("observations", Dtype::U8, &[WIDE, WIDE, 3]),
            ColumnSpec::steps("actions", Dtype::I8, &[2]),
        ]
    }

    fn length(&self) -> Length {
        Length::Fixed(LONG)
    }

    fn codec(&self) -> Codec {
        self.codec
    }

    fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
        let mut rng = stream(Seed(0), Purpose::World, k);
        let views: Vec<Vec<u8>> = (0..self.views)
            .map(|_| {
                let [wide, high, base] = [3..100, 5..94, 0..64].map(|range| rng.random_range(range));
                let mut pixel = |at: usize| {
                    let (x, y, colour) = (at / 3 % WIDE, at / 3 / WIDE, at % 3);
                    let tile = ((x * wide / 640 + y * high / 512) & 1) * 60;
                    let grain = if self.grain { rng.random_range(0..8) } else { 0 };
                    (base + tile + y / 2 + 17 * colour + grain) as u8
                };
                (0..WIDE * WIDE * 3).map(&mut pixel).collect()
            })
            .collect();
        let mut view = 0;
        for t in 0..=LONG {
            view = (view + [0, 1, views.len() - 1, views.len() / 2][rng.random_range(0..4)]) % views.len();
            let frame = episode.row_mut::<u8>(0, t);
            frame.copy_from_slice(&views[view]);
            let [x, y] = [3 * t, 2 * t].map(|at| (at % 200).abs_diff(100));
            for row in y..y + 20 {
                for (i, pixel) in frame[(row * WIDE + x) * 3..][..60].chunks_exact_mut(3).enumerate() {
                    pixel.copy_from_slice(&[200, 5 * i as u8, 30]);
                }
            }
        }
    }
}

fn arounds() -> Vec<(String, Around)> {
    let kinds = [(16, true), (64, false)];
    let codecs = [Codec::Raw, Codec::Zstd(Zstd::default())];
    let all = kinds.into_iter().flat_map(|kind| codecs.map(|codec| (kind, codec)));
    let named = |((views, grain), codec): ((usize, bool), Codec)| {
        let kind = if grain { "grain" } else { "plain" };
        (format!("{}_{views}_{kind}_views", codec.name()), Around { views, grain, codec })
    };
    all.map(named).collect()
}

fn collect_around(source: &Around, episodes: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk that is measured");
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(source, dir.path(), Request::episodes(episodes), control).expect("collects");
    dir
}

/// Bytes of frames per second to disk, raw and packed.
fn packing(c: &mut Criterion) {
    let mut group = c.benchmark_group("dataset/collect_128x128x3");
    let episodes = 20;
    group.sample_size(10).throughput(Throughput::Bytes(episodes * AROUND_BYTES));
    for (name, source) in arounds() {
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_with_large_drop(|| collect_around(&source, episodes));
        });
    }
    group.finish();
}

/// Clips per second out of the page cache: batches of 32 windows of 40 and of 140 frames, raw and packed.
fn unpacking(c: &mut Criterion) {
    let mut group = c.benchmark_group("dataset/clips_128x128x3");
    group.sample_size(20).throughput(Throughput::Elements(32));
    for (name, source) in arounds() {
        let dir = collect_around(&source, 20);
        let dataset = Arc::new(Dataset::open(dir.path()).expect("opens"));
        let info = dataset.info();
        eprintln!("{name}: {} bytes a frame, {} unpacked", info.bytes / info.frames, info.row_bytes / info.frames);
        for frames in [40, 140] {
            let clips = Clips::new(dataset.clone(), frames, Seed(1)).expect("episodes are long enough");
            let (mut observations, mut actions, mut next) = (Vec::new(), Vec::new(), 0);
            group.bench_function(BenchmarkId::new(&name, frames), |b| {
                b.iter(|| {
                    clips.batch(&clips.draws(next, 32), &mut observations, &mut actions).expect("undamaged");
                    next += 32;
                    black_box((&observations, &actions));
                });
            });
        }
    }
    group.finish();
}

/// Frames per second to disk, each commit synced.
fn collecting(c: &mut Criterion) {
    let mut group = c.benchmark_group("dataset/collect");
    let episodes = 10_000;
    group.sample_size(10).throughput(Throughput::Elements(episodes * (STEPS as u64 + 1)));
    for (name, mask) in [("1KB_frames", false), ("2KB_frames", true)] {
        // The directory is dropped outside the time that is taken.
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_with_large_drop(|| collect_strip(mask, episodes));
        });
    }
    group.finish();
}

/// Clips per second out of the page cache: batches of 32 windows of 70 frames.
fn sampling(c: &mut Criterion) {
    let dir = collect_strip(false, 2_000);
    let dataset = Arc::new(Dataset::open(dir.path()).expect("opens"));
    let mut group = c.benchmark_group("dataset/clips");
    group.throughput(Throughput::Elements(32));
    for frames in [STEPS + 1, 20] {
        let clips = Clips::new(dataset.clone(), frames, Seed(1)).expect("episodes are long enough");
        let (mut observations, mut actions, mut next) = (Vec::new(), Vec::new(), 0);
        group.bench_function(BenchmarkId::from_parameter(format!("{frames}x32x32")), |b| {
            b.iter(|| {
                clips.batch(&clips.draws(next, 32), &mut observations, &mut actions).expect("undamaged");
                next += 32;
                black_box((&observations, &actions));
            });
        });
    }
    group.finish();
}

/// Bytes per second of a full verification.
fn verifying(c: &mut Criterion) {
    let dir = collect_strip(true, 2_000);
    let bytes = Dataset::open(dir.path()).expect("opens").info().bytes;
    let mut group = c.benchmark_group("dataset/verify");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("full", |b| b.iter(|| verify(dir.path(), true).expect("reads")));
    group.finish();
}

criterion_group!(benches, collecting, sampling, verifying, packing, unpacking);
criterion_main!(benches);
