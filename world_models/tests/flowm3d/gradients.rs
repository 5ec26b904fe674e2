//! The training step that goes back by hand, against autograd's own tape through the belief seam; and what it leaves to chance.

use tch::{Kind, Reduction, Tensor};
use world_models::belief::{Clip, WorldModel, roll_out};
use world_models::flowm::Precision;
use world_models::flowm3d::{Flowm3d, Flowm3dConfig, Mixing, part};

use crate::support::{built, random, random_clip, small, with_gradients};

/// Mean squared error of the predicted frames, each prediction fed back.
fn taped(model: &Flowm3d, clip: &Clip) -> Tensor {
    roll_out(model, clip).mse_loss(&clip.frames.slice(1, clip.context, clip.steps(), 1), Reduction::Mean)
}

fn agree(
    what: &str,
    (loss, gradients): &(f64, Vec<(String, Tensor)>),
    expected: &(f64, Vec<(String, Tensor)>),
    tolerance: f64,
) {
    assert!((loss / expected.0 - 1.0).abs() < tolerance, "{what}: {loss}, not {}", expected.0);
    for ((name, gradient), (_, expected)) in gradients.iter().zip(&expected.1) {
        let largest = expected.abs().max().double_value(&[]);
        let error = (gradient - expected).abs().max().double_value(&[]);
        assert!(error <= tolerance * largest.max(1e-4), "{what}: {name} differs by {error} of {largest}");
    }
}

#[test]
fn going_back_by_hand_is_what_the_tape_does() {
    let variants = [
        small(),
        Flowm3dConfig { velocity_channels: false, ..small() },
        Flowm3dConfig { self_motion: false, mixing: Mixing::Faithful, ..small() },
        Flowm3dConfig { mixing: Mixing::None, sight: 1.5, ..small() },
        Flowm3dConfig { self_motion: false, sight: 0.5, ..small() },
        Flowm3dConfig { mixing: Mixing::Reflecting, ..small() },
        Flowm3dConfig { feedback: false, velocity_embedding: true, ..small() },
        Flowm3dConfig { feedback: false, mixing: Mixing::Reflecting, ..small() },
    ];
    for (i, config) in (20..).zip(variants) {
        let (vs, model) = built(&config);
        let clip = random_clip(&config, 2, 3, 3, &mut random(i));
        let expected = with_gradients(&vs, || taped(&model, &clip));
        agree("by hand", &with_gradients(&vs, || model.loss(&clip)), &expected, 1e-4);
        let (kept_vs, keeps) = built(&Flowm3dConfig { recompute: false, ..config });
        agree("kept", &with_gradients(&kept_vs, || keeps.loss(&clip)), &expected, 1e-4);
    }
}

/// Halves of tokens cost some precision, and no more.
#[test]
fn tokens_in_bf16_give_about_the_same_gradients() {
    let config = small();
    let clip = random_clip(&config, 2, 3, 3, &mut random(30));
    let found = [Precision::F32, Precision::Bf16].map(|precision| {
        let (vs, model) = built(&Flowm3dConfig { precision, ..config.clone() });
        with_gradients(&vs, || model.loss(&clip))
    });
    let [(loss, exact), (rounded_loss, rounded)] = &found;
    assert!((rounded_loss / loss - 1.0).abs() < 0.02, "{rounded_loss}, not {loss}");
    let sum = |f: &dyn Fn(&Tensor, &Tensor) -> Tensor| -> f64 {
        exact.iter().zip(rounded).map(|((_, a), (_, b))| f(a, b).sum(Kind::Double).double_value(&[])).sum()
    };
    let cosine = sum(&|a, b| a * b) / (sum(&|a, _| a.square()) * sum(&|_, b| b.square())).sqrt();
    assert!(cosine > 0.99, "{cosine}");
}

