//! The models by name: a configuration builds a model, whatever its kind.

use serde::{Deserialize, Serialize};
use simulators::limits::Limit;
use simulators::rng::Seed;
use tch::nn;

use crate::belief::WorldModel;
use crate::clips::Actions;
use crate::flowm::{Flowm, FlowmConfig};
use crate::flowm3d::{self, Flowm3d, Flowm3dConfig};
use crate::linear_rnn::{LinearRnn, LinearRnnConfig};

/// A model's configuration; `kind` names the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WorldModelConfig {
    /// A map that is equivariant to motion.
    Flowm(FlowmConfig),
    /// A map of what lies around an agent that turns, seen in perspective.
    Flowm3d(Flowm3dConfig),
    /// A plain recurrent network, the baseline without a map.
    LinearRnn(LinearRnnConfig),
}

impl WorldModelConfig {
    /// What every field may hold, alone and beside the others.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        match self {
            Self::Flowm(config) => config.limits(),
            Self::Flowm3d(config) => config.limits(),
            Self::LinearRnn(config) => config.limits(),
        }
    }

    /// Trainable numbers.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Flowm(config) => config.parameters(),
            Self::Flowm3d(config) => config.parameters(),
            Self::LinearRnn(config) => config.parameters(),
        }
    }

    /// Creates the model's weights under `path`, drawn from `seed`.
    #[must_use]
    pub fn build(&self, path: &nn::Path, seed: Seed) -> Box<dyn WorldModel> {
        match self {
            Self::Flowm(config) => Box::new(Flowm::new(path, config, seed)),
            Self::Flowm3d(config) => Box::new(Flowm3d::new(path, config, seed)),
            Self::LinearRnn(config) => Box::new(LinearRnn::new(path, config, seed)),
        }
    }

    /// Side of the frames it takes and makes, and their colours.
    #[must_use]
    pub fn frame(&self) -> [i64; 2] {
        match self {
            Self::Flowm(config) => [config.window, config.input_channels],
            Self::Flowm3d(config) => [config.window, config.input_channels],
            Self::LinearRnn(config) => [config.window, config.input_channels],
        }
    }

    /// The actions that it is told.
    #[must_use]
    pub fn actions(&self) -> Actions {
        match self {
            Self::Flowm(_) | Self::LinearRnn(_) => Actions::Vector(2),
            Self::Flowm3d(_) => Actions::Choice(flowm3d::ACTIONS),
        }
    }

    /// About how many bytes one training step needs beside the weights, for `batch` clips of `steps` frames.
    #[must_use]
    pub fn training_bytes(&self, batch: i64, steps: i64) -> i64 {
        match self {
            Self::Flowm(config) => config.training_bytes(batch, steps),
            Self::Flowm3d(config) => config.training_bytes(batch, steps),
            Self::LinearRnn(config) => config.training_bytes(batch, steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flowm::Cell;
    use crate::flowm3d::Mixing;
    use tch::Device;

    fn small() -> Flowm3dConfig {
        let depths = Flowm3dConfig { encoder_depth: 2, decoder_depth: 3, ..Default::default() };
        Flowm3dConfig { window: 12, input_channels: 2, patch: 6, map_side: 5, hidden: 12, heads: 3, ..depths }
    }

    #[test]
    fn parameters_are_counted_without_building_the_model() {
        let concat = FlowmConfig { hidden: 5, cell: Cell::ActionConcat, decoder_layers: 3, ..Default::default() };
        for config in [
            WorldModelConfig::Flowm(FlowmConfig { hidden: 4, input_channels: 3, ..Default::default() }),
            WorldModelConfig::Flowm(concat),
            WorldModelConfig::Flowm3d(small()),
            WorldModelConfig::Flowm3d(Flowm3dConfig { velocity_channels: false, self_motion: false, ..small() }),
            WorldModelConfig::Flowm3d(Flowm3dConfig { mixing: Mixing::None, mlp_ratio: 3, ..small() }),
            WorldModelConfig::LinearRnn(LinearRnnConfig { hidden: 6, window: 5, ..Default::default() }),
            WorldModelConfig::LinearRnn(LinearRnnConfig { hidden: 3, window: 4, input_channels: 2, actions: false }),
        ] {
            let vs = nn::VarStore::new(Device::Cpu);
            let _model = config.build(&vs.root(), Seed(0));
            let built: usize = vs.trainable_variables().iter().map(tch::Tensor::numel).sum();
            assert_eq!(config.parameters(), built as u64, "{config:?}");
        }
    }
}
