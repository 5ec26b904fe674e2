//! Rewards of a step, and how those predicted go with those recorded.

/// Rewards of a step, `[B]` each, in units of the environment.
#[derive(Debug, Clone, Copy)]
pub struct Rewards<'a> {
    /// Predicted where the step was imagined.
    pub imagined: &'a [f32],
    /// Predicted from what was observed before the step: what is wrong with it was not imagined.
    pub seeing: &'a [f32],
    /// Recorded.
    pub recorded: &'a [f32],
}

/// Sums over rewards; products are of what they are beyond the mean of those recorded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RewardSums {
    rows: u64,
    /// Squared errors: imagined, seeing.
    errors: [f64; 2],
    /// Imagined, recorded.
    sums: [f64; 2],
    squares: [f64; 2],
    product: f64,
}

impl RewardSums {
    /// Adds rows; `middle` is the mean of all rewards of the dataset.
    ///
    /// # Panics
    /// When there are not as many of each.
    pub(super) fn add(&mut self, middle: f64, rows: Rewards<'_>) {
        let Rewards { imagined, seeing, recorded } = rows;
        assert_eq!([imagined.len(), seeing.len()], [recorded.len(); 2], "as many rewards of each kind");
        for ((&imagined, &seeing), &recorded) in imagined.iter().zip(seeing).zip(recorded) {
            self.add_row(middle, [imagined, seeing, recorded].map(f64::from));
        }
    }

    fn add_row(&mut self, middle: f64, [imagined, seeing, recorded]: [f64; 3]) {
        self.rows += 1;
        for (sum, said) in self.errors.iter_mut().zip([imagined, seeing]) {
            *sum += (said - recorded).powi(2);
        }
        let both = [imagined - middle, recorded - middle];
        self.sums.iter_mut().zip(both).for_each(|(sum, x)| *sum += x);
        self.squares.iter_mut().zip(both).for_each(|(sum, x)| *sum += x * x);
        self.product += both[0] * both[1];
    }

    /// Those of both.
    pub(super) fn with(self, other: &Self) -> Self {
        let sum = |a: [f64; 2], b: [f64; 2]| [a[0] + b[0], a[1] + b[1]];
        Self {
            rows: self.rows + other.rows,
            errors: sum(self.errors, other.errors),
            sums: sum(self.sums, other.sums),
            squares: sum(self.squares, other.squares),
            product: self.product + other.product,
        }
    }

    /// The mean squared error of those imagined, 0, or seeing, 1.
    pub(super) fn error(&self, of: usize) -> f64 {
        self.errors[of] / self.rows as f64
    }

    /// Pearson's of those imagined, where both vary.
    pub(super) fn correlation(&self) -> Option<f64> {
        let n = self.rows as f64;
        let [a, b] = self.sums.map(|sum| sum / n);
        let variances = [self.squares[0] / n - a * a, self.squares[1] / n - b * b];
        // What rounding leaves of a constant is no variance.
        let varies = |k: usize| variances[k] > 1e-12 * self.squares[k] / n;
        let correlation = (self.product / n - a * b) / (variances[0] * variances[1]).sqrt();
        (varies(0) && varies(1)).then(|| correlation.clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_by_hand() {
        let of = |pairs: &[[f64; 2]]| {
            let mut sums = RewardSums::default();
            for &[imagined, recorded] in pairs {
                sums.add_row(3.0, [imagined, 0.0, recorded]);
            }
            sums
        };
        let against = of(&[[1.0, 10.0], [2.0, 8.0], [3.0, 6.0]]).correlation().unwrap_or(0.0);
        assert!((against + 1.0).abs() < 1e-12, "{against}");
        let half = of(&[[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [2.0, 2.0]]).correlation();
        // Variances 0.8 and 0.56, covariance 0.2.
        assert!((half.unwrap_or(0.0) - 0.2 / (0.8f64 * 0.56).sqrt()).abs() < 1e-12, "{half:?}");
        assert_eq!(of(&[[2.0, 1.0], [2.0, 5.0]]).correlation(), None, "a constant goes with nothing");
        assert!((of(&[[2.0, 1.0], [2.0, 5.0]]).error(0) - 5.0).abs() < 1e-12);
    }
}
