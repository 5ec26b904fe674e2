//! Codecs: how the rows of a column lie in a shard, as they are in memory or packed.
//!
//! A codec packs pictures: the columns of `u8` or `u16` with at least two axes a row. All others lie as they are, so that whoever
//! reads one needs no codec. The rows of a packed column are cut into blocks that end with their episode, and every block is a zstd
//! frame of its own, which any zstd library unpacks. The frames follow each other in a tensor `NAME.zstd`; a tensor
//! `NAME.blocks`, i64 `[blocks, 2]`, has for each where it ends and the CRC-32 of its bytes.
//!
//! Longer blocks are smaller, since what was seen frames ago is not said again, and cost more to read a few frames of.
//! Measured on episodes of 501 frames of 128 x 128 x 3 that look around among 16 to 400 views, on one core (`benches/dataset.rs`
//! has the like), blocks of 8, 32, 64 and all frames take 24, 14, 10 and 2 KB a frame where views have grain, and 1.0, 0.7,
//! 0.6 and 0.4 KB where they have none; a clip of 40 frames is read in 1.2, 1.2, 1.4 and 6 ms. Hence 64 such frames. Looking for
//! long matches halves the speed of packing, to 0.8 GB/s, and the size where there is no grain. Higher levels take
//! twice the time for a twentieth of the size.

use std::io;

use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

use super::column::{ColumnSpec, Dtype};

/// Bytes that the rows of a block may have, so that nothing in a file makes a reader ask for more memory at once.
const BLOCK_BUDGET: usize = 64 << 20;
/// Bytes that the rows of one episode in a packed column may have: a small file can claim that many.
pub(super) const EPISODE_BUDGET: usize = 4 << 30;
/// Levels of zstd that a dataset may be packed with. Those below 0 give up entropy coding, those above take minutes for megabytes.
const LEVELS: std::ops::RangeInclusive<i32> = -7..=19;
/// Bytes of a block in `NAME.blocks`: where it ends, and its check.
pub(super) const LINE: usize = 16;

/// How rows are encoded in a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// As they are in memory, little-endian.
    #[default]
    Raw,
    /// Pictures packed by zstd, without loss, in blocks; the other columns as they are in memory.
    Zstd(Zstd),
}

/// With what pictures are packed. The bytes of a dataset follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zstd {
    /// zstd's compression level.
    pub level: i32,
    /// Bytes of rows in a block: as many whole rows as fit, but at least one.
    pub block_bytes: usize,
}

impl Default for Zstd {
    fn default() -> Self {
        Self { level: 1, block_bytes: 3 << 20 }
    }
}

impl Codec {
    /// `raw` or `zstd`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zstd(_) => "zstd",
        }
    }

    /// Whether it packs `column`.
    #[must_use]
    pub fn packs(self, column: &ColumnSpec) -> bool {
        self.block_rows(column).is_some()
    }

    /// Rows of a block of `column`, where it is packed. The last of an episode may have fewer.
    pub(super) fn block_rows(self, column: &ColumnSpec) -> Option<usize> {
        match self {
            Self::Zstd(zstd) if matches!(column.dtype, Dtype::U8 | Dtype::U16) && column.shape.len() >= 2 => {
                Some((zstd.block_bytes / column.row_bytes()).max(1))
            }
            Self::Raw | Self::Zstd(_) => None,
        }
    }

    /// Refuses settings that no dataset has.
    pub(super) fn check(self) -> Result<(), String> {
        let Self::Zstd(Zstd { level, block_bytes }) = self else { return Ok(()) };
        if !LEVELS.contains(&level) {
            return Err(format!("`codec.zstd.level` is {level}, allowed: {}..={}", LEVELS.start(), LEVELS.end()));
        }
        if !(1..=BLOCK_BUDGET).contains(&block_bytes) {
            return Err(format!("`codec.zstd.block_bytes` is {block_bytes}, allowed: 1..={BLOCK_BUDGET}"));
        }
        Ok(())
    }

    /// Refuses a column that would be packed, and has rows too large for it.
    pub(super) fn check_column(self, column: &ColumnSpec) -> Result<(), String> {
        match column.row_bytes() {
            bytes if self.packs(column) && bytes > BLOCK_BUDGET => {
                Err(format!("zstd packs rows of at most {BLOCK_BUDGET} bytes, not {bytes}"))
            }
            _ => Ok(()),
        }
    }
}

/// The tensors that a packed column is made of: its frames, and the table of them.
pub(super) fn tensor_names(column: &str) -> [String; 2] {
    [format!("{column}.zstd"), format!("{column}.blocks")]
}

