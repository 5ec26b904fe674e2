//! FloWM 2D against the original: fixtures of frames, map states and gradients.

use tch::{Device, Kind, Tensor, nn};
use world_models::belief::{Clip, WorldModel, roll_out};
use world_models::flowm::{Cell, Flowm, FlowmConfig, Init, Precision, WriteOrder};

use crate::fixture::Fixture;
use crate::support::with_gradients;

/// Copies every weight into the variable of the same name; both sides must have the same names.
fn load_weights(fixture: &Fixture, vs: &nn::VarStore) {
    let mut variables = vs.variables();
    for (name, tensor) in fixture.weights() {
        let mut variable = variables.remove(name).unwrap_or_else(|| panic!("no variable {name}"));
        tch::no_grad(|| variable.copy_(tensor));
    }
    assert!(variables.is_empty(), "variables without a weight: {:?}", variables.keys());
}

fn agrees(name: &str, cell: Cell, self_motion: bool) {
    let Some(fixture) = Fixture::load(name) else { return };
    let config = FlowmConfig {
        hidden: fixture.argument("hidden_channels").unwrap(),
        v_range: fixture.argument("v_range").unwrap_or(2),
        world: fixture.argument("world_size").unwrap(),
        window: fixture.argument("window_size").unwrap(),
        input_channels: fixture.argument("input_channels").unwrap(),
        decoder_layers: fixture.argument("decoder_conv_layers").unwrap(),
        self_motion,
        cell,
        write_order: WriteOrder::Code,
        init: Init::Pytorch,
        precision: Precision::F32,
    };
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Flowm::new(&vs.root(), &config, simulators::rng::Seed(0));
    load_weights(&fixture, &vs);
    let (seen, steps) = (fixture.tensor("input.input_seq"), fixture.tensor("input.target_actions"));
    let context = seen.size()[1];
    let actions = Tensor::cat(&[fixture.tensor("input.input_actions"), steps], 1);
    let expected = fixture.tensor("output.prediction");

    // Through the belief seam, keeping the states on the way.
    let state = |belief: &_| match cell {
        Cell::Flow => model.egocentric_map(belief),
        Cell::ActionConcat => model.egocentric_map(belief).squeeze_dim(1),
    };
    let mut belief = model.start(seen.size()[0]);
    for t in 0..context {
        belief = model.observe(&belief, &actions.select(1, t), &seen.select(1, t));
        if t == 0 {
            fixture.check("hidden_context_0", &state(&belief));
        }
    }
    fixture.check("hidden_context_last", &state(&belief));
    for t in context..actions.size()[1] {
        belief = model.imagine(&belief, &actions.select(1, t));
    }
    fixture.check("hidden_pred_last", &state(&belief));

    // The fixture's gradients are of the mean square of the prediction: the loss against black frames.
    let clip = Clip { frames: Tensor::cat(&[seen, &Tensor::zeros_like(expected)], 1), actions, context };
    fixture.check("prediction", &roll_out(&model, &clip));
    let mean_square = expected.square().mean(Kind::Float).double_value(&[]);
    let unrolled = with_gradients(&vs, || model.loss(&clip));
    let taped = with_gradients(&vs, || model.taped_loss(&clip));
    for (loss, gradients) in [unrolled, taped] {
        assert!((loss / mean_square - 1.0).abs() < 1e-3, "{name}: loss {loss}");
        for (weight, gradient) in gradients {
            let output = format!("grad.{weight}");
            if fixture.outputs().any(|name| name == output) {
                fixture.check(&output, &gradient);
            }
        }
    }
}

#[test]
fn nine_velocities() {
    agrees("flowm2d_v1", Cell::Flow, true);
}

#[test]
fn one_velocity() {
    agrees("flowm2d_v0", Cell::Flow, true);
}

#[test]
fn map_not_moved_by_the_action() {
    agrees("flowm2d_v1_no_self_motion", Cell::Flow, false);
}

#[test]
fn action_as_planes() {
    agrees("flowm2d_action_concat", Cell::ActionConcat, true);
}

#[test]
fn colour_and_a_deeper_decoder() {
    agrees("flowm2d_v1_rgb_dec2", Cell::Flow, true);
}
