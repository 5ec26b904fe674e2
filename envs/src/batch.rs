//! What one step of `N` envs gives, as columns that the caller owns.

use crate::buffer::Buffer;
use crate::env::{EnvError, EnvSpec};
use crate::stop::Stop;

/// Columns of one vectorised step; row `i` belongs to env `i`. `O` is the size of one observation.
///
/// Made once for a batch and written into by every step, so that stepping allocates nothing. The length of each column
/// is what [`StepBatch::for_spec`] made it: the fields are private so that it stays so.
#[derive(Clone, PartialEq, Debug)]
pub struct StepBatch {
    obs: Buffer,
    final_obs: Buffer,
    pub(crate) reward: Vec<f32>,
    pub(crate) stop: Vec<Stop>,
    pub(crate) ignored: Vec<bool>,
    pub(crate) episode: Vec<u64>,
}

impl StepBatch {
    /// Columns of zeros for `num_envs` envs of this spec.
    #[must_use]
    pub fn for_spec(spec: &EnvSpec, num_envs: usize) -> Self {
        let obs = Buffer::zeros(spec.observation.dtype(), num_envs * spec.observation.size());
        Self {
            final_obs: obs.clone(),
            obs,
            reward: vec![0.0; num_envs],
            stop: vec![Stop::default(); num_envs],
            ignored: vec![false; num_envs],
            episode: vec![0; num_envs],
        }
    }

    /// `[N, O]`, what to act on next: after auto-reset where that happens in the same step.
    #[must_use]
    pub fn obs(&self) -> &Buffer {
        &self.obs
    }

    /// As [`StepBatch::obs`], to hand to a reset.
    pub fn obs_mut(&mut self) -> &mut Buffer {
        &mut self.obs
    }

    /// `[N, O]`, what the action led to, before any reset; equal to `obs` where nothing stopped.
    #[must_use]
    pub fn final_obs(&self) -> &Buffer {
        &self.final_obs
    }

    /// `[N]` rewards.
    #[must_use]
    pub fn reward(&self) -> &[f32] {
        &self.reward
    }

    /// `[N]`, whether and why the episode stopped.
    #[must_use]
    pub fn stop(&self) -> &[Stop] {
        &self.stop
    }

    /// `[N]`, true where the action was ignored because the row was reset instead (next-step mode): that row holds no
    /// transition, and its `obs` starts an episode.
    #[must_use]
    pub fn ignored(&self) -> &[bool] {
        &self.ignored
    }

    /// `[N]`, index of the episode that the transition belongs to; where `ignored`, of the one that starts.
    #[must_use]
    pub fn episode(&self) -> &[u64] {
        &self.episode
    }

    /// Number of rows `N`.
    #[must_use]
    pub fn num_envs(&self) -> usize {
        self.reward.len()
    }

    /// Refuses columns that were made for another spec or number of envs.
    pub(crate) fn check(&self, spec: &EnvSpec, num_envs: usize) -> Result<(), EnvError> {
        check_buffer(&self.obs, "observations", &spec.observation, spec, num_envs)
    }

    pub(crate) fn columns_mut(&mut self) -> Columns<'_> {
        Columns {
            obs: &mut self.obs,
            final_obs: &mut self.final_obs,
            reward: &mut self.reward,
            stop: &mut self.stop,
            ignored: &mut self.ignored,
            episode: &mut self.episode,
        }
    }
}

/// All columns at once, to be split into rows.
pub(crate) struct Columns<'a> {
    pub obs: &'a mut Buffer,
    pub final_obs: &'a mut Buffer,
    pub reward: &'a mut [f32],
    pub stop: &'a mut [Stop],
    pub ignored: &'a mut [bool],
    pub episode: &'a mut [u64],
}

/// Refuses a buffer that does not hold `num_envs` members of `space`, by type and length.
pub(crate) fn check_buffer(
    buffer: &Buffer,
    what: &'static str,
    space: &crate::space::Space,
    spec: &EnvSpec,
    num_envs: usize,
) -> Result<(), EnvError> {
    if buffer.dtype() != space.dtype() {
        let (expected, found) = (space.dtype(), buffer.dtype());
        return Err(EnvError::ElementType { env: spec.id.clone(), what, expected, found });
    }
    let (expected, found) = (num_envs * space.size(), buffer.len());
    if expected == found {
        Ok(())
    } else {
        Err(EnvError::Length { env: spec.id.clone(), what, num_envs, expected, found })
    }
}
