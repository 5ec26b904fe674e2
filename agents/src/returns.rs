//! What a window of steps is worth: the policy's objective as weights of rewards and values, and targets for critics.
//!
//! A window has `T` steps of `N` rows, all columns `[T, N]` and time-major. Value `t` is that of the observation that step
//! `t` led to, before any reset.

use serde::{Deserialize, Serialize};

/// How an episode went on after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Course {
    /// It did.
    #[default]
    On,
    /// The world ended: nothing follows.
    Terminated,
    /// Time was cut: what it led to still has a value.
    Truncated,
}

impl Course {
    fn ends(self) -> bool {
        self != Self::On
    }
}

/// The discounted return of a window is `Σ reward_weight · reward + value_weight · value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// `[T, N]`.
    pub rewards: Vec<f32>,
    /// `[T, N]`; zero but where an episode is truncated and at the end of the window.
    pub values: Vec<f32>,
}

impl Weights {
    /// Minus the discounted return of each row, `[N]`, of rewards and values `[T, N]`.
    #[must_use]
    pub fn losses(&self, rewards: &[f32], worth: &[f32], rows: usize) -> Vec<f32> {
        let mut losses = vec![0.0f32; rows];
        for (place, (&reward, &worth)) in rewards.iter().zip(worth).enumerate() {
            losses[place % rows] -= self.rewards[place] * reward + self.values[place] * worth;
        }
        losses
    }

    /// The gradient of those losses, times `scale`: down is where the return rises.
    #[must_use]
    pub fn down(&self, scale: f64) -> Self {
        let minus = |weights: &[f32]| weights.iter().map(|&weight| -weight * scale as f32).collect();
        Self { rewards: minus(&self.rewards), values: minus(&self.values) }
    }
}

/// How the end of a window counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowEnd {
    /// As any other end.
    #[default]
    Fixed,
    /// As PWM's published code has it: the last value is discounted once too often, and of an episode that ends with the
    /// window nothing counts but the value of what it led to, discounted once.
    Faithful,
}

/// Weights of the returns of a window: rewards discounted from the start of the window, or of the episode that began in it,
/// and the value of what an open episode led to (Xu et al. 2022, eq. 5).
#[must_use]
pub fn weights(courses: &[Course], rows: usize, gamma: f64, end: WindowEnd) -> Weights {
    let steps = courses.len() / rows;
    let mut weights = Weights { rewards: vec![0.0; courses.len()], values: vec![0.0; courses.len()] };
    for row in 0..rows {
        let (mut discount, mut begin) = (1.0, 0);
        for t in 0..steps {
            let place = t * rows + row;
            weights.rewards[place] = discount as f32;
            discount *= gamma;
            if end == WindowEnd::Faithful && t + 1 == steps {
                discount *= gamma;
                if courses[place].ends() {
                    (begin..=t).for_each(|t| weights.rewards[t * rows + row] = 0.0);
                    discount = gamma;
                }
            }
            match courses[place] {
                Course::Terminated => {}
                Course::Truncated => weights.values[place] = discount as f32,
                Course::On if t + 1 == steps => weights.values[place] = discount as f32,
                Course::On => continue,
            }
            (discount, begin) = (1.0, t + 1);
        }
    }
    weights
}

