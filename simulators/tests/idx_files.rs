//! The idx reader on good files and on hostile ones: a bank or a clear error, never a panic, never much memory.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use simulators::digits::{DigitBank, DigitError, Split};
use std::io::Write;
use std::path::{Path, PathBuf};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn header(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// 40 images of 10 x 10 pixels; pixel `j` of image `i` is `i + j`, its label `i / 2 % 10`, so that both splits have all.
fn images() -> Vec<u8> {
    let pixels = (0..40_u8).flat_map(|i| (0..100).map(move |j| i + j));
    header(&[0x803, 40, 10, 10]).into_iter().chain(pixels).collect()
}

fn labels() -> Vec<u8> {
    header(&[0x801, 40]).into_iter().chain((0..40).map(|i| i / 2 % 10)).collect()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new(images: &[u8], labels: &[u8]) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        std::fs::write(files.path("images"), images).unwrap();
        std::fs::write(files.path("labels"), labels).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, side: usize, split: Split) -> Result<DigitBank, DigitError> {
        DigitBank::from_idx(&self.path("images"), &self.path("labels"), side, split)
    }
}

#[test]
fn packed_or_not_the_bank_is_the_same() {
    let bank = Files::new(&images(), &labels()).read(10, Split::All).unwrap();
    assert_eq!(bank, Files::new(&gzip(&images()), &labels()).read(10, Split::All).unwrap());
    assert_eq!(bank, Files::new(&images(), &gzip(&labels())).read(10, Split::All).unwrap());
    assert_eq!((bank.len(), bank.side()), (40, 10));
    assert_eq!(bank.patch(7)[..10], [7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    assert_eq!(bank.patch(7)[32..42], [17, 18, 19, 20, 21, 22, 23, 24, 25, 26]);
    assert!(bank.patch(7)[10..32].iter().all(|&v| v == 0));
}

#[test]
fn splits_take_turns() {
    let files = Files::new(&images(), &labels());
    let (train, validation) = (files.read(10, Split::Train).unwrap(), files.read(10, Split::Validation).unwrap());
    assert_eq!((train.len(), validation.len()), (20, 20));
    assert_eq!((train.patch(3)[0], validation.patch(3)[0]), (6, 7));
}

#[test]
fn resampling_keeps_the_mean() {
    let bank = Files::new(&images(), &labels()).read(16, Split::All).unwrap();
    let mean = bank.patch(5).iter().map(|&v| f64::from(v)).sum::<f64>() / 256.0;
    assert!((mean - (5.0 + 49.5)).abs() < 0.2, "{mean}");
}

#[test]
fn each_fault_names_file_and_field() {
    let (good_images, good_labels) = (images(), labels());
    let cut = |bytes: &[u8], by: usize| bytes[..bytes.len() - by].to_vec();
    let patched = |bytes: &[u8], at: usize, word: u32| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
        bytes
    };
    let with_label = |at: usize, label: u8| {
        let mut bytes = labels();
        bytes[8 + at] = label;
        bytes
    };
    let longer = |bytes: &[u8]| [bytes, &[0]].concat();
    let bomb = gzip(&[good_images.clone(), vec![0; 50_000_000]].concat());
    let mut bad_checksum = gzip(&good_images);
    let end = bad_checksum.len() - 6;
    bad_checksum[end] ^= 1;
    let giant = gzip(&[header(&[0x803, 300_000, 30, 30]), vec![0; 300_000_000]].concat());
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("images ends inside `magic number`", vec![], good_labels.clone()),
        ("images: `magic number` is 2049, allowed: 2051 (idx images)", good_labels.clone(), good_labels.clone()),
        ("labels: `magic number` is 2051, allowed: 2049 (idx labels)", good_images.clone(), good_images.clone()),
        ("images ends inside `columns`", good_images[..13].to_vec(), good_labels.clone()),
        ("images: `number of images` is 0, allowed: 1..=300000", patched(&good_images, 4, 0), good_labels.clone()),
        ("images: `number of images` is 4294967295", patched(&good_images, 4, u32::MAX), good_labels.clone()),
        ("images: `rows` is 257, allowed: 1..=256", patched(&good_images, 8, 257), good_labels.clone()),
        ("images: `columns` is 0", patched(&good_images, 12, 0), good_labels.clone()),
        (
            "images: `size by the header (41 items of 100 bytes)` is 4116",
            patched(&good_images, 4, 41),
            good_labels.clone(),
        ),
        ("images: `size by the header (300000 items", gzip(&patched(&good_images, 4, 300_000)), good_labels.clone()),
        ("images: `size by the header", cut(&good_images, 1), good_labels.clone()),
        ("images ends inside `image 39`", gzip(&cut(&good_images, 1)), good_labels.clone()),
        ("cannot read", cut(&gzip(&good_images), 4), good_labels.clone()),
        ("cannot read", bad_checksum, good_labels.clone()),
        ("images goes on after the 40 items", longer(&good_images), good_labels.clone()),
        ("images goes on after the 40 items", bomb, good_labels.clone()),
        ("(300000 items of 900 bytes)` is 270000016, allowed: at most 268435456", giant, good_labels.clone()),
        ("labels goes on after the 40 items", good_images.clone(), longer(&good_labels)),
        ("labels: `number of labels` is 39, allowed: 40", good_images.clone(), patched(&good_labels, 4, 39)),
        ("labels: `label 17` is 10, allowed: 0..=9", good_images.clone(), with_label(17, 10)),
    ];
    for (message, images, labels) in cases {
        let refused = Files::new(&images, &labels).read(10, Split::All).unwrap_err().to_string();
        assert!(refused.contains(message), "{refused}, expected: {message}");
    }
}

#[test]
fn a_label_without_images_is_refused() {
    let none_of_3: Vec<u8> =
        header(&[0x801, 40]).into_iter().chain((0..40).map(|i| [0, 1, 2, 4, 4, 5, 6, 7, 8, 9][i / 2 % 10])).collect();
    let refused = Files::new(&images(), &none_of_3).read(10, Split::Train).unwrap_err().to_string();
    assert!(refused.ends_with("labels: no image of label 3 in the Train split"), "{refused}");
}

#[test]
fn what_is_not_a_file_is_refused() {
    let files = Files::new(&images(), &labels());
    let read =
        |images: &Path| DigitBank::from_idx(images, &files.path("labels"), 10, Split::All).unwrap_err().to_string();
    assert!(read(files.0.path()).ends_with("is not a regular file"));
    assert!(read(&files.path("missing")).starts_with("cannot read"));
    for side in [0, 7, 33] {
        let refused = files.read(side, Split::All).unwrap_err().to_string();
        assert_eq!(refused, format!("digit side is {side}, allowed: 8..=32"));
    }
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        packed: bool, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<prop::sample::Index>(), cut: bool,
    ) {
        let mut bytes = if packed { gzip(&images()) } else { images() };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        let files = Files::new(&bytes, &bytes);
        let _ = files.read(10, Split::All);
        std::fs::write(files.path("labels"), labels()).unwrap();
        if let Ok(bank) = files.read(10, Split::Train) {
            prop_assert_eq!(bank.len(), 20);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Files::new(&bytes, &labels()).read(10, Split::All).is_err());
    }
}
