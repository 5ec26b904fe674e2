//! What keeps a policy's belief: a trained world model, or none but the last frame.

use envs::buffer::Dtype;
use envs::env::{EnvError, EnvSpec};
use envs::space::Space;
use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use simulators::rng::Seed;
use tch::{Kind, Tensor, nn};
use world_models::belief::WorldModel;
use world_models::clips::Actions;
use world_models::dream::ActionScale;
use world_models::last_frame::LastFrame;
use world_models::registry::WorldModelConfig;

/// Which.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mind {
    /// What was seen last, and nothing else: no memory.
    #[default]
    LastFrame,
    /// A world model that was trained before, and stays as it is.
    Learned {
        /// Its configuration.
        model: WorldModelConfig,
    },
}

impl Mind {
    /// What every field may hold.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        match self {
            Self::LastFrame => Vec::new(),
            Self::Learned { model } => model.limits().into_iter().map(|limit| limit.within("model")).collect(),
        }
    }

    /// The model for frames `[side, colours]`, its weights made under `path`.
    pub(crate) fn build(&self, path: &nn::Path<'_>, [window, input_channels]: [i64; 2]) -> Box<dyn WorldModel> {
        match self {
            Self::LastFrame => Box::new(LastFrame { window, input_channels }),
            Self::Learned { model } => model.build(path, Seed(0)),
        }
    }

    /// Its weights.
    pub(crate) fn parameters(&self) -> u64 {
        match self {
            Self::LastFrame => 0,
            Self::Learned { model } => model.parameters(),
        }
    }

    /// Features of a belief, where a frame has `inputs` numbers.
    pub(crate) fn features(&self, inputs: i64) -> i64 {
        match self {
            Self::Learned { model: WorldModelConfig::Flowm(config) } => {
                ((config.world + 1) / 2).pow(2) * config.input_channels
            }
            Self::LastFrame | Self::Learned { .. } => inputs,
        }
    }

    /// Side and colours of the frames that it takes of an env, if that shows such.
    pub(crate) fn frame(&self, spec: &EnvSpec) -> Option<[i64; 2]> {
        let [height, width, colours] = spec.observation.shape()[..] else { return None };
        let shown = [height as i64, colours as i64];
        let bytes = spec.observation.dtype() == Dtype::Uint8 && height == width;
        let taken = match self {
            Self::LastFrame => shown,
            Self::Learned { model } => model.frame(),
        };
        (bytes && taken == shown).then_some(shown)
    }

    /// Whether actions of an env are what the belief is told of.
    fn is_told(&self, spec: &EnvSpec) -> bool {
        match self {
            Self::LastFrame => true,
            Self::Learned { model } => model.actions() == Actions::Vector(spec.action.size() as i64),
        }
    }

    /// About how many bytes a belief takes, where a frame has `inputs` numbers.
    pub(crate) fn belief_bytes(&self, inputs: u64) -> u64 {
        match self {
            Self::LastFrame => 16 * inputs,
            Self::Learned { model } => model.training_bytes(1, 1) as u64,
        }
    }
}

/// How the env's actions are made of what the actor says, if they are a vector.
fn scale(spec: &EnvSpec) -> Option<ActionScale> {
    let whole = match &spec.action {
        Space::Box { .. } => false,
        Space::MultiDiscrete { .. } => true,
        Space::Discrete { .. } => return None,
    };
    let bounds: Vec<[f64; 2]> = (0..spec.action.size()).map(|component| spec.action.bounds(component).into()).collect();
    Some(ActionScale::new(&bounds, whole))
}

/// Side and colours of the frames, and how actions are made.
///
/// # Errors
/// An env that does not show the pictures that this belief is made of, or takes no vector.
pub(crate) fn senses(mind: &Mind, spec: &EnvSpec) -> Result<([i64; 2], ActionScale), EnvError> {
    let senses = mind.frame(spec).zip(scale(spec)).filter(|_| mind.is_told(spec));
    senses.ok_or_else(|| EnvError::NoPictures {
        env: spec.id.clone(),
        expected: match mind {
            Mind::LastFrame => "square".to_owned(),
            Mind::Learned { model } => {
                let [side, colours] = model.frame();
                format!("{side} x {side} x {colours}")
            }
        },
    })
}

/// Pictures `[N, H, W, C]` in bytes as `[N, C, H, W]` in `[0, 1]`.
pub(crate) fn frames(obs: &[u8], [side, colours]: [i64; 2]) -> Tensor {
    let pictures =
        Tensor::from_data_size(obs, &[obs.len() as i64 / (side * side * colours), side, side, colours], Kind::Uint8);
    pictures.permute([0, 3, 1, 2]).to_kind(Kind::Float).contiguous() / 255.0
}
