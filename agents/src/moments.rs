//! Running mean and variance of what comes in batches (Chan, Golub and Leveque 1979).

use serde::{Deserialize, Serialize};

/// Mean and population variance of each column of all rows seen so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    /// Rows seen, and a little more at first.
    pub count: f64,
    /// `[columns]`.
    pub mean: Vec<f64>,
    /// `[columns]`.
    pub variance: Vec<f64>,
}

/// What the first rows are weighed against: next to nothing.
const FIRST_COUNT: f64 = 1e-4;
/// Added to a variance before its root is taken.
pub const EPSILON: f64 = 1e-5;
/// Normalised values beyond it are cut.
pub const CLIP: f64 = 5.0;

impl Moments {
    /// Of nothing: mean 0, variance 1.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { count: FIRST_COUNT, mean: vec![0.0; columns], variance: vec![1.0; columns] }
    }

    /// Whether these can be moments of so many columns.
    #[must_use]
    pub fn fit(&self, columns: usize) -> bool {
        let possible = self.count >= 0.0 && self.variance.iter().all(|&variance| variance >= 0.0);
        possible && [self.mean.len(), self.variance.len()] == [columns; 2]
    }

    /// Forgets how many rows there were beyond `count`, so that later ones weigh more.
    pub fn forget_beyond(&mut self, count: f64) {
        self.count = self.count.min(count);
    }

    /// Takes in more rows, `[n, columns]`.
    pub fn update(&mut self, rows: &[f32]) {
        let columns = self.mean.len();
        let n = (rows.len() / columns) as f64;
        if n == 0.0 {
            return;
        }
        let (mut mean, mut variance) = (vec![0.0; columns], vec![0.0; columns]);
        for row in rows.chunks_exact(columns) {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        for sum in &mut mean {
            *sum /= n;
        }
        for row in rows.chunks_exact(columns) {
            variance.iter_mut().zip(row).zip(&mean).for_each(|((sum, &x), mean)| *sum += (f64::from(x) - mean).powi(2));
        }
        let total = self.count + n;
        for (column, (mean, squares)) in mean.into_iter().zip(variance).enumerate() {
            let delta = mean - self.mean[column];
            let both = self.variance[column] * self.count + squares + delta * delta * self.count * n / total;
            self.mean[column] += delta * n / total;
            self.variance[column] = both / total;
        }
        self.count = total;
    }

    /// Takes in one column of rows, unless their mean is not finite; then `1/√(variance + ε)` of it.
    pub fn scale_with(&mut self, rows: &[f32]) -> f64 {
        if mean(rows).is_finite() {
            self.update(rows);
        }
        1.0 / (self.variance[0] + EPSILON).sqrt()
    }

    /// `1/√(variance + ε)` of each column.
    pub fn scales(&self) -> impl Iterator<Item = f64> {
        self.variance.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt())
    }
}

/// Their mean.
pub(crate) fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_give_what_all_rows_at_once_would() {
        let rows: Vec<f32> = (0..60).map(|i| ((i * 37 % 23) as f32).sin() * 3.0 + 1.0).collect();
        let mut moments = Moments::new(2);
        for batch in [&rows[..10], &rows[10..12], &rows[12..]] {
            moments.update(batch);
        }
        for column in 0..2 {
            let values: Vec<f64> = rows.iter().skip(column).step_by(2).map(|&x| x.into()).collect();
            let mean = values.iter().sum::<f64>() / 30.0;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 30.0;
            assert!((moments.mean[column] - mean).abs() < 1e-4, "{moments:?}");
            assert!((moments.variance[column] - variance).abs() < 1e-4, "{moments:?}");
        }
    }
}
