//! One shard file: a safetensors header, then `lengths`, `checks` and the columns, flat over the shard's episodes.
//!
//! Tensors lie by falling element size, so that every one is aligned when the file is mapped, and in the order of the
//! columns among equals. The header is padded to a multiple of eight bytes. Both make the bytes a function of the content.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::tensor::Metadata;
use serde_json::json;

use super::column::{ColumnSpec, Dtype, Follows};

/// A header beyond this is refused before it is parsed; 256 columns need a tenth of it.
const HEADER_BUDGET: usize = 1 << 20;
/// Where the header starts: after its length.
pub(super) const PREFIX: usize = 8;

/// Where the tensors of a shard lie, in bytes from the start of its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// `lengths`, i64 `[E]`: steps of each episode.
    pub lengths: Range<usize>,
    /// `checks`, i64 `[E, columns]`: CRC-32 of each episode's rows of each column.
    pub checks: Range<usize>,
    /// The columns, in the source's order.
    pub columns: Vec<Range<usize>>,
    /// Bytes of all tensors.
    pub bytes: usize,
}

impl Places {
    /// Places for `episodes` episodes of `steps` steps together; `None` where the sizes overflow.
    pub fn new(columns: &[ColumnSpec], episodes: usize, steps: usize) -> Option<Self> {
        let mut at = 0usize;
        let mut take = |rows: usize, row_bytes: usize| {
            let begin = at;
            at = at.checked_add(rows.checked_mul(row_bytes)?)?;
            Some(begin..at)
        };
        let lengths = take(episodes, 8)?;
        let checks = take(episodes, columns.len().checked_mul(8)?)?;
        let mut places = vec![0..0; columns.len()];
        for index in by_falling_size(columns) {
            let rows = rows(columns[index].follows, episodes, steps)?;
            places[index] = take(rows, columns[index].row_bytes())?;
        }
        Some(Self { lengths, checks, columns: places, bytes: at })
    }

    /// The header of a shard file whose first episode is `first`.
    pub fn header(&self, columns: &[ColumnSpec], first: u64) -> Vec<u8> {
        let episodes = self.lengths.len() / 8;
        let tensor = |name: &str, dtype: Dtype, shape: &[usize], place: &Range<usize>| {
            let info = json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [place.start, place.end]});
            format!(",\"{name}\":{info}")
        };
        let mut text = format!("{{\"__metadata__\":{{\"first_episode\":\"{first}\",\"format\":\"pt\"}}");
        text += &tensor("lengths", Dtype::I64, &[episodes], &self.lengths);
        text += &tensor("checks", Dtype::I64, &[episodes, columns.len()], &self.checks);
        for index in by_falling_size(columns) {
            let (column, place) = (&columns[index], &self.columns[index]);
            let rows = place.len() / column.row_bytes();
            let shape: Vec<usize> = std::iter::once(rows).chain(column.shape.iter().copied()).collect();
            text += &tensor(&column.name, column.dtype, &shape, place);
        }
        text.push('}');
        let padded = text.len().next_multiple_of(8);
        let mut header = (padded as u64).to_le_bytes().to_vec();
        header.extend_from_slice(text.as_bytes());
        header.resize(PREFIX + padded, b' ');
        header
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

pub(super) fn by_falling_size(columns: &[ColumnSpec]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(columns[index].dtype.size())); // stable
    order
}

