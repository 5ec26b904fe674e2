//! Typed flat buffers: the columns of observations and actions that a caller owns and steps write into.

use serde::{Deserialize, Serialize};

use crate::dataset;

/// Element type of a space, named as Gymnasium names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Unsigned byte: images.
    Uint8,
    /// Signed byte: small moves.
    Int8,
    /// What Gymnasium stores a discrete action in.
    Int64,
    /// Everything continuous.
    Float32,
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Uint8 | Self::Int8 => 1,
            Self::Int64 => 8,
            Self::Float32 => 4,
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A type that a [`Buffer`] can hold; closed, because the four are all there is on disk.
pub trait Scalar: sealed::Sealed + dataset::Element + PartialEq + Send + Sync + std::fmt::Debug {
    /// The name of this type in a space.
    const TYPE: Dtype;
    /// The value as a double; exact but for `i64` beyond 2^53.
    fn to_f64(self) -> f64;
    /// The nearest value of this type; saturates.
    fn from_f64(value: f64) -> Self;
    /// The elements of `buffer`, if they are of this type.
    fn of(buffer: &Buffer) -> Option<&[Self]>;
    /// As [`Scalar::of`], to write into.
    fn of_mut(buffer: &mut Buffer) -> Option<&mut [Self]>;
}

/// A flat vector whose element type is known at run time; row `i` of `N` is the `i`-th equal part of it.
#[derive(Clone, PartialEq, Debug)]
pub enum Buffer {
    /// See [`Dtype::Uint8`].
    U8(Vec<u8>),
    /// See [`Dtype::Int8`].
    I8(Vec<i8>),
    /// See [`Dtype::Int64`].
    I64(Vec<i64>),
    /// See [`Dtype::Float32`].
    F32(Vec<f32>),
}

macro_rules! element {
    ($type:ty, $variant:ident, $dtype:ident) => {
        impl sealed::Sealed for $type {}
        impl Scalar for $type {
            const TYPE: Dtype = Dtype::$dtype;
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn of(buffer: &Buffer) -> Option<&[Self]> {
                if let Buffer::$variant(values) = buffer { Some(values) } else { None }
            }
            fn of_mut(buffer: &mut Buffer) -> Option<&mut [Self]> {
                if let Buffer::$variant(values) = buffer { Some(values) } else { None }
            }
        }
    };
}
element!(u8, U8, Uint8);
element!(i8, I8, Int8);
element!(i64, I64, Int64);
element!(f32, F32, Float32);

/// Evaluates `$body` with `$values` bound to the vector inside a [`Buffer`], whatever its type.
macro_rules! with_values {
    ($buffer:expr, $values:ident => $body:expr) => {
        match $buffer {
            $crate::buffer::Buffer::U8($values) => $body,
            $crate::buffer::Buffer::I8($values) => $body,
            $crate::buffer::Buffer::I64($values) => $body,
            $crate::buffer::Buffer::F32($values) => $body,
        }
    };
}
pub(crate) use with_values;

impl Buffer {
    /// A buffer of `len` zeros.
    #[must_use]
    pub fn zeros(dtype: Dtype, len: usize) -> Self {
        match dtype {
            Dtype::Uint8 => Self::U8(vec![0; len]),
            Dtype::Int8 => Self::I8(vec![0; len]),
            Dtype::Int64 => Self::I64(vec![0; len]),
            Dtype::Float32 => Self::F32(vec![0.0; len]),
        }
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::U8(_) => Dtype::Uint8,
            Self::I8(_) => Dtype::Int8,
            Self::I64(_) => Dtype::Int64,
            Self::F32(_) => Dtype::Float32,
        }
    }

    /// Number of elements, all rows together.
    #[must_use]
    pub fn len(&self) -> usize {
        with_values!(self, values => values.len())
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory of elements `start..start + len`, in the machine's byte order.
    ///
    /// # Panics
    /// If the range leaves the buffer.
    #[must_use]
    pub fn bytes(&self, start: usize, len: usize) -> &[u8] {
        with_values!(self, values => bytemuck::cast_slice(&values[start..start + len]))
    }

    /// Writes numbers from element `start` on, each cut to the element type.
    ///
    /// # Panics
    /// If they leave the buffer.
    pub fn write(&mut self, start: usize, numbers: &[f32]) {
        with_values!(self, values => {
            for (value, &number) in values[start..start + numbers.len()].iter_mut().zip(numbers) {
                *value = Scalar::from_f64(number.into());
            }
        });
    }

    /// The elements, if they are of type `T`.
    #[must_use]
    pub fn get<T: Scalar>(&self) -> Option<&[T]> {
        T::of(self)
    }

    /// The elements to write into, if they are of type `T`.
    pub fn get_mut<T: Scalar>(&mut self) -> Option<&mut [T]> {
        T::of_mut(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_gives_itself_only_as_what_it_is() {
        let buffer = Buffer::zeros(Dtype::Int8, 6);
        assert_eq!(buffer.get::<i8>(), Some(&[0i8; 6][..]));
        assert_eq!(buffer.get::<u8>(), None);
        assert_eq!((buffer.dtype(), buffer.len(), buffer.bytes(2, 3).len()), (Dtype::Int8, 6, 3));
    }

    #[test]
    fn numbers_are_cut_to_the_element_type() {
        let mut buffer = Buffer::zeros(Dtype::Int8, 4);
        buffer.write(1, &[-3.0, 2.7, 500.0]);
        assert_eq!(buffer.get::<i8>(), Some(&[0, -3, 2, 127][..]));
    }

    #[test]
    fn dtypes_are_named_as_numpy_names_them() {
        let names = [Dtype::Uint8, Dtype::Int8, Dtype::Int64, Dtype::Float32];
        assert_eq!(serde_json::to_string(&names).unwrap(), r#"["uint8","int8","int64","float32"]"#);
    }
}
