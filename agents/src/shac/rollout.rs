//! A window of steps of a policy in all envs, and the way back through it.

use envs::batch::StepBatch;
use envs::buffer::Buffer;
use envs::differentiable::{DifferentiableEnv, StepBars};
use envs::env::{EnvError, EnvSpec};
use tch::Tensor;

use super::sizes;
use crate::actor::{ActorGradients, ActorTape, Normaliser, ReadyActor, gather};
use crate::columns::{broken_rows, courses, floats, floats_of};
use crate::returns::Course;

/// The gradient of some number with respect to what a window gave.
pub(super) struct Bars<'a> {
    /// `[T, N]`.
    pub rewards: &'a [f32],
    /// `[T, N, O]`.
    pub final_obs: &'a [f32],
}

/// A window. Columns are `[T, N]` or `[T, N, O]`, time-major.
pub(super) struct Rollout {
    rows: usize,
    sizes: [usize; 2],
    actor: ReadyActor,
    /// The policy's steps.
    tapes: Vec<ActorTape>,
    /// What each action led to, before any reset.
    pub final_obs: Vec<f32>,
    pub rewards: Vec<f32>,
    pub courses: Vec<Course>,
}

impl Rollout {
    pub fn new(spec: &EnvSpec, rows: usize, steps: usize, actor: ReadyActor) -> Self {
        let sizes = sizes(spec).map(|size| size as usize);
        Self {
            rows,
            sizes,
            actor,
            tapes: Vec::with_capacity(steps),
            final_obs: Vec::with_capacity(steps * rows * sizes[0]),
            rewards: Vec::with_capacity(steps * rows),
            courses: Vec::with_capacity(steps * rows),
        }
    }

    /// Takes a step as the policy explores, given `inputs` `[N, O]` and noise `[N, A]`. Returns in how many rows a number was not
    /// finite: their step counts as the end
    /// of the world with reward zero, and their next episodes have begun.
    pub fn step(
        &mut self,
        envs: &mut dyn DifferentiableEnv,
        (inputs, noise): (&Tensor, Tensor),
        out: &mut StepBatch,
    ) -> Result<usize, EnvError> {
        let [o, _] = self.sizes;
        let (actions, tape) = self.actor.explore(inputs, noise);
        let broken = broken_rows(envs.step(&Buffer::F32(floats_of(&actions)), out))?;
        self.tapes.push(tape);
        let begin = self.final_obs.len();
        self.final_obs.extend_from_slice(floats(out.final_obs()));
        self.rewards.extend_from_slice(out.reward());
        self.courses.extend(courses(out));
        if broken > 0 || out.ignored().contains(&true) {
            for row in 0..self.rows {
                let place = self.rewards.len() - self.rows + row;
                let led_to = &mut self.final_obs[begin + row * o..begin + (row + 1) * o];
                let finite = self.rewards[place].is_finite() && led_to.iter().all(|x| x.is_finite());
                if !finite || out.ignored()[row] {
                    led_to.fill(0.0);
                    self.rewards[place] = 0.0;
                }
            }
        }
        Ok(broken)
    }

    /// Rewards and courses of the latest step.
    pub fn latest(&self) -> (&[f32], &[Course]) {
        let begin = self.rewards.len() - self.rows;
        (&self.rewards[begin..], &self.courses[begin..])
    }

    /// Rows and steps in which the world ended.
    pub fn terminated(&self) -> usize {
        self.courses.iter().filter(|&&course| course == Course::Terminated).count()
    }

    /// Gradients of a number with respect to the actor's parameters: through each step of the envs, then through the
    /// actor that chose its actions, latest first. No row's gradient of its actions is let be longer than `most` times the
    /// median of its step, if that is given. And what the actor was given in all steps, `[T * N, O]`.
    pub fn pull_back(
        &mut self,
        envs: &mut dyn DifferentiableEnv,
        normaliser: &Normaliser,
        bars: &Bars<'_>,
        most: Option<f64>,
    ) -> (ActorGradients, Tensor) {
        let [o, a] = self.sizes;
        let (row, flat) = (self.rows, self.rows * o);
        let mut onward = vec![0.0; flat];
        let mut actions_bar = vec![0.0; row * a];
        let mut inputs = Vec::new();
        let mut tapes = std::mem::take(&mut self.tapes);
        for (t, tape) in tapes.iter_mut().enumerate().rev() {
            let final_obs = &bars.final_obs[t * flat..(t + 1) * flat];
            let reward = &bars.rewards[t * row..(t + 1) * row];
            envs.pull_back(StepBars { obs: &onward, final_obs, reward }, &mut actions_bar);
            if let Some(most) = most {
                limit_rows(&mut actions_bar, a, most);
            }
            let bar = Tensor::from_slice(&actions_bar).view([row as i64, a as i64]);
            let given = tape.inputs();
            let bar = self.actor.pull_back(tape, &bar, true).expect("it was wanted");
            onward = floats_of(&normaliser.pull_back(&given, &bar));
            inputs.push(given);
        }
        inputs.reverse();
        (gather(tapes), Tensor::cat(&inputs, 0))
    }
}

/// Shortens rows of `width` numbers that are longer than `most` times the median of all.
fn limit_rows(values: &mut [f32], width: usize, most: f64) {
    let length = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let mut lengths: Vec<f64> = values.chunks_exact(width).map(length).collect();
    let (_, &mut median, _) = {
        let middle = lengths.len() / 2;
        lengths.select_nth_unstable_by(middle, f64::total_cmp)
    };
    for row in values.chunks_exact_mut(width) {
        let (length, longest) = (length(row), most * median);
        if length > longest {
            for x in row {
                *x *= (longest / length) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_longest_rows_are_shortened() {
        let mut rows = [3.0f32, 4.0, 0.0, 1.0, 300.0, -400.0];
        limit_rows(&mut rows, 2, 10.0);
        let expected = [3.0, 4.0, 0.0, 1.0, 30.0, -40.0f32];
        assert!(rows.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5), "{rows:?}");
    }
}
