//! Columns: what one tensor of a dataset holds, per row and per episode.

use serde::{Deserialize, Serialize};

/// Number type of a column, spelled on disk as safetensors spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8-bit integer; pixels.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// IEEE 754 single.
    F32,
    /// IEEE 754 double.
    F64,
}

impl Dtype {
    /// Bytes of one element; also its alignment.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// The name safetensors gives it, for example `"U8"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::I16 => "I16",
            Self::U16 => "U16",
            Self::I32 => "I32",
            Self::I64 => "I64",
            Self::F32 => "F32",
            Self::F64 => "F64",
        }
    }
}

/// How many rows an episode of T steps contributes to a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Follows {
    /// T + 1 rows: observations and all that describes them.
    Observations,
    /// T rows: actions, rewards, ends.
    Steps,
    /// One row.
    Episode,
}

impl Follows {
    /// Rows of an episode of `steps` steps.
    #[must_use]
    pub fn rows(self, steps: usize) -> usize {
        match self {
            Self::Observations => steps + 1,
            Self::Steps => steps,
            Self::Episode => 1,
        }
    }
}

/// One column: its name, its number type, the shape of a row, and what its rows follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// Name of the tensor, such as `observations` or `truth.camera`. `lengths` and `checks` belong to the format.
    pub name: String,
    /// Number type.
    pub dtype: Dtype,
    /// Shape of one row; empty for a scalar.
    pub shape: Vec<usize>,
    /// What its rows follow.
    pub follows: Follows,
}

impl ColumnSpec {
    /// A column with T + 1 rows an episode.
    #[must_use]
    pub fn observations(name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), dtype, shape: shape.to_vec(), follows: Follows::Observations }
    }

    /// A column with T rows an episode.
    #[must_use]
    pub fn steps(name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), dtype, shape: shape.to_vec(), follows: Follows::Steps }
    }

    /// A column with one row an episode.
    #[must_use]
    pub fn episode(name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), dtype, shape: shape.to_vec(), follows: Follows::Episode }
    }

    /// Elements of one row.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.row_len() * self.dtype.size()
    }

    /// The first of `rows`, the bytes of rows of this column, that has a number which is not finite, and that number.
    #[must_use]
    pub fn first_not_finite(&self, rows: &[u8]) -> Option<(usize, f64)> {
        let (element, value) = match self.dtype {
            Dtype::F32 => {
                let values = rows.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
                values.enumerate().find(|(_, value)| !value.is_finite())?
            }
            Dtype::F64 => {
                let values = rows.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
                values.enumerate().find(|(_, value)| !value.is_finite())?
            }
            Dtype::Bool | Dtype::U8 | Dtype::I8 | Dtype::I16 | Dtype::U16 | Dtype::I32 | Dtype::I64 => return None,
        };
        Some((element / self.row_len(), value))
    }
}

/// A Rust number type that can be the element of a column.
pub trait Element: bytemuck::Pod {
    /// The column type it is read from and written to.
    const DTYPE: Dtype;

    /// Whether a column of type `dtype` may be seen as a slice of `Self`. `u8` also sees `Bool` columns.
    #[must_use]
    fn reads(dtype: Dtype) -> bool {
        dtype == Self::DTYPE
    }
}

impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;

    fn reads(dtype: Dtype) -> bool {
        matches!(dtype, Dtype::U8 | Dtype::Bool)
    }
}

macro_rules! element {
    ($($number:ty => $dtype:ident),*) => {
        $(impl Element for $number { const DTYPE: Dtype = Dtype::$dtype; })*
    };
}
element!(i8 => I8, i16 => I16, u16 => U16, i32 => I32, i64 => I64, f32 => F32, f64 => F64);
