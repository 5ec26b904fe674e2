//! The seam between a model and whatever asks it: a belief that can observe, imagine and be drawn.
//!
//! Every model here keeps a *belief* about a world it sees through a keyhole. The memory benchmark, the player and (later)
//! policies know a model only through [`WorldModel`].

use std::collections::BTreeMap;

use simulators::rng::Rng;
use tch::Tensor;

/// What a model believes about a batch of worlds: named tensors, the first dimension of each is `B`.
///
/// Being plain tensors, a belief can be saved, probed, shown and fed to a policy.
#[derive(Debug, Default)]
pub struct Belief {
    tensors: BTreeMap<&'static str, Tensor>,
}

impl Belief {
    /// A belief of the given parts.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = (&'static str, Tensor)>) -> Self {
        Self { tensors: parts.into_iter().collect() }
    }

    /// One part.
    ///
    /// # Panics
    /// If the belief has no such part: a belief was given to a model of another kind.
    pub fn part(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| {
            panic!("this belief has no `{name}`, only {:?}: it belongs to another model", self.tensors.keys())
        })
    }

    /// The same belief; its parts share memory.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self::new(self.parts().map(|(name, part)| (name, part.shallow_clone())))
    }

    /// Of the worlds where `other_rows` `[B]` is true, what `other` says; of the others, what this one does.
    #[must_use]
    pub fn with_rows_of(&self, other: &Self, other_rows: &Tensor) -> Self {
        Self::new(self.parts().map(|(name, part)| {
            let mut shape = vec![1; part.dim()];
            shape[0] = -1;
            (name, other.part(name).where_self(&other_rows.view(shape.as_slice()), part))
        }))
    }

    /// All parts, in the order of their names.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (*name, tensor))
    }
}

/// A stretch of recorded experience, as models see it.
///
/// `actions[:, t]` led *to* `frames[:, t]`; `actions[:, 0]` is zero. (Datasets pair an action with the observation before
/// it; [`crate::clips`] converts.)
#[derive(Debug)]
pub struct Clip {
    /// `[B, T, C, H, W]` `f32` in `[0, 1]`.
    pub frames: Tensor,
    /// `[B, T, A]` `f32`.
    pub actions: Tensor,
    /// How many leading frames are seen; the rest is to be predicted.
    pub context: i64,
}

impl Clip {
    /// `B`.
    #[must_use]
    pub fn batch(&self) -> i64 {
        self.frames.size()[0]
    }
    /// `T`, context and predicted frames together.
    #[must_use]
    pub fn steps(&self) -> i64 {
        self.frames.size()[1]
    }
    /// The frame at `t`, `[B, C, H, W]`.
    pub fn frame(&self, t: i64) -> Tensor {
        self.frames.select(1, t)
    }
    /// The action that led to frame `t`, `[B, A]`.
    pub fn action(&self, t: i64) -> Tensor {
        self.actions.select(1, t)
    }
}

/// A model of a world, asked the same way whatever it is inside.
///
/// Under `tch::no_grad` the methods build no graph; otherwise `imagine` and `picture` are differentiable with respect to
/// the belief, the weights and (where the model is smooth in them) the actions.
pub trait WorldModel: Send {
    /// The belief of one who has seen nothing yet, for `batch` worlds.
    fn start(&self, batch: i64) -> Belief;
    /// Eyes open: `action [B, A]` was taken and led to `observation [B, C, H, W]`.
    fn observe(&self, belief: &Belief, action: &Tensor, observation: &Tensor) -> Belief;
    /// Eyes shut: `action [B, A]` was taken.
    fn imagine(&self, belief: &Belief, action: &Tensor) -> Belief;
    /// What the belief says is in view now, `[B, C, H, W]`, not clamped.
    fn picture(&self, belief: &Belief) -> Tensor;
    /// What a policy is told of a belief, `[B, F]`: by default what is in view.
    fn features(&self, belief: &Belief) -> Tensor {
        self.picture(belief).flatten(1, -1)
    }
    /// The training loss of a clip: a scalar whose `backward` gives the gradients.
    fn loss(&self, clip: &Clip) -> Tensor;
    /// The loss of one update, where training leaves something to chance: drawn from `rng`, and from nothing else, so that a
    /// resumed run draws the same.
    fn training_loss(&self, clip: &Clip, _rng: &mut Rng) -> Tensor {
        self.loss(clip)
    }
}

/// Watches the context of `clip` and imagines the rest with its true actions: `[B, T - context, C, H, W]`, not clamped.
pub fn roll_out(model: &dyn WorldModel, clip: &Clip) -> Tensor {
    let mut belief = model.start(clip.batch());
    for t in 0..clip.context {
        belief = model.observe(&belief, &clip.action(t), &clip.frame(t));
    }
    let pictures: Vec<Tensor> = (clip.context..clip.steps())
        .map(|t| {
            belief = model.imagine(&belief, &clip.action(t));
            model.picture(&belief)
        })
        .collect();
    Tensor::stack(&pictures, 1)
}
