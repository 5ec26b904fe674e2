//! Reads MNIST's idx files, gzip-compressed or not, from people we do not trust.
//!
//! A header's claims are checked against the file's size before anything is allocated for them, images are resampled one
//! by one as they are read, and a compressed file is never unpacked further than its header says.

use super::{LABELS, MAX_SIDE, MIN_SIDE, PATCH_STRIDE};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Which images of a file to keep. One file feeds training and validation worlds: MNIST's halves differ in quality, its
/// even and odd images do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Images 0, 2, 4, ...
    Train,
    /// Images 1, 3, 5, ...
    Validation,
    /// Every image.
    All,
}

impl Split {
    fn keeps(self, index: usize) -> bool {
        match self {
            Self::Train => index.is_multiple_of(2),
            Self::Validation => !index.is_multiple_of(2),
            Self::All => true,
        }
    }
}

/// Why idx files could not become a bank.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DigitError {
    /// The patch side asked for is out of range.
    #[error("digit side is {side}, allowed: {MIN_SIDE}..={MAX_SIDE}")]
    Side {
        /// The refused side, pixels.
        side: usize,
    },
    /// The file cannot be opened, read or unpacked.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system or the decompressor said.
        source: io::Error,
    },
    /// The path is a directory, pipe or device.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A header field or a label has a value that it must not have.
    #[error("{path}: `{field}` is {value}, allowed: {allowed}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field at fault.
        field: String,
        /// What the file says.
        value: u64,
        /// What it may say.
        allowed: String,
    },
    /// The file ends before its header says.
    #[error("{path} ends inside `{field}`")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The part that is not complete.
        field: String,
    },
    /// The file goes on after the last image or label.
    #[error("{path} goes on after the {items} items of its header")]
    Trailing {
        /// The file.
        path: PathBuf,
        /// The header's count.
        items: usize,
    },
    /// Digits are drawn by label, so a bank needs each of them.
    #[error("{path}: no image of label {label} in the {split:?} split")]
    MissingLabel {
        /// The file of labels.
        path: PathBuf,
        /// The label without images.
        label: usize,
        /// The images that were kept.
        split: Split,
    },
}

/// `unsigned byte, 3 dimensions` and `unsigned byte, 1 dimension`.
const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;

/// More than the largest public set of digits (280 000 images), and a bank still below 310 MB.
const MAX_ITEMS: usize = 300_000;
/// Largest source image, pixels per side.
const MAX_SOURCE_SIDE: usize = 256;
/// Most bytes that one file may unpack to: again above that largest set (220 MB), and read in a second or two.
const MAX_UNPACKED: u64 = 1 << 28;
/// A deflate stream cannot grow by more than this.
const MAX_INFLATION: u64 = 1032;

/// Patches `[n, side, PATCH_STRIDE]` and labels `[n]` of the images that the split keeps, in file order.
pub(super) fn read(
    mut images: IdxFile<'_>,
    mut label_file: IdxFile<'_>,
    side: usize,
    split: Split,
) -> Result<(Vec<u8>, Vec<u8>), DigitError> {
    if !(MIN_SIDE..=MAX_SIDE).contains(&side) {
        return Err(DigitError::Side { side });
    }
    images.magic(IMAGES_MAGIC)?;
    let items = images.header("number of images", MAX_ITEMS)?;
    let rows = images.header("rows", MAX_SOURCE_SIDE)?;
    let cols = images.header("columns", MAX_SOURCE_SIDE)?;
    images.expect_items(items, rows * cols)?;

    label_file.magic(LABELS_MAGIC)?;
    let label_items = label_file.header("number of labels", MAX_ITEMS)?;
    if label_items != items {
        let allowed = format!("{items}, as many as images in {}", images.path.display());
        return Err(label_file.refuse("number of labels", label_items as u64, allowed));
    }
    label_file.expect_items(items, 1)?;

    let kept = (0..items).filter(|&i| split.keeps(i)).count();
    let mut resampler = Resampler::new(rows, cols, side);
    let mut source = vec![0; rows * cols];
    let mut patches = vec![0; kept * side * PATCH_STRIDE];
    let mut slots = patches.chunks_exact_mut(side * PATCH_STRIDE);
    let mut kept_labels = Vec::with_capacity(kept);
    for i in 0..items {
        images.fill(&mut source, || format!("image {i}"))?;
        let mut label = [0];
        label_file.fill(&mut label, || format!("label {i}"))?;
        if usize::from(label[0]) >= LABELS {
            return Err(label_file.refuse(&format!("label {i}"), u64::from(label[0]), "0..=9".into()));
        }
        if split.keeps(i) {
            resampler.resample(&source, slots.next().expect("as many slots as kept images"));
            kept_labels.push(label[0]);
        }
    }
    images.end(items)?;
    label_file.end(items)?;
    Ok((patches, kept_labels))
}

