//! The directory of a dataset: its paths, and `dataset.json`, which says what the episodes are.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::column::ColumnSpec;
use super::error::{At, DatasetError, Difference};
use super::source::DatasetHeader;

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// A `dataset.json` beyond this is refused before it is read.
const DESCRIPTION_BUDGET: u64 = 16 << 20;
/// Columns that a dataset may have.
const COLUMNS_BUDGET: usize = 256;
/// Bytes that a row of a column may have.
const ROW_BUDGET: usize = 1 << 32;
/// Tensors that every shard has beside the source's columns.
pub(super) const RESERVED: [&str; 2] = ["lengths", "checks"];

/// How rows are encoded in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// As they are in memory, little-endian.
    Raw,
}

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
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(what_else_is_at(dir)?);
            }
            Err(source) => return Err(source).at("open", &path),
        };
        let mut text = Vec::new();
        file.take(DESCRIPTION_BUDGET + 1).read_to_end(&mut text).at("read", &path)?;
        if text.len() as u64 > DESCRIPTION_BUDGET {
            return Err(DatasetError::Description { path, reason: format!("larger than {DESCRIPTION_BUDGET} bytes") });
        }
        Self::parse(&text, &path)
    }

    /// Understands `text`, the content of `path`.
    ///
    /// # Errors
    /// When it is of a newer format, is not what this format has, or names impossible sizes.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, DatasetError> {
        let broken = |reason: String| DatasetError::Description { path: path.to_owned(), reason };
        let value: Value = serde_json::from_slice(text).map_err(|error| broken(error.to_string()))?;
        let format = value.get("format").and_then(Value::as_u64).ok_or_else(|| broken("no `format`".to_owned()))?;
        if format > u64::from(FORMAT) {
            return Err(DatasetError::Newer { path: path.to_owned(), found: format });
        }
        let description: Self = serde_json::from_value(value).map_err(|error| broken(error.to_string()))?;
        check_columns(&description.columns).map_err(|error| broken(error.to_string()))?;
        if description.episodes_per_shard == 0 || description.episodes > MOST_EPISODES {
            return Err(broken("`episodes_per_shard` is 0 or `episodes` too large".to_owned()));
        }
        Ok(description)
    }

    /// Writes it to `dir` so that a reader sees the old file, or the new one, and never a part.
    pub(super) fn write(&self, dir: &Path) -> Result<(), DatasetError> {
        let mut text = serde_json::to_string_pretty(self).map_err(std::io::Error::other).at("encode", dir)?;
        text.push('\n');
        replace(&description_path(dir), text.as_bytes())
    }

    /// Every field in which `asked` differs from what is on disk. What may differ: `episodes`, and the package's version.
    pub(super) fn differences(&self, asked: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        compare("", &comparable(self), &comparable(asked), &mut found);
        found
    }

    /// Episodes of shard number `shard` once the dataset is complete: first, and one past the last.
    pub(super) fn range(&self, shard: u64) -> (u64, u64) {
        let first = shard * self.episodes_per_shard;
        (first, (first + self.episodes_per_shard).min(self.episodes))
    }
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
pub(super) fn check_columns(columns: &[ColumnSpec]) -> Result<(), DatasetError> {
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

/// Where a file is written before it gets its name.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Replaces `path` by `bytes` for good: temporary name, fsync, rename, fsync of the directory.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let new = temporary(path);
    let mut file = File::create(&new).at("create", &new)?;
    file.write_all(bytes).at(&format!("write {} bytes to", bytes.len()), &new)?;
    file.sync_all().at("sync", &new)?;
    fs::rename(&new, path).at("rename into place", path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes the names in `dir` survive a power loss.
pub(super) fn sync_directory(dir: &Path) -> Result<(), DatasetError> {
    // Elsewhere a directory cannot be opened, and renames are durable by other means.
    if cfg!(unix) { File::open(dir).and_then(|dir| dir.sync_all()).at("sync", dir) } else { Ok(()) }
}
