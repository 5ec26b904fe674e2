//! What arrives: numbers by hand, rows that line up, numbers of episodes, and a dataset like any other.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use envs::dataset::{Control, Dataset, EpisodeSource, Length, RecordedEpisode, Request, collect, verify};
use envs::import::tdmpc2::{Keep, Tdmpc2};

use crate::torch_save::{Tensor, counter, file, tensors, with_a_hole};
use crate::{NEW, OLD, fixture, open, read_all};

#[test]
fn both_tensordicts_arrive_with_rows_that_line_up() {
    for (name, first, episodes) in [(OLD, 0u8, 4u8), (NEW, 4, 3)] {
        let read = read_all(&fixture(name)).unwrap();
        assert_eq!(read.len(), usize::from(episodes), "{name}");
        for (episode, e) in read.iter().zip(first..) {
            let (task, e) = (e % 2, f32::from(e));
            let second = if task == 1 { 1.0 } else { 0.0 };
            assert_eq!(episode.steps(), 3);
            let observations: Vec<f32> =
                [0.0, 1.0, 2.0, 3.0].iter().flat_map(|t| [100.0 * e + t, second * t / 4.0, 0.0]).collect();
            assert_eq!(episode.column::<f32>("observations"), observations);
            // Step t has the action and the reward that led to observation t + 1.
            let actions: Vec<f32> =
                [1.0, 2.0, 3.0].iter().flat_map(|t| [t / 8.0 - e, second * (e + t / 16.0)]).collect();
            assert_eq!(episode.column::<f32>("actions"), actions);
            assert_eq!(episode.column::<f32>("rewards"), [10.0 * e + 1.0, 10.0 * e + 2.0, 10.0 * e + 3.0]);
            assert_eq!(episode.column::<u8>("terminations"), [0, 0, 0]);
            assert_eq!(episode.column::<u8>("truncations"), [0, 0, 1]);
            assert_eq!(episode.column::<i32>("task"), [i32::from(task)]);
        }
        assert_eq!(open(&[fixture(name)]).unwrap().unread(), ["episode"]);
    }
}

#[test]
fn a_plain_dict_arrives_too() {
    let dir = tempfile::tempdir().unwrap();
    let read = read_all(&file(dir.path(), "a.pt", &tensors(&counter(5, 3)))).unwrap();
    assert_eq!(read.len(), 5);
    assert_eq!(read[4].column::<f32>("observations"), [40.0, 0.0, 41.0, 0.0, 42.0, 0.0]);
    assert_eq!(read[4].column::<f32>("actions"), [-1.0, -2.0]);
    assert_eq!(read[4].column::<f32>("rewards"), [0.5, 1.0]);
    assert_eq!(read[4].column::<i32>("task"), [1]);
}

#[test]
fn numbers_may_lie_anywhere_and_be_of_other_types() {
    let dir = tempfile::tempdir().unwrap();
    let plain = read_all(&file(dir.path(), "plain.pt", &tensors(&counter(3, 4)))).unwrap();
    let [mut obs, mut action, mut reward, mut task] = counter(3, 4);
    // Time first, as a simulator of many envs would have it.
    let numbers = |tensor: &Tensor| tensor.data.as_chunks::<4>().0.to_vec();
    let old = numbers(&obs);
    let at = |e: usize, t: usize, c: usize| old[(e * 4 + t) * 2 + c];
    obs.data = (0..4)
        .flat_map(|t| (0..3).flat_map(move |e| (0..2).map(move |c| (e, t, c))))
        .flat_map(|(e, t, c)| at(e, t, c))
        .collect();
    obs.strides = vec![2, 6, 1];
    // After other numbers, in double precision.
    let doubles = numbers(&action).into_iter().map(f32::from_le_bytes).map(f64::from);
    action.data = [7.0; 5].into_iter().chain(doubles).flat_map(f64::to_le_bytes).collect();
    (action.class, action.numbers, action.offset) = ("DoubleStorage", 17, 5);
    // With an axis more.
    reward.shape.push(1);
    reward.strides.push(1);
    // One number for each episode, repeated.
    (task.class, task.numbers, task.strides) = ("ByteStorage", 3, vec![1, 0]);
    task.data = vec![0, 1, 2];
    let moved = read_all(&file(dir.path(), "moved.pt", &tensors(&[obs, action, reward, task]))).unwrap();
    for (moved, plain) in moved.iter().zip(&plain) {
        for name in ["observations", "actions", "rewards"] {
            assert_eq!(moved.column::<f32>(name), plain.column::<f32>(name), "{name}");
        }
        assert_eq!(moved.column::<i32>("task"), plain.column::<i32>("task"));
    }
    assert_eq!(moved.len(), plain.len());
}

#[test]
fn first_rows_may_be_nan_or_zero_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for (first, ok) in [(f32::NAN, true), (0.0, true), (0.5, false), (f32::INFINITY, false)] {
        let mut saved = counter(1, 3);
        saved[2].data[..4].copy_from_slice(&first.to_le_bytes());
        let read = read_all(&file(dir.path(), "first.pt", &tensors(&saved)));
        assert_eq!(read.is_ok(), ok, "{first}");
        if let Err(error) = read {
            assert!(error.contains("first.pt, episode 0 of it: its first reward is"), "{error}");
        }
    }
}

