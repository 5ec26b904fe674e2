//! Merging: the parts of a dataset, recorded into directories of their own, become one, with the bytes of a dataset that was
//! recorded at once.
//!
//! Nothing is written before it is known that the parts are of one dataset, agree where they overlap, and leave no hole. A
//! shard is hashed while it is copied, and committed as a recorded one is: what ends a merge leaves what is committed, and
//! merging again goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::commit::{Journal, Stored};
use super::error::{DatasetError, Difference};
use super::gaps::{extend, gaps, parts_of};
use super::layout::{Description, description_path, shards_path};
use super::manifest::{Entry, Manifest};
use super::reader::map;
use super::room;
use super::session::{Session, Unsaid};
use super::shard_of::ShardOf;
use super::writer::Control;
use crate::storage::Storage;

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Merged {
    /// The result.
    pub path: PathBuf,
    /// Parts given.
    pub parts: usize,
    /// Shard files copied now; the others were there.
    pub copied: u64,
    /// Episodes that the result has.
    pub episodes: u64,
    /// Episodes that the whole dataset has.
    pub requested: u64,
    /// Bytes of its shard files.
    pub bytes: u64,
    /// Its digest, as of a dataset that was recorded at once.
    pub digest: String,
    /// What more than one part has, the same in each.
    pub duplicates: Vec<Duplicate>,
    /// Episodes that no part has: first, and one past the last, of each range.
    pub missing: Vec<[u64; 2]>,
    /// Whether it was stopped before the last shard.
    pub stopped: bool,
}

/// Episodes that two parts have, the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// A part.
    pub first: PathBuf,
    /// Another, or the same given twice.
    pub second: PathBuf,
    /// The episodes: first, and one past the last, of each range.
    pub episodes: Vec<[u64; 2]>,
}

/// One directory to merge, as it was when it was looked at.
struct Part<'a> {
    dir: &'a Path,
    description: Description,
    manifest: Manifest,
}

/// A shard of the result, and the parts that have it.
struct Choice<'a> {
    entry: &'a Entry,
    parts: Vec<usize>,
}

/// Merges `parts`, in any order, into the dataset in `out`, which is made where it is missing and may have been begun. Without
/// `partial`, parts that leave holes are refused.
///
/// # Errors
/// When a part is no dataset or is damaged, the parts are of different datasets or have recorded the same episodes
/// differently, episodes are missing, or there is no room: all this before anything is written. Then when the system fails.
pub fn merge(
    storage: &dyn Storage,
    parts: &[PathBuf],
    out: &Path,
    partial: bool,
    control: Control<'_>,
) -> Result<Merged, DatasetError> {
    let begun = description_path(out).exists().then_some(out);
    let dirs = begun.into_iter().chain(parts.iter().map(PathBuf::as_path));
    let read = dirs.map(Part::read).collect::<Result<Vec<Part<'_>>, DatasetError>>()?;
    let description = common(&read)?;
    let (choices, duplicates) = choose(&read, usize::from(begun.is_some()))?;
    let missing = gaps(choices.values().map(|choice| choice.entry.episodes), description.episodes);
    if !missing.is_empty() && !partial {
        let (requested, parts) = (description.episodes, lacking(&missing, &description, parts.len()));
        return Err(DatasetError::Holes { missing, requested, parts });
    }
    let here = |choice: &&Choice<'_>| begun.is_some() && choice.parts.contains(&0);
    let bytes = choices.values().filter(|choice| !here(choice)).map(|choice| choice.entry.bytes).sum();
    room::leave(storage, out, bytes, 0)?;

    let session = Session::begin(storage, out, description, Unsaid::default())?;
    let requested = choices.values().map(|choice| choice.entry.count()).sum();
    let mut journal = Journal::open(&session, requested, 0, control)?;
    let there: BTreeSet<[u64; 2]> = session.manifest.entries.iter().map(|entry| entry.episodes).collect();
    let (mut copied, mut stopped) = (0, false);
    for choice in choices.values().filter(|choice| !there.contains(&choice.entry.episodes)) {
        stopped = control.stop.load(Ordering::Relaxed);
        if stopped {
            break;
        }
        journal.commit(copy(&session, choice, &read)?)?;
        copied += 1;
    }
    let progress = journal.progress();
    if !stopped {
        session.finish()?;
    }
    let digest = Manifest::read(out, &session.description)?.digest();
    let (path, requested) = (out.to_owned(), session.description.episodes);
    let (parts, episodes, bytes) = (parts.len(), progress.episodes, progress.bytes);
    Ok(Merged { path, parts, copied, episodes, requested, bytes, digest, duplicates, missing, stopped })
}

impl<'a> Part<'a> {
    fn read(dir: &'a Path) -> Result<Self, DatasetError> {
        let description = Description::read(dir)?;
        let manifest = Manifest::read(dir, &description)?.undamaged(dir)?;
        Ok(Self { dir, description, manifest })
    }
}

