//! What the files of a checkpoint may hold, as functions of their bytes: nothing here opens a file or makes a tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{CONFIG, FORMAT, MODEL, OPTIMIZER, Progress, STEP};

/// The most bytes of a JSON file of a checkpoint.
pub(super) const JSON_BUDGET: u64 = 1 << 20;
/// The most bytes of what a run needs to go on: some thousand envs are in it where a policy is trained.
pub(super) const STATE_BUDGET: u64 = 16 << 20;
/// The most bytes of a tensor file: a thousand million numbers.
pub(super) const TENSORS_BUDGET: u64 = 4 << 30;
/// The most bytes of the header of a tensor file.
const HEADER_BUDGET: u64 = 16 << 20;
/// The most tensors of a file.
const MOST_TENSORS: usize = 65_536;
/// Where the header of a tensor file starts: after its length.
const PREFIX: u64 = 8;

/// What `manifest.json` says of each file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// File, relative to the checkpoint, and what it must be.
    pub files: [(&'static str, Listed); 4],
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its size.
    pub bytes: u64,
    /// sha256 of its bytes, in hex.
    pub sha256: String,
}

impl Listing {
    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// Another format, a file too many or too few, or one of an impossible size.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Manifest {
            #[serde(rename = "format")]
            _format: u32,
            files: Files,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Files {
            #[serde(rename = "model/config.json")]
            config: Listed,
            #[serde(rename = "model/model.safetensors")]
            model: Listed,
            #[serde(rename = "training_state/optimizer.safetensors")]
            optimizer: Listed,
            #[serde(rename = "training_state/step.json")]
            step: Listed,
        }
        let broken = |error: serde_json::Error| error.to_string();
        // The version first: a later one may have fields that this one would call unknown.
        let Version { format } = serde_json::from_slice(text).map_err(broken)?;
        if format != FORMAT {
            return Err(format!("format {format}, this version reads format {FORMAT}"));
        }
        let Files { config, model, optimizer, step } = serde_json::from_slice::<Manifest>(text).map_err(broken)?.files;
        let files = [(CONFIG, config), (MODEL, model), (OPTIMIZER, optimizer), (STEP, step)];
        for (file, listed) in &files {
            let most = match *file {
                STEP => STATE_BUDGET,
                file if file.ends_with("json") => JSON_BUDGET,
                _ => TENSORS_BUDGET,
            };
            if listed.bytes > most {
                return Err(format!("{file}: {} bytes, at most {most} are read", listed.bytes));
            }
        }
        Ok(Self { files })
    }

    /// The size of one of the files.
    pub(super) fn bytes_of(&self, file: &str) -> u64 {
        self.files.iter().find(|(name, _)| *name == file).map_or(0, |(_, listed)| listed.bytes)
    }
}

/// Reads `step.json`.
///
/// # Errors
/// Another form, or numbers that no run reaches.
pub fn progress(text: &[u8]) -> Result<Progress, String> {
    /// Draws are numbers of random streams, which have 56 bits; half of them leaves room to go on.
    const MOST: u64 = 1 << 55;
    let progress: Progress = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    for (field, value, most) in [
        ("update", progress.update, MOST),
        ("draws", progress.draws, MOST),
        ("skipped", progress.skipped, progress.update),
        ("unlogged.updates", progress.unlogged.updates, progress.update),
    ] {
        if value > most {
            return Err(format!("{field} = {value}: allowed is 0..={most}"));
        }
    }
    Ok(progress)
}

/// Why a tensor file is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is no tensor file.
    File(String),
    /// It is one, but not of this model.
    Tensor {
        /// The tensor.
        name: String,
        /// What the file has.
        found: String,
        /// What the model has.
        expected: String,
    },
}

