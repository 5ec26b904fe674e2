//! Tensors of a `torch.save`d file: described by its pickle, checked against its size, and read block by block from the disk.

use std::path::Path;

use super::ImportError;
use super::archive::Archive;
use super::pickle::{Element, Pickle, Tensor};
use crate::storage::Failed;

/// A larger description of tensors is refused; that of four takes 600 bytes.
const PICKLE_BUDGET: u64 = 1 << 20;

/// A file of named tensors.
pub(super) struct TorchFile {
    archive: Archive,
    /// The folder in the archive that all entries are in.
    folder: String,
    pickle: Pickle,
}

/// A tensor `[E, R, C]` whose numbers are in the file: `E` blocks of `R` rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Its name.
    pub key: &'static str,
    /// Type of its numbers.
    pub element: Element,
    /// `[E, R, C]`.
    pub shape: [u64; 3],
    /// Bytes from one index of the first two axes to the next; on the third, numbers lie side by side.
    steps: [u64; 2],
    /// Its first byte in the file.
    at: u64,
    /// CRC-32 of the storage that it lies in, as the archive has it, and the number of it that it begins with.
    pub content: (u32, u64),
}

impl TorchFile {
    /// Opens the file at `path` and reads its description.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let archive = Archive::open(path)?;
        let folders: Vec<&str> = archive.names().filter_map(|name| name.strip_suffix("/data.pkl")).collect();
        let [folder] = folders[..] else {
            return Err(archive.refuse("an archive without the one `data.pkl` that torch.save writes"));
        };
        let folder = folder.to_owned();
        let order = format!("{folder}/byteorder");
        // Older versions of torch do not say it, and were hardly ever run elsewhere.
        if archive.names().any(|name| name == order) && archive.content(&order, 16)? != b"little" {
            return Err(archive.refuse("its numbers are not little-endian"));
        }
        let pickle = Pickle::parse(&archive.content(&format!("{folder}/data.pkl"), PICKLE_BUDGET)?)
            .map_err(|source| ImportError::Pickle { path: path.to_owned(), source })?;
        pickle.items().map_err(|reason| archive.refuse(reason))?;
        Ok(Self { archive, folder, pickle })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.archive.path()
    }

    /// Names of what it holds, as far as a message has room for them.
    pub fn names(&self) -> Vec<String> {
        let short = |name: &str| name.chars().take(40).flat_map(char::escape_debug).collect();
        self.pickle.items().into_iter().flatten().take(20).map(|(name, _)| short(name)).collect()
    }

    /// What is wrong with the tensor called `key`.
    pub fn refuse(&self, key: &str, reason: impl Into<String>) -> ImportError {
        ImportError::Tensor { path: self.path().to_owned(), key: key.to_owned(), reason: reason.into() }
    }

    /// The tensor called `key`, as the pickle describes it.
    fn described(&self, key: &str) -> Result<&Tensor, ImportError> {
        match self.pickle.items().ok().and_then(|items| items.get(key).copied()) {
            Some(Some(tensor)) => Ok(tensor),
            Some(None) => Err(self.refuse(key, "is not a tensor")),
            None => Err(self.refuse(key, format!("is missing; the file has {}", self.names().join(", ")))),
        }
    }

    /// The tensor called `key`, which must have `axes` axes (3, or 2 for `C = 1`; further ones may have size 1) and lie in the file.
    pub fn blocks(&self, key: &'static str, axes: usize) -> Result<Blocks, ImportError> {
        let refuse = |reason: String| self.refuse(key, reason);
        let tensor = self.described(key)?;
        let Tensor { shape, strides, .. } = tensor;
        let wrong = shape.len() < axes || shape[axes..].iter().any(|&size| size != 1) || shape.contains(&0);
        if wrong {
            let expected = if axes == 3 { "[episodes, steps + 1, components]" } else { "[episodes, steps + 1]" };
            return Err(refuse(format!("has shape {shape:?}; expected {expected}, none of them 0")));
        }
        let first = |numbers: &[u64]| [0, 1, 2].map(|axis| if axis < axes { numbers[axis] } else { 1 });
        let sizes = first(shape);
        let blocks = self.lay(key, tensor, sizes, first(strides))?;
        let all = sizes.iter().try_fold(1, |product: u64, &size| product.checked_mul(size));
        if axes == 3 && all.is_none_or(|all| all > tensor.numbers) {
            return Err(refuse("has the same numbers for several episodes or steps".to_owned()));
        }
        Ok(blocks)
    }

    /// The tensor called `key`, which must be `[rows]`, or `[rows, width]` where a width is given, and lie in the file: as one block.
    pub fn table(&self, key: &'static str, width: Option<u64>) -> Result<Blocks, ImportError> {
        let tensor = self.described(key)?;
        let (sizes, strides) = match (&tensor.shape[..], &tensor.strides[..], width) {
            (&[rows], &[stride], None) if rows > 0 => ([1, rows, 1], [0, stride, 1]),
            (&[rows, found], &[stride, within], Some(width)) if rows > 0 && found == width => {
                ([1, rows, width], [0, stride, within])
            }
            (shape, ..) => {
                let expected = width.map_or_else(|| "[frames]".to_owned(), |width| format!("[frames, {width}]"));
                return Err(self.refuse(key, format!("has shape {shape:?}; expected {expected}")));
            }
        };
        self.lay(key, tensor, sizes, strides)
    }

    /// A tensor as blocks of these sizes, once it is clear that all of it is in the file.
    fn lay(
        &self,
        key: &'static str,
        tensor: &Tensor,
        sizes: [u64; 3],
        strides: [u64; 3],
    ) -> Result<Blocks, ImportError> {
        if sizes[2] > 1 && strides[2] != 1 {
            let reason = format!("has components that lie {} numbers apart; save it contiguous", strides[2]);
            return Err(self.refuse(key, reason));
        }
        let (at, crc) = self.first_byte(key, tensor, &sizes, &strides)?;
        let bytes = tensor.element.size() as u64;
        Ok(Blocks {
            key,
            element: tensor.element,
            shape: sizes,
            // Neither is used where it could be too large: the last number was seen to lie in the file.
            steps: [strides[0].saturating_mul(bytes), strides[1].saturating_mul(bytes)],
            at,
            content: (crc, tensor.offset),
        })
    }

    /// Where a tensor begins, once it is clear that all of it is in the file; and the check of its storage.
    fn first_byte(
        &self,
        key: &str,
        tensor: &Tensor,
        sizes: &[u64],
        strides: &[u64],
    ) -> Result<(u64, u32), ImportError> {
        let size = tensor.element.size() as u64;
        let place = self.archive.place(&format!("{}/data/{}", self.folder, tensor.storage))?;
        if tensor.numbers.checked_mul(size).is_none_or(|bytes| bytes > place.bytes) {
            let problem = format!("says that its storage has {} numbers of {size} bytes", tensor.numbers);
            return Err(self.refuse(key, format!("{problem}; the file has {} bytes of it", place.bytes)));
        }
        let mut axes = sizes.iter().zip(strides).map(|(&size, &stride)| (size - 1).checked_mul(stride));
        let last = axes.try_fold(tensor.offset, |sum, span| sum.checked_add(span?));
        if last.is_none_or(|last| last >= tensor.numbers) {
            let Tensor { shape, strides, offset, numbers, .. } = tensor;
            let problem = format!("has shape {shape:?} in strides {strides:?} from number {offset} on");
            return Err(self.refuse(key, format!("{problem}, and its storage ends after {numbers}")));
        }
        Ok((place.at + tensor.offset * size, place.crc))
    }

    /// Reads block `block` of `blocks` into `bytes`, which gets `R * C` numbers.
    pub fn read(&self, blocks: &Blocks, block: u64, bytes: &mut Vec<u8>) -> Result<(), Failed> {
        let [_, rows, components] = blocks.shape;
        let row = components as usize * blocks.element.size();
        let begin = blocks.at + block * blocks.steps[0];
        bytes.clear();
        bytes.resize(row * rows as usize, 0);
        if rows == 1 || blocks.steps[1] == row as u64 {
            return self.archive.read_into(begin, bytes);
        }
        let mut rows = bytes.chunks_exact_mut(row).zip(0..);
        rows.try_for_each(|(bytes, index)| self.archive.read_into(begin + index * blocks.steps[1], bytes))
    }

    /// The first number of block `block`, as bytes.
    pub fn read_first(&self, blocks: &Blocks, block: u64) -> Result<[u8; 8], Failed> {
        let mut number = [0; 8];
        self.archive.read_into(blocks.at + block * blocks.steps[0], &mut number[..blocks.element.size()])?;
        Ok(number)
    }
}
