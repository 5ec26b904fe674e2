//! The directory of a dataset: its paths, and `dataset.json`, which says what the episodes are.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codec::{Codec, tensor_names};
use super::column::ColumnSpec;
use super::error::{DatasetError, Difference};
use super::shard::Schema;
use super::source::DatasetHeader;
use crate::storage::{At, Failed, Storage, replace};
use crate::untrusted;

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// A `dataset.json` beyond this is refused before it is read. Parsed, it takes up to twenty times its size.
const DESCRIPTION_BUDGET: u64 = 4 << 20;
/// Columns that a dataset may have.
const COLUMNS_BUDGET: usize = 256;
/// Bytes that a row of a column may have.
const ROW_BUDGET: usize = 1 << 32;
/// Between the fields of `dataset.json` and its check.
const CHECK: &str = ",\n  \"check\": \"";
/// Tensors that every shard has beside the source's columns.
pub(super) const RESERVED: [&str; 2] = ["lengths", "checks"];

/// The content of `dataset.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Version of the format.
    pub format: u32,
    /// Version of the package that began the dataset.
    pub package: String,
    /// How rows are encoded.
    pub codec: Codec,
    /// Episodes asked for; the manifest says how many there are.
    pub episodes: u64,
    /// Episodes of every shard but the last.
    pub episodes_per_shard: u64,
    /// What the episodes come from.
    pub source: DatasetHeader,
    /// The columns, in the source's order.
    pub columns: Vec<ColumnSpec>,
}

impl Description {
    /// Reads `dataset.json` of the dataset in `dir`.
    ///
    /// # Errors
    /// A different one each for a path that is missing, empty, no dataset, of a newer format, or not understood.
    pub fn read(dir: &Path) -> Result<Self, DatasetError> {
        let path = description_path(dir);
        match untrusted::read(&path, DESCRIPTION_BUDGET) {
            Ok(text) => Self::parse(&text, &path),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(what_else_is_at(dir)?)
            }
            Err(source) => Err(Failed::new("read", &path, source).into()),
        }
    }

    /// Understands `text`, the content of `path`.
    ///
    /// # Errors
    /// When it is of a newer format, is not what this format has, names impossible sizes, or has been changed.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, DatasetError> {
        let broken = |reason: String| DatasetError::Description { path: path.to_owned(), reason };
        let mut value: Value = serde_json::from_slice(text).map_err(|error| broken(error.to_string()))?;
        let format = value.get("format").and_then(Value::as_u64).ok_or_else(|| broken("no `format`".to_owned()))?;
        if format > u64::from(FORMAT) {
            return Err(DatasetError::Newer { path: path.to_owned(), found: format });
        }
        let check = value.as_object_mut().and_then(|fields| fields.remove("check"));
        let description: Self = serde_json::from_value(value).map_err(|error| broken(error.to_string()))?;
        description.codec.check().map_err(broken)?;
        check_columns(&description.columns, description.codec).map_err(|error| broken(error.to_string()))?;
        for (field, value, least) in
            [("episodes", description.episodes, 0), ("episodes_per_shard", description.episodes_per_shard, 1)]
        {
            if !(least..=MOST_EPISODES).contains(&value) {
                return Err(broken(format!("`{field}` is {value}, allowed: {least}..={MOST_EPISODES}")));
            }
        }
        // Datasets that were begun before there was a check have none.
        if check.is_some() && !is_checked(text) {
            return Err(broken("its check does not fit: it was changed after it was written".to_owned()));
        }
        Ok(description)
    }

    /// Writes it to `dir` so that a reader sees the old file, or the new one, and never a part.
    pub(super) fn write(&self, storage: &dyn Storage, dir: &Path) -> Result<(), DatasetError> {
        let mut text = serde_json::to_string_pretty(self).map_err(std::io::Error::other).at("encode", dir)?;
        text.truncate(text.len() - "\n}".len());
        let check = end_of(&text);
        text.push_str(CHECK);
        text.push_str(&check);
        Ok(replace(storage, &description_path(dir), text.as_bytes())?)
    }

    /// Every field in which `asked` differs from what is on disk. What may differ: `episodes`, and the package's version.
    pub(super) fn differences(&self, asked: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        compare("", &comparable(self), &comparable(asked), &mut found);
        found
    }

    /// What each of its shards has.
    pub(super) fn schema(&self) -> Schema<'_> {
        Schema { columns: &self.columns, codec: self.codec }
    }

    /// Episodes of shard number `shard` once the dataset is complete: first, and one past the last.
    pub(super) fn range(&self, shard: u64) -> (u64, u64) {
        let first = shard * self.episodes_per_shard;
        (first, (first + self.episodes_per_shard).min(self.episodes))
    }
}

