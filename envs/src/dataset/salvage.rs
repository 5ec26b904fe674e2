//! Looking into a shard file that is not what it should be: which of its episodes are whole, beyond doubt, and the shards of
//! just those.
//!
//! The header, the lengths and the checks follow from what is known otherwise, so their damage costs nothing. Rows count as
//! whole when all of a column's have the checks that the manifest's hash is of; or when the shard's own checks have that
//! hash, and the rows fit theirs. Where there is no line in the manifest, the shard's own checks are all there is, and a
//! header that is exactly as it should be says whose they are.

use std::ops::Range;

use super::column::{ColumnSpec, Follows};
use super::manifest::{Entry, runs, shard_name};
use super::shard::{PREFIX, Places, by_falling_size, column_digests};

/// A shard file with what is known of it.
pub(super) struct Wreck<'a> {
    file: &'a [u8],
    columns: &'a [ColumnSpec],
    /// Number of its first episode.
    first: u64,
    lengths: Vec<u64>,
    /// Steps before each episode, `[E + 1]`.
    steps_before: Vec<usize>,
    places: Places,
    /// Bytes of the header.
    header: usize,
    /// Checks of the rows as they are, `[E, columns]`.
    checks: Vec<i64>,
    /// Which episodes are whole.
    whole: Vec<bool>,
}

impl<'a> Wreck<'a> {
    /// Looks into `file`, which the manifest speaks of in `entry`.
    pub fn committed(file: &'a [u8], entry: &Entry, columns: &'a [ColumnSpec]) -> Self {
        let lengths = if has_room(file, entry.count(), columns) { entry.steps_of_each().collect() } else { Vec::new() };
        let mut wreck =
            Self::of(file, columns, entry.episodes[0], lengths).unwrap_or_else(|| Self::nothing(file, columns));
        wreck.judge(Some(entry));
        let all = 0..wreck.lengths.len();
        if wreck.runs() == [all.clone()] && wreck.hash(all) != entry.blake3 {
            wreck.whole.fill(false); // rows and checks were changed alike, and nothing tells where
        }
        wreck
    }

    /// Looks into `file`, which no line speaks of and whose name says that it has `episodes`.
    pub fn orphan(file: &'a [u8], episodes: [u64; 2], columns: &'a [ColumnSpec]) -> Option<Self> {
        let count = Some(episodes[1] - episodes[0]).filter(|&count| has_room(file, count, columns))? as usize;
        let header = usize::try_from(u64::from_le_bytes(*file.first_chunk::<PREFIX>()?)).ok()?.checked_add(PREFIX)?;
        let lengths = file.get(header..)?.get(..count.checked_mul(8)?)?;
        let lengths: Option<Vec<u64>> = words(lengths).map(|steps| u64::try_from(steps).ok()).collect();
        let mut wreck = Self::of(file, columns, episodes[0], lengths?)?;
        if !file.starts_with(&wreck.places.header(columns, episodes[0])) {
            return None;
        }
        wreck.judge(None);
        Some(wreck)
    }

    fn of(file: &'a [u8], columns: &'a [ColumnSpec], first: u64, lengths: Vec<u64>) -> Option<Self> {
        let mut steps_before = vec![0usize];
        for &steps in &lengths {
            steps_before.push(steps_before.last()?.checked_add(usize::try_from(steps).ok()?)?);
        }
        let places = Places::new(columns, lengths.len(), *steps_before.last()?)?;
        let header = places.header(columns, first).len();
        header.checked_add(places.bytes)?;
        let (checks, whole) = (vec![0; lengths.len() * columns.len()], vec![true; lengths.len()]);
        Some(Self { file, columns, first, lengths, steps_before, places, header, checks, whole })
    }

    fn nothing(file: &'a [u8], columns: &'a [ColumnSpec]) -> Self {
        let places = Places { lengths: 0..0, checks: 0..0, columns: vec![0..0; columns.len()], bytes: 0 };
        let (lengths, checks, whole) = (Vec::new(), Vec::new(), Vec::new());
        Self { file, columns, first: 0, lengths, steps_before: vec![0], places, header: 0, checks, whole }
    }

