//! One shard file: a safetensors header, then `lengths`, `checks` and the columns, flat over the shard's episodes.
//!
//! Tensors lie by falling element size, so that every one is aligned when the file is mapped, and in the order of the
//! columns among equals: first the tables of packed columns, then the columns that lie as they are, then the frames of
//! packed ones, whose sizes nothing else tells. The header is padded to a multiple of eight bytes, and for packed columns to
//! what it would have if nothing could be made smaller, so that all but the frames have places which do not depend on
//! content. All this makes the bytes a function of the content.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::tensor::Metadata;
use serde_json::json;

use super::codec::{Blocks, Codec, LINE, frame_length, most_packed, tensor_names};
use super::column::{ColumnSpec, Dtype, Follows};

/// A header beyond this is refused before it is parsed; 256 columns need a tenth of it.
const HEADER_BUDGET: usize = 1 << 20;
/// Where the header starts: after its length.
pub(super) const PREFIX: usize = 8;

/// What every shard of a dataset has: columns, and how they lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema<'a> {
    pub columns: &'a [ColumnSpec],
    pub codec: Codec,
}

impl Schema<'_> {
    /// Rows of a block of column number `column`, where it is packed.
    pub fn block_rows(self, column: usize) -> Option<usize> {
        self.codec.block_rows(&self.columns[column])
    }

    /// Blocks that an episode of `steps` steps has in column number `column`: none where it is not packed.
    pub fn blocks(self, column: usize, steps: usize) -> Option<usize> {
        let rows = rows(self.columns[column].follows, 1, steps)?;
        Some(self.block_rows(column).map_or(0, |block_rows| rows.div_ceil(block_rows)))
    }

    /// The columns that are packed.
    pub fn packed(self) -> impl Iterator<Item = usize> {
        (0..self.columns.len()).filter(move |&column| self.block_rows(column).is_some())
    }

    /// The columns that lie as they are, in the order in which they do.
    pub fn raw(self) -> impl Iterator<Item = usize> {
        let mut order: Vec<usize> = (0..self.columns.len()).collect();
        order.sort_by_key(|&column| std::cmp::Reverse(self.columns[column].dtype.size())); // stable
        order.into_iter().filter(move |&column| self.block_rows(column).is_none())
    }

    /// Bytes of all rows of so many episodes, which are not packed; `None` where there are too many.
    pub fn row_bytes(self, episodes: u64, steps: u64) -> Option<u64> {
        self.columns.iter().try_fold(0u64, |sum, column| {
            let rows = match column.follows {
                Follows::Observations => steps.checked_add(episodes)?,
                Follows::Steps => steps,
                Follows::Episode => episodes,
            };
            sum.checked_add(rows.checked_mul(column.row_bytes() as u64)?)
        })
    }
}

/// How much a shard has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    pub episodes: usize,
    /// Of all episodes together.
    pub steps: usize,
    /// Per column; none where it is not packed.
    pub blocks: Vec<usize>,
}

impl Extent {
    /// Of episodes whose lengths are `runs`, `[steps, episodes in a row that have them]`; `None` where the sizes overflow.
    pub fn new(schema: Schema<'_>, runs: impl IntoIterator<Item = [u64; 2]>) -> Option<Self> {
        let mut extent = Self { episodes: 0, steps: 0, blocks: vec![0; schema.columns.len()] };
        for [steps, count] in runs {
            let (steps, count) = (usize::try_from(steps).ok()?, usize::try_from(count).ok()?);
            extent.episodes = extent.episodes.checked_add(count)?;
            extent.steps = extent.steps.checked_add(steps.checked_mul(count)?)?;
            for (column, blocks) in extent.blocks.iter_mut().enumerate() {
                *blocks = blocks.checked_add(schema.blocks(column, steps)?.checked_mul(count)?)?;
            }
        }
        Some(extent)
    }
}

/// Where the tensors of a shard lie, in bytes from the start of its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// `lengths`, i64 `[E]`: steps of each episode.
    pub lengths: Range<usize>,
    /// `checks`, i64 `[E, columns]`: CRC-32 of each episode's rows of each column.
    pub checks: Range<usize>,
    /// The tables of packed columns, i64 `[blocks, 2]`, in the source's order; empty for a column that lies as it is.
    pub tables: Vec<Range<usize>>,
    /// The columns, in the source's order: their rows, or the frames of packed ones.
    pub columns: Vec<Range<usize>>,
    /// Bytes of all tensors.
    pub bytes: usize,
}

