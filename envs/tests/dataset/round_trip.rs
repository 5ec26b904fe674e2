//! What is recorded comes back, and the bytes depend on the source alone.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use envs::dataset::{
    Codec, ColumnSpec, Control, Dataset, DatasetError, DatasetHeader, Dtype, EpisodeBuffer, EpisodeSource, Length,
    Progress, RecordedEpisode, Request, Zstd, collect,
};
use rand::Rng as _;
use simulators::rng::{Purpose, Seed, stream};

use crate::toy::{COLUMNS, PACKED, Toy, collect_toy, contents, request, undisturbed};

fn assert_holds(dataset: &Dataset, source: &Toy) {
    for (k, episode) in dataset.episodes().enumerate() {
        let truth = RecordedEpisode::new(source, k as u64).unwrap();
        assert_eq!(episode.number(), k as u64);
        assert_eq!(episode.steps(), truth.steps());
        assert_eq!(episode.frames(), truth.steps() + 1);
        macro_rules! same {
            ($number:ty, $name:expr) => {
                assert_eq!(episode.column::<$number>($name).unwrap(), truth.column::<$number>($name), "{}", $name)
            };
        }
        same!(u8, COLUMNS[0]);
        same!(i8, COLUMNS[1]);
        same!(f32, COLUMNS[2]);
        same!(u8, COLUMNS[3]);
        same!(i16, COLUMNS[4]);
        same!(f64, COLUMNS[5]);
        same!(i32, COLUMNS[6]);
        same!(i64, COLUMNS[7]);
    }
}

#[test]
fn episodes_of_any_length_come_back() {
    let dir = tempfile::tempdir().unwrap();
    for source in [Toy::varied(), Toy::fixed(5), Toy::fixed(0)].into_iter().flat_map(Toy::in_both_codecs) {
        let dir = dir.path().join(format!("{:?} {}", source.length, source.codec.name()));
        let outcome = collect_toy(&source, &dir, 30).unwrap();
        assert_eq!((outcome.before.episodes, outcome.now.episodes, outcome.stopped), (0, 30, false));
        let dataset = Dataset::open(&dir).unwrap();
        assert_holds(&dataset, &source);
        assert_eq!(dataset.len(), 30);
        assert!(dataset.episode(29).is_some() && dataset.episode(30).is_none());
        assert_eq!(dataset.episode(17).unwrap().number(), 17);
        let info = dataset.info();
        assert_eq!((info.episodes, info.shards, info.frames), (30, 8, info.steps + 30));
        assert_eq!(info.bytes, outcome.now.bytes);
        assert_eq!(info.longest, source.length.longest() as u64);
        // 16 of a frame, 6 and 8 of its truth; 2, 4 and 1 of a step; 12 and 8 of an episode.
        assert_eq!(info.row_bytes, 30 * info.frames + 7 * info.steps + 20 * info.episodes);
    }
}

#[test]
fn the_default_shard_size_holds_many_episodes() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(&Toy::varied(), dir.path(), Request::episodes(500), control).unwrap();
    assert_eq!(Dataset::open(dir.path()).unwrap().info().shards, 1);
    // Continuing keeps the size that the dataset has, whatever the default would be.
    collect(&Toy::varied(), dir.path(), Request::episodes(600), control).unwrap();
    assert_holds(&Dataset::open(dir.path()).unwrap(), &Toy::varied());
}

#[test]
fn bytes_do_not_depend_on_threads() {
    for source in Toy::varied().in_both_codecs() {
        let truth = undisturbed(&source, 42);
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| undisturbed(&source, 42)) == truth, "{threads} threads");
        }
    }
}

#[test]
fn bytes_do_not_depend_on_stops() {
    for source in Toy::varied().in_both_codecs() {
        assert_stops_do_not_matter(&source);
    }
}

fn assert_stops_do_not_matter(source: &Toy) {
    let truth = undisturbed(source, 42);
    let dir = tempfile::tempdir().unwrap();
    for round in 0.. {
        let stop = AtomicBool::new(false);
        let commits = AtomicBool::new(false);
        let watch = |_: Progress| {
            // Called once before the first commit of a round; stop at the one after.
            if commits.swap(true, Ordering::Relaxed) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let outcome = collect(source, dir.path(), request(42), Control { stop: &stop, progress: &watch }).unwrap();
        assert!(outcome.now.episodes > outcome.before.episodes && round < 20);
        assert_holds(&Dataset::open(dir.path()).unwrap(), source);
        if !outcome.stopped {
            break;
        }
    }
    assert!(contents(dir.path()) == truth);
    let again = collect_toy(source, dir.path(), 42).unwrap();
    assert_eq!(again.before, again.now);
    assert!(contents(dir.path()) == truth);
}

#[test]
fn a_raised_flag_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control { stop: &AtomicBool::new(true), progress: &|_| {} };
    let outcome = collect(&Toy::varied(), dir.path(), request(42), control).unwrap();
    assert!(outcome.stopped && outcome.now.episodes == 0);
    let error = Dataset::open(dir.path()).err().unwrap();
    assert!(matches!(error, DatasetError::NothingCommitted { requested: 42, .. }), "{error}");
}

