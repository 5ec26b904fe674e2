//! Sizes as people write them: `2GB`, `500 MB`, `1.5TB`, `4096`.

use std::str::FromStr;

/// What a unit stands for, longest names first.
const UNITS: [(&str, f64); 10] = [
    ("KIB", 1024.0),
    ("MIB", 1_048_576.0),
    ("GIB", 1_073_741_824.0),
    ("TIB", 1_099_511_627_776.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("B", 1.0),
    ("", 1.0),
];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A text that is no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a size is a number of bytes with or without a unit, B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 2GB or 500MB"
)]
pub struct SizeError;

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim().to_ascii_uppercase();
        let found = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?.trim_end(), bytes)));
        let (number, bytes) = found.ok_or(SizeError)?;
        let plain = number.starts_with(|first: char| first.is_ascii_digit())
            && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let value = number.parse::<f64>().ok().filter(|_| plain).ok_or(SizeError)? * bytes;
        // A float has all whole numbers up to here, and no disk has so many bytes.
        if value < 9e15 { Ok(Self(value.round() as u64)) } else { Err(SizeError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("2GB", 2_000_000_000),
            ("500 mb", 500_000_000),
            ("1.5TB", 1_500_000_000_000),
            ("3KiB", 3072),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "GB", "-1GB", "1e3", "inf", "nan", "1..2", "2XB", "9000TB", "1 2"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError), "{text}");
        }
    }
}
