//! What the numbers of a configuration may be: one list a configuration, for its check and for whoever explains a refusal.

use std::fmt;
use std::ops::{Bound, RangeBounds, RangeInclusive};

/// A value that its field may not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}, allowed: {allowed}")]
pub struct OutOfRange {
    /// The field at fault, dotted where it lies in a group.
    pub field: String,
    /// What it holds.
    pub value: String,
    /// What it may hold, given the other fields.
    pub allowed: String,
}

/// Numbers between two bounds.
#[derive(Clone, Debug, PartialEq)]
pub enum Range {
    /// Whole ones, both bounds included.
    Whole(RangeInclusive<i128>),
    /// Finite ones.
    Real(Bound<f64>, Bound<f64>),
}

impl Range {
    /// The allowed number nearest to the one that `given` spells; none where `given` is no finite number, or where there is
    /// no nearest because the bound itself is excluded.
    #[must_use]
    pub fn nearest(&self, given: &str) -> Option<String> {
        let real = || given.parse().ok().filter(|value: &f64| value.is_finite());
        match self {
            Self::Whole(range) => {
                let value = given.parse().ok().or_else(|| real().map(|value| value.round() as i128))?;
                Some(value.clamp(*range.start(), *range.end()).to_string())
            }
            Self::Real(low, high) => {
                let value = real()?;
                let bound = match (low, high) {
                    (Bound::Included(low), _) if value < *low => *low,
                    (_, Bound::Included(high)) if value > *high => *high,
                    _ => return (*low, *high).contains(&value).then(|| given.to_owned()),
                };
                Some(bound.to_string())
            }
        }
    }
}

/// A bound as people write it: `10`, `1e-30`.
struct Plain(f64);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = self;
        if *value == 0.0 || (1e-4..1e7).contains(&value.abs()) { write!(f, "{value}") } else { write!(f, "{value:e}") }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(range) => write!(f, "{}..={}", range.start(), range.end()),
            Self::Real(Bound::Included(low), Bound::Included(high)) if low.total_cmp(high).is_eq() => {
                write!(f, "{low}")
            }
            Self::Real(low, high) => {
                f.write_str("a finite number in ")?;
                match low {
                    Bound::Included(low) => write!(f, "[{}, ", Plain(*low))?,
                    Bound::Excluded(low) => write!(f, "({}, ", Plain(*low))?,
                    Bound::Unbounded => f.write_str("(-inf, ")?,
                }
                match high {
                    Bound::Included(high) => write!(f, "{}]", Plain(*high)),
                    Bound::Excluded(high) => write!(f, "{})", Plain(*high)),
                    Bound::Unbounded => f.write_str("inf)"),
                }
            }
        }
    }
}

/// One field of a configuration: what it holds, and what it may hold beside the other fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The field, dotted where it lies in a group.
    pub field: String,
    /// What it may hold.
    pub range: Range,
    value: String,
    kept: bool,
    note: String,
}

impl Limit {
    /// A field of whole numbers.
    #[must_use]
    pub fn whole(field: &str, value: i128, range: RangeInclusive<i128>) -> Self {
        let (field, kept) = (field.to_owned(), range.contains(&value));
        Self { field, range: Range::Whole(range), value: value.to_string(), kept, note: String::new() }
    }

    /// A field of real numbers; NaN is in no range.
    #[must_use]
    pub fn real<T: Copy + Into<f64> + fmt::Display>(field: &str, value: T, range: impl RangeBounds<f64>) -> Self {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        let kept = bounds.contains(&value.into()) && value.into().is_finite();
        let range = Range::Real(bounds.0, bounds.1);
        Self { field: field.to_owned(), range, value: value.to_string(), kept, note: String::new() }
    }

    /// Adds to what is allowed where the range comes from, such as "at most \`world\`": names of other fields in backticks.
    #[must_use]
    pub fn because(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The same field, seen from outside the group it lies in.
    #[must_use]
    pub fn within(mut self, group: &str) -> Self {
        self.field = format!("{group}.{}", self.field);
        let part = |(i, part): (usize, &str)| if i % 2 == 1 { format!("`{group}.{part}`") } else { part.to_owned() };
        self.note = self.note.split('`').enumerate().map(part).collect();
        self
    }

    /// What the field may hold, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        if self.note.is_empty() { self.range.to_string() } else { format!("{} ({})", self.range, self.note) }
    }

    /// Refuses a value outside the range.
    ///
    /// # Errors
    /// The field, its value and what is allowed.
    pub fn check(&self) -> Result<(), OutOfRange> {
        if self.kept {
            return Ok(());
        }
        Err(OutOfRange { field: self.field.clone(), value: self.value.clone(), allowed: self.allowed() })
    }
}

/// Checks every field, in order.
///
/// # Errors
/// The first field at fault.
pub fn check(limits: &[Limit]) -> Result<(), OutOfRange> {
    limits.iter().try_for_each(Limit::check)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: (Bound<f64>, Bound<f64>) = (Bound::Excluded(0.0), Bound::Included(10.0));

    #[test]
    fn a_refusal_says_field_value_and_what_is_allowed() {
        let refused = |limit: Limit| limit.check().unwrap_err().to_string();
        assert_eq!(refused(Limit::whole("batch", 0, 1..=8)), "`batch` is 0, allowed: 1..=8");
        let window = Limit::whole("window", 9, 1..=8).because("at most `world`").within("world");
        assert_eq!(refused(window), "`world.window` is 9, allowed: 1..=8 (at most `world.world`)");
        assert_eq!(refused(Limit::real("ink", 0.7f32, 1.0..=1.0)), "`ink` is 0.7, allowed: 1");
        for value in [0.0, f64::NAN, f64::INFINITY, 10.5] {
            assert_eq!(
                refused(Limit::real("rate", value, RATE)),
                format!("`rate` is {value}, allowed: a finite number in (0, 10]")
            );
        }
        Limit::real("rate", 10.0, RATE).check().unwrap();
        assert!(Limit::real("any", f64::INFINITY, ..).check().is_err(), "finite where there is no bound, too");
    }

    #[test]
    fn extreme_bounds_stay_readable() {
        let limit = Limit::real("epsilon", 2.0, 1e-30..1.0);
        assert_eq!(limit.allowed(), "a finite number in [1e-30, 1)");
    }

    #[test]
    fn the_nearest_allowed_number_is_offered_where_there_is_one() {
        let whole = Range::Whole(1..=8);
        let nearest = ["-4", "3.5", "9", "18446744073709551616", "nan", "fast"].map(|given| whole.nearest(given));
        assert_eq!(nearest, [Some("1"), Some("4"), Some("8"), Some("8"), None, None].map(|n| n.map(str::to_owned)));
        let rate = Range::Real(RATE.0, RATE.1);
        assert_eq!(
            ["1e9", "-1", "0", "inf", "2.5"].map(|given| rate.nearest(given)),
            [Some("10".to_owned()), None, None, None, Some("2.5".to_owned())]
        );
    }
}
