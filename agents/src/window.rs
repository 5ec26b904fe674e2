//! A window of steps of a policy in a dream: how it goes, and the way back through it to the actor.

use tch::{Kind, Tensor};
use world_models::dream::Dream;
use world_models::mlp::passes::{shards, side_by_side};

use crate::actor::{ActorGradients, ActorTape, ReadyActor, gather};
use crate::returns::Course;

/// Steps that are over and can be gone back, once. Columns are time-major.
pub(crate) trait Dreamt: Sized {
    /// What was dreamt. It is asked for once.
    fn columns(&mut self) -> Columns;

    /// The way back to the actor.
    fn pull_back(self, bars: Bars) -> Back;
}

/// What was dreamt.
pub(crate) struct Columns {
    /// What was seen before each step, `[T, N, F]`.
    pub begins: Tensor,
    /// What each step led to, before any reset, `[T, N, F]`.
    pub ends: Tensor,
    /// `[T, N]`.
    pub rewards: Tensor,
}

/// What the way back begins with.
pub(crate) struct Bars {
    /// 1 where an episode went on after a step, else 0, `[T, N]`: such a row began the next one elsewhere, and nothing comes back from
    /// there.
    pub on: Tensor,
    /// With respect to rewards, `[T, N]`.
    pub rewards: Tensor,
    /// With respect to what steps led to, `[T, N, F]`.
    pub ends: Tensor,
}

/// What came back through a window.
pub(crate) struct Back {
    /// Of the actor, of each share of the rows.
    pub gradients: Vec<ActorGradients>,
    /// Squared lengths of the gradient with respect to each step's actions, earliest first.
    pub squares: Vec<f64>,
}

impl Columns {
    /// With what was seen in shares of the rows, step by step.
    fn new(begins: &[Vec<Tensor>], ends: &[Vec<Tensor>], rewards: Tensor) -> Self {
        let whole = |shares: &[Vec<Tensor>]| {
            let (steps, width) = (shares[0].len(), shares[0][0].size()[1]);
            let each: Vec<&Tensor> = (0..steps).flat_map(|t| shares.iter().map(move |share| &share[t])).collect();
            Tensor::cat(&each, 0).view([steps as i64, -1, width])
        };
        Self { begins: whole(begins), ends: whole(ends), rewards }
    }
}

impl Bars {
    /// With `on` from how episodes went on, `[T * N]`.
    pub fn new(courses: &[Course], rewards: &Tensor, ends: Tensor) -> Self {
        let on: Vec<f32> = courses.iter().map(|&course| f32::from(u8::from(course == Course::On))).collect();
        let shape = &ends.size()[..2];
        Self { on: Tensor::from_slice(&on).view(shape), rewards: rewards.view(shape), ends }
    }
}

/// A window of rows that are dreamt together.
pub(crate) struct Window<D> {
    pub dream: D,
    actor: ReadyActor,
    detach: bool,
    tapes: Vec<ActorTape>,
    /// `[N, F]`, what was seen before each step.
    begins: Vec<Tensor>,
    /// `[N, F]`, what each step led to, before any reset.
    ends: Vec<Tensor>,
}

impl<D: Dream> Window<D> {
    /// Where `detach` is, the actor sees features without gradient.
    pub fn new(dream: D, actor: ReadyActor, detach: bool) -> Self {
        Self { dream, actor, detach, tapes: Vec::new(), begins: Vec::new(), ends: Vec::new() }
    }

    /// A step with `noise` `[N, A]`: the actions `[N, A]` of the policy as it explores.
    pub fn step(&mut self, noise: Tensor) -> Tensor {
        let seen = self.dream.seen();
        let (actions, tape) = self.actor.explore(&seen, noise);
        self.dream.act(&actions);
        self.begins.push(seen);
        self.ends.push(self.dream.seen());
        self.tapes.push(tape);
        actions
    }

    /// The latest step has led elsewhere than was foreseen.
    pub fn correct(&mut self, led_to: impl FnOnce(&mut D)) {
        led_to(&mut self.dream);
        if let Some(end) = self.ends.last_mut() {
            *end = self.dream.seen();
        }
    }

    /// What was seen before and after each step.
    fn take_seen(&mut self) -> (Vec<Tensor>, Vec<Tensor>) {
        (std::mem::take(&mut self.begins), std::mem::take(&mut self.ends))
    }

    /// A step for each `noise`, in which no episode ends.
    pub fn dreamt(mut self, noises: impl IntoIterator<Item = Tensor>) -> Self {
        for noise in noises {
            let _ = self.step(noise);
        }
        self
    }
}

impl<D: Dream> Dreamt for Window<D> {
    fn columns(&mut self) -> Columns {
        let rewards = self.dream.rewards().view([self.tapes.len() as i64, -1]);
        let (begins, ends) = self.take_seen();
        Columns::new(&[begins], &[ends], rewards)
    }