/// An idx file being read, unpacked on the way if it begins with gzip's magic bytes.
pub(super) struct IdxFile<'a> {
    path: PathBuf,
    bytes: Box<dyn Read + 'a>,
    /// Bytes on disk.
    file_len: u64,
    packed: bool,
    header_len: u64,
}

impl<'a> IdxFile<'a> {
    /// The idx file at `path`.
    pub fn open(path: &Path) -> Result<Self, DigitError> {
        let failed = |source| DigitError::Read { path: path.to_owned(), source };
        // Asked before opening: opening a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(DigitError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(failed)?;
        let file_len = file.metadata().map_err(failed)?.len();
        Self::new(path, BufReader::new(file), file_len)
    }

    /// The idx file with this content, of `file_len` bytes; `path` is what errors call it.
    pub fn new(path: &Path, mut bytes: impl BufRead + 'a, file_len: u64) -> Result<Self, DigitError> {
        let path = path.to_owned();
        // A file may be packed badly, or be nothing but empty members: what it may unpack to bounds it too.
        if file_len > MAX_UNPACKED {
            let (field, allowed) = ("size of the file".to_owned(), format!("at most {MAX_UNPACKED}"));
            return Err(DigitError::Field { path, field, value: file_len, allowed });
        }
        let packed = match bytes.fill_buf() {
            Ok(begin) => begin.starts_with(&[0x1f, 0x8b]),
            Err(source) => return Err(DigitError::Read { path, source }),
        };
        let bytes: Box<dyn Read + 'a> =
            if packed { Box::new(BufReader::new(MultiGzDecoder::new(bytes))) } else { Box::new(bytes) };
        Ok(Self { path, bytes, file_len, packed, header_len: 0 })
    }

    fn refuse(&self, field: &str, value: u64, allowed: String) -> DigitError {
        DigitError::Field { path: self.path.clone(), field: field.to_owned(), value, allowed }
    }

    fn fill(&mut self, buffer: &mut [u8], field: impl Fn() -> String) -> Result<(), DigitError> {
        self.bytes.read_exact(buffer).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => DigitError::Truncated { path: self.path.clone(), field: field() },
            _ => DigitError::Read { path: self.path.clone(), source },
        })
    }

    fn word(&mut self, field: &str) -> Result<u32, DigitError> {
        let mut word = [0; 4];
        self.fill(&mut word, || field.to_owned())?;
        self.header_len += 4;
        Ok(u32::from_be_bytes(word))
    }

    fn magic(&mut self, expected: u32) -> Result<(), DigitError> {
        let found = self.word("magic number")?;
        if found == expected {
            return Ok(());
        }
        let kind = if expected == IMAGES_MAGIC { "idx images" } else { "idx labels" };
        Err(self.refuse("magic number", u64::from(found), format!("{expected} ({kind})")))
    }

    fn header(&mut self, field: &str, largest: usize) -> Result<usize, DigitError> {
        let value = self.word(field)?;
        if (1..=largest as u64).contains(&u64::from(value)) {
            return Ok(value as usize);
        }
        Err(self.refuse(field, u64::from(value), format!("1..={largest}")))
    }

    /// Checks that a file of this size can hold what its header says, and that this is not too much.
    fn expect_items(&self, items: usize, item_len: usize) -> Result<(), DigitError> {
        let claimed = self.header_len + (items * item_len) as u64;
        let possible = if self.packed { self.file_len.saturating_mul(MAX_INFLATION) } else { self.file_len };
        let field = || format!("size by the header ({items} items of {item_len} bytes)");
        if claimed > possible {
            let allowed = format!("at most {possible}, as the file has {} bytes", self.file_len);
            return Err(self.refuse(&field(), claimed, allowed));
        }
        if claimed > MAX_UNPACKED {
            return Err(self.refuse(&field(), claimed, format!("at most {MAX_UNPACKED}")));
        }
        Ok(())
    }

    /// Checks that nothing follows, and with that a compressed file's checksum.
    fn end(mut self, items: usize) -> Result<(), DigitError> {
        match self.bytes.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(DigitError::Trailing { path: self.path, items }),
            Err(source) => Err(DigitError::Read { path: self.path, source }),
        }
    }
}