/// TD(λ) targets of the values of the observations that each step began with:
/// `G[t] = r[t] + γ ((1-λ) V[t] + λ G[t+1])`, and `r[t] + γ V[t]` where an episode or the window ends (Sutton & Barto 2018,
/// §12.2). Values are zero where the world ended.
#[must_use]
pub fn td_lambda(
    rewards: &[f32],
    values: &[f32],
    courses: &[Course],
    rows: usize,
    gamma: f64,
    lambda: f64,
) -> Vec<f32> {
    let steps = rewards.len() / rows;
    let mut targets = vec![0.0; rewards.len()];
    for row in 0..rows {
        let mut next = 0.0;
        for t in (0..steps).rev() {
            let place = t * rows + row;
            let value = if courses[place] == Course::Terminated { 0.0 } else { f64::from(values[place]) };
            let onward =
                if courses[place].ends() || t + 1 == steps { value } else { (1.0 - lambda) * value + lambda * next };
            next = f64::from(rewards[place]) + gamma * onward;
            targets[place] = next as f32;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    const COURSES: [Course; 6] =
        [Course::On, Course::Terminated, Course::On, Course::Truncated, Course::On, Course::On];
    const GAMMA: f64 = 0.9;

    #[test]
    fn weights_discount_from_each_beginning() {
        let found = weights(&COURSES, 1, GAMMA, WindowEnd::Fixed);
        let near = |found: &[f32], expected: [f64; 6]| {
            assert!(
                found.iter().zip(expected).all(|(&f, e)| (f64::from(f) - e).abs() < 1e-6),
                "{found:?} {expected:?}"
            );
        };
        near(&found.rewards, [1.0, 0.9, 1.0, 0.9, 1.0, 0.9]);
        near(&found.values, [0.0, 0.0, 0.0, 0.81, 0.0, 0.81]);
        let short = weights(&[Course::On, Course::Terminated], 2, GAMMA, WindowEnd::Fixed);
        near(&[short.values, vec![0.0; 4]].concat(), [0.9, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_published_end_of_a_window_discounts_too_often_and_forgets() {
        let found = |courses: &[Course]| weights(courses, 1, GAMMA, WindowEnd::Faithful);
        let cubed = (GAMMA * GAMMA * GAMMA) as f32;
        let open = found(&[Course::On, Course::On]);
        assert_eq!((open.rewards, open.values), (vec![1.0, GAMMA as f32], vec![0.0, cubed]));
        let ended = found(&[Course::Terminated, Course::On, Course::Truncated]);
        assert_eq!((ended.rewards, ended.values), (vec![1.0, 0.0, 0.0], vec![0.0, 0.0, GAMMA as f32]));
        let dead = found(&[Course::On, Course::Terminated]);
        assert_eq!((dead.rewards, dead.values), (vec![0.0; 2], vec![0.0; 2]));
    }

    /// The λ-return as what it is: a mean of n-step returns, weighed with powers of λ.
    fn brute(rewards: &[f32], values: &[f32], courses: &[Course], t: usize, lambda: f64) -> f64 {
        let (mut total, mut discounted, mut discount, mut weight) = (0.0, 0.0, 1.0, 1.0);
        for end in t..rewards.len() {
            discounted += discount * f64::from(rewards[end]);
            discount *= GAMMA;
            let value = if courses[end] == Course::Terminated { 0.0 } else { f64::from(values[end]) };
            let n_step = discounted + discount * value;
            if courses[end].ends() || end + 1 == rewards.len() {
                return total + weight * n_step;
            }
            total += weight * (1.0 - lambda) * n_step;
            weight *= lambda;
        }
        unreachable!("a window has an end")
    }

    #[test]
    fn targets_are_means_of_n_step_returns() {
        let rewards = [1.0, -2.0, 0.5, 3.0, 0.25, -1.0];
        let values = [0.3, 9.0, -0.7, 2.0, 1.5, -4.0];
        for lambda in [0.0, 0.5, 0.95, 1.0] {
            let found = td_lambda(&rewards, &values, &COURSES, 1, GAMMA, lambda);
            for (t, &found) in found.iter().enumerate() {
                let expected = brute(&rewards, &values, &COURSES, t, lambda);
                assert!((f64::from(found) - expected).abs() < 1e-6, "t {t} lambda {lambda}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn rows_do_not_mix() {
        let twice = |x: &[f32]| x.iter().flat_map(|&x| [x, -x]).collect::<Vec<_>>();
        let (rewards, values) = ([1.0f32, 2.0, 3.0], [0.5f32, 0.25, 0.125]);
        let courses = [Course::On, Course::Truncated, Course::On];
        let both: Vec<_> = courses.iter().flat_map(|&c| [c, c]).collect();
        let alone = td_lambda(&rewards, &values, &courses, 1, GAMMA, 0.95);
        let found = td_lambda(&twice(&rewards), &twice(&values), &both, 2, GAMMA, 0.95);
        assert_eq!(found, twice(&alone));
    }
}