    fn pull_back(mut self, Bars { on, rewards, ends }: Bars) -> Back {
        self.dream.pull_back_rewards(&rewards.flatten(0, 1));
        // With respect to what the actor saw before the step after.
        let mut of_seen: Option<Tensor> = None;
        let mut squares = Vec::new();
        for (t, tape) in self.tapes.iter_mut().enumerate().rev() {
            let (on, of_end) = (on.get(t as i64).unsqueeze(1), ends.get(t as i64));
            let bar = of_seen.take().map_or_else(|| of_end.shallow_clone(), |of_seen| of_seen * &on + &of_end);
            let of_actions = self.dream.pull_back(&bar, &on);
            squares.push(of_actions.square().sum(Kind::Double).double_value(&[]));
            of_seen = self.actor.pull_back(tape, &of_actions, !self.detach);
        }
        squares.reverse();
        Back { gradients: vec![gather(self.tapes)], squares }
    }
}

/// A window whose rows are shared among threads: each share is dreamt and gone back on one of them, and threads meet once a step that
/// envs play, else once in all.
pub(crate) struct Shares<D> {
    windows: Vec<Window<D>>,
    /// Of each.
    rows: Vec<i64>,
}

impl<D: Dream + Send> Shares<D> {
    /// Windows of shares of `begins` `[N, ..]`, in dreams that `begin` makes of each.
    pub fn new(begins: &Tensor, actor: &ReadyActor, detach: bool, begin: impl Fn(&Tensor) -> D) -> Self {
        let parts = begins.tensor_split(shards(begins.size()[0]), 0);
        let rows = parts.iter().map(|part| part.size()[0]).collect();
        let window = |part: &Tensor| Window::new(begin(part), actor.on_one_thread(), detach);
        Self { windows: parts.iter().map(window).collect(), rows }
    }

    /// The rows of each share along a dimension of a tensor.
    fn parts(&self, of: &Tensor, dim: i64) -> Vec<Tensor> {
        let mut begin = 0;
        let part = |&rows: &i64| {
            begin += rows;
            of.narrow(dim, begin - rows, rows).contiguous()
        };
        self.rows.iter().map(part).collect()
    }

    /// Does `work` on each share with its rows of `of` `[N, ..]`.
    pub fn each<O: Send>(&mut self, of: &Tensor, work: impl Fn(&mut Window<D>, &Tensor) -> O + Sync) -> Vec<O> {
        let parts = self.parts(of, 0);
        let items = self.windows.iter_mut().zip(parts).collect();
        side_by_side(items, |(window, part): (&mut Window<D>, Tensor)| work(window, &part))
    }

    /// A step with `noise` `[N, A]`: the actions `[N, A]` of the policy as it explores.
    pub fn step(&mut self, noise: &Tensor) -> Tensor {
        Tensor::cat(&self.each(noise, |window, noise| window.step(noise.shallow_clone())), 0)
    }

    /// A step for each of `noise` `[T, N, A]`, in which no episode ends.
    pub fn dreamt(self, noise: &Tensor) -> Self {
        let (parts, rows) = (self.parts(noise, 1), self.rows);
        let items = self.windows.into_iter().zip(parts).collect();
        let windows = side_by_side(items, |(window, noise): (Window<D>, Tensor)| window.dreamt(noise.unbind(0)));
        Self { windows, rows }
    }

    /// Of all steps, `[T, N]`. They are asked for once.
    pub fn rewards(&mut self) -> Tensor {
        let each = side_by_side(self.windows.iter_mut().collect(), |window: &mut Window<D>| {
            window.dream.rewards().view([window.tapes.len() as i64, -1])
        });
        Tensor::cat(&each, 1)
    }
}

impl<D: Dream + Send> Dreamt for Shares<D> {
    fn columns(&mut self) -> Columns {
        let rewards = self.rewards();
        let (begins, ends): (Vec<_>, Vec<_>) = self.windows.iter_mut().map(Window::take_seen).unzip();
        Columns::new(&begins, &ends, rewards)
    }

    fn pull_back(self, Bars { on, rewards, ends }: Bars) -> Back {
        let [on, rewards, ends] = [on, rewards, ends].map(|column| self.parts(&column, 1));
        let bars = on.into_iter().zip(rewards).zip(ends).map(|((on, rewards), ends)| Bars { on, rewards, ends });
        let items = self.windows.into_iter().zip(bars).collect();
        let found = side_by_side(items, |(window, bars): (Window<D>, Bars)| window.pull_back(bars));
        let mut all = Back { gradients: Vec::new(), squares: vec![0.0; found[0].squares.len()] };
        for Back { gradients, squares } in found {
            all.gradients.extend(gradients);
            all.squares.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
        }
        all
    }
}