/// Bytes of the header of a tensor file of `file_bytes` bytes that begins with `prefix`.
///
/// # Errors
/// When the file or the budget is too small for it.
pub fn header_bytes(prefix: [u8; PREFIX as usize], file_bytes: u64) -> Result<u64, String> {
    let bytes = u64::from_le_bytes(prefix);
    let most = HEADER_BUDGET.min(file_bytes.saturating_sub(PREFIX));
    if bytes > most {
        return Err(format!("its header claims {bytes} bytes, there can be at most {most}"));
    }
    Ok(bytes)
}

/// Where a tensor lies in its file, in bytes from the start of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The tensor.
    pub name: String,
    /// Its first byte.
    pub begin: u64,
    /// Its size.
    pub bytes: u64,
}

/// The names of the tensors that a header tells of.
///
/// # Errors
/// If it does not parse.
pub fn names(header: &[u8]) -> Result<BTreeSet<String>, String> {
    let Header(tensors) =
        serde_json::from_slice(header).map_err(|error| format!("its header does not parse: {error}"))?;
    Ok(tensors.into_keys().collect())
}

/// The places of the tensors of a file of `file_bytes` bytes with this header, in the order in which they lie. There are
/// exactly the `expected` ones, f32 of these shapes, and they fill the file without gaps.
///
/// # Errors
/// See [`Refusal`].
pub fn places(header: &[u8], file_bytes: u64, expected: &BTreeMap<String, Vec<i64>>) -> Result<Vec<Place>, Refusal> {
    let Header(mut tensors) =
        serde_json::from_slice(header).map_err(|error| Refusal::File(format!("its header does not parse: {error}")))?;
    let refuse =
        |name: &str, found: String, expected: String| Err(Refusal::Tensor { name: name.to_owned(), found, expected });
    if let Some(extra) = tensors.keys().find(|name| !expected.contains_key(*name)) {
        return refuse(extra, "in the file".to_owned(), "no such tensor".to_owned());
    }
    let base = PREFIX + header.len() as u64;
    let mut places = Vec::with_capacity(expected.len());
    for (name, shape) in expected {
        let wanted = format!("F32 {shape:?}");
        let Some(found) = tensors.remove(name) else {
            return refuse(name, "not in the file".to_owned(), wanted);
        };
        if found.dtype != "F32" || !found.shape.iter().copied().eq(shape.iter().map(|&side| side as u64)) {
            return refuse(name, format!("{} {:?}", found.dtype, found.shape), wanted);
        }
        let [begin, end] = found.data_offsets;
        let bytes = 4 * shape.iter().product::<i64>() as u64;
        if end.checked_sub(begin) != Some(bytes) {
            return refuse(name, format!("in bytes {begin} to {end}"), format!("{bytes} bytes"));
        }
        // An end beyond the file is found below.
        places.push(Place { name: name.clone(), begin: base.saturating_add(begin), bytes });
    }
    // Those without bytes lie before the one that starts where they do.
    places.sort_by_key(|place| (place.begin, place.bytes));
    let mut at = base;
    for place in &places {
        if place.begin != at {
            let Place { name, begin, .. } = place;
            return Err(Refusal::File(format!(
                "tensor `{name}` begins at byte {begin}, what is before it ends at {at}"
            )));
        }
        at = at.saturating_add(place.bytes);
    }
    if at != file_bytes {
        return Err(Refusal::File(format!("its tensors end at byte {at}, the file has {file_bytes} bytes")));
    }
    Ok(places)
}

/// The first of little-endian f32 numbers that is not finite: its index and value.
#[must_use]
pub fn not_finite(bytes: &[u8]) -> Option<(usize, f32)> {
    let numbers = bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number));
    numbers.enumerate().find(|(_, number)| !number.is_finite())
}

/// The header of a tensor file, but for its metadata.
struct Header(BTreeMap<String, Info>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;

        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if tensors.len() == MOST_TENSORS {
                        return Err(M::Error::custom(format!("more than {MOST_TENSORS} tensors")));
                    }
                    let info = map.next_value()?;
                    if tensors.insert(name.clone(), info).is_some() {
                        return Err(M::Error::custom(format!("two tensors are called `{name}`")));
                    }
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Tensors)
    }
}