/// Area average from `rows x cols` to `side x side` pixels, in whole numbers, so the identity is exact.
struct Resampler {
    side: usize,
    cols: usize,
    /// Per output row, the source rows under it and how much of each; the same for columns.
    rows_under: Vec<Vec<(usize, u64)>>,
    cols_under: Vec<Vec<(usize, u64)>>,
    area: u64,
}

impl Resampler {
    fn new(rows: usize, cols: usize, side: usize) -> Self {
        Self {
            side,
            cols,
            rows_under: overlaps(rows, side),
            cols_under: overlaps(cols, side),
            area: (rows * cols) as u64,
        }
    }

    /// Shapes: `source [rows, cols]`, `patch [side, PATCH_STRIDE]`.
    fn resample(&mut self, source: &[u8], patch: &mut [u8]) {
        for (to, rows) in patch.chunks_exact_mut(PATCH_STRIDE).zip(&self.rows_under) {
            for (pixel, cols) in to[..self.side].iter_mut().zip(&self.cols_under) {
                let sum: u64 = rows
                    .iter()
                    .flat_map(|&(r, by_row)| cols.iter().map(move |&(c, by_col)| (r, c, by_row * by_col)))
                    .map(|(r, c, weight)| weight * u64::from(source[r * self.cols + c]))
                    .sum();
                *pixel = ((sum + self.area / 2) / self.area) as u8;
            }
        }
    }
}

/// For each of `to` equal parts of a line, the overlapping ones of `from` equal parts and the overlaps' lengths, in units
/// of which a target part is `from` long and a source part `to`.
fn overlaps(from: usize, to: usize) -> Vec<Vec<(usize, u64)>> {
    (0..to)
        .map(|target| {
            let (start, end) = (target * from, (target + 1) * from);
            (start / to..end.div_ceil(to))
                .map(|source| (source, (end.min((source + 1) * to) - start.max(source * to)) as u64))
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampled(rows: usize, cols: usize, side: usize, source: &[u8]) -> Vec<u8> {
        let mut patch = vec![0; side * PATCH_STRIDE];
        Resampler::new(rows, cols, side).resample(source, &mut patch);
        patch
    }

    #[test]
    fn the_own_size_is_kept_to_the_byte() {
        let source: Vec<u8> = (0..100).map(|i| i * 2).collect();
        let patch = resampled(10, 10, 10, &source);
        assert!(
            patch
                .chunks(PATCH_STRIDE)
                .zip(source.chunks(10))
                .all(|(p, s)| p[..10] == *s && p[10..].iter().all(|&v| v == 0))
        );
    }

    #[test]
    fn halves_and_fractions_by_hand() {
        assert_eq!(overlaps(2, 1), [[(0, 1), (1, 1)]]);
        // Two targets over three sources: one and a half source parts each.
        assert_eq!(overlaps(3, 2), [[(0, 2), (1, 1)], [(1, 1), (2, 2)]]);
        let patch = resampled(16, 16, 8, &[[0, 100].repeat(8), [50, 101].repeat(8)].concat().repeat(8));
        assert_eq!(patch[0], 63); // (0 + 100 + 50 + 101) / 4 = 62.75
    }
}
