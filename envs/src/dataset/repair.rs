//! Repair: of a damaged dataset every episode that is whole is kept, whatever else is lost. Nothing is deleted: what is
//! damaged goes to `damaged/`.
//!
//! A shard that can be restored to its committed bytes is. Of any other, each run of whole episodes becomes a shard of its
//! own, and the rest a gap, which collecting again fills with the bytes that were there: episodes are functions of their
//! number. New shards are safe before a damaged one is moved, and all of that before the manifest speaks of it, so repairing
//! again after any end gives the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::commit::Stored;
use super::error::DatasetError;
use super::gaps::gaps;
use super::layout::{Description, manifest_path, shards_path};
use super::manifest::{Entry, Manifest, Tail, shard_range};
use super::reader::map_any;
use super::salvage::Wreck;
use super::session::{shard_files, write_canonical};
use super::verify::Damage;
use crate::storage::{At, Lock, Storage, create_folders, write};

/// What can be done where `dataset.json` is lost.
const ADVICE: &str = "; the shards do not tell what it said: copy it from another part of this dataset, or from a new \
                      directory in which the same collect command has been begun";

/// What a repair did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// The dataset.
    pub path: PathBuf,
    /// Lines of the manifest that were left out.
    pub lines: Vec<Damage>,
    /// Shard files that were damaged, lost or without a line, and what became of them.
    pub files: Vec<Mended>,
    /// Committed episodes that could not be kept: first, and one past the last, of each range.
    pub lost: Vec<[u64; 2]>,
    /// All episodes that the dataset lacks now, in the same way.
    pub missing: Vec<[u64; 2]>,
    /// Episodes that it has now.
    pub episodes: u64,
    /// Episodes asked for.
    pub requested: u64,
}

/// What became of one shard file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mended {
    /// The file, relative to the dataset.
    pub file: String,
    /// What was wrong.
    pub problem: String,
    /// What was done.
    pub verdict: Verdict,
    /// Its episodes that the dataset has now: first, and one past the last, of each range.
    pub kept: Vec<[u64; 2]>,
    /// Where the damaged file is now, relative to the dataset.
    pub moved_to: Option<String>,
}

/// What was done about a shard file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was whole and got its line.
    Adopted,
    /// It has its committed bytes again.
    Restored,
    /// Its whole episodes are in shards of their own.
    Salvaged,
    /// Nothing of it is whole.
    Lost,
}

/// A shard file that is not simply fine.
struct Case {
    name: String,
    /// What the name or the line says.
    episodes: [u64; 2],
    /// The line, where there is one.
    entry: Option<Entry>,
    problem: String,
    found: Found,
}

/// What such a file is.
enum Found {
    /// Not there.
    Nothing,
    /// The shard of its episodes, exactly.
    Shard(Entry),
    /// Something with so much in it, in ranges of episodes.
    Wreck(Vec<[u64; 2]>),
}

/// Episodes that the dataset has: ranges without common episodes, by their first.
#[derive(Default)]
struct Had(BTreeMap<u64, u64>);

impl Had {
    fn add(&mut self, [first, end]: [u64; 2]) {
        self.0.insert(first, end);
    }

    /// What of a range is not had yet.
    fn rest(&self, [first, end]: [u64; 2]) -> Vec<[u64; 2]> {
        let before = self.0.range(..=first).next_back().map(|(&first, &end)| [first, end]);
        let within = self.0.range(first + 1..end.max(first + 1)).map(|(&first, &end)| [first, end]);
        let had = before.into_iter().chain(within).filter(|had| had[1] > first);
        let had = had.map(|[from, to]| [from.max(first) - first, to.min(end) - first]);
        gaps(had, end - first).into_iter().map(|[from, to]| [from + first, to + first]).collect()
    }
}

