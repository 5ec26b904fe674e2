//! What checkpoints hold: names and shapes of every weight. A change here orphans the checkpoints of today.

use std::collections::BTreeSet;

use simulators::rng::Seed;
use tch::{Device, nn};
use world_models::flowm::{Cell, FlowmConfig};
use world_models::flowm3d::{Flowm3dConfig, Mixing};
use world_models::linear_rnn::LinearRnnConfig;
use world_models::registry::WorldModelConfig;

/// `name [shape]` of every weight, and their number.
fn schema(config: &WorldModelConfig) -> (BTreeSet<String>, usize) {
    let vs = nn::VarStore::new(Device::Cpu);
    let _model = config.build(&vs.root(), Seed(0));
    let weights = vs.variables();
    let numbers = weights.values().map(tch::Tensor::numel).sum();
    (weights.iter().map(|(name, weight)| format!("{name} {:?}", weight.size())).collect(), numbers)
}

fn published() -> FlowmConfig {
    FlowmConfig { hidden: 64, v_range: 2, ..Default::default() }
}

#[test]
fn flowm_has_the_names_and_the_size_of_the_published_checkpoints() {
    let (schema, numbers) = schema(&WorldModelConfig::Flowm(published()));
    assert_eq!(numbers, 74_880);
    insta::assert_debug_snapshot!(schema);
}

#[test]
fn velocities_share_their_weights() {
    for v_range in [0, 1] {
        let config = FlowmConfig { v_range, ..published() };
        assert_eq!(schema(&WorldModelConfig::Flowm(config)), schema(&WorldModelConfig::Flowm(published())));
    }
}

#[test]
fn flowm_told_the_action_in_colour_with_a_deeper_decoder() {
    let config = FlowmConfig { cell: Cell::ActionConcat, input_channels: 3, decoder_layers: 2, ..published() };
    insta::assert_debug_snapshot!(schema(&WorldModelConfig::Flowm(config)).0);
}

#[test]
fn flowm3d_has_the_names_and_the_size_of_the_published_checkpoints() {
    let published = WorldModelConfig::Flowm3d(Flowm3dConfig::default());
    let (schema, numbers) = schema(&published);
    assert_eq!(numbers as u64, published.parameters());
    // The released checkpoint of 154.3 MB is these and two moments of each.
    assert_eq!(numbers, 12_830_976);
    insta::assert_debug_snapshot!(schema);
}

#[test]
fn what_flowm3d_has_beyond_the_published_model_is_counted() {
    for velocity_channels in [true, false] {
        let config = Flowm3dConfig {
            mixing: Mixing::Reflecting,
            velocity_embedding: true,
            velocity_channels,
            ..Flowm3dConfig::default()
        };
        let config = WorldModelConfig::Flowm3d(config);
        assert_eq!(schema(&config).1 as u64, config.parameters());
    }
}

#[test]
fn linear_rnn() {
    insta::assert_debug_snapshot!(schema(&WorldModelConfig::LinearRnn(LinearRnnConfig::default())).0);
}