/// More than the frames of so many rows can take.
pub(super) fn most_packed(blocks: usize, block_bytes: usize) -> usize {
    block_bytes.saturating_mul(2).saturating_add(128).saturating_mul(blocks)
}

/// How long the frame is that `bytes` begin with, if it can be that of a block with so many bytes of rows.
pub(super) fn frame_length(bytes: &[u8], block_bytes: usize) -> Option<usize> {
    let bytes = &bytes[..bytes.len().min(zstd_safe::compress_bound(block_bytes))];
    zstd_safe::find_frame_compressed_size(bytes).ok().filter(|&length| length <= bytes.len())
}

/// The blocks of one column of one episode, or of several.
#[derive(Default)]
pub(super) struct Packed {
    pub frames: Vec<u8>,
    /// Of each frame its size, and the CRC-32 of its bytes.
    pub sizes: Vec<(usize, u32)>,
}

impl Packed {
    pub fn clear(&mut self) {
        self.frames.clear();
        self.sizes.clear();
    }
}

/// Packs blocks, one after the other, on one thread: so the same rows become the same bytes.
pub(super) struct Packer {
    compressor: Compressor<'static>,
    /// Room for the largest frame so far.
    room: Vec<u8>,
}

impl Packer {
    pub fn new(zstd: Zstd) -> io::Result<Self> {
        let mut compressor = Compressor::new(zstd.level)?;
        // The window reaches over the whole block, and matches are looked for in all of it: what an agent sees again may have
        // been out of view for many frames. The level's own tables reach as far as they can, and no further.
        let window_log = zstd.block_bytes.next_power_of_two().ilog2().clamp(10, 27);
        compressor.set_parameter(CParameter::WindowLog(window_log))?;
        compressor.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
        compressor.set_parameter(CParameter::ChecksumFlag(false))?; // the table of blocks has one
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        Ok(Self { compressor, room: Vec::new() })
    }

    /// Adds the blocks of `rows`, the rows of one episode, to `packed`; a block has `block_bytes` of them.
    pub fn pack(&mut self, rows: &[u8], block_bytes: usize, packed: &mut Packed) -> io::Result<()> {
        for block in rows.chunks(block_bytes) {
            let frame = self.frame(block)?;
            packed.frames.extend_from_slice(frame);
            packed.sizes.push((frame.len(), crc32fast::hash(frame)));
        }
        Ok(())
    }

    /// The frame of one block.
    pub fn frame(&mut self, block: &[u8]) -> io::Result<&[u8]> {
        let bound = zstd_safe::compress_bound(block.len());
        if self.room.len() < bound {
            self.room.resize(bound, 0);
        }
        let bytes = self.compressor.compress_to_buffer(block, &mut self.room[..])?;
        Ok(&self.room[..bytes])
    }
}

/// Unpacks frames that may hold anything.
#[derive(Default)]
pub(super) struct Unpacker {
    decompressor: Option<Decompressor<'static>>,
    /// The rows of a block of which only some are wanted.
    pub spare: Vec<u8>,
}

impl Unpacker {
    /// Unpacks `frame` into `rows`, which it must fill exactly.
    ///
    /// # Errors
    /// Says what is wrong with the frame.
    pub fn unpack(&mut self, frame: &[u8], rows: &mut [u8]) -> Result<(), String> {
        // Asked before it is unpacked, so that a frame of something else costs nothing.
        match zstd_safe::get_frame_content_size(frame) {
            Ok(Some(bytes)) if bytes == rows.len() as u64 => {}
            Ok(Some(bytes)) => return Err(format!("it claims {bytes} bytes of rows, there are {}", rows.len())),
            Ok(None) | Err(_) => return Err("it is no frame of zstd that says its size".to_owned()),
        }
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(|error| error.to_string())?),
        };
        match decompressor.decompress_to_buffer(frame, rows) {
            Ok(bytes) if bytes == rows.len() => Ok(()),
            Ok(bytes) => Err(format!("it has {bytes} bytes of rows, there are {}", rows.len())),
            Err(error) => Err(format!("it does not unpack: {error}")),
        }
    }
}

/// The blocks of a packed column as a shard file has them, which may be damaged.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    /// `NAME.blocks`.
    pub table: &'a [u8],
    /// `NAME.zstd`, or what there is of it.
    pub frames: &'a [u8],
}