impl Places {
    /// Places for a shard of that extent, with so many bytes of frames per column, 0 where it is not packed; `None` where the
    /// sizes overflow.
    pub fn new(schema: Schema<'_>, extent: &Extent, packed: &[usize]) -> Option<Self> {
        let columns = schema.columns;
        let mut at = 0usize;
        let mut take = |rows: usize, row_bytes: usize| {
            let begin = at;
            at = at.checked_add(rows.checked_mul(row_bytes)?)?;
            Some(begin..at)
        };
        let lengths = take(extent.episodes, 8)?;
        let checks = take(extent.episodes, columns.len().checked_mul(8)?)?;
        let tables = extent.blocks.iter().map(|&blocks| take(blocks, LINE)).collect::<Option<Vec<_>>>()?;
        let mut places = vec![0..0; columns.len()];
        for column in schema.raw() {
            let rows = rows(columns[column].follows, extent.episodes, extent.steps)?;
            places[column] = take(rows, columns[column].row_bytes())?;
        }
        for column in schema.packed() {
            places[column] = take(packed[column], 1)?;
        }
        Some(Self { lengths, checks, tables, columns: places, bytes: at })
    }

    /// Where the tensors of a shard that begins with episode `first` should lie in `file`, whatever its header says, and how
    /// long that header should be. Only the sizes of frames are taken from the file: from its header, or from the tables, or
    /// from the frames themselves, whichever is not damaged.
    pub fn expected(file: &[u8], schema: Schema<'_>, extent: &Extent, first: u64) -> Option<(Self, usize)> {
        let none = Self::new(schema, extent, &vec![0; schema.columns.len()])?;
        let header = none.header(schema, first).len();
        let end = header.checked_add(none.bytes)?;
        if schema.packed().next().is_none() {
            return Some((none, header));
        }
        let by_header = || Some(read_header(file, schema, extent).ok()?.columns.iter().map(Range::len).collect());
        let by_tables = || none.packed_by_tables(file.get(header..)?, schema);
        let by_frames = || none.packed_by_frames(file.get(end..)?, schema);
        let with = |packed: Vec<usize>| -> Option<Self> {
            let places = Self::new(schema, extent, &packed)?;
            header.checked_add(places.bytes)?;
            Some(places)
        };
        let fits = |places: &Self| header + places.bytes == file.len();
        let found = by_header().and_then(with);
        let found = found.or_else(|| by_tables().and_then(with).filter(fits));
        let found = found.or_else(|| by_frames().and_then(with).filter(fits));
        // The file has been cut, then: what is left of it is as the tables say.
        let found = found.or_else(|| by_tables().and_then(with)).unwrap_or(none);
        Some((found, header))
    }

    /// Bytes of the frames of each column, as its table has them.
    fn packed_by_tables(&self, data: &[u8], schema: Schema<'_>) -> Option<Vec<usize>> {
        let mut packed = vec![0; schema.columns.len()];
        for column in schema.packed() {
            packed[column] = Blocks { table: data.get(self.tables[column].clone())?, frames: &[] }.end()?;
        }
        Some(packed)
    }

    /// The same as the frames have them, which follow each other from the start of `data` on.
    fn packed_by_frames(&self, data: &[u8], schema: Schema<'_>) -> Option<Vec<usize>> {
        let (mut packed, mut at) = (vec![0; schema.columns.len()], 0);
        for column in schema.packed() {
            let block_bytes = schema.block_rows(column)? * schema.columns[column].row_bytes();
            for _ in 0..self.tables[column].len() / LINE {
                let length = frame_length(data.get(at..)?, block_bytes)?;
                packed[column] += length;
                at += length;
            }
        }
        Some(packed)
    }

    /// Bytes of the tensors before all frames.
    pub fn front(&self, schema: Schema<'_>) -> usize {
        self.bytes - schema.packed().map(|column| self.columns[column].len()).sum::<usize>()
    }

    /// The header of a shard file whose first episode is `first`.
    pub fn header(&self, schema: Schema<'_>, first: u64) -> Vec<u8> {
        let text = self.header_text(schema, first);
        let most = self.packed_the_least(schema).header_text(schema, first);
        let padded = text.len().max(most.len()).next_multiple_of(8);
        let mut header = (padded as u64).to_le_bytes().to_vec();
        header.extend_from_slice(text.as_bytes());
        header.resize(PREFIX + padded, b' ');
        header
    }

