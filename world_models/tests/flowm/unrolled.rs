//! The training step without a tape equals the one with it.

use tch::{Tensor, nn};
use world_models::belief::{Clip, WorldModel};
use world_models::flowm::{Flowm, FlowmConfig, Init, Precision};

use crate::support::{ORDERS, assert_near, built, distance, random, random_clip, small, with_gradients};

type Found = (f64, Vec<(String, Tensor)>);

fn both(vs: &nn::VarStore, model: &Flowm, clip: &Clip) -> [Found; 2] {
    [with_gradients(vs, || model.loss(clip)), with_gradients(vs, || model.taped_loss(clip))]
}

/// Batch, context and horizon of a clip.
type Size = [i64; 3];

fn equal(base: &FlowmConfig, [batch, context, horizon]: Size) {
    for write_order in ORDERS {
        let config = FlowmConfig { write_order, ..base.clone() };
        let (vs, model) = built(&config);
        // The second clip finds the buffers of the first.
        for draw in 0..2 {
            let clip = random_clip(&config, batch, context, horizon, &mut random(draw));
            let [(loss, gradients), (taped_loss, taped)] = both(&vs, &model, &clip);
            let what = format!("{config:?}, {batch} x ({context} + {horizon})");
            assert!((loss / taped_loss - 1.0).abs() < 1e-5, "{what}: loss {loss}, taped {taped_loss}");
            for ((name, gradient), (_, taped)) in gradients.iter().zip(&taped) {
                assert_near(&format!("{name} of {what}"), gradient, taped, 1e-5);
            }
        }
    }
}

#[test]
fn for_any_number_of_velocities_and_samples() {
    for v_range in [0, 1, 2] {
        for batch in [1, 3] {
            equal(&small(v_range), [batch, 4, 3]);
        }
    }
}

#[test]
fn for_the_shortest_clips() {
    for size in [[2, 1, 1], [1, 1, 4], [2, 5, 1]] {
        equal(&small(1), size);
    }
}

#[test]
fn for_a_window_as_large_as_the_world() {
    for batch in [1, 3] {
        equal(&FlowmConfig { window: 12, ..small(1) }, [batch, 4, 3]);
    }
}

#[test]
fn for_odd_sizes_colours_and_deeper_decoders() {
    equal(&FlowmConfig { hidden: 19, world: 9, window: 8, ..small(1) }, [2, 3, 3]);
    equal(&FlowmConfig { input_channels: 3, decoder_layers: 3, ..small(1) }, [2, 3, 3]);
    equal(&FlowmConfig { hidden: 1, world: 3, window: 3, ..small(2) }, [1, 3, 3]);
}

#[test]
fn for_an_agent_that_does_not_know_it_moves_and_a_recurrence_near_the_identity() {
    equal(&FlowmConfig { self_motion: false, init: Init::NearIdentity, ..small(1) }, [3, 4, 3]);
}

#[test]
fn brain_floats_stay_close_to_single_precision() {
    // Eight bits of mantissa in the map: a loss within 1 %, gradients within 5 % of their largest element.
    for write_order in ORDERS {
        let exact = FlowmConfig { hidden: 16, write_order, ..small(1) };
        let rounded = FlowmConfig { precision: Precision::Bf16, ..exact.clone() };
        let ((vs, model), (rounded_vs, rounded_model)) = (built(&exact), built(&rounded));
        let clip = random_clip(&exact, 3, 8, 5, &mut random(5));
        let (loss, gradients) = with_gradients(&vs, || model.loss(&clip));
        for (rounded_loss, rounded) in both(&rounded_vs, &rounded_model, &clip) {
            assert!((rounded_loss / loss - 1.0).abs() < 0.01, "{write_order:?}: loss {rounded_loss}, exact {loss}");
            for ((name, gradient), (_, rounded)) in gradients.iter().zip(&rounded) {
                let error = distance(rounded, gradient);
                assert!(error < 0.05, "{write_order:?}: {name} differs by {error}");
            }
        }
    }
}

#[test]
fn a_number_that_is_not_finite_in_any_weight_or_frame_shows_in_loss_or_gradients() {
    for (bad, precision) in [f64::NAN, f64::INFINITY].into_iter().zip([Precision::F32, Precision::Bf16]) {
        for write_order in ORDERS {
            let config = FlowmConfig { write_order, precision, ..small(1) };
            let clip = random_clip(&config, 1, 3, 2, &mut random(6));
            let shows = |vs: &nn::VarStore, model: &Flowm, clip: &Clip, what: &str| {
                let (loss, gradients) = with_gradients(vs, || model.loss(clip));
                let finite =
                    loss.is_finite() && gradients.iter().all(|(_, g)| g.isfinite().all().int64_value(&[]) == 1);
                assert!(!finite, "{bad} in {what} went unseen ({write_order:?}, {precision:?})");
            };
            let names: Vec<String> = built(&config).0.variables().into_keys().collect();
            for name in names {
                let (vs, model) = built(&config);
                tch::no_grad(|| {
                    let _ = vs.variables()[&name].get(0).get(0).get(0).get(2).fill_(bad);
                });
                shows(&vs, &model, &clip, &name);
            }
            for step in [0, 2] {
                let (vs, model) = built(&config);
                let clip = Clip { frames: clip.frames.copy(), actions: clip.actions.copy(), context: clip.context };
                let _ = clip.frame(step).get(0).get(0).get(6).get(0).fill_(bad);
                shows(&vs, &model, &clip, "a seen frame");
            }
        }
    }
}