    /// Finds out which episodes are whole.
    fn judge(&mut self, entry: Option<&Entry>) {
        let width = self.columns.len();
        let at = |place: Range<usize>| self.header + place.start..self.header + place.end;
        let stored: Option<Vec<i64>> =
            self.file.get(at(self.places.checks.clone())).map(|bytes| words(bytes).collect());
        let mut there = vec![true; self.checks.len()];
        for (index, (check, there)) in self.checks.iter_mut().zip(&mut there).enumerate() {
            let (episode, column) = (index / width, index % width);
            let place = self.header + self.places.columns[column].start;
            let rows = rows(self.file, place, &self.columns[column], &self.steps_before, episode..episode + 1);
            *there = rows.is_some();
            *check = rows.map_or(0, |rows| i64::from(crc32fast::hash(rows)));
        }
        let digests = |checks: &[i64]| column_digests(self.columns, checks);
        let (of_rows, of_stored) = (digests(&self.checks), stored.as_deref().map(digests));
        for (column, spec) in self.columns.iter().enumerate() {
            let committed = entry.map(|entry| &entry.columns[&spec.name]);
            let all_whole = committed == Some(&of_rows[&spec.name]);
            let trusted = committed.is_none() || committed == of_stored.as_ref().map(|digests| &digests[&spec.name]);
            for (episode, whole) in self.whole.iter_mut().enumerate() {
                let index = episode * width + column;
                let fits = stored.as_ref().is_some_and(|stored| stored[index] == self.checks[index]);
                *whole &= there[index] && (all_whole || trusted && fits);
            }
        }
    }

    /// The line of the file, where it is exactly the shard of all its episodes.
    pub fn exact(&self, per_shard: u64) -> Option<Entry> {
        let all = 0..self.lengths.len();
        if self.runs() != [all.clone()] || self.file.len() != self.header + self.places.bytes {
            return None;
        }
        let blake3 = blake3::hash(self.file).to_hex().to_string();
        (blake3 == self.hash(all.clone())).then(|| Entry { blake3, ..self.shard(all, per_shard).0 })
    }

    /// The runs of whole episodes, from 0.
    pub fn runs(&self) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for episode in (0..self.whole.len()).filter(|&episode| self.whole[episode]) {
            match runs.last_mut() {
                Some(run) if run.end == episode => run.end += 1,
                _ => runs.push(episode..episode + 1),
            }
        }
        runs
    }

    /// The shard of the whole episodes `run`: its line, and the bytes of its file in pieces.
    pub fn shard(&self, run: Range<usize>, per_shard: u64) -> (Entry, Vec<Vec<u8>>, Vec<&'a [u8]>) {
        let steps = self.steps_before[run.end] - self.steps_before[run.start];
        let places = Places::new(self.columns, run.len(), steps).expect("a part is smaller than the whole");
        let episodes = [self.first + run.start as u64, self.first + run.end as u64];
        let lengths = &self.lengths[run.clone()];
        let checks = &self.checks[run.start * self.columns.len()..run.end * self.columns.len()];
        let header = places.header(self.columns, episodes[0]);
        let entry = Entry {
            shard: shard_name(episodes, per_shard),
            bytes: (header.len() + places.bytes) as u64,
            episodes,
            steps: steps as u64,
            lengths: runs(lengths.iter().copied()),
            blake3: String::new(),
            columns: column_digests(self.columns, checks),
        };
        let front = vec![header, bytemuck::cast_slice(lengths).to_vec(), bytemuck::cast_slice(checks).to_vec()];
        let columns = by_falling_size(self.columns).into_iter().map(|column| {
            let place = self.header + self.places.columns[column].start;
            let rows = rows(self.file, place, &self.columns[column], &self.steps_before, run.clone());
            rows.expect("whole episodes have all their rows")
        });
        (entry, front, columns.collect())
    }

    /// The hash that the shard of `run` has.
    fn hash(&self, run: Range<usize>) -> String {
        let (_, front, columns) = self.shard(run, u64::MAX);
        let mut hasher = blake3::Hasher::new();
        front.iter().map(Vec::as_slice).chain(columns).for_each(|piece| {
            hasher.update(piece);
        });
        hasher.finalize().to_hex().to_string()
    }
}

/// Whether a file can have so many episodes: lengths and checks alone take so much, and without them there is no row either.
fn has_room(file: &[u8], episodes: u64, columns: &[ColumnSpec]) -> bool {
    episodes.saturating_mul(8 * (1 + columns.len() as u64)) <= file.len() as u64
}

/// The rows of `episodes` of a column that begins at `place`, if the file has them.
fn rows<'a>(
    file: &'a [u8],
    place: usize,
    column: &ColumnSpec,
    steps_before: &[usize],
    episodes: Range<usize>,
) -> Option<&'a [u8]> {
    // An earlier episode leaves as many rows of any column as it leaves steps, observations or episodes.
    let before = |episode: usize| match column.follows {
        Follows::Observations => steps_before[episode] + episode,
        Follows::Steps => steps_before[episode],
        Follows::Episode => episode,
    };
    let at = |episode| place + before(episode) * column.row_bytes();
    let rows = at(episodes.start)..at(episodes.end);
    if rows.is_empty() { Some(&[]) } else { file.get(rows) }
}

/// Little-endian words; the header may be damaged, so nothing is assumed of their alignment.
fn words(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word))
}
