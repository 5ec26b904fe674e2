//! Rollouts of articulated bodies, with gradients.

use rayon::prelude::*;
use simulators::articulated::{Body, Scalar, Simulator};

use super::{Articulated, Creature, Precision, RewardTiming, Seen, SeenBar, Sim};
use crate::env::Env as _;
use crate::rollout::{Inputs, Options, Outputs, RolloutError, Sizes};

impl<C: Creature> Articulated<C> {
    /// Rolls `inputs` out. Actions beyond -1 to 1 are clipped, as the original does, with no gradient beyond.
    ///
    /// # Errors
    /// Inputs that do not fit or are not finite.
    pub fn rollout(&self, inputs: &Inputs, options: Options) -> Result<Outputs, RolloutError> {
        let sizes = Sizes { state: self.state.len(), action: self.action.len(), observation: C::OBSERVATIONS };
        inputs.check(&self.spec().id, sizes)?;
        let roll = Roll { env: self, inputs, options, sizes };
        Ok(match &self.sim {
            Sim::Single(simulator, _) => roll.all(simulator),
            Sim::Double(simulator, _) => roll.all(simulator),
        })
    }

    /// How exactly it computes.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.physics.precision
    }
}

struct Roll<'a, C: Creature> {
    env: &'a Articulated<C>,
    inputs: &'a Inputs,
    options: Options,
    sizes: Sizes,
}

/// What a block of rows was like before a step.
struct Before<T> {
    bodies: Vec<Body<T>>,
    actions: Vec<T>,
    /// Rows that went on from their first state after this step.
    reset: Vec<bool>,
}

