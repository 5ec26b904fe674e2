//! Where MNIST World's digits come from: idx files, or strokes that we draw.

mod glyphs;
mod idx;
mod strokes;

use crate::rng::{Purpose, Rng, Seed, stream};
use rand::RngExt;
use rayon::prelude::*;
use std::path::Path;

pub use idx::{DigitError, Split};

use idx::IdxFile;

/// Smallest side of a patch, pixels.
pub const MIN_SIDE: usize = 8;
/// Largest side of a patch, pixels.
pub const MAX_SIDE: usize = 32;
/// Bytes from one row of a patch to the next: rows are padded with zeros, so that whoever adds patches can take every
/// row as one block of this size.
pub const PATCH_STRIDE: usize = MAX_SIDE;

/// Number of labels, `0..LABELS`.
const LABELS: usize = 10;

/// Digit images of one size with their labels. Every label has at least one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigitBank {
    side: usize,
    /// `[n, side, PATCH_STRIDE]`, 0 paper, 255 ink.
    patches: Vec<u8>,
    /// `[n]`.
    labels: Vec<u8>,
    /// Images of each label, ascending.
    by_label: [Vec<u32>; LABELS],
}

impl DigitBank {
    /// Reads a pair of idx files (MNIST's format), gzip-compressed or not, and keeps the images of `split`, resampled to
    /// `side x side` pixels by area.
    ///
    /// # Errors
    /// Names the file and the field of its header that is at fault. Sizes are checked before anything is allocated.
    pub fn from_idx(images: &Path, labels: &Path, side: usize, split: Split) -> Result<Self, DigitError> {
        Self::from_files([IdxFile::open(images)?, IdxFile::open(labels)?], side, split, labels)
    }

    /// The same, of two files' content. Errors call the files `images` and `labels`.
    ///
    /// # Errors
    /// As [`DigitBank::from_idx`].
    pub fn from_idx_bytes(images: &[u8], labels: &[u8], side: usize, split: Split) -> Result<Self, DigitError> {
        let [images_path, labels_path] = ["images", "labels"].map(Path::new);
        let images = IdxFile::new(images_path, images, images.len() as u64)?;
        let labels = IdxFile::new(labels_path, labels, labels.len() as u64)?;
        Self::from_files([images, labels], side, split, labels_path)
    }

    fn from_files(
        [images, labels]: [IdxFile<'_>; 2],
        side: usize,
        split: Split,
        labels_path: &Path,
    ) -> Result<Self, DigitError> {
        let (patches, kept_labels) = idx::read(images, labels, side, split)?;
        let bank = Self::from_parts(side, patches, kept_labels);
        match bank.by_label.iter().position(Vec::is_empty) {
            Some(label) => Err(DigitError::MissingLabel { path: labels_path.to_owned(), label, split }),
            None => Ok(bank),
        }
    }

    /// Draws `per_label` digits of each label with random strokes. Needs no files; equal seeds give equal bytes on every
    /// platform, and image `i` of a label does not depend on `per_label`.
    ///
    /// # Panics
    /// If `per_label` is 0 or `side` is outside [`MIN_SIDE`]`..=`[`MAX_SIDE`].
    #[must_use]
    pub fn draw(seed: Seed, per_label: usize, side: usize) -> Self {
        assert!(per_label > 0, "a bank needs at least one digit of each label");
        assert!((MIN_SIDE..=MAX_SIDE).contains(&side), "patch side {side} is outside {MIN_SIDE}..={MAX_SIDE}");
        let mut patches = vec![0; LABELS * per_label * side * PATCH_STRIDE];
        patches.par_chunks_exact_mut(side * PATCH_STRIDE).enumerate().for_each(|(i, patch)| {
            let (label, number) = (i / per_label, i % per_label);
            let mut rng = stream(seed, Purpose::Digits, ((label as u64) << 32) | number as u64);
            strokes::draw(label, side, &mut rng, patch);
        });
        let labels = (0..LABELS * per_label).map(|i| (i / per_label) as u8).collect();
        Self::from_parts(side, patches, labels)
    }

    fn from_parts(side: usize, patches: Vec<u8>, labels: Vec<u8>) -> Self {
        let mut by_label: [Vec<u32>; LABELS] = Default::default();
        for (i, &label) in labels.iter().enumerate() {
            by_label[usize::from(label)].push(i as u32);
        }
        Self { side, patches, labels, by_label }
    }

    /// Side of a patch, pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never true: a bank has images of every label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Image `index` with padded rows, `[side, PATCH_STRIDE]`; the columns from `side` on are zero.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn patch(&self, index: usize) -> &[u8] {
        let len = self.side * PATCH_STRIDE;
        &self.patches[index * len..][..len]
    }

    /// Label of image `index`, in `0..10`.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn label(&self, index: usize) -> u8 {
        self.labels[index]
    }

    /// Labels of all images, `[n]`.
    #[must_use]
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// A random image: first the label, uniform over the ten, then one of its images, uniform.
    pub fn pick(&self, rng: &mut Rng) -> usize {
        let images = &self.by_label[rng.random_range(0..LABELS as u32) as usize];
        images[rng.random_range(0..images.len() as u32) as usize] as usize
    }

    /// Mean of the squared pixel value (ink in 0..=1) over all pixels of all images; MNIST has about 0.112.
    #[must_use]
    pub fn mean_square(&self) -> f64 {
        let sum: u64 = self.patches.iter().map(|&v| u64::from(v) * u64::from(v)).sum();
        sum as f64 / (255.0 * 255.0 * (self.len() * self.side * self.side) as f64)
    }
}
