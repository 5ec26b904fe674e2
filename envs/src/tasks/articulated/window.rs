//! Windows of steps of articulated bodies, and the way back through them.

use std::sync::Arc;

use rayon::prelude::*;
use simulators::articulated::{Body, Scalar, Simulator};

use super::{Articulated, Creature, RewardTiming, Seen, SeenBar, Sim, widen};
use crate::batch::StepBatch;
use crate::buffer::Buffer;
use crate::differentiable::{DifferentiableEnv, StepBars};
use crate::env::{EnvError, EnvSpec};
use crate::vector::{AutoresetMode, BatchEnv as _, Reset, VectorConfig, VectorEnv, VectorSnapshot};

/// A batch of such envs that remembers its steps.
///
/// # Errors
/// As [`VectorEnv::new`].
pub(crate) fn differentiable<C: Creature>(
    env: &Articulated<C>,
    config: &VectorConfig,
) -> Result<Box<dyn DifferentiableEnv>, EnvError> {
    let config = VectorConfig { autoreset: AutoresetMode::SameStep, ..config.clone() };
    let envs = VectorEnv::new(&config, env)?;
    Ok(match &env.sim {
        Sim::Single(simulator, _) => Box::new(Window::new(envs, Arc::clone(simulator), |sim| match sim {
            Sim::Single(_, body) => body,
            Sim::Double(..) => unreachable!("all envs of a batch were built alike"),
        })),
        Sim::Double(simulator, _) => Box::new(Window::new(envs, Arc::clone(simulator), |sim| match sim {
            Sim::Double(_, body) => body,
            Sim::Single(..) => unreachable!("all envs of a batch were built alike"),
        })),
    })
}

/// What a step meant for a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Its episode goes on.
    On,
    /// Its episode stopped, and the next one has begun.
    Stopped,
    /// There was no such step: a number was not finite, or the row was reset because of one in the step before.
    Void,
}

struct Remembered<T> {
    /// `[N, A]`.
    actions: Vec<f32>,
    course: Vec<Course>,
    /// The bodies that the next step begins with: after any reset.
    after: Vec<Body<T>>,
}

struct Window<C: Creature, T> {
    envs: VectorEnv<Articulated<C>>,
    simulator: Arc<Simulator<T>>,
    body: fn(&Sim) -> &Body<T>,
    /// The bodies that the window begins with.
    start: Vec<Body<T>>,
    steps: Vec<Remembered<T>>,
    /// `[N, S]`, the gradient with respect to the states after the latest step.
    states_bar: Vec<T>,
}

impl<C: Creature, T: Scalar> Window<C, T> {
    fn new(envs: VectorEnv<Articulated<C>>, simulator: Arc<Simulator<T>>, body: fn(&Sim) -> &Body<T>) -> Self {
        let states_bar = vec![T::default(); envs.num_envs() * simulator.rows()];
        Self { envs, simulator, body, start: Vec::new(), steps: Vec::new(), states_bar }
    }

    fn bodies(&self) -> Vec<Body<T>> {
        (0..self.envs.num_envs()).map(|row| (self.body)(&self.envs.env(row).sim).clone()).collect()
    }
}

impl<C: Creature, T: Scalar> DifferentiableEnv for Window<C, T> {
    fn spec(&self) -> &EnvSpec {
        self.envs.spec()
    }

    fn num_envs(&self) -> usize {
        self.envs.num_envs()
    }

    fn reset(&mut self, which: Reset<'_>, obs: &mut Buffer) -> Result<(), EnvError> {
        self.forget();
        self.envs.reset(which, obs)
    }

    fn step(&mut self, actions: &Buffer, out: &mut StepBatch) -> Result<(), EnvError> {
        if self.steps.is_empty() {
            self.start = self.bodies();
            self.states_bar.fill(T::default());
        }
        let stepped = self.envs.step(actions, out);
        if !matches!(stepped, Ok(()) | Err(EnvError::NonFinite { .. })) {
            return stepped;
        }
        let course = |row: usize| match (self.envs.row(row).over || out.ignored()[row], out.stop()[row].any()) {
            // A row is over after a step that resets what stops only where a number was not finite.
            (true, _) => Course::Void,
            (false, true) => Course::Stopped,
            (false, false) => Course::On,
        };
        self.steps.push(Remembered {
            actions: actions.get::<f32>().expect("stepping has checked them").to_vec(),
            course: (0..self.envs.num_envs()).map(course).collect(),
            after: self.bodies(),
        });
        stepped
    }

    fn remembered(&self) -> usize {
        self.steps.len()
    }

    fn forget(&mut self) {
        self.steps.clear();
        self.states_bar.fill(T::default());
    }