/// The description that all parts have.
fn common(parts: &[Part<'_>]) -> Result<Description, DatasetError> {
    let Some((first, others)) = parts.split_first() else {
        let allowed = "1 or more directories".to_owned();
        return Err(DatasetError::Request { field: "parts", value: "0".to_owned(), allowed });
    };
    for other in others {
        let mut differences = first.description.differences(&other.description);
        let episodes = [first, other].map(|part| part.description.episodes.to_string());
        if episodes[0] != episodes[1] {
            let [on_disk, asked] = episodes;
            differences.push(Difference { field: "episodes".to_owned(), on_disk, asked });
        }
        if !differences.is_empty() {
            let (first, second) = (first.dir.to_owned(), other.dir.to_owned());
            return Err(DatasetError::Unlike { first, second, differences });
        }
    }
    // Parts may have been begun by different versions; the result must not depend on their order.
    let oldest = parts.iter().map(|part| &part.description).min_by_key(|description| &description.package);
    Ok(oldest.unwrap_or(&first.description).clone())
}

/// The shards that make the result, by first episode, and what several parts have, from number `given` on: before it is what
/// an earlier merge has copied. Of shards that overlap the larger counts.
fn choose<'a>(
    parts: &'a [Part<'_>],
    given: usize,
) -> Result<(BTreeMap<u64, Choice<'a>>, Vec<Duplicate>), DatasetError> {
    let mut all: Vec<(usize, &Entry)> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        all.extend(part.manifest.entries.iter().map(|entry| (index, entry)));
    }
    all.sort_by_key(|(index, entry)| (std::cmp::Reverse(entry.count()), entry.episodes[0], *index));
    let mut choices: BTreeMap<u64, Choice<'_>> = BTreeMap::new();
    let mut twice: BTreeMap<(usize, usize), Vec<[u64; 2]>> = BTreeMap::new();
    for (index, entry) in all {
        let [first, end] = entry.episodes;
        let before = choices.range_mut(..end).next_back().filter(|(_, choice)| choice.entry.episodes[1] > first);
        match before {
            None => {
                choices.insert(first, Choice { entry, parts: vec![index] });
            }
            Some((_, choice)) if choice.entry == entry => {
                if let Some(&other) = choice.parts.iter().find(|&&other| other >= given) {
                    extend(twice.entry((other, index)).or_default(), entry.episodes);
                }
                choice.parts.push(index);
            }
            Some((_, choice)) if choice.entry.episodes == entry.episodes => {
                let file = |index: usize| shards_path(parts[index].dir).join(&entry.shard);
                let (first, second) = (file(choice.parts[0]), file(index));
                return Err(DatasetError::Conflict { episodes: entry.episodes, first, second });
            }
            Some(_) => {}
        }
    }
    let path = |index: usize| parts[index].dir.to_owned();
    let duplicates = twice.into_iter().map(|((first, second), episodes)| Duplicate {
        first: path(first),
        second: path(second),
        episodes,
    });
    let duplicates = duplicates.collect();
    Ok((choices, duplicates))
}

/// Missing shard files for which parts are found; a description may ask for more than there is memory for.
const MOST_LISTED: u64 = 100_000;

/// The parts that would fill the holes.
fn lacking(missing: &[[u64; 2]], description: &Description, given: usize) -> Vec<ShardOf> {
    let per_shard = description.episodes_per_shard;
    let files = |[first, end]: &[u64; 2]| (end - 1) / per_shard - first / per_shard + 1;
    if missing.iter().map(files).sum::<u64>() > MOST_LISTED {
        return vec![ShardOf::WHOLE];
    }
    let shards: BTreeSet<u64> =
        missing.iter().flat_map(|[first, end]| first / per_shard..=(end - 1) / per_shard).collect();
    parts_of(&shards, description.episodes.div_ceil(per_shard), given as u64)
}

/// Copies a shard from the first part that has it undamaged.
fn copy<'a>(session: &Session<'a>, choice: &Choice<'_>, parts: &[Part<'_>]) -> Result<Stored<'a>, DatasetError> {
    let mut damage = None;
    for &index in &choice.parts {
        let path = shards_path(parts[index].dir).join(&choice.entry.shard);
        let reason = match map(&path, choice.entry.bytes)? {
            Err(reason) => reason,
            Ok(file) => {
                let stored = Stored::write(session.storage, session.dir, choice.entry.clone(), [&file[..]])?;
                if stored.entry.blake3 == choice.entry.blake3 {
                    return Ok(stored);
                }
                "its hash is not the committed one".to_owned()
            }
        };
        tracing::warn!("{}: {reason}", path.display());
        damage.get_or_insert(DatasetError::Shard { path, reason });
    }
    Err(damage.expect("a choice is of a part"))
}
