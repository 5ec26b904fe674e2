//! A linear readout: what latents say of observations, by ridge regression in closed form (Hoerl and Kennard 1970).
//!
//! Of `N` rows of latents `z` and observations `o`, with means taken off, it is the `W` that makes `Σ |W z - o|² / N + λ v |W|²` least,
//! where `v` is the mean variance of a latent's numbers: `W = C (G + λ v I)⁻¹` with `G = Σ z zᵀ / N` and `C = Σ o zᵀ / N`. Numbers of
//! groups that sum to one make `G` singular; `λ` makes the answer one.
//!
//! Sums are in double precision. Every entry is summed by one thread, row after row, so that their number changes no bit.

use rayon::prelude::*;

/// `λ`. Smaller ones read what was observed a little better, and magnify what is wrong with latents that were not observed: where
/// the encoder's latents hardly vary, nothing says what a deviation means.
pub const RIDGE: f64 = 1e-3;

/// Rows of the matrix of sums that a thread takes at a time.
const BLOCK: usize = 16;
/// Rows of data that are added to it at once.
const GROUP: usize = 4;

/// Sums over rows of latents `[L]` and observations `[O]`.
#[derive(Debug, Clone)]
pub struct ReadoutFit {
    latent: usize,
    observed: usize,
    rows: u64,
    /// `[L + O]`, latents and observations of the first row, from which all are measured, so that no digits are lost.
    first: Vec<f64>,
    /// `[L + O]`.
    sums: Vec<f64>,
    /// `[L + O, L]`: products of all numbers with those of latents, of two latents only `j <= i`.
    products: Vec<f64>,
}

/// A linear map from latents to observations.
#[derive(Debug, Clone, PartialEq)]
pub struct Readout {
    /// `[O, L]`.
    weights: Vec<f64>,
    /// `[O]`.
    bias: Vec<f64>,
    /// Rows that it was fitted to.
    rows: u64,
    /// `v`, the mean variance of a latent's numbers.
    variance: f64,
}

impl ReadoutFit {
    /// A fit of observations of `observed` numbers to latents of `latent`; no rows yet.
    #[must_use]
    pub fn new(latent: usize, observed: usize) -> Self {
        let width = latent + observed;
        let (sums, products) = (vec![0.0; width], vec![0.0; width * latent]);
        Self { latent, observed, rows: 0, first: Vec::new(), sums, products }
    }

    /// Adds rows: latents `[n, L]` and observations `[n, O]`.
    ///
    /// # Panics
    /// When the slices do not fit each other.
    pub fn add(&mut self, latents: &[f32], observations: &[f32]) {
        let (l, o) = (self.latent, self.observed);
        let (width, n) = (l + o, latents.len() / l);
        assert_eq!((latents.len(), observations.len()), (n * l, n * o), "as many observations as latents");
        if n == 0 {
            return;
        }
        // Rows of zeros make the last group whole.
        let mut rows = vec![0.0; n.next_multiple_of(GROUP) * width];
        let columns = latents.chunks_exact(l).zip(observations.chunks_exact(o));
        for (row, (latent, observation)) in rows.chunks_exact_mut(width).zip(columns) {
            row.iter_mut().zip(latent.iter().chain(observation)).for_each(|(to, &from)| *to = from.into());
        }
        if self.first.is_empty() {
            self.first = rows[..width].to_vec();
        }
        for row in rows.chunks_exact_mut(width).take(n) {
            for ((x, first), sum) in row.iter_mut().zip(&self.first).zip(&mut self.sums) {
                *x -= first;
                *sum += *x;
            }
        }
        self.rows += n as u64;
        self.products.par_chunks_mut(BLOCK * l).enumerate().for_each(|(block, products)| {
            for group in rows.chunks_exact(GROUP * width) {
                let [a, b, c, d] = [0, 1, 2, 3].map(|k| &group[k * width..(k + 1) * width]);
                for (sums, i) in products.chunks_exact_mut(l).zip(block * BLOCK..) {
                    let [x, y, z, w] = [a[i], b[i], c[i], d[i]];
                    let latents = a.iter().zip(b).zip(c).zip(d).take(l.min(i + 1));
                    for (sum, (((a, b), c), d)) in sums.iter_mut().zip(latents) {
                        *sum += x * a + y * b + z * c + w * d;
                    }
                }
            }
        });
    }

    /// The readout with ridge `λ`. Latents that are all alike say nothing: then it is the mean of the observations.
    ///
    /// # Panics
    /// Before the first row.
    #[must_use]
    pub fn solve(&self, ridge: f64) -> Readout {
        assert!(self.rows > 0, "a readout of nothing");
        let (l, n) = (self.latent, self.rows as f64);
        let means: Vec<f64> = self.sums.iter().map(|sum| sum / n).collect();
        let covariance = |i: usize, j: usize| self.products[i * l + j] / n - means[i] * means[j];
        let variance = (0..l).map(|i| covariance(i, i)).sum::<f64>() / l as f64;
        let mut weights = vec![0.0; self.observed * l];
        if variance > 0.0 {
            let mut lower: Vec<f64> =
                (0..l * l).map(|at| if at % l <= at / l { covariance(at / l, at % l) } else { 0.0 }).collect();
            for i in 0..l {
                lower[i * l + i] += ridge * variance;
            }
            factorise(&mut lower, l);
            for (k, row) in weights.chunks_exact_mut(l).enumerate() {
                row.iter_mut().enumerate().for_each(|(j, x)| *x = covariance(l + k, j));
                solve(&lower, row);
            }
        }
        let first = |i: usize| self.first[i] + means[i];
        let middle: Vec<f64> = (0..l).map(first).collect();
        let bias = weights.chunks_exact(l).zip(l..).map(|(row, k)| first(k) - dot(row, &middle)).collect();
        Readout { weights, bias, rows: self.rows, variance: variance.max(0.0) }
    }
}