    fn pull_back(&mut self, bars: StepBars<'_>, actions_bar: &mut [f32]) {
        let step = self.steps.pop().expect("a step to go back through");
        let before = self.steps.last().map_or(&self.start, |earlier| &earlier.after);
        let env = self.envs.env(0);
        let (o, a, s) = (C::OBSERVATIONS, env.action.len(), self.simulator.rows());
        let rows = before.len();
        assert_eq!(
            [bars.obs.len(), bars.final_obs.len(), bars.reward.len(), actions_bar.len()],
            [rows * o, rows * o, rows, rows * a],
            "one gradient for each number of the step"
        );
        let back = Back { simulator: &self.simulator, creature: &env.creature, timing: env.physics.reward };
        let blocks = self.states_bar.par_chunks_mut(T::WIDTH * s).zip(actions_bar.par_chunks_mut(T::WIDTH * a));
        blocks.enumerate().for_each(|(block, (states_bar, actions_bar))| {
            let first = block * T::WIDTH;
            let rows = first..(first + T::WIDTH).min(rows);
            back.block(Block {
                before: &before[rows.clone()],
                after: &step.after[rows.clone()],
                course: &step.course[rows.clone()],
                actions: &step.actions[rows.start * a..rows.end * a],
                obs_bar: &bars.obs[rows.start * o..rows.end * o],
                final_obs_bar: &bars.final_obs[rows.start * o..rows.end * o],
                reward_bar: &bars.reward[rows],
                states_bar,
                actions_bar,
            });
        });
    }

    fn snapshot(&self) -> VectorSnapshot {
        self.envs.snapshot()
    }

    fn restore(&mut self, snapshot: &VectorSnapshot) -> Result<(), EnvError> {
        self.forget();
        self.envs.restore(snapshot)
    }
}

struct Back<'a, C, T> {
    simulator: &'a Simulator<T>,
    creature: &'a C,
    timing: RewardTiming,
}

/// One step of the rows that share lanes.
struct Block<'a, T> {
    before: &'a [Body<T>],
    after: &'a [Body<T>],
    course: &'a [Course],
    actions: &'a [f32],
    obs_bar: &'a [f32],
    final_obs_bar: &'a [f32],
    reward_bar: &'a [f32],
    states_bar: &'a mut [T],
    actions_bar: &'a mut [f32],
}

impl<C: Creature, T: Scalar> Back<'_, C, T> {
    fn block(&self, block: Block<'_, T>) {
        let Block { before, after, course, actions, obs_bar, final_obs_bar, reward_bar, states_bar, actions_bar } =
            block;
        let (s, a, o) = (self.simulator.rows(), self.simulator.motors(), C::OBSERVATIONS);
        let narrow: Vec<T> = actions.iter().map(|&x| T::of(x.into())).collect();
        let ends = course.contains(&Course::Stopped).then(|| {
            // What an episode ended in was overwritten by its reset.
            let mut bodies = before.to_vec();
            self.simulator.step(&mut bodies.iter_mut().collect::<Vec<_>>(), &narrow);
            bodies
        });
        let actions: Vec<f64> = actions.iter().map(|&x| x.into()).collect();
        // Through what is seen and rewarded: gradients of the states after it and before it, and of the actions.
        let mut direct = vec![0.0; actions.len()];
        let mut earlier = vec![0.0; before.len() * s];
        let mut state = vec![0.0; s];
        for (row, &course) in course.iter().enumerate() {
            let own = &mut states_bar[row * s..(row + 1) * s];
            if course != Course::On {
                own.fill(T::default());
            }
            if course == Course::Void {
                continue;
            }
            let action = &actions[row * a..(row + 1) * a];
            let action_bar = &mut direct[row * a..(row + 1) * a];
            let mut seen_bar: Vec<f64> = final_obs_bar[row * o..(row + 1) * o].iter().map(|&x| x.into()).collect();
            if course == Course::On {
                let onward = &obs_bar[row * o..(row + 1) * o];
                seen_bar.iter_mut().zip(onward).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            let body = ends.as_ref().map_or(&after[row], |ends| &ends[row]);
            widen(body, &mut state);
            let seen = Seen { state: &state, origin: body.origin(), action };
            let mut state_bar = vec![0.0; s];
            let mut bar = SeenBar { state: &mut state_bar, action: &mut *action_bar };
            self.creature.observe_bar(&seen, &seen_bar, &mut bar);
            if self.timing == RewardTiming::After {
                self.creature.reward_bar(&seen, reward_bar[row].into(), &mut bar);
            }
            own.iter_mut().zip(state_bar).for_each(|(own, x)| *own = T::of(own.to_f64() + x));
            if self.timing == RewardTiming::Before {
                let body = &before[row];
                widen(body, &mut state);
                let seen = Seen { state: &state, origin: body.origin(), action };
                let mut bar = SeenBar { state: &mut earlier[row * s..(row + 1) * s], action: action_bar };
                self.creature.reward_bar(&seen, reward_bar[row].into(), &mut bar);
            }
        }
        let mut through = vec![T::default(); actions.len()];
        self.simulator.pull_back(&before.iter().collect::<Vec<_>>(), &narrow, states_bar, &mut through);
        for (row, course) in course.iter().enumerate() {
            if *course == Course::Void {
                // Nothing of what is not finite may come through, not even times zero.
                states_bar[row * s..(row + 1) * s].fill(T::default());
                through[row * a..(row + 1) * a].fill(T::default());
            }
        }
        states_bar.iter_mut().zip(earlier).for_each(|(bar, x)| *bar = T::of(bar.to_f64() + x));
        actions_bar
            .iter_mut()
            .zip(through)
            .zip(direct)
            .for_each(|((bar, x), direct)| *bar = (x.to_f64() + direct) as f32);
    }
}
