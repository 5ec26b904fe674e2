//! Acting in a belief with eyes shut: what a policy needs of a world model to be trained inside it, and the way back through it.
//!
//! A [`Dream`] is a window of imagined steps in `N` rows. A policy sees features of the belief, `[N, F]`, and answers with actions in
//! `-1..=1`, `[N, A]`; rewards of all steps are asked for at the end, so that a model can compute them at once. Gradients then come
//! back a step at a time, latest first, so that whoever dreams need not know what the model is made of.

use tch::{Kind, Tensor};

use crate::belief::{Belief, WorldModel};
use crate::mlp::passes::{Passes, Run};

/// A window of imagined steps.
pub trait Dream {
    /// What the policy sees now, `[N, F]`.
    fn seen(&self) -> Tensor;

    /// Imagines a step.
    fn act(&mut self, actions: &Tensor);

    /// The rewards of all steps, `[T * N]`, time-major.
    fn rewards(&mut self) -> Tensor;

    /// The gradient with respect to rewards, `[T * N]`. It is given once, after [`Dream::rewards`], before the steps are gone back.
    fn pull_back_rewards(&mut self, bar: &Tensor);

    /// The way back through the latest step that is left, given the gradient with respect to what was seen after it, `[N, F]`: with
    /// respect to its actions, `[N, A]`. What later steps have left for the belief goes in too, in rows that are `on`, `[N, 1]`, by their
    /// factor: 0 where the dream began anew after the step, 1 elsewhere.
    fn pull_back(&mut self, bar: &Tensor, on: &Tensor) -> Tensor;
}

/// How actions in `-1..=1` are those that a model takes.
#[derive(Debug)]
pub struct ActionScale {
    /// `[A]`.
    middle: Tensor,
    /// `[A]`.
    half: Tensor,
    whole: bool,
}

impl ActionScale {
    /// From bounds of each component; `whole` actions are rounded.
    #[must_use]
    pub fn new(bounds: &[[f64; 2]], whole: bool) -> Self {
        let of = |f: fn(&[f64; 2]) -> f64| {
            Tensor::from_slice(&bounds.iter().map(f).collect::<Vec<_>>()).to_kind(Kind::Float)
        };
        Self { middle: of(|[low, high]| f64::midpoint(*low, *high)), half: of(|[low, high]| (high - low) / 2.0), whole }
    }

    /// `[N, A]` to `[N, A]`. Rounding is passed over on the way back.
    pub fn apply(&self, actions: &Tensor) -> Tensor {
        let scaled = actions * &self.half + &self.middle;
        if self.whole { &scaled + (scaled.round() - &scaled).detach() } else { scaled }
    }
}

/// A dream of any [`WorldModel`], by libtorch's tape: gradients come back through whatever of the belief depends on actions. The
/// reward of a step is what `reward` makes of the features after it.
pub struct Taped<'a> {
    model: &'a dyn WorldModel,
    scale: &'a ActionScale,
    reward: &'a Passes,
    belief: Belief,
    seen: Tensor,
    steps: Vec<Step>,
    rewarded: Option<Run>,
    /// Of rewards with respect to what was seen after each step, `[T * N, F]`.
    of_rewards: Option<Tensor>,
    /// With respect to the parts of the belief after the latest step that is left.
    onward: Vec<(&'static str, Tensor)>,
}

/// A step on the tape.
struct Step {
    /// What of the belief before it depends on earlier actions, as leaves.
    leaves: Vec<(&'static str, Tensor)>,
    actions: Tensor,
    next: Belief,
    seen: Tensor,
}

impl<'a> Taped<'a> {
    /// A dream that begins with `belief`. The model's weights must not want gradients.
    #[must_use]
    pub fn new(model: &'a dyn WorldModel, scale: &'a ActionScale, reward: &'a Passes, belief: Belief) -> Self {
        let seen = tch::no_grad(|| model.features(&belief));
        Self {
            model,
            scale,
            reward,
            belief,
            seen,
            steps: Vec::new(),
            rewarded: None,
            of_rewards: None,
            onward: Vec::new(),
        }
    }
}

impl Dream for Taped<'_> {
    fn seen(&self) -> Tensor {
        self.seen.shallow_clone()
    }

    fn act(&mut self, actions: &Tensor) {
        tch::with_grad(|| {
            let mut leaves = Vec::new();
            let belief = Belief::new(self.belief.parts().map(|(name, part)| {
                if !part.requires_grad() {
                    return (name, part.shallow_clone());
                }
                let leaf = part.detach().set_requires_grad(true);
                leaves.push((name, leaf.shallow_clone()));
                (name, leaf)
            }));
            let actions = actions.detach().set_requires_grad(true);
            let next = self.model.imagine(&belief, &self.scale.apply(&actions));
            let seen = self.model.features(&next);
            self.seen = seen.detach();
            self.belief = next.shallow_clone();
            self.steps.push(Step { leaves, actions, next, seen });
        });
    }

    fn rewards(&mut self) -> Tensor {
        let seen: Vec<Tensor> = self.steps.iter().map(|step| step.seen.detach()).collect();
        let (rewards, run) = self.reward.run(&Tensor::cat(&seen, 0).unsqueeze(0));
        self.rewarded = Some(run);
        rewards.flatten(0, -1)
    }

    fn pull_back_rewards(&mut self, bar: &Tensor) {
        let mut run = self.rewarded.take().expect("rewards are asked for first");
        let of_seen = run.pull_back(&bar.view([1, -1, 1]), true).expect("it was wanted");
        self.of_rewards = Some(of_seen.squeeze_dim(0));
    }

    fn pull_back(&mut self, bar: &Tensor, on: &Tensor) -> Tensor {
        let Step { leaves, actions, next, seen } = self.steps.pop().expect("a step that is left");
        let rows = seen.size()[0];
        let bar = match &self.of_rewards {
            Some(of_rewards) => bar + of_rewards.narrow(0, self.steps.len() as i64 * rows, rows),
            None => bar.shallow_clone(),
        };
        let gradients = tch::with_grad(|| {
            // Whatever does not depend on an input has a gradient of zero with respect to it.
            let zero = leaves.iter().map(|(_, leaf)| leaf).chain([&actions]).map(|input| input.sum(Kind::Float) * 0.0);
            let through_belief = self.onward.iter().map(|(name, bar)| {
                let each = (next.part(name) * bar).view([rows, -1]);
                (each * on).sum(Kind::Float)
            });
            let total = zero.chain(through_belief).fold((&seen * bar).sum(Kind::Float), |sum, more| sum + more);
            let inputs: Vec<&Tensor> = leaves.iter().map(|(_, leaf)| leaf).chain([&actions]).collect();
            Tensor::run_backward(&[total], &inputs, false, false)
        });
        let mut gradients = gradients.into_iter();
        self.onward = leaves.iter().map(|(name, _)| *name).zip(gradients.by_ref()).collect();
        gradients.next().expect("one for each input")
    }
}