#[test]
fn bytes_do_not_depend_on_extensions() {
    for source in Toy::varied().in_both_codecs() {
        let dir = tempfile::tempdir().unwrap();
        for episodes in [1, 2, 10, 12, 33, 42] {
            collect_toy(&source, dir.path(), episodes).unwrap();
            assert!(contents(dir.path()) == undisturbed(&source, episodes), "{episodes} episodes");
        }
    }
}

#[test]
fn another_seed_is_another_dataset() {
    let digest = |source: &Toy| {
        let dir = tempfile::tempdir().unwrap();
        collect_toy(source, dir.path(), 9).unwrap();
        Dataset::open(dir.path()).unwrap().digest()
    };
    assert_eq!(digest(&Toy::varied()), digest(&Toy::varied()));
    assert_ne!(digest(&Toy::varied()), digest(&Toy { seed: 4, ..Toy::varied() }));
}

#[test]
fn another_source_is_refused_field_by_field() {
    let dir = tempfile::tempdir().unwrap();
    collect_toy(&Toy::varied(), dir.path(), 9).unwrap();
    let before = contents(dir.path());
    let other = Toy { seed: 4, gain: 0.3, ..Toy::varied() };
    let text = collect_toy(&other, dir.path(), 9).unwrap_err().to_string();
    assert!(text.contains("source.seed: 3 on disk, 4 asked for"), "{text}");
    assert!(text.contains("source.config.gain: 0.1 on disk, 0.3 asked for"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
    let text = collect_toy(&Toy::varied(), dir.path(), 8).unwrap_err().to_string();
    assert!(text.contains("episodes = 8") && text.contains("has 9 episodes"), "{text}");
    assert!(contents(dir.path()) == before);
}

#[test]
fn a_dataset_keeps_the_codec_it_was_begun_with() {
    let root = tempfile::tempdir().unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    let collect = |dir: &str, codec, episodes| {
        let request = Request { codec, ..request(episodes) };
        collect(&Toy::varied(), &root.path().join(dir), request, control)
    };
    collect("raw", None, 5).unwrap();
    collect("packed", Some(PACKED), 5).unwrap();
    for (dir, asked, fields) in
        [("raw", PACKED, "codec: \"raw\" on disk, {\"zstd\":"), ("packed", Codec::Raw, "}} on disk, \"raw\" asked")]
    {
        let text = collect(dir, Some(asked), 9).unwrap_err().to_string();
        assert!(text.contains(fields) && text.contains("codec: "), "{text}");
    }
    // Nobody asks for another, or for other settings of the same.
    collect("raw", None, 14).unwrap();
    collect("packed", None, 9).unwrap();
    collect("packed", Some(Codec::Zstd(Zstd::default())), 14).unwrap();
    assert!(contents(&root.path().join("raw")) == undisturbed(&Toy::varied(), 14));
    assert!(contents(&root.path().join("packed")) == undisturbed(&Toy::varied().packed(), 14));
    for (codec, field) in [
        (Zstd { level: 23, block_bytes: 48 }, "codec.zstd.level"),
        (Zstd { level: 1, block_bytes: 0 }, "codec.zstd.block_bytes"),
    ] {
        let text = collect("new", Some(Codec::Zstd(codec)), 5).unwrap_err().to_string();
        assert!(text.contains(field), "{text}");
    }
    assert!(!root.path().join("new").exists());
}

#[test]
fn frames_that_were_seen_before_take_next_to_nothing() {
    /// Looks at one of four noisy frames after the other.
    struct Around;

    impl EpisodeSource for Around {
        fn header(&self) -> DatasetHeader {
            DatasetHeader { env_id: "Around-v0".to_owned(), ..Toy::varied().header() }
        }

        fn columns(&self) -> Vec<ColumnSpec> {
            vec![ColumnSpec::observations("observations", Dtype::U8, &[64, 64, 3])]
        }

        fn length(&self) -> Length {
            Length::Fixed(199)
        }

        fn codec(&self) -> Codec {
            Codec::Zstd(Zstd::default())
        }

        fn record(&self, k: u64, episode: &mut EpisodeBuffer<'_>) {
            for t in 0..200 {
                stream(Seed(k), Purpose::World, t as u64 % 4).fill_bytes(episode.row_mut(0, t));
            }
        }
    }

    let dir = tempfile::tempdir().unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    collect(&Around, dir.path(), Request::episodes(3), control).unwrap();
    let dataset = Dataset::open(dir.path()).unwrap();
    for (k, episode) in dataset.episodes().enumerate() {
        let recorded = RecordedEpisode::new(&Around, k as u64).unwrap();
        assert_eq!(episode.column::<u8>("observations").unwrap(), recorded.column::<u8>("observations"));
    }
    // Four frames of noise an episode, and the whole episode is one block.
    let (stored, noise) = (dataset.info().bytes, 3 * 4 * 64 * 64 * 3);
    assert!(stored < noise + noise / 10, "{stored} bytes, {noise} of noise");
    // These bytes are what this version of zstd makes of them. Another makes others, and could not go on with a dataset.
    assert_eq!(dataset.digest(), "95a72d7661e701a4f34403d4f6f3508c02d3834808ebd590f685100559ed161a");
}

#[test]
fn a_source_that_fails_loses_its_shard_only() {
    let dir = tempfile::tempdir().unwrap();
    let text = collect_toy(&Toy { broken: Some(13), ..Toy::varied() }, dir.path(), 42).unwrap_err().to_string();
    assert_eq!(text, "episode 13 of seed 3 could not be recorded: reward is NaN at step 3");
    let dataset = Dataset::open(dir.path()).unwrap();
    assert_eq!(dataset.len(), 12);
    assert_holds(&dataset, &Toy::varied());
    collect_toy(&Toy::varied(), dir.path(), 42).unwrap();
    assert!(contents(dir.path()) == undisturbed(&Toy::varied(), 42));
}

#[test]
fn a_reader_beside_the_writer_sees_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let seen = Mutex::new(Vec::new());
    let watch = |progress: Progress| {
        if progress.episodes > 0 {
            let dataset = Dataset::open(dir.path()).unwrap();
            assert_holds(&dataset, &Toy::varied());
            assert_eq!(dataset.len() as u64, progress.episodes);
            seen.lock().unwrap().push(progress.episodes);
        }
    };
    let control = Control { stop: &AtomicBool::new(false), progress: &watch };
    collect(&Toy::varied(), dir.path(), request(10), control).unwrap();
    assert_eq!(*seen.lock().unwrap(), [4, 8, 10]);
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let refusals = Mutex::new(Vec::new());
    let watch = |_: Progress| {
        let refused = collect_toy(&Toy::varied(), dir.path(), 10).unwrap_err();
        assert!(matches!(refused, DatasetError::Locked(_)), "{refused}");
        refusals.lock().unwrap().push(refused.to_string());
    };
    let control = Control { stop: &AtomicBool::new(false), progress: &watch };
    collect(&Toy::varied(), dir.path(), request(10), control).unwrap();
    let refusals = refusals.into_inner().unwrap();
    assert_eq!(refusals.len(), 4);
    let process = format!("process {} on ", std::process::id());
    assert!(refusals.iter().all(|text| text.contains(&process)), "{refusals:?}");
    collect_toy(&Toy::varied(), dir.path(), 11).unwrap();
}

#[test]
fn each_kind_of_wrong_path_has_its_own_message() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| Dataset::open(path).err().unwrap().to_string();
    let missing = open(&dir.path().join("nowhere"));
    let empty = open(dir.path());
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let foreign = open(dir.path());
    let plain = open(&file);
    assert!(missing.contains("nowhere: no such directory"), "{missing}");
    assert!(empty.contains("is an empty directory"), "{empty}");
    assert!(foreign.contains("has no dataset.json"), "{foreign}");
    assert!(plain.contains("it is a file"), "{plain}");

    let refused = collect_toy(&Toy::varied(), dir.path(), 4).unwrap_err().to_string();
    assert!(refused.contains("it holds file and no dataset.json"), "{refused}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is written into a foreign directory");

    let data = dir.path().join("späte data\n2");
    collect_toy(&Toy::varied(), &data, 4).unwrap();
    Dataset::open(&data).unwrap();
    let json = data.join("dataset.json");
    let text = fs::read_to_string(&json).unwrap();
    fs::write(&json, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert!(open(&data).contains("dataset format 2"), "{}", open(&data));
    fs::write(&json, text.replace("\"codec\"", "\"kodec\"")).unwrap();
    assert!(open(&data).contains("kodec"), "{}", open(&data));
    fs::write(&json, text.replace("\"raw\"", "\"lz4\"")).unwrap();
    assert!(open(&data).contains("unknown variant `lz4`, expected `raw` or `zstd`"), "{}", open(&data));
    fs::write(&json, &text[..text.len() / 2]).unwrap();
    assert!(open(&data).contains("line"), "{}", open(&data));
}

#[test]
fn a_column_is_asked_for_by_its_name_and_type() {
    let dir = tempfile::tempdir().unwrap();
    collect_toy(&Toy { length: Length::Fixed(3), ..Toy::varied() }, dir.path(), 4).unwrap();
    let dataset = Dataset::open(dir.path()).unwrap();
    let episode = dataset.episode(0).unwrap();
    let text = episode.column::<u8>("observation").unwrap_err().to_string();
    assert!(text.contains("no column `observation`") && text.contains("truth.camera"), "{text}");
    let text = episode.column::<f32>("observations").unwrap_err().to_string();
    assert_eq!(text, "column `observations` holds U8, not F32");
}
