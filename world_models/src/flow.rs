//! Following a velocity from time 0 to 1, and the way back through it (flow matching: Lipman et al. 2023).

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use tch::Tensor;

/// A method for ordinary differential equations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Solver {
    /// First order: one velocity a substep.
    Euler,
    /// Second order: the mean of the velocities at both ends of Euler's substep.
    Heun,
}

/// How a velocity is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Path {
    /// The method.
    pub solver: Solver,
    /// In how many substeps.
    pub substeps: u32,
}

impl Default for Path {
    fn default() -> Self {
        Self { solver: Solver::Heun, substeps: 2 }
    }
}

impl Path {
    /// What every field may hold.
    #[must_use]
    pub fn limits(self) -> Vec<Limit> {
        vec![Limit::whole("substeps", self.substeps.into(), 1..=64)]
    }

    /// Velocities that are taken: two for each substep of Heun, one otherwise.
    #[must_use]
    pub fn velocities(self) -> usize {
        self.substeps as usize * if self.solver == Solver::Heun { 2 } else { 1 }
    }

    /// Where the path from `start` ends, at the `velocity` of a place and a time. What that returns is written over.
    pub fn follow(self, start: &Tensor, mut velocity: impl FnMut(&Tensor, f64) -> Tensor) -> Tensor {
        let width = 1.0 / f64::from(self.substeps);
        let mut place = start.shallow_clone();
        for k in 0..self.substeps {
            let time = f64::from(k) * width;
            let mut first = velocity(&place, time);
            place = match self.solver {
                Solver::Euler => first.g_mul_scalar_(width).g_add_(&place),
                Solver::Heun => {
                    let mut second = velocity(&(&first * width).g_add_(&place), time + width);
                    second.g_add_(&first).g_mul_scalar_(width / 2.0).g_add_(&place)
                }
            };
        }
        place
    }

    /// The gradient with respect to the start, given that with respect to the end. `back` is called for every velocity, latest
    /// first, with the gradient with respect to it, and returns that with respect to the place where it was taken.
    pub fn pull_back(self, bar: &Tensor, mut back: impl FnMut(&Tensor) -> Tensor) -> Tensor {
        let width = 1.0 / f64::from(self.substeps);
        let mut bar = bar.copy();
        for _ in 0..self.substeps {
            match self.solver {
                Solver::Euler => bar += back(&(&bar * width)),
                Solver::Heun => {
                    let of_end = back(&(&bar * (width / 2.0)));
                    let of_start = back(&(&bar * (width / 2.0) + &of_end * width));
                    bar += of_end + of_start;
                }
            }
        }
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// `dz/dτ = A z` ends at `exp(A) z`: halving the substeps divides the error by 2 and by 4.
    #[test]
    fn euler_is_of_first_order_and_heun_of_second() {
        let options = (Kind::Double, Device::Cpu);
        let a = Tensor::from_slice(&[0.3, -1.1, 0.9, 0.2]).view([2, 2]);
        let start = Tensor::from_slice(&[1.0, -0.5]).view([1, 2]);
        let exact = start.matmul(&a.linalg_matrix_exp());
        for (solver, order) in [(Solver::Euler, 1.0), (Solver::Heun, 2.0)] {
            let error = |substeps| {
                let end = Path { solver, substeps }.follow(&start, |z, _| z.matmul(&a));
                (end - &exact).abs().max().double_value(&[])
            };
            let found = (error(32) / error(64)).log2();
            assert!((found - order).abs() < 0.1, "{solver:?}: {found}");
        }
        // Where the velocity depends on time alone, Heun is the trapezoid rule: exact for a line.
        let end =
            Path { solver: Solver::Heun, substeps: 3 }.follow(&start, |_, time| Tensor::full([1, 2], time, options));
        assert!(end.allclose(&(&start + 0.5), 1e-12, 1e-12, false));
    }
}