/// Whether the check at the end of `text`, the content of a `dataset.json`, is the CRC-32 of all before it.
fn is_checked(text: &[u8]) -> bool {
    let parts = str::from_utf8(text).ok().and_then(|text| text.rsplit_once(CHECK));
    parts.is_some_and(|(fields, rest)| rest == end_of(fields))
}

/// The check of `fields`, with what ends the object.
fn end_of(fields: &str) -> String {
    format!("{:08x}\"\n}}\n", crc32fast::hash(fields.as_bytes()))
}

/// The most episodes a dataset may have: a stream index has 56 bits.
pub(super) const MOST_EPISODES: u64 = 1 << 56;

/// `description` as JSON that has been through text, since a float may lose its last bit there.
fn comparable(description: &Description) -> Value {
    let text = serde_json::to_string(description).unwrap_or_default();
    let mut value: Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("episodes");
        fields.remove("package");
    }
    value
}

fn compare(field: &str, on_disk: &Value, asked: &Value, found: &mut Vec<Difference>) {
    let inner = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    match (on_disk, asked) {
        (Value::Object(left), Value::Object(right)) => {
            for (name, value) in left {
                compare(&inner(name), value, right.get(name).unwrap_or(&Value::Null), found);
            }
            for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
                compare(&inner(name), &Value::Null, value, found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&inner(&index.to_string()), left, right, found);
            }
        }
        _ if on_disk != asked => {
            let show = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
            found.push(Difference { field: field.to_owned(), on_disk: show(on_disk), asked: show(asked) });
        }
        _ => {}
    }
}

/// Refuses columns that could not be stored or told apart.
pub(super) fn check_columns(columns: &[ColumnSpec], codec: Codec) -> Result<(), DatasetError> {
    let wrong = |column: &str, reason: String| Err(DatasetError::Column { column: column.to_owned(), reason });
    if columns.is_empty() || columns.len() > COLUMNS_BUDGET {
        return wrong("", format!("a dataset has 1 to {COLUMNS_BUDGET} columns, not {}", columns.len()));
    }
    for (index, column) in columns.iter().enumerate() {
        let name = column.name.as_str();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if name.is_empty() || name.len() > 100 || !name.bytes().all(plain) {
            return wrong(name, "a name has 1 to 100 letters, digits, `_`, `.` or `-`".to_owned());
        }
        if RESERVED.contains(&name) {
            return wrong(name, format!("the format keeps the names {} for itself", RESERVED.join(", ")));
        }
        if columns[..index].iter().any(|other| other.name == name) {
            return wrong(name, "there are two of this name".to_owned());
        }
        let elements = column.shape.iter().try_fold(column.dtype.size(), |total, &side| total.checked_mul(side));
        if column.shape.len() > 8 || !elements.is_some_and(|bytes| (1..=ROW_BUDGET).contains(&bytes)) {
            return wrong(
                name,
                format!("a row has at most 8 axes and 1 to {ROW_BUDGET} bytes, not {:?}", column.shape),
            );
        }
        codec.check_column(column).or_else(|reason| wrong(name, reason))?;
        let is_part_of = |other: &&ColumnSpec| tensor_names(&other.name).iter().any(|part| part == name);
        if let Some(other) = columns.iter().filter(|other| codec.packs(other)).find(is_part_of) {
            return wrong(name, format!("the packed column `{}` keeps this name for itself", other.name));
        }
    }
    Ok(())
}

/// What is at `dir`, when it is not a dataset.
fn what_else_is_at(dir: &Path) -> Result<DatasetError, DatasetError> {
    let path = dir.to_owned();
    if !dir.try_exists().at("look at", dir)? {
        return Ok(DatasetError::Missing { path });
    }
    if !dir.is_dir() {
        return Ok(DatasetError::NotADataset { path, reason: "it is a file, a dataset is a directory".to_owned() });
    }
    if fs::read_dir(dir).at("list", dir)?.next().is_none() {
        return Ok(DatasetError::Empty { path });
    }
    Ok(DatasetError::NotADataset { path, reason: "the directory has no dataset.json".to_owned() })
}

/// `dataset.json` of the dataset in `dir`.
pub(super) fn description_path(dir: &Path) -> PathBuf {
    dir.join("dataset.json")
}

/// `manifest.jsonl` of the dataset in `dir`.
pub(super) fn manifest_path(dir: &Path) -> PathBuf {
    dir.join("manifest.jsonl")
}

/// The directory of the shard files of the dataset in `dir`.
pub(super) fn shards_path(dir: &Path) -> PathBuf {
    dir.join("shards")
}
