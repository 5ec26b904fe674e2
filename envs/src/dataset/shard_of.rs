//! `i/n`: one part of a dataset that is recorded in n parts, by n processes or machines.

use std::fmt;
use std::str::FromStr;

/// Part i of n, i in 0..n. It has every n-th shard file from the i-th on: so parts are equally large to within one shard
/// file, and stay what they are when the dataset is extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardOf {
    index: u64,
    count: u64,
}

/// A text that is not `i/n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("i/n expected, i in 0..n, zero-based: 0/4 is the first part of four, 3/4 the last")]
pub struct ShardOfError;

impl ShardOf {
    /// All shard files: `0/1`.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Part `index` of `count`, if there is one.
    #[must_use]
    pub fn new(index: u64, count: u64) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// i, from 0.
    #[must_use]
    pub fn index(self) -> u64 {
        self.index
    }

    /// n.
    #[must_use]
    pub fn count(self) -> u64 {
        self.count
    }

    /// Whether shard file number `shard` is in this part.
    #[must_use]
    pub fn has(self, shard: u64) -> bool {
        shard % self.count == self.index
    }
}

impl Default for ShardOf {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl FromStr for ShardOf {
    type Err = ShardOfError;

    fn from_str(text: &str) -> Result<Self, ShardOfError> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let parts = text.split_once('/').and_then(|(index, count)| Some((number(index)?, number(count)?)));
        parts.and_then(|(index, count)| Self::new(index, count)).ok_or(ShardOfError)
    }
}

impl fmt::Display for ShardOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_part_is_refused_with_what_is_allowed() {
        for text in
            ["4/4", "5/3", "a/b", "0/0", "", "/", "1", "-1/4", "+1/4", "1/ 4", "1/2/3", "0/18446744073709551616"]
        {
            let message = text.parse::<ShardOf>().unwrap_err().to_string();
            assert!(message.contains("i in 0..n, zero-based"), "{message}");
        }
        let part: ShardOf = "3/4".parse().unwrap();
        assert_eq!((part.index(), part.count(), part.to_string().as_str()), (3, 4, "3/4"));
    }

    #[test]
    fn every_shard_is_in_exactly_one_part() {
        for count in [1, 2, 3, 16] {
            for shard in 0..50 {
                let parts = (0..count).filter(|&index| ShardOf::new(index, count).unwrap().has(shard));
                assert_eq!(parts.count(), 1);
            }
        }
    }
}
