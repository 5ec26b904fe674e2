//! Spaces: which observations and actions are legal, their element type and shape, in Gymnasium's terms.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use simulators::rng::Rng;

use crate::buffer::{Dtype, Scalar};

/// A set of arrays of one shape and element type.
///
/// The JSON form is tagged by `type`: `{"type":"Box","dtype":"uint8","shape":[32,32,1],"low":0.0,"high":255.0}`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Space {
    /// Numbers between two bounds, the same for every component. Images are `[H, W, C]`.
    Box {
        /// Element type.
        dtype: Dtype,
        /// Size of each axis.
        shape: Vec<usize>,
        /// Smallest value allowed; `null` in JSON is minus infinity.
        #[serde(with = "bound::low")]
        low: f64,
        /// Largest value allowed; `null` in JSON is infinity.
        #[serde(with = "bound::high")]
        high: f64,
    },
    /// One of the integers `0..n`, stored as `int64`.
    Discrete {
        /// How many there are.
        n: i64,
    },
    /// Component `c` is one of the `nvec[c]` integers from `start[c]` on.
    MultiDiscrete {
        /// Element type.
        dtype: Dtype,
        /// Number of values of each component.
        nvec: Vec<i64>,
        /// Smallest value of each component.
        start: Vec<i64>,
    },
}

/// The first component of an array that its space does not hold.
#[derive(Clone, PartialEq, Debug)]
pub struct OutOfSpace {
    /// Index in the flattened array.
    pub component: usize,
    /// What stands there.
    pub value: f64,
    /// What may stand there.
    pub allowed: String,
}

impl Space {
    /// An image `[height, width, channels]` of bytes.
    #[must_use]
    pub fn image([height, width, channels]: [usize; 3]) -> Self {
        Self::Box { dtype: Dtype::Uint8, shape: vec![height, width, channels], low: 0.0, high: 255.0 }
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Box { dtype, .. } | Self::MultiDiscrete { dtype, .. } => *dtype,
            Self::Discrete { .. } => Dtype::Int64,
        }
    }

    /// Size of each axis; a discrete choice has none.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Box { shape, .. } => shape.clone(),
            Self::Discrete { .. } => Vec::new(),
            Self::MultiDiscrete { nvec, .. } => vec![nvec.len()],
        }
    }

    /// Number of elements of one array, the product of its shape.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Box { shape, .. } => shape.iter().product(),
            Self::Discrete { .. } => 1,
            Self::MultiDiscrete { nvec, .. } => nvec.len(),
        }
    }

    /// Smallest and largest value of a component.
    ///
    /// # Panics
    /// If there is no such component.
    #[must_use]
    pub fn bounds(&self, component: usize) -> (f64, f64) {
        match self {
            Self::Box { low, high, .. } => (*low, *high),
            Self::Discrete { n } => (0.0, (n - 1) as f64),
            Self::MultiDiscrete { nvec, start, .. } => {
                (start[component] as f64, (start[component] + nvec[component] - 1) as f64)
            }
        }
    }

    /// Whether `row` is in this space.
    #[must_use]
    pub fn contains<T: Scalar>(&self, row: &[T]) -> bool {
        T::TYPE == self.dtype() && row.len() == self.size() && self.check(row).is_ok()
    }

    /// Finds the first component of `row` outside this space. NaN and the infinities always are, even where there is no
    /// bound.
    ///
    /// # Errors
    /// The component, its value and what is allowed.
    ///
    /// # Panics
    /// If `row` has more components than the space.
    pub fn check<T: Scalar>(&self, row: &[T]) -> Result<(), OutOfSpace> {
        for (component, value) in row.iter().enumerate() {
            let (low, high) = self.bounds(component);
            let value = value.to_f64();
            if !value.is_finite() || !(low..=high).contains(&value) {
                let kind = if matches!(self, Self::Box { .. }) { "finite numbers" } else { "integers" };
                return Err(OutOfSpace { component, value, allowed: format!("{kind} {low}..={high}") });
            }
        }
        Ok(())
    }

    /// Draws a uniformly random member into `row`. A side without a bound is drawn one unit wide from the other bound, or
    /// from zero: there is no uniform law on a half line, and random play needs only something legal.
    ///
    /// # Panics
    /// If `row` has another length than the space.
    pub fn sample<T: Scalar>(&self, rng: &mut Rng, row: &mut [T]) {
        assert_eq!(row.len(), self.size(), "a row of this space");
        for (component, value) in row.iter_mut().enumerate() {
            let (low, high) = self.bounds(component);
            *value = if T::TYPE == Dtype::Float32 {
                let (low, high) = match (low.is_finite(), high.is_finite()) {
                    (true, true) => (low, high),
                    (true, false) => (low, low + 1.0),
                    (false, true) => (high - 1.0, high),
                    (false, false) => (-1.0, 1.0),
                };
                T::from_f64(rng.random_range(low..=high))
            } else {
                T::from_f64(rng.random_range(low as i64..=high as i64) as f64)
            };
        }
    }
}

