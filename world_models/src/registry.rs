//! The models by name: a configuration builds a model, whatever its kind.

use serde::{Deserialize, Serialize};
use simulators::rng::Seed;
use tch::nn;

use crate::belief::WorldModel;
use crate::flowm::{Flowm, FlowmConfig};
use crate::linear_rnn::{LinearRnn, LinearRnnConfig};

/// A model's configuration; `kind` names the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WorldModelConfig {
    /// A map that is equivariant to motion.
    Flowm(FlowmConfig),
    /// A plain recurrent network, the baseline without a map.
    LinearRnn(LinearRnnConfig),
}

impl WorldModelConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// A line naming the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Self::Flowm(config) => config.validate(),
            Self::LinearRnn(config) => config.validate(),
        }
    }

    /// Creates the model's weights under `path`, drawn from `seed`.
    #[must_use]
    pub fn build(&self, path: &nn::Path, seed: Seed) -> Box<dyn WorldModel> {
        match self {
            Self::Flowm(config) => Box::new(Flowm::new(path, config, seed)),
            Self::LinearRnn(config) => Box::new(LinearRnn::new(path, config, seed)),
        }
    }

    /// Side of the frames it takes and makes, and their colours.
    #[must_use]
    pub fn frame(&self) -> [i64; 2] {
        match self {
            Self::Flowm(config) => [config.window, config.input_channels],
            Self::LinearRnn(config) => [config.window, config.input_channels],
        }
    }

    /// About how many bytes one training step needs beside the weights, for `batch` clips of `steps` frames.
    #[must_use]
    pub fn training_bytes(&self, batch: i64, steps: i64) -> i64 {
        match self {
            Self::Flowm(config) => config.training_bytes(batch, steps),
            Self::LinearRnn(config) => config.training_bytes(batch, steps),
        }
    }
}
