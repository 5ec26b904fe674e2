//! What is in view is all that a look changes, and all that a picture is made of; mixing as training begins.

use tch::{Device, Kind, Tensor};
use world_models::belief::{Belief, WorldModel};
use world_models::flowm3d::{Flowm3dConfig, Mixing, part};

use crate::support::{built, random, random_clip, small, told, uniform};

/// `[S * S]`, whether a cell is in view.
fn in_view(config: &Flowm3dConfig) -> Tensor {
    let mask = Tensor::zeros([config.map_side.pow(2)], (Kind::Bool, Device::Cpu));
    mask.index_fill(0, &Tensor::from_slice(&config.in_view()), 1)
}

fn believing(map: Tensor, frame: Tensor) -> Belief {
    Belief::new([(part::MAP, map), (part::FRAME, frame)])
}

#[test]
fn a_look_changes_what_is_in_view_and_nothing_else() {
    for velocity_channels in [true, false] {
        let (config, mut rng) = (Flowm3dConfig { velocity_channels, ..small() }, random(10));
        let (_vs, model) = built(&config);
        let clip = random_clip(&config, 2, 2, 1, &mut rng);
        let map = uniform(&[2, config.channels(), 7, 7, 8], &mut rng);
        let belief = believing(map, clip.frame(0));
        let before = model.before_looking(&belief, &clip.action(1));
        let changed = |after: &Belief| {
            (after.part(part::MAP) - &before)
                .abs()
                .sum_dim_intlist([0i64, 1, 4].as_slice(), false, Kind::Float)
                .gt(0.0)
                .view([-1])
        };
        let (seen, imagined) =
            (model.observe(&belief, &clip.action(1), &clip.frame(1)), model.imagine(&belief, &clip.action(1)));
        assert_eq!(changed(&seen), in_view(&config));
        assert_eq!(changed(&imagined), in_view(&config));
    }
}

#[test]
fn a_picture_is_made_of_what_is_in_view() {
    let config = Flowm3dConfig { velocity_channels: false, mixing: Mixing::None, ..small() };
    let (_vs, model) = built(&config);
    let (mut rng, still) = (random(11), told(&Tensor::from_slice(&[4i64])));
    let frame = || uniform(&[1, 2, 8, 8], &mut random(12));
    let map = uniform(&[1, 1, 7, 7, 8], &mut rng);
    let noise = uniform(&[1, 1, 49, 8], &mut rng) * in_view(&config).logical_not().view([-1, 1]);
    let other = &map + noise.view([1, 1, 7, 7, 8]);
    let picture = |map: &Tensor| model.picture(&model.imagine(&believing(map.shallow_clone(), frame()), &still));
    assert_eq!(picture(&map), picture(&other));
    assert_ne!(picture(&map), picture(&(map.shallow_clone() + 1.0)));
}

#[test]
fn mixing_begins_as_it_was_published_or_as_it_was_meant() {
    let mut rng = random(13);
    let map = uniform(&[2, 5, 7, 7, 8], &mut rng);
    let action = told(&Tensor::from_slice(&[0i64, 2]));
    let mixed = |mixing| {
        let (_vs, model) = built(&Flowm3dConfig { mixing, ..small() });
        model.before_looking(
            &believing(map.shallow_clone(), Tensor::zeros([2, 2, 8, 8], (Kind::Float, Device::Cpu))),
            &action,
        )
    };
    let moved = mixed(Mixing::None);
    assert_eq!(mixed(Mixing::Corrected), moved);
    let faithful = mixed(Mixing::Faithful);
    assert_eq!(faithful.narrow(4, 0, 1), moved.narrow(4, 0, 1));
    assert_eq!(faithful.narrow(4, 1, 7), moved.narrow(4, 1, 7).zeros_like());
}

/// The maps of a batch do not know of each other.
#[test]
fn a_world_is_imagined_the_same_in_any_company() {
    for self_motion in [true, false] {
        let config = Flowm3dConfig { self_motion, ..small() };
        let (_vs, model) = built(&config);
        let clip = random_clip(&config, 3, 3, 2, &mut random(14));
        let all = tch::no_grad(|| world_models::belief::roll_out(&model, &clip));
        for sample in 0..3 {
            let of = |tensor: &Tensor| tensor.narrow(0, sample, 1);
            let alone = world_models::belief::Clip { frames: of(&clip.frames), actions: of(&clip.actions), context: 3 };
            let alone = tch::no_grad(|| world_models::belief::roll_out(&model, &alone));
            let error = (alone - of(&all)).abs().max().double_value(&[]);
            assert!(error < 1e-5, "{error}");
        }
    }
}
