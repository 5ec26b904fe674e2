//! Recording to disk, and clips back from it: 32 x 32 frames of a world that costs next to nothing.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use envs::dataset::{
    Clips, ColumnSpec, Control, Dataset, DatasetHeader, Dtype, EpisodeBuffer, EpisodeSource, Length, Request, collect,
    verify,
};
use rand::Rng as _;
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

criterion_group!(benches, collecting, sampling, verifying);
criterion_main!(benches);
