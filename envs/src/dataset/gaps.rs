//! Which episodes a dataset lacks, in words, and which parts of it would record them.

use std::collections::BTreeSet;
use std::fmt;

use super::layout::Description;
use super::manifest::Entry;
use super::shard_of::ShardOf;

/// Ranges that are named; of more, only the number is said.
const NAMED: usize = 8;
/// Into how many parts somebody may have cut a dataset; beyond this each missing shard is a part of its own.
const MOST_PARTS: u64 = 4096;

/// What `ranges`, in order, leave of `0..episodes`. Ranges are of episodes: first, and one past the last.
pub(super) fn gaps(ranges: impl IntoIterator<Item = [u64; 2]>, episodes: u64) -> Vec<[u64; 2]> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for [first, end] in ranges {
        if first > next {
            gaps.push([next, first]);
        }
        next = next.max(end);
    }
    if next < episodes {
        gaps.push([next, episodes]);
    }
    gaps
}

/// Adds a range, so that ranges that touch become one.
pub(super) fn extend(ranges: &mut Vec<[u64; 2]>, [first, end]: [u64; 2]) {
    match ranges.last_mut() {
        Some(last) if last[1] == first => last[1] = end,
        _ => ranges.push([first, end]),
    }
}

/// Ranges of episodes, first and one past the last, as people say them: `0 to 63, 128 to 191`.
pub struct Ranges<'a>(pub &'a [[u64; 2]]);

impl Ranges<'_> {
    /// How many episodes they are together.
    #[must_use]
    pub fn episodes(&self) -> u64 {
        self.0.iter().map(|[first, end]| end - first).sum()
    }
}

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &[first, end]) in self.0.iter().take(NAMED).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match end - first {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first} to {}", end - 1)?,
            }
        }
        match self.0.len().checked_sub(NAMED) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more ranges"),
        }
    }
}

/// Parts that have exactly `shards`, of `total` shard files numbered from 0. Where `given` parts are there already, of as
/// many parts as these and the missing ones are together, if that can be; else of as few as can be.
pub(super) fn parts_of(shards: &BTreeSet<u64>, total: u64, given: u64) -> Vec<ShardOf> {
    let cut = |count: u64| -> Option<Vec<ShardOf>> {
        let indices: BTreeSet<u64> = shards.iter().map(|shard| shard % count).collect();
        let whole = |&index: &u64| (index..total).step_by(count as usize).all(|shard| shards.contains(&shard));
        indices.iter().all(whole).then(|| indices.iter().filter_map(|&index| ShardOf::new(index, count)).collect())
    };
    let most = MOST_PARTS.min(total);
    let mut as_given =
        (given + 1..=most).filter_map(|count| cut(count).filter(|parts| parts.len() as u64 == count - given));
    let known = if given > 0 { as_given.next() } else { None };
    let each = || shards.iter().filter_map(|&shard| ShardOf::new(shard, total)).collect();
    known.or_else(|| (1..=most).find_map(cut)).unwrap_or_else(each)
}

/// The part that has exactly the shards of `entries`: one of several, with more than one shard.
pub(super) fn part(entries: &[Entry], description: &Description) -> Option<ShardOf> {
    let per_shard = description.episodes_per_shard;
    let whole =
        |entry: &Entry| description.range(entry.episodes[0] / per_shard) == (entry.episodes[0], entry.episodes[1]);
    let shards: BTreeSet<u64> =
        entries.iter().filter(|entry| whole(entry)).map(|e| e.episodes[0] / per_shard).collect();
    if shards.len() < 2 || shards.len() < entries.len() {
        return None;
    }
    match parts_of(&shards, description.episodes.div_ceil(per_shard), 0)[..] {
        [part] if part != ShardOf::WHOLE => Some(part),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(shards: &[u64], total: u64, given: u64) -> Vec<String> {
        parts_of(&shards.iter().copied().collect(), total, given).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_missing_is_named_as_it_was_cut() {
        assert_eq!(named(&[1, 3, 5, 7], 8, 1), ["1/2"]);
        assert_eq!(named(&[3], 16, 15), ["3/16"]);
        assert_eq!(named(&[3, 7], 16, 14), ["3/16", "7/16"]);
        assert_eq!(named(&[3, 7, 19, 23], 32, 14), ["3/16", "7/16"]);
        assert_eq!(named(&[0, 1, 2], 3, 0), ["0/1"]);
        // Two parts of three were given, and of the third a shard is damaged: no cut into three fits.
        assert_eq!(named(&[2, 6, 7], 9, 2), ["2/8", "6/8", "7/8"]);
    }

    #[test]
    fn what_is_named_records_what_is_missing_and_nothing_else() {
        for mask in 1u64..1 << 9 {
            let shards: BTreeSet<u64> = (0..9).filter(|shard| mask >> shard & 1 == 1).collect();
            for given in 0..4 {
                let parts = parts_of(&shards, 9, given);
                let had: BTreeSet<u64> = (0..9).filter(|&shard| parts.iter().any(|part| part.has(shard))).collect();
                assert_eq!(had, shards, "{given} given: {parts:?}");
            }
        }
    }

    #[test]
    fn ranges_read_as_people_say_them() {
        assert_eq!(Ranges(&[[0, 64], [70, 71], [80, 82]]).to_string(), "0 to 63, 70, 80 to 81");
        let many: Vec<[u64; 2]> = (0..11).map(|k| [2 * k, 2 * k + 1]).collect();
        assert_eq!(Ranges(&many).to_string(), "0, 2, 4, 6, 8, 10, 12, 14 and 3 more ranges");
        assert_eq!(Ranges(&many).episodes(), 11);
    }
}
