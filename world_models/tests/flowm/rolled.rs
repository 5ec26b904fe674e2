//! The co-moving form is the literal one: same states, pictures, loss and gradients, though it never rolls a map.

use world_models::belief::WorldModel;
use world_models::flowm::{FlowmConfig, Init};

use crate::literal::Literal;
use crate::support::{ORDERS, assert_near, built, random, random_clip, small, with_gradients};

/// Relative to the largest expected number, in single precision.
const CLOSE: f64 = 1e-5;

fn agrees(config: &FlowmConfig) {
    let what = |thing: &str| format!("{thing} of {config:?}");
    let (vs, model) = built(config);
    let literal = Literal::new(config, &vs);
    let clip = random_clip(config, 2, 5, 6, &mut random(config.v_range as u64));
    let trace = tch::no_grad(|| literal.run(&clip));
    tch::no_grad(|| {
        let mut belief = model.start(clip.batch());
        for t in 0..clip.steps() {
            belief = if t < clip.context {
                model.observe(&belief, &clip.action(t), &clip.frame(t))
            } else {
                let belief = model.imagine(&belief, &clip.action(t));
                let expected = trace.predicted.select(1, t - clip.context);
                assert_near(&what("picture"), &model.picture(&belief), &expected, CLOSE);
                belief
            };
            assert_near(&what("state"), &model.egocentric_map(&belief), &trace.states[t as usize], CLOSE);
        }
    });
    let (loss, gradients) = with_gradients(&vs, || model.loss(&clip));
    let (expected_loss, expected) = with_gradients(&vs, || literal.loss(&clip));
    assert!((loss / expected_loss - 1.0).abs() < CLOSE, "{}: {loss}, not {expected_loss}", what("loss"));
    for ((name, gradient), (_, expected)) in gradients.iter().zip(&expected) {
        assert_near(&what(name), gradient, expected, CLOSE);
    }
}

/// Both write orders, with self-motion and without.
fn agrees_in_every_form(base: &FlowmConfig) {
    for write_order in ORDERS {
        for self_motion in [true, false] {
            agrees(&FlowmConfig { write_order, self_motion, ..base.clone() });
        }
    }
}

#[test]
fn one_velocity() {
    agrees_in_every_form(&small(0));
}

#[test]
fn nine_velocities() {
    agrees_in_every_form(&small(1));
}

#[test]
fn twenty_five_velocities() {
    agrees_in_every_form(&small(2));
}

#[test]
fn a_recurrence_near_the_identity_colours_and_a_deeper_decoder() {
    agrees_in_every_form(&FlowmConfig { init: Init::NearIdentity, input_channels: 3, decoder_layers: 2, ..small(1) });
}

#[test]
fn a_window_as_large_as_the_world() {
    agrees_in_every_form(&FlowmConfig { window: 12, ..small(1) });
}