impl<C: Creature> Roll<'_, C> {
    fn all<T: Scalar>(&self, simulator: &Simulator<T>) -> Outputs {
        let blocks: Vec<usize> = (0..self.inputs.rows).step_by(T::WIDTH).collect();
        let found: Vec<Outputs> = blocks
            .into_par_iter()
            .map(|first| self.block(simulator, first, T::WIDTH.min(self.inputs.rows - first)))
            .collect();
        let mut all = Outputs::default();
        for block in found {
            all.states.extend(block.states);
            all.observations.extend(block.observations);
            all.rewards.extend(block.rewards);
            all.terminations.extend(block.terminations);
            all.gradients.extend(block.gradients);
        }
        all
    }

    /// Rows `first..first + count`.
    fn block<T: Scalar>(&self, simulator: &Simulator<T>, first: usize, count: usize) -> Outputs {
        let (Sizes { state: s, action: a, observation: o }, steps) = (self.sizes, self.inputs.steps);
        let (creature, after) = (&self.env.creature, self.env.physics.reward == RewardTiming::After);
        let action_of = |row: usize, t: usize| {
            let begin = ((first + row) * steps + t) * a;
            self.inputs.actions[begin..begin + a].iter().map(|x| x.clamp(-1.0, 1.0))
        };
        let begin = |row: usize| simulator.body(&self.inputs.state[(first + row) * s..(first + row + 1) * s]);
        let mut bodies: Vec<Body<T>> = (0..count).map(begin).collect();
        let mut out = Outputs {
            states: vec![0.0; count * steps * s],
            observations: vec![0.0; count * steps * o],
            rewards: vec![0.0; count * steps],
            terminations: vec![false; count * steps],
            gradients: Vec::new(),
        };
        let mut history: Vec<Before<T>> = Vec::new();
        let mut centred = vec![0.0; s];
        for t in 0..steps {
            let actions: Vec<f64> = (0..count).flat_map(|row| action_of(row, t)).collect();
            let narrow: Vec<T> = actions.iter().map(|&x| T::of(x)).collect();
            let rewards = |bodies: &[Body<T>], out: &mut Outputs, centred: &mut [f64]| {
                for (row, body) in bodies.iter().enumerate() {
                    let seen = seen(body, centred, &actions[row * a..(row + 1) * a]);
                    out.rewards[row * steps + t] = creature.reward(&seen);
                }
            };
            if !after {
                rewards(&bodies, &mut out, &mut centred);
            }
            let before = self.options.gradients.then(|| bodies.clone());
            simulator.step(&mut bodies.iter_mut().collect::<Vec<_>>(), &narrow);
            if after {
                rewards(&bodies, &mut out, &mut centred);
            }
            let mut reset = vec![false; count];
            for (row, body) in bodies.iter_mut().enumerate() {
                let place = row * steps + t;
                simulator.state(body, &mut out.states[place * s..(place + 1) * s]);
                let obs = &mut out.observations[place * o..(place + 1) * o];
                creature.observe(&seen(body, &mut centred, &actions[row * a..(row + 1) * a]), obs);
                out.terminations[place] = creature.terminated(obs);
                if self.options.resets && out.terminations[place] {
                    *body = begin(row);
                    reset[row] = true;
                }
            }
            if let Some(bodies) = before {
                history.push(Before { bodies, actions: narrow, reset });
            }
        }
        if self.options.gradients {
            out.gradients = self.pull_back(simulator, &history, count);
            let clipped = self.inputs.actions[first * steps * a..].iter().map(|x| x.abs() > 1.0);
            out.gradients.iter_mut().zip(clipped).filter(|(_, clipped)| *clipped).for_each(|(bar, _)| *bar = 0.0);
        }
        out
    }

    /// The gradient of each row's sum of rewards with respect to its actions.
    fn pull_back<T: Scalar>(&self, simulator: &Simulator<T>, history: &[Before<T>], count: usize) -> Vec<f64> {
        let (Sizes { state: s, action: a, .. }, steps) = (self.sizes, self.inputs.steps);
        let after = self.env.physics.reward == RewardTiming::After;
        let mut gradients = vec![0.0; count * steps * a];
        let mut bars = vec![T::default(); count * s];
        let mut actions_bar = vec![T::default(); count * a];
        let mut centred = vec![0.0; s];
        for (t, before) in history.iter().enumerate().rev() {
            for (row, _) in before.reset.iter().enumerate().filter(|(_, reset)| **reset) {
                bars[row * s..(row + 1) * s].fill(T::default());
            }
            let actions: Vec<f64> = before.actions.iter().map(|x| x.to_f64()).collect();
            let mut reward_bars = |bodies: &[Body<T>], bars: &mut [T], gradients: &mut [f64]| {
                for (row, body) in bodies.iter().enumerate() {
                    let mut state_bar = vec![0.0; s];
                    let place = (row * steps + t) * a;
                    let mut bar = SeenBar { state: &mut state_bar, action: &mut gradients[place..place + a] };
                    let seen = seen(body, &mut centred, &actions[row * a..(row + 1) * a]);
                    self.env.creature.reward_bar(&seen, 1.0, &mut bar);
                    for (bar, x) in bars[row * s..].iter_mut().zip(state_bar) {
                        *bar = T::of(bar.to_f64() + x);
                    }
                }
            };
            if after {
                let mut bodies = before.bodies.clone();
                simulator.step(&mut bodies.iter_mut().collect::<Vec<_>>(), &before.actions);
                reward_bars(&bodies, &mut bars, &mut gradients);
            }
            let bodies: Vec<&Body<T>> = before.bodies.iter().collect();
            simulator.pull_back(&bodies, &before.actions, &mut bars, &mut actions_bar);
            for (place, bar) in actions_bar.iter().enumerate() {
                gradients[(place / a * steps + t) * a + place % a] += bar.to_f64();
            }
            if !after {
                reward_bars(&before.bodies, &mut bars, &mut gradients);
            }
        }
        gradients
    }
}

fn seen<'a, T: Scalar>(body: &Body<T>, centred: &'a mut [f64], action: &'a [f64]) -> Seen<'a> {
    super::widen(body, centred);
    Seen { state: centred, origin: body.origin(), action }
}