    /// The same with frames as large as they can become.
    fn packed_the_least(&self, schema: Schema<'_>) -> Self {
        let (mut places, mut at) = (self.clone(), self.front(schema));
        for column in schema.packed() {
            let block_bytes = schema.block_rows(column).unwrap_or(0).saturating_mul(schema.columns[column].row_bytes());
            let most = most_packed(self.tables[column].len() / LINE, block_bytes);
            places.columns[column] = at..at.saturating_add(most);
            at = places.columns[column].end;
        }
        places
    }

    fn header_text(&self, schema: Schema<'_>, first: u64) -> String {
        let columns = schema.columns;
        let episodes = self.lengths.len() / 8;
        let tensor = |name: &str, dtype: Dtype, shape: &[usize], place: &Range<usize>| {
            let info = json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [place.start, place.end]});
            format!(",\"{name}\":{info}")
        };
        let mut text = format!("{{\"__metadata__\":{{\"first_episode\":\"{first}\",\"format\":\"pt\"}}");
        text += &tensor("lengths", Dtype::I64, &[episodes], &self.lengths);
        text += &tensor("checks", Dtype::I64, &[episodes, columns.len()], &self.checks);
        for column in schema.packed() {
            let [_, table] = tensor_names(&columns[column].name);
            text += &tensor(&table, Dtype::I64, &[self.tables[column].len() / LINE, 2], &self.tables[column]);
        }
        for column in schema.raw() {
            let (column, place) = (&columns[column], &self.columns[column]);
            let rows = place.len() / column.row_bytes();
            let shape: Vec<usize> = std::iter::once(rows).chain(column.shape.iter().copied()).collect();
            text += &tensor(&column.name, column.dtype, &shape, place);
        }
        for column in schema.packed() {
            let [frames, _] = tensor_names(&columns[column].name);
            text += &tensor(&frames, Dtype::U8, &[self.columns[column].len()], &self.columns[column]);
        }
        text.push('}');
        text
    }
}

/// Rows of a column over all episodes.
fn rows(follows: Follows, episodes: usize, steps: usize) -> Option<usize> {
    match follows {
        Follows::Observations => steps.checked_add(episodes),
        Follows::Steps => Some(steps),
        Follows::Episode => Some(episodes),
    }
}

/// Reads the header of `file`, the bytes of a shard file said to have that extent, and returns
/// where the tensors lie, from the start of the file. Every offset is checked against the size of the file.
///
/// # Errors
/// Says what is wrong with the header.
pub(super) fn read_header(file: &[u8], schema: Schema<'_>, extent: &Extent) -> Result<Places, String> {
    let (prefix, rest) = file.split_first_chunk::<PREFIX>().ok_or("the file ends within the header")?;
    let header_bytes = usize::try_from(u64::from_le_bytes(*prefix)).ok().filter(|&bytes| bytes <= HEADER_BUDGET);
    let header_bytes = header_bytes.ok_or_else(|| format!("the header claims more than {HEADER_BUDGET} bytes"))?;
    if !header_bytes.is_multiple_of(8) {
        return Err(format!("the header has {header_bytes} bytes, not a multiple of 8"));
    }
    let (text, data) = rest.split_at_checked(header_bytes).ok_or("the file ends within the header")?;
    // `Metadata` refuses tensors that overlap, leave gaps, or are not as large as shape and type make them.
    let header: Metadata =
        serde_json::from_slice(text).map_err(|error| format!("the header does not parse: {error}"))?;
    if header.data_len() != data.len() {
        return Err(format!("the header speaks of {} bytes of data, there are {}", header.data_len(), data.len()));
    }
    let base = PREFIX + header_bytes;
    // Of frames nobody knows how many bytes they have: their shape may be any `[bytes]`.
    let find = |name: &str, dtype: Dtype, shape: Option<&[usize]>| -> Result<Range<usize>, String> {
        let info = header.info(name).ok_or_else(|| format!("there is no tensor `{name}`"))?;
        let fits = shape.map_or(info.shape.len() == 1, |shape| info.shape == shape);
        if format!("{:?}", info.dtype) != dtype.name() || !fits {
            let found = format!("{:?} {:?}", info.dtype, info.shape);
            let expected = shape.map_or_else(|| "[bytes]".to_owned(), |shape| format!("{shape:?}"));
            return Err(format!("tensor `{name}` is {found}, not {} {expected}", dtype.name()));
        }
        let (begin, end) = info.data_offsets;
        if !begin.is_multiple_of(dtype.size()) {
            return Err(format!("tensor `{name}` is not aligned"));
        }
        Ok(base + begin..base + end)
    };
    let (mut columns, mut tables) = (Vec::with_capacity(schema.columns.len()), Vec::new());
    for (index, column) in schema.columns.iter().enumerate() {
        if schema.block_rows(index).is_some() {
            let [frames, table] = tensor_names(&column.name);
            tables.push(find(&table, Dtype::I64, Some(&[extent.blocks[index], 2]))?);
            columns.push(find(&frames, Dtype::U8, None)?);
        } else {
            let rows = rows(column.follows, extent.episodes, extent.steps).ok_or("its sizes overflow")?;
            let shape: Vec<usize> = std::iter::once(rows).chain(column.shape.iter().copied()).collect();
            tables.push(0..0);
            columns.push(find(&column.name, column.dtype, Some(&shape))?);
        }
    }
    Ok(Places {
        lengths: find("lengths", Dtype::I64, Some(&[extent.episodes]))?,
        checks: find("checks", Dtype::I64, Some(&[extent.episodes, schema.columns.len()]))?,
        tables,
        columns,
        bytes: file.len(),
    })
}

