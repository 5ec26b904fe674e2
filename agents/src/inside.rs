//! A policy's objective inside a model, whatever the model: its gradient for the actor, and targets for the critics.

use tch::Tensor;
use world_models::mlp::Numbers;

use crate::agent::Agent;
use crate::columns::floats_of;
use crate::critic;
use crate::moments::{Moments, mean};
use crate::returns::{Course, WindowEnd, td_lambda, weights};
use crate::window::{Back, Bars, Columns, Dreamt};

/// What the actor lowers minus of, and what the critics are fitted to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Objective {
    pub gamma: f64,
    pub lambda: f64,
    pub window_end: WindowEnd,
    /// What values are computed in.
    pub numbers: Numbers,
}

/// What the actor's gradient was taken of. Columns are `[T, N]`, time-major.
pub(crate) struct Imagined {
    pub rows: usize,
    /// Mean over rows of minus the discounted return, not divided by its deviation.
    pub loss: f64,
    /// What was seen before each step, `[T * N, F]`.
    pub seen: Tensor,
    pub rewards: Vec<f32>,
    /// Of what steps led to.
    pub worth: Vec<f32>,
    pub courses: Vec<Course>,
    /// Lengths of the gradient with respect to each step's actions, earliest first: how far credit reaches.
    pub lengths: Vec<f64>,
}

impl Agent {
    /// Takes the gradient of what the actor lowers: minus the discounted rewards of the window and the value of what it led to, divided
    /// by the running deviation of that, `returns`. `courses` `[T * N]` say how episodes went on.
    pub fn pull_back(
        &mut self,
        objective: Objective,
        returns: &mut Moments,
        mut window: impl Dreamt,
        courses: Vec<Course>,
    ) -> Imagined {
        let Columns { begins, ends, rewards } = window.columns();
        let (shape, ends, rewards) = (ends.size(), ends.flatten(0, 1), floats_of(&rewards));
        let rows = shape[1] as usize;
        let worth = floats_of(&critic::values(self.judges(), &ends, objective.numbers));
        let weights = weights(&courses, rows, objective.gamma, objective.window_end);
        let losses = weights.losses(&rewards, &worth, rows);
        let down = weights.down(returns.scale_with(&losses) / rows as f64);
        let of_ends = critic::value_gradient(self.judges(), &ends, &down.values, objective.numbers);
        self.actor_adam.zero_grad();
        let bars = Bars::new(&courses, &Tensor::from_slice(&down.rewards), of_ends.view(shape.as_slice()));
        let Back { gradients, squares } = window.pull_back(bars);
        for gradients in gradients {
            self.actor.add(&gradients);
        }
        let lengths = squares.into_iter().map(f64::sqrt).collect();
        Imagined { rows, loss: mean(&losses), seen: begins.flatten(0, 1), rewards, worth, courses, lengths }
    }
}

impl Imagined {
    /// TD(λ) targets of the critics, `[T * N]`.
    pub fn targets(&self, objective: Objective) -> Tensor {
        let Self { rows, rewards, worth, courses, .. } = self;
        Tensor::from_slice(&td_lambda(rewards, worth, courses, *rows, objective.gamma, objective.lambda))
    }
}