/// Repairs the dataset in `dir`, in the current rayon pool; with `dry_run`, only says what it would do.
///
/// # Errors
/// When there is no `dataset.json` that says what the episodes are, another process writes to the dataset, or the system
/// fails. Repairing again then goes on.
pub fn repair(storage: &dyn Storage, dir: &Path, dry_run: bool) -> Result<Repaired, DatasetError> {
    let description = Description::read(dir).map_err(advise)?;
    let _lock = if dry_run { None } else { Some(Lock::take(dir)?) };
    let mut manifest = Manifest::read(dir, &description)?;
    refuse_other_description(dir, &description)?;
    let lines = dropped_lines(&manifest);
    let mut cases = look(dir, &description, &mut manifest)?;
    // Whole shards first, and of others the smallest: so no file gets a name that one not yet looked at has.
    cases.sort_by_key(|case| {
        let (count, whole) = (case.episodes[1] - case.episodes[0], case.is_whole());
        (!whole, if whole { u64::MAX - count } else { count }, case.episodes)
    });

    let mut had = Had::default();
    manifest.entries.iter().for_each(|entry| had.add(entry.episodes));
    let (mut files, mut committed) = (Vec::new(), Vec::new());
    for case in cases {
        committed.extend(case.entry.as_ref().map(|entry| entry.episodes));
        let Some((verdict, kept)) = case.judge(&had) else { continue };
        for &range in &kept {
            had.add(range);
        }
        let aside = matches!(case.found, Found::Wreck(_)) && verdict != Verdict::Restored;
        let mut moved_to = aside.then(|| format!("damaged/{}", case.name));
        if !dry_run {
            manifest.entries.extend(case.save(storage, dir, &description, &kept)?);
            if aside {
                moved_to = Some(set_aside(storage, dir, &case.name)?);
            }
        }
        files.push(Mended { file: format!("shards/{}", case.name), problem: case.problem, verdict, kept, moved_to });
    }
    if !dry_run {
        if !lines.is_empty() {
            keep_manifest(storage, dir)?;
        }
        manifest.entries.sort_by_key(|entry| entry.episodes);
        write_canonical(storage, dir, &manifest)?;
    }
    files.sort_by(|left, right| left.file.cmp(&right.file));
    let mut lost: Vec<[u64; 2]> = committed.into_iter().flat_map(|range| had.rest(range)).collect();
    lost.sort_unstable();
    let missing = gaps(had.0.iter().map(|(&first, &end)| [first, end]), description.episodes);
    let (episodes, requested) = (had.0.iter().map(|(first, end)| end - first).sum(), description.episodes);
    Ok(Repaired { path: dir.to_owned(), lines, files, lost, missing, episodes, requested })
}

impl Case {
    fn is_whole(&self) -> bool {
        match &self.found {
            Found::Nothing => false,
            Found::Shard(_) => true,
            Found::Wreck(whole) => *whole == [self.episodes],
        }
    }

    /// What to do about it when these episodes are had, and which it adds; nothing about a shard that is had otherwise.
    fn judge(&self, had: &Had) -> Option<(Verdict, Vec<[u64; 2]>)> {
        let whole = match &self.found {
            Found::Nothing => Vec::new(),
            Found::Shard(_) => vec![self.episodes],
            Found::Wreck(whole) => whole.clone(),
        };
        let kept: Vec<[u64; 2]> = whole.into_iter().flat_map(|range| had.rest(range)).collect();
        let verdict = match &self.found {
            Found::Shard(_) if kept.is_empty() => return None,
            Found::Shard(_) if kept == [self.episodes] => Verdict::Adopted,
            Found::Wreck(_) if kept == [self.episodes] => Verdict::Restored,
            _ if kept.is_empty() => Verdict::Lost,
            _ => Verdict::Salvaged,
        };
        Some((verdict, kept))
    }

    /// Makes shards of the episodes `kept`; their lines.
    fn save(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        description: &Description,
        kept: &[[u64; 2]],
    ) -> Result<Vec<Entry>, DatasetError> {
        let path = shards_path(dir).join(&self.name);
        if let Found::Shard(entry) = &self.found
            && *kept == [self.episodes]
        {
            // Whoever left it without a line may have left it unsafe, too.
            storage.append(&path).and_then(|mut file| file.sync()).at("sync", &path)?;
            storage.sync_folder(&shards_path(dir)).at("sync", &shards_path(dir))?;
            return Ok(vec![entry.clone()]);
        }
        let changed =
            || DatasetError::Shard { path: path.clone(), reason: "it changed while it was repaired".to_owned() };
        let file = if kept.is_empty() { return Ok(Vec::new()) } else { map_any(&path)?.map_err(|_| changed())? };
        let wreck = self.wreck(&file, description).ok_or_else(changed)?;
        let shard = |range: &[u64; 2]| {
            let run = (range[0] - self.episodes[0]) as usize..(range[1] - self.episodes[0]) as usize;
            let (entry, pieces) = wreck.shard(run, description.episodes_per_shard);
            Stored::write(storage, dir, entry, pieces.iter().map(|piece| &**piece))?.name(dir)
        };
        kept.iter().map(shard).collect()
    }

    fn wreck<'a>(&self, file: &'a [u8], description: &'a Description) -> Option<Wreck<'a>> {
        match &self.entry {
            Some(entry) => Some(Wreck::committed(file, entry, description.schema())),
            None => Wreck::orphan(file, self.episodes, description.schema()),
        }
    }

    /// Looks into its file.
    fn looked_into(mut self, file: &[u8], description: &Description) -> Self {
        let Some(wreck) = self.wreck(file, description) else { return self };
        let run = |run: std::ops::Range<usize>| [run.start, run.end].map(|slot| self.episodes[0] + slot as u64);
        let found = match wreck.exact(description.episodes_per_shard) {
            Some(entry) => Found::Shard(entry),
            None => Found::Wreck(wreck.runs().into_iter().map(run).collect()),
        };
        self.found = found;
        self
    }
}

fn advise(error: DatasetError) -> DatasetError {
    match error {
        DatasetError::NotADataset { path, reason } => DatasetError::NotADataset { path, reason: reason + ADVICE },
        DatasetError::Description { path, reason } => DatasetError::Description { path, reason: reason + ADVICE },
        error => error,
    }
}