/// JSON has no infinity: an absent bound is `null`.
mod bound {
    macro_rules! side {
        ($name:ident, $absent:expr) => {
            pub mod $name {
                use serde::{Deserialize, Deserializer, Serialize, Serializer};

                pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
                    value.is_finite().then_some(*value).serialize(to)
                }

                pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
                    Ok(Option::<f64>::deserialize(from)?.unwrap_or($absent))
                }
            }
        };
    }
    side!(low, f64::NEG_INFINITY);
    side!(high, f64::INFINITY);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simulators::rng::{Purpose, Seed, stream};

    fn moves() -> Space {
        Space::MultiDiscrete { dtype: Dtype::Int8, nvec: vec![21, 3], start: vec![-10, 0] }
    }

    #[test]
    fn membership_is_type_length_and_bounds() {
        assert!(moves().contains(&[-10i8, 2]));
        assert!(!moves().contains(&[0i64, 0]), "another element type");
        assert!(!moves().contains(&[0i8]), "another length");
        assert_eq!(
            moves().check(&[3i8, 3]),
            Err(OutOfSpace { component: 1, value: 3.0, allowed: "integers 0..=2".into() })
        );
        let depth = Space::Box { dtype: Dtype::Float32, shape: vec![2], low: 0.0, high: f64::INFINITY };
        assert!(depth.contains(&[0.0f32, f32::MAX]));
        assert!(!depth.contains(&[0.0f32, f32::NAN]));
        assert!(!depth.contains(&[0.0f32, f32::INFINITY]), "no bound is not a value");
    }

    #[test]
    fn spaces_survive_json() {
        let depth = Space::Box { dtype: Dtype::Float32, shape: vec![4, 4], low: 0.0, high: f64::INFINITY };
        for space in [Space::image([32, 32, 1]), depth, Space::Discrete { n: 4 }, moves()] {
            let json = serde_json::to_string(&space).unwrap();
            assert_eq!(serde_json::from_str::<Space>(&json).unwrap(), space, "{json}");
        }
        let json = serde_json::to_string(&Space::image([2, 3, 1])).unwrap();
        assert_eq!(json, r#"{"type":"Box","dtype":"uint8","shape":[2,3,1],"low":0.0,"high":255.0}"#);
        assert!(serde_json::from_str::<Space>(r#"{"type":"Discrete","n":4,"m":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn samples_are_members(seed in 0u64..1000, low in -50.0f64..0.0, width in 0.0f64..50.0) {
            let mut rng = stream(Seed(seed), Purpose::Policy, 0);
            let mut small = [0i8; 2];
            moves().sample(&mut rng, &mut small);
            prop_assert!(moves().contains(&small));
            // Bounds as the element type has them, or rounding could leave the box.
            let (low, high) = (f64::from(low as f32), f64::from((low + width) as f32));
            let space = Space::Box { dtype: Dtype::Float32, shape: vec![3], low, high };
            let mut row = [0.0f32; 3];
            space.sample(&mut rng, &mut row);
            prop_assert!(space.contains(&row));
        }
    }
}
