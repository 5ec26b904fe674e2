//! What a policy is given of latents: these themselves, or what can be read from them.

use tch::Tensor;

use super::Ready;
use crate::mlp::passes::Run;

/// What the way back through what a policy is given of latents needs.
pub enum ShownRun {
    /// Latents as they are.
    Latents,
    /// Each number times one, `[L]`.
    Scaled(Tensor),
    /// Observations that are read from them.
    Observations(Run),
    /// Latents of such observations, and the factor of each number, `[L]`.
    Projected([Run; 2], Option<Tensor>),
}

impl ShownRun {
    /// The gradient with respect to latents, `[B, L]`, given that with respect to what was shown, `[B, F]`.
    pub(super) fn pull_back(self, bar: &Tensor) -> Tensor {
        match self {
            Self::Latents => bar.shallow_clone(),
            Self::Scaled(scale) => bar * scale,
            Self::Observations(mut run) => {
                run.pull_back(&bar.unsqueeze(0), true).expect("it was wanted").squeeze_dim(0)
            }
            Self::Projected([mut decoded, mut encoded], scale) => {
                let bar = scale.map_or_else(|| bar.shallow_clone(), |scale| bar * scale);
                let of_observations = encoded.pull_back(&bar.unsqueeze(0), true).expect("it was wanted");
                decoded.pull_back(&of_observations, true).expect("it was wanted").squeeze_dim(0)
            }
        }
    }
}

impl Ready {
    /// What a policy is given of latents `[B, L]`: `[B, F]`, and what the way back needs.
    pub fn shown(&self, latents: &Tensor) -> (Tensor, ShownRun) {
        match (&self.decoder, &self.of_latents) {
            (Some(decoder), scales) => {
                let (observations, run) = decoder.run(&latents.unsqueeze(0));
                if !self.projects {
                    return (observations.squeeze_dim(0), ShownRun::Observations(run));
                }
                let (latents, again) = self.encoder.run(&observations);
                let latents = latents.squeeze_dim(0);
                let scale = scales.as_ref().map(|scales| scales.scale.shallow_clone());
                let shown = scales.as_ref().map_or_else(|| latents.shallow_clone(), |scales| scales.applied(&latents));
                (shown, ShownRun::Projected([run, again], scale))
            }
            (None, Some(scales)) => (scales.applied(latents), ShownRun::Scaled(scales.scale.shallow_clone())),
            (None, None) => (latents.shallow_clone(), ShownRun::Latents),
        }
    }

    /// The gradient with respect to observations `[B, O]`, given that with respect to what a policy is shown of them, `[B, F]`.
    ///
    /// # Panics
    /// If a shape does not fit.
    pub fn pull_back_to_observations(&self, observations: &Tensor, bar: &Tensor) -> Tensor {
        let (latents, mut run) = self.encoder.run(&self.normalised(observations).unsqueeze(0));
        let of_latents = self.shown(&latents.squeeze_dim(0)).1.pull_back(bar);
        let of_normalised = run.pull_back(&of_latents.unsqueeze(0), true).expect("it was wanted").squeeze_dim(0);
        self.of_observations
            .as_ref()
            .map_or_else(|| of_normalised.shallow_clone(), |scales| &of_normalised * &scales.scale)
    }
}
