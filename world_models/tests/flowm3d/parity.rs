//! FloWM 3D against the original: fixtures of frames, maps, views and gradients.

use tch::{Device, Kind, Tensor, nn};
use world_models::belief::{Clip, WorldModel, roll_out};
use world_models::flowm::Precision;
use world_models::flowm3d::{Flowm3d, Flowm3dConfig, Mixing, part};

use crate::fixture::Fixture;
use crate::support::{told, with_gradients};

/// Copies every weight into the variable of the same name; both sides must have the same names.
fn load_weights(fixture: &Fixture, vs: &nn::VarStore) {
    let mut variables = vs.variables();
    for (name, tensor) in fixture.weights() {
        let mut variable = variables.remove(name).unwrap_or_else(|| panic!("no variable {name}"));
        assert_eq!(variable.size(), tensor.size(), "{name}");
        tch::no_grad(|| variable.copy_(tensor));
    }
    assert!(variables.is_empty(), "variables without a weight: {:?}", variables.keys());
}

/// The cells in view as a mask `[S, S]`.
fn mask(config: &Flowm3dConfig) -> Tensor {
    let side = config.map_side;
    let mask = Tensor::zeros([side * side], (Kind::Bool, Device::Cpu));
    let _ = mask.shallow_clone().index_fill_(0, &Tensor::from_slice(&config.in_view()), 1);
    mask.view([side, side])
}

/// A map whose channels have not yet flowed on.
fn before_flow(map: &Tensor, config: &Flowm3dConfig) -> Tensor {
    let channels = (0..).zip(config.velocities());
    let back = channels.map(|(v, [right, down])| map.select(1, v).roll([-down, -right], [1, 2]));
    Tensor::stack(&back.collect::<Vec<_>>(), 1)
}

fn agrees(name: &str, options: &Flowm3dConfig) {
    let Some(fixture) = Fixture::load(name) else { return };
    let frames = fixture.tensor("input.input_seq");
    let config = Flowm3dConfig {
        window: frames.size()[3],
        input_channels: frames.size()[2],
        patch: fixture.argument("img_patch_size").unwrap(),
        map_side: 2 * fixture.argument("world_size").unwrap() + 1,
        hidden: fixture.argument("embed_dim").unwrap(),
        heads: fixture.argument("num_heads").unwrap(),
        encoder_depth: fixture.argument("map_proc_encoder_depth").unwrap(),
        decoder_depth: fixture.argument("dec_depth").unwrap(),
        precision: Precision::F32,
        ..options.clone()
    };
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Flowm3d::new(&vs.root(), &config, simulators::rng::Seed(0));
    load_weights(&fixture, &vs);
    assert_eq!(&mask(&config), fixture.tensor("output.fov_mask"), "{name}");

    // The action of the first frame is ignored there, and not taken here.
    let (seen, context) = (fixture.tensor("input.input_actions"), frames.size()[1]);
    let choices = Tensor::cat(&[seen, fixture.tensor("input.target_actions")], 1);
    let _ = choices.select(1, 0).fill_(-1);
    let actions = told(&choices);
    let batch = actions.size()[0];

    let map = fixture.tensor("input.map");
    let turned = Flowm3d::new(
        &nn::VarStore::new(Device::Cpu).root(),
        &Flowm3dConfig { self_motion: true, ..config.clone() },
        simulators::rng::Seed(0),
    );
    let after = |map: &Tensor, choice: i64| {
        turned.moved(map, &told(&Tensor::full([batch], choice, (Kind::Int64, Device::Cpu))))
    };
    fixture.check("map_flow", &after(map, 4));
    let resting = before_flow(map, &config);
    for (what, choice) in [("map_left", 0), ("map_right", 1), ("map_forward", 2), ("map_noop", 4), ("map_noop", -1)] {
        fixture.check(what, &after(&resting, choice));
    }

    // Through the belief seam, keeping the states on the way.
    tch::no_grad(|| {
        let start = model.start(batch);
        let first = if config.self_motion { actions.select(1, 0) } else { told(&Tensor::from_slice(&[2i64, 0])) };
        fixture.check("write_first", model.observe(&start, &first, &frames.select(1, 0)).part(part::MAP));
        let mut belief = start;
        let mut norms = Vec::new();
        for t in 0..actions.size()[1] {
            let action = actions.select(1, t);
            if t < context {
                belief = model.observe(&belief, &action, &frames.select(1, t));
                continue;
            }
            let norm = |x: &Tensor, axis: i64| x.square().sum_dim_intlist([axis].as_slice(), false, Kind::Float).sqrt();
            norms.push(norm(&norm(&model.before_looking(&belief, &action), 4), 1).unsqueeze(1));
            belief = model.imagine(&belief, &action);
        }
        fixture.check("map_norm", &Tensor::stack(&norms, 1));
        fixture.check("map_final", belief.part(part::MAP));
    });

    // The fixture's gradients are of the mean square of the prediction: the loss against black frames.
    let expected = fixture.tensor("output.prediction");
    let clip = Clip { frames: Tensor::cat(&[frames, &Tensor::zeros_like(expected)], 1), actions, context };
    fixture.check("prediction", &tch::no_grad(|| roll_out(&model, &clip)));
    let mean_square = expected.square().mean(Kind::Float).double_value(&[]);
    let (loss, gradients) = with_gradients(&vs, || model.loss(&clip));
    assert!((loss / mean_square - 1.0).abs() < 1e-4, "{name}: loss {loss}");
    let given = fixture.outputs().filter(|output| output.starts_with("grad.")).count();
    let mut compared = 0;
    for (weight, gradient) in gradients {
        let output = format!("grad.{weight}");
        if fixture.outputs().any(|name| name == output) {
            fixture.check(&output, &gradient);
            compared += 1;
        }
    }
    assert!(compared == given && given > 0, "{name}: {compared} of {given} gradients");
}

#[test]
fn the_published_settings() {
    agrees("flowm3d", &Flowm3dConfig::default());
    agrees("flowm3d", &Flowm3dConfig { recompute: false, ..Default::default() });
}

#[test]
fn one_velocity_channel() {
    agrees("flowm3d_no_velocity", &Flowm3dConfig { velocity_channels: false, ..Default::default() });
}

#[test]
fn the_action_as_a_token() {
    agrees("flowm3d_no_self_motion", &Flowm3dConfig { self_motion: false, ..Default::default() });
}

#[test]
fn no_mixing_of_channels() {
    agrees("flowm3d_no_mixing", &Flowm3dConfig { mixing: Mixing::None, ..Default::default() });
}

#[test]
fn cells_in_view() {
    let Some(fixture) = Fixture::load("flowm3d_fov_masks") else { return };
    for (map_side, degrees, cells) in [(9, 60, 17), (9, 90, 25), (33, 60, 177), (33, 90, 289)] {
        let config = Flowm3dConfig { map_side, field_of_view: f64::from(degrees), ..Default::default() };
        assert_eq!(config.in_view().len(), cells);
        assert_eq!(&mask(&config), fixture.tensor(&format!("output.mask_{map_side}_{degrees}")));
    }
}
