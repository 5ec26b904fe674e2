//! The zip archives that `torch.save` writes: entries are found by the directory at the end, and lie in the file as they are.
//!
//! Nothing is packed, so a number of a tensor has one place in the file, and is read from there. Other archives are refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ImportError;
use crate::storage::{At, Failed};
use crate::untrusted;

/// A larger directory is refused before it is read.
const DIRECTORY_BUDGET: u64 = 16 << 20;
/// Bytes of the record that ends every archive, of the one before it that has room for large numbers, and of what points there.
const END: u64 = 22;
const END_64: u64 = 56;
const LOCATOR: u64 = 20;
/// In a field of 32 bits: the number is in the entry's extra fields.
const ELSEWHERE: u64 = u32::MAX as u64;

/// An open archive.
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    /// Where the directory begins; entries end before it.
    directory: u64,
    entries: BTreeMap<String, Entry>,
}

/// What the directory says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    flags: u64,
    method: u64,
    crc: u32,
    packed: u64,
    bytes: u64,
    header: u64,
}

/// Where the content of an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its first byte in the file.
    pub at: u64,
    /// Its size.
    pub bytes: u64,
    /// What the directory says the CRC-32 of its content is. It tells contents apart; it is not compared with them.
    pub crc: u32,
}

impl Archive {
    /// Opens the archive at `path` and reads its directory.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let file = untrusted::open(path).at("open", path)?;
        let size = file.metadata().at("look at", path)?.len();
        let mut archive = Self { path: path.to_owned(), file, directory: 0, entries: BTreeMap::new() };
        let [first, bytes, count] = archive.find_directory(size)?;
        if bytes > DIRECTORY_BUDGET {
            return Err(archive.refuse(format!("a directory of {bytes} bytes; at most {DIRECTORY_BUDGET} are read")));
        }
        let entries = entries(&archive.read(first, bytes as usize)?, count);
        archive.entries = entries.map_err(|reason| archive.refuse(reason))?;
        archive.directory = first;
        Ok(archive)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Reads into all of `bytes` from byte `at` of the file on.
    pub fn read_into(&self, at: u64, bytes: &mut [u8]) -> Result<(), Failed> {
        self.file.read_exact_at(bytes, at).at("read", &self.path)
    }

    /// An archive that is not as it should be.
    pub fn refuse(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Archive { path: self.path.clone(), reason: reason.into() }
    }

    /// The content of a small entry.
    pub fn content(&self, name: &str, most: u64) -> Result<Vec<u8>, ImportError> {
        let Place { at, bytes, .. } = self.place(name)?;
        if bytes > most {
            return Err(self.refuse(format!("`{name}` has {bytes} bytes; at most {most} are read")));
        }
        Ok(self.read(at, bytes as usize)?)
    }

    /// Where the content of an entry lies, which is within the file.
    pub fn place(&self, name: &str) -> Result<Place, ImportError> {
        let refuse = |reason: &str| self.refuse(format!("`{}` {reason}", name.escape_debug()));
        let entry = self.entries.get(name).ok_or_else(|| refuse("is missing"))?;
        if entry.method != 0 || entry.flags & 1 != 0 || entry.packed != entry.bytes {
            return Err(refuse("is packed or encrypted; torch.save stores entries as they are"));
        }
        let outside = || refuse("does not lie before the directory: the file is damaged");
        let within = |end: Option<u64>| end.filter(|end| *end <= self.directory);
        let fixed = within(entry.header.checked_add(30)).ok_or_else(outside)?;
        let header = self.read(entry.header, 30)?;
        if header[..4] != *b"PK\x03\x04" || number(&header, 26, 2) != name.len() as u64 {
            return Err(refuse("does not begin where the directory says: the file is damaged"));
        }
        let at = fixed + number(&header, 26, 2) + number(&header, 28, 2);
        within(at.checked_add(entry.bytes)).ok_or_else(outside)?;
        Ok(Place { at, bytes: entry.bytes, crc: entry.crc })
    }

    /// Where the directory begins, its bytes and its entries.
    fn find_directory(&self, size: u64) -> Result<[u64; 3], ImportError> {
        let none = || {
            self.refuse("it does not end as a zip archive of torch.save does: cut off, or saved by torch before 1.6")
        };
        let end_at = size.checked_sub(END).ok_or_else(none)?;
        let end = self.read(end_at, END as usize)?;
        if end[..4] != *b"PK\x05\x06" {
            return Err(none());
        }
        let mut found = [number(&end, 16, 4), number(&end, 12, 4), number(&end, 10, 2)];
        let mut limit = end_at;
        if let Some(at) = end_at.checked_sub(LOCATOR) {
            let locator = self.read(at, LOCATOR as usize)?;
            if locator[..4] == *b"PK\x06\x07" {
                limit = number(&locator, 8, 8);
                let whole = limit.checked_add(END_64).is_some_and(|end| end <= at);
                let end = if whole { self.read(limit, END_64 as usize)? } else { Vec::new() };
                if !end.starts_with(b"PK\x06\x06") {
                    return Err(none());
                }
                found = [number(&end, 48, 8), number(&end, 40, 8), number(&end, 32, 8)];
            }
        }
        let within = found[0].checked_add(found[1]).is_some_and(|end| end <= limit);
        within.then_some(found).ok_or_else(none)
    }

    fn read(&self, at: u64, length: usize) -> Result<Vec<u8>, Failed> {
        let mut bytes = vec![0; length];
        self.read_into(at, &mut bytes)?;
        Ok(bytes)
    }
}

/// The little-endian number of `length` bytes at `at`, which are there.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The `count` entries of a directory.
fn entries(mut bytes: &[u8], count: u64) -> Result<BTreeMap<String, Entry>, String> {
    let cut = || "its directory is damaged".to_owned();
    let mut take = |length: usize| -> Result<&[u8], String> {
        let (taken, rest) = bytes.split_at_checked(length).ok_or_else(cut)?;
        bytes = rest;
        Ok(taken)
    };
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let fixed = take(46)?;
        if fixed[..4] != *b"PK\x01\x02" {
            return Err(cut());
        }
        let length = |at: usize| number(fixed, at, 2) as usize;
        let name = str::from_utf8(take(length(28))?).map_err(|_| cut())?;
        let extra = take(length(30))?;
        take(length(32))?;
        let sizes = [number(fixed, 24, 4), number(fixed, 20, 4), number(fixed, 42, 4)];
        let [bytes, packed, header] = large(sizes, extra).ok_or_else(cut)?;
        let (flags, method) = (number(fixed, 8, 2), number(fixed, 10, 2));
        let entry = Entry { flags, method, crc: number(fixed, 16, 4) as u32, packed, bytes, header };
        if entries.insert(name.to_owned(), entry).is_some() {
            return Err(format!("there are two entries `{}`", name.escape_debug()));
        }
    }
    Ok(entries)
}

/// Sizes of which those beyond 32 bits are in the extra field number 1, in this order.
fn large(mut sizes: [u64; 3], mut extra: &[u8]) -> Option<[u64; 3]> {
    if sizes.iter().all(|&size| size != ELSEWHERE) {
        return Some(sizes);
    }
    loop {
        let (head, rest) = extra.split_at_checked(4)?;
        let (mut field, rest) = rest.split_at_checked(number(head, 2, 2) as usize)?;
        if number(head, 0, 2) == 1 {
            for size in sizes.iter_mut().filter(|size| **size == ELSEWHERE) {
                let (word, rest) = field.split_at_checked(8)?;
                *size = number(word, 0, 8);
                field = rest;
            }
            return Some(sizes);
        }
        extra = rest;
    }
}