impl Readout {
    /// What a latent `[L]` says of the observation, `[O]`.
    ///
    /// # Panics
    /// When the latent is of another size.
    #[must_use]
    pub fn read(&self, latent: &[f32]) -> Vec<f64> {
        let latent: Vec<f64> = latent.iter().map(|&x| x.into()).collect();
        self.weights.chunks_exact(latent.len()).zip(&self.bias).map(|(row, bias)| dot(row, &latent) + bias).collect()
    }

    /// Numbers of an observation.
    #[must_use]
    pub fn observed(&self) -> usize {
        self.bias.len()
    }

    /// Rows that it was fitted to.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The mean variance of a latent's numbers over those rows.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.variance
    }
}

/// The sum of products, in eight sums side by side.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, rest_a) = a.as_chunks::<8>();
    let (b, rest_b) = b.as_chunks::<8>();
    assert_eq!((a.len(), rest_a.len()), (b.len(), rest_b.len()), "as many numbers of both");
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}

/// Cholesky: the lower triangle of a positive definite matrix `[n, n]` becomes that of its factor.
fn factorise(lower: &mut [f64], n: usize) {
    for i in 0..n {
        let (before, row) = lower.split_at_mut(i * n);
        for j in 0..i {
            let pivot = &before[j * n..j * n + n];
            row[j] = (row[j] - dot(&row[..j], &pivot[..j])) / pivot[j];
        }
        let left = row[i] - dot(&row[..i], &row[..i]);
        // Rounding alone makes it less than the ridge.
        row[i] = left.max(f64::MIN_POSITIVE).sqrt();
    }
}

/// `x` becomes what the matrix with this factor makes `x` of.
fn solve(lower: &[f64], x: &mut [f64]) {
    let n = x.len();
    for i in 0..n {
        x[i] = (x[i] - dot(&lower[i * n..i * n + i], &x[..i])) / lower[i * n + i];
    }
    for i in (0..n).rev() {
        x[i] /= lower[i * n + i];
        let (before, last) = x.split_at_mut(i);
        before.iter_mut().zip(&lower[i * n..]).for_each(|(x, weight)| *x -= weight * last[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` rows of latents whose pairs sum to one, and two linear functions of them.
    fn rows(n: usize) -> (Vec<f32>, Vec<f32>) {
        let number = |i: usize| ((i * 2_654_435_761) % 1024) as f32 / 1024.0;
        let latents: Vec<f32> = (0..3 * n).flat_map(|i| [number(i), 1.0 - number(i)]).collect();
        let of = |z: &[f32]| [2.0 * z[0] - z[2] + 5.0, 1000.0 + 4.0 * z[4]];
        let observations = latents.chunks_exact(6).flat_map(of).collect();
        (latents, observations)
    }

    fn fitted(n: usize, batch: usize, ridge: f64) -> Readout {
        let (latents, observations) = rows(n);
        let mut fit = ReadoutFit::new(6, 2);
        latents.chunks(6 * batch).zip(observations.chunks(2 * batch)).for_each(|(z, o)| fit.add(z, o));
        fit.solve(ridge)
    }

    #[test]
    fn a_linear_map_is_read_exactly_though_latents_are_dependent() {
        let readout = fitted(101, 10, 1e-12);
        let (latents, observations) = rows(150);
        for (z, o) in latents.chunks_exact(6).zip(observations.chunks_exact(2)) {
            for (read, &o) in readout.read(z).into_iter().zip(o) {
                assert!((read - f64::from(o)).abs() < 1e-6 * f64::from(o), "{read}, not {o}");
            }
        }
        assert_eq!((readout.rows(), readout.observed()), (101, 2));
    }

    /// One latent of variance `v` and slope `s`: the ridge makes it `s / (1 + λ)`.
    #[test]
    fn the_ridge_shrinks_as_it_should() {
        let mut fit = ReadoutFit::new(1, 1);
        fit.add(&[-2.0, 0.0, 2.0], &[-5.0, 1.0, 7.0]);
        let readout = fit.solve(0.5);
        assert!((readout.variance() - 8.0 / 3.0).abs() < 1e-12);
        assert!((readout.read(&[2.0])[0] - (1.0 + 6.0 / 1.5)).abs() < 1e-12, "{readout:?}");
    }

    #[test]
    fn latents_that_are_all_alike_say_the_mean() {
        let mut fit = ReadoutFit::new(2, 1);
        fit.add(&[0.5; 8], &[1.0, 2.0, 3.0, 6.0]);
        assert_eq!(fit.solve(RIDGE).read(&[0.5, 0.5]), [3.0]);
    }

    #[test]
    fn threads_change_no_bit() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let (latents, _) = rows(200);
        let of = |threads| {
            pool(threads).install(|| {
                let mut fit = ReadoutFit::new(40, 6);
                latents.chunks_exact(46 * 5).for_each(|x| fit.add(&x[..200], &x[200..]));
                fit.solve(RIDGE)
            })
        };
        assert_eq!(of(1), of(3));
    }
}