/// Per column the hash that a manifest line has: of that column's checks over all episodes. `checks` is `[E, columns]`.
pub(super) fn column_digests(columns: &[ColumnSpec], checks: &[i64]) -> BTreeMap<String, String> {
    let mut digests = ColumnDigests::new(columns);
    for row in checks.chunks_exact(columns.len()) {
        row.iter().enumerate().for_each(|(index, &check)| digests.add(index, check));
    }
    digests.finish(columns)
}

/// The same, check by check.
pub(super) struct ColumnDigests(Vec<blake3::Hasher>);

impl ColumnDigests {
    pub fn new(columns: &[ColumnSpec]) -> Self {
        Self(vec![blake3::Hasher::new(); columns.len()])
    }

    /// The next episode's check of column number `column`.
    pub fn add(&mut self, column: usize, check: i64) {
        self.0[column].update(&check.to_le_bytes());
    }

    pub fn finish(self, columns: &[ColumnSpec]) -> BTreeMap<String, String> {
        let digest = |hasher: &blake3::Hasher| {
            let mut hex = hasher.finalize().to_hex().to_string();
            hex.truncate(32);
            hex
        };
        columns.iter().zip(&self.0).map(|(column, hasher)| (column.name.clone(), digest(hasher))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::Zstd;

    fn columns() -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations("observations", Dtype::U8, &[2, 3]),
            ColumnSpec::steps("rewards", Dtype::F32, &[]),
            ColumnSpec::episode("goal", Dtype::I16, &[5]),
        ]
    }

    const RAW: Codec = Codec::Raw;
    /// Blocks of three observations.
    const PACKED: Codec = Codec::Zstd(Zstd { level: 1, block_bytes: 18 });

    /// Two episodes, of four steps and of one.
    fn extent(codec: Codec) -> Extent {
        Extent::new(Schema { columns: &columns(), codec }, [[4, 1], [1, 1]]).unwrap()
    }

    /// Where seven observations of six bytes, five rewards and two goals of ten bytes lie; packed, the observations take 30.
    fn places(codec: Codec) -> Places {
        let packed = if codec == RAW { 0 } else { 30 };
        Places::new(Schema { columns: &columns(), codec }, &extent(codec), &[packed, 0, 0]).unwrap()
    }

    fn header(codec: Codec) -> Vec<u8> {
        places(codec).header(Schema { columns: &columns(), codec }, 40)
    }

    fn file(codec: Codec) -> Vec<u8> {
        let mut file = header(codec);
        file.resize(file.len() + places(codec).bytes, 0);
        file
    }

    fn read(file: &[u8], codec: Codec) -> Result<Places, String> {
        read_header(file, Schema { columns: &columns(), codec }, &extent(codec))
    }

    #[test]
    fn a_shard_by_hand() {
        let places = places(RAW);
        assert_eq!((places.lengths, places.checks), (0..16, 16..64));
        assert_eq!(places.columns, [104..146, 64..84, 84..104]);
        assert_eq!(places.bytes, 146);
        let header = String::from_utf8(header(RAW)[8..].to_vec());
        let text = "{\"__metadata__\":{\"first_episode\":\"40\",\"format\":\"pt\"},\
                    \"lengths\":{\"data_offsets\":[0,16],\"dtype\":\"I64\",\"shape\":[2]},";
        assert!(header.unwrap().starts_with(text));
    }

