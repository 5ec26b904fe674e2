//! Files that are whole, and not of the layout: each is refused by name, with what would be right.

use std::path::PathBuf;

use envs::import::tdmpc2::{Keep, Tdmpc2};

use crate::torch_save::{Tensor, counter, file, tensors};
use crate::{OLD, fixture, open, read_all};

/// What is said of a file of these tensors, without its name.
fn said_of(saved: &[Tensor]) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let error = read_all(&file(dir.path(), "bad.pt", &tensors(saved))).err().expect("the file is refused");
    let (_, said) = error.split_once("bad.pt").unwrap_or_else(|| panic!("no file named: {error}"));
    said.to_owned()
}

fn changed(change: impl FnOnce(&mut [Tensor; 4])) -> String {
    let mut saved = counter(2, 4);
    change(&mut saved);
    said_of(&saved)
}

#[test]
fn a_key_that_is_missing_is_named_beside_those_there_are() {
    assert_eq!(
        changed(|saved| saved[2].name = "rewards"),
        ": `reward` is missing; the file has action, obs, rewards, task"
    );
    assert_eq!(said_of(&[]), ": `obs` is missing; the file has ");
}

#[test]
fn other_shapes_are_refused() {
    let three = "; expected [episodes, steps + 1, components], none of them 0";
    assert_eq!(
        changed(|saved| (saved[0].shape, saved[0].strides) = (vec![2, 8], vec![8, 1])),
        format!(": `obs` has shape [2, 8]{three}")
    );
    assert_eq!(changed(|saved| saved[1].shape = vec![2, 0, 1]), format!(": `action` has shape [2, 0, 1]{three}"));
    assert_eq!(
        changed(|saved| (saved[2].shape, saved[2].strides) = (vec![2, 2, 2], vec![4, 2, 1])),
        ": `reward` has shape [2, 2, 2]; expected [episodes, steps + 1], none of them 0"
    );
    assert_eq!(
        changed(|saved| (saved[3].shape, saved[3].strides) = (vec![1, 8], vec![8, 1])),
        ": `task` has 1 episodes of 8 entries, `obs` has 2 of 4"
    );
    assert!(said_of(&counter(2, 1)).contains("`obs` has 2 episodes of 1 entries"));
    assert!(changed(|saved| saved[0].strides = vec![1, 2, 8]).contains("components that lie 8 numbers apart"));
}

#[test]
fn other_types_are_refused() {
    assert_eq!(changed(|saved| saved[0].class = "IntStorage"), ": `obs` holds I32; F32 and F64 are read");
    let half = |tensor: &mut Tensor| (tensor.class, tensor.numbers) = ("HalfStorage", tensor.data.len() as i64 / 2);
    assert_eq!(changed(|saved| half(&mut saved[3])), ": `task` holds F16; integers are expected");
}

#[test]
fn an_episode_that_cannot_be_is_named_with_its_file() {
    let set = |tensor: &mut Tensor, index: usize, number: f32| {
        tensor.data[4 * index..4 * index + 4].copy_from_slice(&number.to_le_bytes());
    };
    assert_eq!(
        changed(|saved| set(&mut saved[0], 8 + 2, f32::NAN)),
        ", episode 1 of it: row 1 of observations has NaN, not a finite number"
    );
    assert_eq!(
        changed(|saved| set(&mut saved[1], 7, f32::INFINITY)),
        ", episode 1 of it: row 2 of actions has inf, not a finite number"
    );
    assert_eq!(changed(|saved| saved[3].data[8 * 6] = 2), ", episode 1 of it: it is of task 1, and of task 2");
    assert_eq!(
        changed(|saved| saved[3].data.fill(0xff)),
        ", episode 0 of it: its task is -1; a whole number from 0 on is expected"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        dir.path(),
        "bad.pt",
        &tensors(&{
            let mut saved = counter(2, 4);
            saved[3].data.fill(0xff);
            saved
        }),
    );
    let error = Tdmpc2::open(&[path], Keep { task: Some(1), ..Keep::default() }).err().unwrap().to_string();
    assert!(error.contains("its task is -1"), "{error}");
}

#[test]
fn files_that_do_not_go_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let said = |paths: &[PathBuf]| open(paths).err().unwrap().to_string();
    let copy = dir.path().join("copy.pt");
    std::fs::copy(fixture(OLD), &copy).unwrap();
    assert!(said(&[fixture(OLD), copy.clone()]).contains("copy.pt are the same file"));
    let narrow = file(dir.path(), "narrow.pt", &tensors(&counter(2, 4)));
    assert!(said(&[copy, narrow.clone()]).contains("narrow.pt has observations of 2, "));
    // Without checks in the archive, a file is known by its place.
    let mut unchecked = tensors(&counter(2, 4));
    let directory = unchecked.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let heads: Vec<usize> =
        (directory..unchecked.len() - 4).filter(|&at| unchecked[at..at + 4] == *b"PK\x01\x02").collect();
    for at in heads {
        unchecked[at + 16..at + 20].fill(0);
    }
    let [first, second] = ["1.pt", "2.pt"].map(|name| file(dir.path(), name, &unchecked));
    assert_eq!(open(&[first.clone(), second]).unwrap().episodes(), 4);
    assert!(said(&[first.clone(), first]).contains("the same file"));
    assert_eq!(said(&[]), "no episode to import: no file was given");
    let keep = Keep { observation: Some(3), ..Keep::default() };
    let error = Tdmpc2::open(&[narrow], keep).err().unwrap().to_string();
    assert_eq!(error, "observation = 3: out of range; allowed: 1..=2, what the files have");
}