/// A manifest whose lines are whole and speak of something else means that `dataset.json` is not the one that was here.
fn refuse_other_description(dir: &Path, description: &Description) -> Result<(), DatasetError> {
    let path = manifest_path(dir);
    if !path.try_exists().at("look at", &path)? {
        return Ok(());
    }
    let bytes = Manifest::bytes(dir).at("read", &path)?;
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if let Some(reason) = Entry::parse(line).ok().and_then(|entry| entry.fits(description).err()) {
            let reason = format!(
                "line {} of manifest.jsonl is whole, but {reason}: it is not what the shards are of",
                index + 1
            );
            return Err(advise(DatasetError::Description { path: dir.join("dataset.json"), reason }));
        }
    }
    Ok(())
}

fn dropped_lines(manifest: &Manifest) -> Vec<Damage> {
    let mut lines: Vec<Damage> = manifest.damaged.iter().map(|(line, reason)| Damage::of_line(*line, reason)).collect();
    match manifest.tail {
        Tail::Clean | Tail::Torn => {} // a torn line never counted
        Tail::Damaged(line) => lines.push(Damage::of_line(line, "its check does not fit")),
    }
    lines
}

/// Takes out of the manifest what is not as it says, and finds the shard files that it does not speak of.
fn look(dir: &Path, description: &Description, manifest: &mut Manifest) -> Result<Vec<Case>, DatasetError> {
    let known: BTreeSet<String> = manifest.entries.iter().map(|entry| entry.shard.clone()).collect();
    let committed = std::mem::take(&mut manifest.entries);
    let looked: Result<Vec<Option<Case>>, DatasetError> =
        committed.par_iter().map(|entry| look_at(dir, description, entry)).collect();
    let mut cases = Vec::new();
    for (entry, case) in committed.into_iter().zip(looked?) {
        match case {
            None => manifest.entries.push(entry),
            Some(case) => cases.push(case),
        }
    }
    for name in shard_files(dir)?.into_iter().filter(|name| !known.contains(name)) {
        let range = shard_range(&name, description.episodes_per_shard).filter(|range| range[1] <= description.episodes);
        let Some(episodes) = range else { continue };
        let problem = "no line of the manifest speaks of it".to_owned();
        let case = Case { name, episodes, entry: None, problem, found: Found::Wreck(Vec::new()) };
        if let Ok(file) = map_any(&shards_path(dir).join(&case.name))? {
            cases.push(case.looked_into(&file, description));
        }
    }
    Ok(cases)
}

/// What is wrong with a committed shard, if anything.
fn look_at(dir: &Path, description: &Description, entry: &Entry) -> Result<Option<Case>, DatasetError> {
    let case = |problem: String, found: Found| {
        let (name, episodes) = (entry.shard.clone(), entry.episodes);
        Case { name, episodes, entry: Some(entry.clone()), problem, found }
    };
    let file = match map_any(&shards_path(dir).join(&entry.shard))? {
        Err(problem) => return Ok(Some(case(problem, Found::Nothing))),
        Ok(file) => file,
    };
    let problem = match file.len() as u64 {
        found if found != entry.bytes => format!("{found} bytes, {} were committed", entry.bytes),
        _ if blake3::hash(&file).to_hex().as_str() == entry.blake3 => return Ok(None),
        _ => "its hash is not the committed one".to_owned(),
    };
    Ok(Some(case(problem, Found::Wreck(Vec::new())).looked_into(&file, description)))
}

/// Moves a shard file to `damaged/`; where it is now, relative to the dataset.
fn set_aside(storage: &dyn Storage, dir: &Path, name: &str) -> Result<String, DatasetError> {
    let damaged = dir.join("damaged");
    create_folders(storage, &damaged)?;
    let to = unused(&damaged, name);
    let (from, shards) = (shards_path(dir).join(name), shards_path(dir));
    storage.rename(&from, &damaged.join(&to)).at("move aside", &from)?;
    storage.sync_folder(&damaged).at("sync", &damaged)?;
    storage.sync_folder(&shards).at("sync", &shards)?;
    Ok(format!("damaged/{to}"))
}

/// Keeps the manifest as it was, for whoever wants to look at its damaged lines.
fn keep_manifest(storage: &dyn Storage, dir: &Path) -> Result<(), DatasetError> {
    let (path, damaged) = (manifest_path(dir), dir.join("damaged"));
    create_folders(storage, &damaged)?;
    let bytes = Manifest::bytes(dir).at("read", &path)?;
    write(storage, &damaged.join(unused(&damaged, "manifest.jsonl")), &bytes)?;
    storage.sync_folder(&damaged).at("sync", &damaged)?;
    Ok(())
}

/// `name`, or `name` with the first number that nothing in `folder` has.
fn unused(folder: &Path, name: &str) -> String {
    let numbered = (1..).map(|number| format!("{name}.{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !folder.join(name).exists()).expect("there are more numbers than files")
}
