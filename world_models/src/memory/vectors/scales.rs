//! What errors are measured by: means and variances of a dataset's observations and rewards.

use serde::{Deserialize, Serialize};

/// A component that deviates from its mean by less than this share of its own size, squared, does not change: what is left is
/// rounding.
const CONSTANT: f64 = 1e-10;

/// Mean and variance of columns of numbers, row after row.
#[derive(Debug, Clone)]
pub struct ScalesOf {
    rows: u64,
    /// `[columns]`, from which all are measured, so that no digits are lost.
    first: Vec<f64>,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

/// Mean and variance of columns of numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scales {
    /// `[columns]`.
    pub mean: Vec<f64>,
    /// `[columns]`; 0 of one that does not change.
    pub variance: Vec<f64>,
}

impl ScalesOf {
    /// Of `columns` numbers a row; no rows yet.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { rows: 0, first: Vec::new(), sums: vec![0.0; columns], squares: vec![0.0; columns] }
    }

    /// Adds rows, `[n, columns]`.
    ///
    /// # Panics
    /// When these are not whole rows.
    pub fn add(&mut self, rows: &[f32]) {
        let rows = rows.chunks_exact(self.sums.len());
        assert!(rows.remainder().is_empty(), "whole rows");
        for row in rows {
            if self.first.is_empty() {
                self.first = row.iter().map(|&x| x.into()).collect();
            }
            self.rows += 1;
            for (((&x, first), sum), square) in row.iter().zip(&self.first).zip(&mut self.sums).zip(&mut self.squares) {
                let x = f64::from(x) - first;
                *sum += x;
                *square += x * x;
            }
        }
    }

    /// Of all rows so far.
    ///
    /// # Panics
    /// Before the first row.
    #[must_use]
    pub fn scales(&self) -> Scales {
        assert!(self.rows > 0, "scales of nothing");
        let n = self.rows as f64;
        let column = |((sum, square), first): ((&f64, &f64), &f64)| {
            let mean = first + sum / n;
            let variance = square / n - (sum / n).powi(2);
            (mean, if variance > CONSTANT * (mean * mean + variance) { variance } else { 0.0 })
        };
        let (mean, variance) = self.sums.iter().zip(&self.squares).zip(&self.first).map(column).unzip();
        Scales { mean, variance }
    }
}

impl Scales {
    /// The columns that change, by number.
    #[must_use]
    pub fn changing(&self) -> Vec<usize> {
        (0..self.variance.len()).filter(|&column| self.variance[column] > 0.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_by_hand_and_what_does_not_change() {
        let mut of = ScalesOf::new(3);
        of.add(&[1.0, 7.0, 1000.0]);
        of.add(&[3.0, 7.0, 1000.001, 5.0, 7.0, 1000.0]);
        let scales = of.scales();
        assert!((scales.mean[0] - 3.0).abs() < 1e-12 && (scales.variance[0] - 8.0 / 3.0).abs() < 1e-12);
        assert_eq!((scales.mean[1], scales.variance[1], scales.variance[2]), (7.0, 0.0, 0.0));
        assert_eq!(scales.changing(), [0]);
    }
}