#[test]
fn episodes_are_numbered_over_all_files_and_make_one_dataset() {
    let dir = tempfile::tempdir().unwrap();
    let source = open(&[fixture(OLD), fixture(NEW)]).unwrap();
    assert_eq!((source.episodes(), source.length()), (7, Length::Fixed(3)));
    let request = Request { episodes: 7, episodes_per_shard: Some(2), codec: None };
    let collected = |folder: &str, stop: &AtomicBool, progress: &(dyn Fn(envs::dataset::Progress) + Sync)| {
        collect(&source, &dir.path().join(folder), request, Control { stop, progress }).unwrap()
    };
    assert!(!collected("at_once", &AtomicBool::new(false), &|_| {}).stopped);
    let dataset = Dataset::open(&dir.path().join("at_once")).unwrap();
    let starts: Vec<(u64, f32)> = dataset
        .episodes()
        .map(|episode| (episode.number(), episode.column::<f32>("observations").unwrap()[0]))
        .collect();
    assert_eq!(starts, (0..7u8).map(|e| (u64::from(e), 100.0 * f32::from(e))).collect::<Vec<_>>());
    assert!(verify(dataset.dir(), true).unwrap().damage.is_empty());
    // Stopped after the first shard, and gone on with.
    let stop = AtomicBool::new(false);
    let first = collected("stopped", &stop, &|done| stop.store(done.episodes > 0, Ordering::Relaxed));
    assert!(first.now.episodes > 0);
    assert!(!collected("stopped", &AtomicBool::new(false), &|_| {}).stopped);
    assert_eq!(Dataset::open(&dir.path().join("stopped")).unwrap().digest(), dataset.digest());
    // Other files are another dataset.
    let other = open(&[fixture(NEW), fixture(OLD)]).unwrap();
    let control = Control { stop: &AtomicBool::new(false), progress: &|_| {} };
    assert!(collect(&other, dataset.dir(), request, control).unwrap_err().to_string().contains("files.0.name"));
}

#[test]
fn one_task_is_kept_without_its_padding() {
    let keep = Keep { task: Some(0), observation: Some(1), action: Some(1) };
    let source = Tdmpc2::open(&[fixture(OLD), fixture(NEW)], keep).unwrap();
    let starts: Vec<f32> = (0..source.episodes())
        .map(|k| RecordedEpisode::new(&source, k).unwrap())
        .map(|episode| {
            assert_eq!((episode.column::<i32>("task"), episode.column::<f32>("actions").len()), (&[0][..], 3));
            assert_eq!(episode.column::<f32>("observations").len(), 4);
            episode.column::<f32>("observations")[0]
        })
        .collect();
    assert_eq!(starts, [0.0, 200.0, 400.0, 600.0]);
    // Task 1 has numbers there.
    let keep = Keep { task: Some(1), ..keep };
    let source = Tdmpc2::open(&[fixture(OLD)], keep).unwrap();
    let error = RecordedEpisode::new(&source, 0).err().unwrap().to_string();
    assert!(error.contains("component 1 of row 0 of actions is 1.0625: it is no padding"), "{error}");
    let none = Tdmpc2::open(&[fixture(OLD)], Keep { task: Some(9), ..Keep::default() }).err().unwrap();
    assert_eq!(none.to_string(), "no episode to import: none is of task 9");
}

#[test]
fn files_may_have_episodes_of_different_lengths() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> =
        [3, 6].map(|entries| file(dir.path(), &format!("{entries}.pt"), &tensors(&counter(2, entries)))).to_vec();
    let source = open(&paths).unwrap();
    assert_eq!(source.length(), Length::AtMost(5));
    let steps: Vec<usize> = (0..4).map(|k| RecordedEpisode::new(&source, k).unwrap().steps()).collect();
    assert_eq!(steps, [2, 2, 5, 5]);
    let short = RecordedEpisode::new(&source, 1).unwrap();
    assert_eq!(short.column::<f32>("observations"), [10.0, 0.0, 11.0, 0.0, 12.0, 0.0]);
    assert_eq!(short.column::<u8>("truncations"), [0, 1]);
}

#[test]
fn numbers_beyond_four_gigabytes_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut saved = counter(2, 4);
    let plain = read_all(&file(dir.path(), "plain.pt", &tensors(&saved))).unwrap();
    let data = saved[0].data.clone();
    saved[0].offset = 3 << 29;
    saved[0].numbers = saved[0].offset + 16;
    let path = dir.path().join("large.pt");
    with_a_hole(&path, &saved, saved[0].offset as u64 * 4, &data).unwrap();
    let large = read_all(&path).unwrap();
    assert_eq!(large.len(), 2);
    for (large, plain) in large.iter().zip(&plain) {
        assert_eq!(large.column::<f32>("observations"), plain.column::<f32>("observations"));
        assert_eq!(large.column::<f32>("actions"), plain.column::<f32>("actions"));
    }
}