    #[test]
    fn a_packed_shard_by_hand() {
        // Five observations are two blocks of three and two, and two are one; the frames come last.
        assert_eq!(extent(PACKED).blocks, [3, 0, 0]);
        let places = places(PACKED);
        assert_eq!((places.lengths, places.checks, &places.tables[0]), (0..16, 16..64, &(64..112)));
        assert_eq!(places.columns, [152..182, 112..132, 132..152]);
        let header = String::from_utf8(header(PACKED)[8..].to_vec()).unwrap();
        let frames = "\"observations.zstd\":{\"data_offsets\":[152,182],\"dtype\":\"U8\",\"shape\":[30]}}";
        assert!(header.trim_end().ends_with(frames), "{header}");
        assert!(
            header.contains("\"observations.blocks\":{\"data_offsets\":[64,112],\"dtype\":\"I64\",\"shape\":[3,2]}")
        );
    }

    #[test]
    fn how_small_frames_are_moves_nothing_else() {
        let (columns, codec) = (columns(), PACKED);
        let schema = Schema { columns: &columns, codec };
        let with = |packed| Places::new(schema, &extent(codec), &[packed, 0, 0]).unwrap();
        let lengths = [0, 9, 10, 99, 100, 300].map(|packed| with(packed).header(schema, 40).len());
        assert_eq!(lengths, [lengths[0]; 6]);
        // The header alone, or the table alone, tells how large they are.
        let mut file = file(codec);
        let header = lengths[0];
        assert_eq!(Places::expected(&file, schema, &extent(codec), 40), Some((places(codec), header)));
        file[header + 96..header + 104].copy_from_slice(&30u64.to_le_bytes());
        file[20] ^= 1;
        assert!(read(&file, codec).is_err());
        assert_eq!(Places::expected(&file, schema, &extent(codec), 40), Some((places(codec), header)));
    }

    #[test]
    fn the_header_leads_to_every_tensor_aligned() {
        let file = file(RAW);
        let base = file.len() - 146;
        assert!(base.is_multiple_of(8));
        let places = read(&file, RAW).unwrap();
        assert_eq!(places.columns, [base + 104..base + 146, base + 64..base + 84, base + 84..base + 104]);
        for runs in [[[5, 1]], [[2, 2]], [[5, 3]]] {
            let (columns, codec) = (columns(), RAW);
            let schema = Schema { columns: &columns, codec };
            assert!(read_header(&file, schema, &Extent::new(schema, runs).unwrap()).is_err());
        }
        assert!(read(&file, PACKED).is_err() && read(&self::file(PACKED), RAW).is_err());
    }

    #[test]
    fn sizes_that_overflow_make_no_places() {
        let columns = columns();
        for codec in [RAW, PACKED] {
            let schema = Schema { columns: &columns, codec };
            for run in [[1, u64::MAX], [u64::MAX / 2, 1], [u64::MAX, 1], [1 << 40, 1 << 40]] {
                let places = Extent::new(schema, [run]).and_then(|extent| Places::new(schema, &extent, &[0; 3]));
                assert_eq!(places, None, "{run:?}");
            }
            let extent = Extent::new(schema, [[4, 1]]).unwrap();
            assert!(codec == RAW || Places::new(schema, &extent, &[usize::MAX, 0, 0]).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..600), length in 0..600u64) {
            prop_assert!(read(&bytes, RAW).is_err() && read(&bytes, PACKED).is_err());
            let mut bytes = bytes;
            if let Some(prefix) = bytes.first_chunk_mut::<8>() {
                *prefix = length.to_le_bytes();
            }
            prop_assert!(read(&bytes, RAW).is_err() && read(&bytes, PACKED).is_err());
        }

        #[test]
        fn a_changed_header_never_leads_out_of_the_file(
            at in 0..600usize, put in prop_oneof![any::<u8>().prop_map(|byte| vec![byte]), "[0-9]{1,20}".prop_map(String::into_bytes)],
            spread in any::<bool>(), codec in prop::sample::select(vec![RAW, PACKED])
        ) {
            let mut bytes = file(codec);
            let at = at.min(bytes.len());
            if spread {
                bytes.splice(at..at, put);
            } else {
                let end = (at + put.len()).min(bytes.len());
                bytes.splice(at..end, put);
            }
            if let Ok(places) = read(&bytes, codec) {
                for place in [&places.lengths, &places.checks].into_iter().chain(&places.tables).chain(&places.columns) {
                    prop_assert!(place.start <= place.end && place.end <= bytes.len());
                }
            }
        }
    }
}