/// Reads the header of `file`, the bytes of a shard file said to have `episodes` episodes of `steps` steps, and returns
/// where the tensors lie, from the start of the file. Every offset is checked against the size of the file.
///
/// # Errors
/// Says what is wrong with the header.
pub(super) fn read_header(
    file: &[u8],
    columns: &[ColumnSpec],
    episodes: usize,
    steps: usize,
) -> Result<Places, String> {
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
    let find = |name: &str, dtype: Dtype, shape: &[usize]| -> Result<Range<usize>, String> {
        let info = header.info(name).ok_or_else(|| format!("there is no tensor `{name}`"))?;
        if format!("{:?}", info.dtype) != dtype.name() || info.shape != shape {
            let found = format!("{:?} {:?}", info.dtype, info.shape);
            return Err(format!("tensor `{name}` is {found}, not {} {shape:?}", dtype.name()));
        }
        let (begin, end) = info.data_offsets;
        if !begin.is_multiple_of(dtype.size()) {
            return Err(format!("tensor `{name}` is not aligned"));
        }
        Ok(base + begin..base + end)
    };
    let mut places = Vec::with_capacity(columns.len());
    for column in columns {
        let rows = rows(column.follows, episodes, steps).ok_or("its sizes overflow")?;
        let shape: Vec<usize> = std::iter::once(rows).chain(column.shape.iter().copied()).collect();
        places.push(find(&column.name, column.dtype, &shape)?);
    }
    Ok(Places {
        lengths: find("lengths", Dtype::I64, &[episodes])?,
        checks: find("checks", Dtype::I64, &[episodes, columns.len()])?,
        columns: places,
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

    fn columns() -> Vec<ColumnSpec> {
        vec![
            ColumnSpec::observations("observations", Dtype::U8, &[2, 3]),
            ColumnSpec::steps("rewards", Dtype::F32, &[]),
            ColumnSpec::episode("goal", Dtype::I16, &[5]),
        ]
    }

    /// Two episodes of five steps together: seven observations of six bytes, five rewards, two goals of ten bytes.
    fn file() -> Vec<u8> {
        let places = Places::new(&columns(), 2, 5).unwrap();
        let mut file = places.header(&columns(), 40);
        file.resize(file.len() + places.bytes, 0);
        file
    }

    #[test]
    fn a_shard_by_hand() {
        let places = Places::new(&columns(), 2, 5).unwrap();
        assert_eq!((places.lengths, places.checks), (0..16, 16..64));
        assert_eq!(places.columns, [104..146, 64..84, 84..104]);
        assert_eq!(places.bytes, 146);
        let header = String::from_utf8(Places::new(&columns(), 2, 5).unwrap().header(&columns(), 40)[8..].to_vec());
        let text = "{\"__metadata__\":{\"first_episode\":\"40\",\"format\":\"pt\"},\
                    \"lengths\":{\"data_offsets\":[0,16],\"dtype\":\"I64\",\"shape\":[2]},";
        assert!(header.unwrap().starts_with(text));
    }

    #[test]
    fn the_header_leads_to_every_tensor_aligned() {
        let file = file();
        let base = file.len() - 146;
        assert!(base.is_multiple_of(8));
        let places = read_header(&file, &columns(), 2, 5).unwrap();
        assert_eq!(places.columns, [base + 104..base + 146, base + 64..base + 84, base + 84..base + 104]);
        for (episodes, steps) in [(1, 5), (2, 4), (3, 5)] {
            assert!(read_header(&file, &columns(), episodes, steps).is_err());
        }
    }

    #[test]
    fn sizes_that_overflow_make_no_places() {
        assert_eq!(Places::new(&columns(), usize::MAX, 1), None);
        assert_eq!(Places::new(&columns(), 1, usize::MAX / 2), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..600), length in 0..600u64) {
            prop_assert!(read_header(&bytes, &columns(), 2, 5).is_err());
            let mut bytes = bytes;
            if let Some(prefix) = bytes.first_chunk_mut::<8>() {
                *prefix = length.to_le_bytes();
            }
            prop_assert!(read_header(&bytes, &columns(), 2, 5).is_err());
        }

        #[test]
        fn a_changed_header_never_leads_out_of_the_file(
            at in 0..600usize, put in prop_oneof![any::<u8>().prop_map(|byte| vec![byte]), "[0-9]{1,20}".prop_map(String::into_bytes)],
            spread in any::<bool>()
        ) {
            let mut bytes = file();
            let at = at.min(bytes.len());
            if spread {
                bytes.splice(at..at, put);
            } else {
                let end = (at + put.len()).min(bytes.len());
                bytes.splice(at..end, put);
            }
            if let Ok(places) = read_header(&bytes, &columns(), 2, 5) {
                for place in [&places.lengths, &places.checks].into_iter().chain(&places.columns) {
                    prop_assert!(place.start <= place.end && place.end <= bytes.len());
                }
            }
        }
    }
}
