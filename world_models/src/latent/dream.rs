//! A dream of latents: without libtorch's tape, rewards of all steps in one batch.

use tch::Tensor;

use super::Ready;
use super::dynamics::Step;
use super::reward::Rewarded;
use super::shown::ShownRun;
use crate::dream::Dream;

/// Latents `[N, L]`, and what the policy is given of them.
pub struct LatentDream {
    ready: Ready,
    latents: Tensor,
    shown: Tensor,
    steps: Vec<(Step, ShownRun)>,
    rewarded: Option<Rewarded>,
    /// With respect to latents and actions, `[T * N, L + A]`.
    of_inputs: Option<Tensor>,
    /// With respect to the latents before the step gone back last, `[N, L]`.
    onward: Option<Tensor>,
}

impl LatentDream {
    /// A dream that begins with what the encoder makes of observations `[N, O]`.
    #[must_use]
    pub fn new(ready: Ready, observations: &Tensor) -> Self {
        let latents = ready.encode(observations);
        let shown = ready.shown(&latents).0;
        Self { ready, latents, shown, steps: Vec::new(), rewarded: None, of_inputs: None, onward: None }
    }

    /// Shows other latents from now on; what the way back through what is shown needs.
    fn go_on_from(&mut self, latents: Tensor) -> ShownRun {
        let (shown, run) = self.ready.shown(&latents);
        (self.latents, self.shown) = (latents, shown);
        run
    }

    /// Goes on in some rows, `[n]`, with what is made of other observations, `[n, O]`. No gradient comes back from there: whoever goes
    /// back must give none.
    pub fn begin_anew(&mut self, rows: &Tensor, observations: &Tensor) {
        let _ = self.go_on_from(self.latents.index_copy(0, rows, &self.ready.encode(observations)));
    }

    /// What the latest step has really led to, observations `[N, O]`, takes the place of what was foreseen. Gradients come back as if it
    /// had been foreseen.
    pub fn correct(&mut self, observations: &Tensor) {
        let run = self.go_on_from(self.ready.encode(observations));
        if let Some((_, foreseen)) = self.steps.last_mut() {
            *foreseen = run;
        }
    }
}

impl Dream for LatentDream {
    fn seen(&self) -> Tensor {
        self.shown.shallow_clone()
    }

    fn act(&mut self, actions: &Tensor) {
        let (next, step) = self.ready.dynamics.step(&self.latents, actions);
        let run = self.go_on_from(next);
        self.steps.push((step, run));
    }

    fn rewards(&mut self) -> Tensor {
        let inputs: Vec<Tensor> = self.steps.iter().map(|(step, _)| step.inputs()).collect();
        let (rewards, rewarded) = self.ready.reward.rewards(&Tensor::cat(&inputs, 1).squeeze_dim(0));
        self.rewarded = Some(rewarded);
        rewards
    }

    fn pull_back_rewards(&mut self, bar: &Tensor) {
        let mut rewarded = self.rewarded.take().expect("rewards are asked for first");
        self.of_inputs = Some(rewarded.pull_back(bar));
    }

    fn pull_back(&mut self, bar: &Tensor, on: &Tensor) -> Tensor {
        let (mut step, shown) = self.steps.pop().expect("a step that is left");
        let of_shown = shown.pull_back(bar);
        let bar = match self.onward.take() {
            Some(onward) => of_shown + onward * on,
            None => of_shown,
        };
        let (mut of_latents, mut of_actions) = step.pull_back(&bar);
        if let Some(of_inputs) = &self.of_inputs {
            let (rows, latent) = (bar.size()[0], bar.size()[1]);
            let of_inputs = of_inputs.narrow(0, self.steps.len() as i64 * rows, rows);
            of_actions += of_inputs.narrow(1, latent, of_inputs.size()[1] - latent);
            of_latents += of_inputs.narrow(1, 0, latent);
        }
        self.onward = Some(of_latents);
        of_actions
    }
}