/// The loss if after each prediction the true frame is looked at.
fn never_on_its_own(model: &Flowm3d, clip: &Clip) -> f64 {
    let mut belief = model.start(clip.batch());
    let mut total = 0.0;
    for t in 0..clip.steps() {
        if t >= clip.context {
            let picture = model.picture(&model.imagine(&belief, &clip.action(t)));
            total += (picture - clip.frame(t)).square().mean(Kind::Float).double_value(&[]);
        }
        belief = model.observe(&belief, &clip.action(t), &clip.frame(t));
    }
    total / (clip.steps() - clip.context) as f64
}

#[test]
fn a_forced_step_goes_on_from_the_true_frame() {
    let config = Flowm3dConfig { teacher_forcing: 1.0, ..small() };
    let (_vs, model) = built(&config);
    let clip = random_clip(&config, 2, 3, 4, &mut random(31));
    let forced = model.training_loss(&clip, &mut random(32)).double_value(&[]);
    let expected = tch::no_grad(|| never_on_its_own(&model, &clip));
    assert!((forced / expected - 1.0).abs() < 1e-5, "{forced}, not {expected}");
    assert!((model.loss(&clip).double_value(&[]) / expected - 1.0).abs() > 1e-6, "asked, it is on its own");
}

#[test]
fn what_is_predicted_changes_no_map_without_feedback() {
    let config = Flowm3dConfig { feedback: false, ..small() };
    let (_vs, model) = built(&config);
    let clip = random_clip(&config, 2, 3, 4, &mut random(34));
    let mut belief = model.start(clip.batch());
    for t in 0..3 {
        belief = tch::no_grad(|| model.observe(&belief, &clip.action(t), &clip.frame(t)));
    }
    for t in 3..7 {
        let moved = tch::no_grad(|| model.before_looking(&belief, &clip.action(t)));
        belief = tch::no_grad(|| model.imagine(&belief, &clip.action(t)));
        assert_eq!(*belief.part(part::MAP), moved);
    }
}

/// Of four predicted frames two are drawn: the loss is the mean of their errors, which two they are is up to chance.
#[test]
fn those_frames_count_that_are_drawn() {
    let config = Flowm3dConfig { feedback: false, teacher_forcing: 0.0, draws: 2, ..small() };
    let (vs, model) = built(&config);
    let clip = random_clip(&config, 2, 3, 4, &mut random(35));
    let pictures = tch::no_grad(|| roll_out(&model, &clip));
    let error = |t: i64| (pictures.select(1, t) - clip.frame(3 + t)).square().mean(Kind::Float).double_value(&[]);
    let errors: Vec<f64> = (0..4).map(error).collect();
    let pairs = || (0..4).flat_map(|a| (a + 1..4).map(move |b| (a, b)));
    let mut met = std::collections::BTreeSet::new();
    for index in 50..70 {
        let (loss, gradients) = with_gradients(&vs, || model.training_loss(&clip, &mut random(index)));
        let is_of = |&(a, b): &(usize, usize)| (f64::midpoint(errors[a], errors[b]) / loss - 1.0).abs() < 1e-5;
        met.insert(pairs().find(is_of).expect("the mean of two errors"));
        assert!(gradients.iter().all(|(_, gradient)| gradient.isfinite().all().int64_value(&[]) == 1));
    }
    assert!(met.len() > 3, "{met:?}");
}

#[test]
fn what_is_forced_depends_on_the_stream_and_on_nothing_else() {
    let config = Flowm3dConfig { teacher_forcing: 0.5, ..small() };
    let (vs, model) = built(&config);
    let clip = random_clip(&config, 2, 2, 8, &mut random(33));
    let found: Vec<u64> = [40, 40, 41]
        .map(|index| with_gradients(&vs, || model.training_loss(&clip, &mut random(index))).0.to_bits())
        .to_vec();
    assert_eq!(found[0], found[1]);
    assert_ne!(found[0], found[2]);
    let (_vs, never) = built(&Flowm3dConfig { teacher_forcing: 0.0, ..config });
    let alone = never.training_loss(&clip, &mut random(40)).double_value(&[]);
    assert_eq!(alone.to_bits(), never.loss(&clip).double_value(&[]).to_bits());
}