impl<'a> Blocks<'a> {
    /// Where block number `index` lies in the frames, and its check, as the table has them.
    fn line(&self, index: usize) -> Option<(usize, usize, i64)> {
        let word = |index: usize| {
            let bytes = self.table.get(index.checked_mul(8)?..)?.first_chunk()?;
            Some(i64::from_le_bytes(*bytes))
        };
        let place = |index: usize| usize::try_from(word(2 * index)?).ok();
        let begin = if index == 0 { 0 } else { place(index - 1)? };
        Some((begin, place(index)?, word(2 * index + 1)?))
    }

    /// Where the last block ends.
    pub fn end(&self) -> Option<usize> {
        match self.table.len() / LINE {
            0 => Some(0),
            blocks => Some(self.line(blocks - 1)?.1),
        }
    }

    /// The frame of block number `index`, which is as it was written.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn frame(&self, index: usize) -> Result<&'a [u8], String> {
        let (begin, end, check) = self.line(index).ok_or("the table does not say where it is")?;
        let frame = self.frames.get(begin..end);
        let frame = frame.ok_or_else(|| format!("it claims bytes {begin} to {end} of {}", self.frames.len()))?;
        if i64::from(crc32fast::hash(frame)) != check {
            return Err("it does not fit its check".to_owned());
        }
        Ok(frame)
    }
}

/// What there is of a block.
pub(super) enum Found<'a> {
    /// Its frame as it was written.
    Whole(&'a [u8]),
    /// A frame that unpacks, although it or its line of the table is not as it was written.
    Doubtful(&'a [u8]),
    /// Nothing that unpacks.
    Lost,
}

/// Goes through the blocks of a column, of which any may be damaged, episode by episode.
pub(super) struct Walk<'a> {
    blocks: Blocks<'a>,
    row_bytes: usize,
    block_rows: usize,
    index: usize,
    /// Where the block before ended.
    at: usize,
    unpacker: Unpacker,
    rows: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub fn new(blocks: Blocks<'a>, column: &ColumnSpec, block_rows: usize) -> Self {
        let (row_bytes, unpacker, rows) = (column.row_bytes(), Unpacker::default(), Vec::new());
        Self { blocks, row_bytes, block_rows, index: 0, at: 0, unpacker, rows }
    }

    /// The CRC-32 of the next episode's rows, as far as they unpack; `seen` gets its blocks, with their rows where they have any.
    pub fn episode(&mut self, rows: usize, mut seen: impl FnMut(Found<'a>, &[u8])) -> Option<i64> {
        let (mut hasher, mut whole) = (crc32fast::Hasher::new(), true);
        for first in (0..rows).step_by(self.block_rows) {
            let bytes = (rows - first).min(self.block_rows) * self.row_bytes;
            let found = self.next(bytes);
            let unpacked = if matches!(found, Found::Lost) { &[][..] } else { &self.rows[..bytes] };
            whole &= !matches!(found, Found::Lost);
            hasher.update(unpacked);
            seen(found, unpacked);
        }
        whole.then(|| i64::from(hasher.finalize()))
    }

    /// Finds the next block, by its line in the table, by that of the block before, or by the length that its frame has; its
    /// rows, of which there are `bytes` bytes, are in `self.rows` then.
    fn next(&mut self, bytes: usize) -> Found<'a> {
        let frames = self.blocks.frames;
        let (begin, end, check) = self.blocks.line(self.index).unwrap_or((self.at, self.at, -1));
        self.index += 1;
        if self.rows.len() < bytes {
            self.rows.resize(bytes, 0);
        }
        let by_frame = |from: usize| Some(from..from + frame_length(frames.get(from..)?, bytes)?);
        let fits = |place: &std::ops::Range<usize>| {
            frames.get(place.clone()).is_some_and(|frame| i64::from(crc32fast::hash(frame)) == check)
        };
        let places = [Some(begin..end), Some(self.at..end), by_frame(self.at), by_frame(begin)];
        let places = places.into_iter().flatten();
        // First those that fit the check: a damaged frame can unpack, too.
        let (sure, unsure): (Vec<_>, Vec<_>) = places.partition(fits);
        let sure = sure.into_iter().map(|place| (place, true));
        for (place, fits) in sure.chain(unsure.into_iter().map(|place| (place, false))) {
            let Some(frame) = frames.get(place.clone()) else { continue };
            if self.unpacker.unpack(frame, &mut self.rows[..bytes]).is_ok() {
                self.at = place.end;
                return if fits && place.end == end { Found::Whole(frame) } else { Found::Doubtful(frame) };
            }
        }
        self.at = if (self.at..=frames.len()).contains(&end) { end } else { self.at };
        Found::Lost
    }
}
