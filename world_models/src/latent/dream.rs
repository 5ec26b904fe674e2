//! A dream of latents: without libtorch's tape, rewards of all steps in one batch.

use tch::Tensor;

use super::Ready;
use super::dynamics::Step;
use super::reward::Rewarded;
use crate::dream::Dream;

/// Latents `[N, L]`, which are what the policy sees, normalised if that is set.
pub struct LatentDream<'a> {
    ready: &'a Ready,
    latents: Tensor,
    steps: Vec<Step>,
    /// `[N, L + A]` of each step.
    inputs: Vec<Tensor>,
    rewarded: Option<Rewarded>,
    /// With respect to latents and actions, `[T * N, L + A]`.
    of_inputs: Option<Tensor>,
}

impl<'a> LatentDream<'a> {
    /// A dream that begins with what the encoder makes of observations `[N, O]`.
    #[must_use]
    pub fn new(ready: &'a Ready, observations: &Tensor) -> Self {
        let latents = ready.encode(observations);
        Self { ready, latents, steps: Vec::new(), inputs: Vec::new(), rewarded: None, of_inputs: None }
    }

    /// Goes on in some rows, `[n]`, with what is made of other observations, `[n, O]`. No gradient comes back from there: whoever goes
    /// back must give none.
    pub fn begin_anew(&mut self, rows: &Tensor, observations: &Tensor) {
        self.latents = self.latents.index_copy(0, rows, &self.ready.encode(observations));
    }

    /// Goes on in all rows with what is made of the observations `[N, O]` that the step has really led to. Gradients come back as if it
    /// had been foreseen.
    pub fn observe(&mut self, observations: &Tensor) {
        self.latents = self.ready.encode(observations);
    }
}

impl Dream for LatentDream<'_> {
    fn seen(&self) -> Tensor {
        self.ready.shown(&self.latents)
    }

    fn act(&mut self, actions: &Tensor) {
        self.inputs.push(Tensor::cat(&[&self.latents, actions], 1));
        let (next, step) = self.ready.dynamics.step(&self.latents, actions);
        self.latents = next;
        self.steps.push(step);
    }

    fn rewards(&mut self) -> Tensor {
        let (rewards, rewarded) = self.ready.reward.rewards(&Tensor::cat(&self.inputs, 0));
        self.rewarded = Some(rewarded);
        rewards
    }

    fn pull_back_rewards(&mut self, bar: &Tensor) {
        let mut rewarded = self.rewarded.take().expect("rewards are asked for first");
        self.of_inputs = Some(rewarded.pull_back(bar));
    }

    fn pull_back(&mut self, bar: &Tensor) -> (Tensor, Tensor) {
        // Latents are scaled for the policy, and go on as they are.
        let scale = self.ready.of_latents.as_ref().map(|scales| &scales.scale);
        let bar = scale.map_or_else(|| bar.shallow_clone(), |scale| bar * scale);
        let (mut of_latents, mut of_actions) = self.steps.pop().expect("a step that is left").pull_back(&bar);
        if let Some(of_inputs) = &self.of_inputs {
            let (rows, latent) = (bar.size()[0], bar.size()[1]);
            let of_inputs = of_inputs.narrow(0, self.steps.len() as i64 * rows, rows);
            of_actions += of_inputs.narrow(1, latent, of_inputs.size()[1] - latent);
            of_latents += of_inputs.narrow(1, 0, latent);
        }
        (scale.map_or_else(|| of_latents.shallow_clone(), |scale| &of_latents / scale), of_actions)
    }
}
