//! Plans tried in what a model believes: through the seam of world models, and nothing else of them.

use rayon::prelude::*;
use tch::{Kind, Tensor};
use world_models::belief::{Belief, Clip, WorldModel};

use super::{NotFinite, Plan, RollOut, Score, Values};

/// What a model believes, and copies of the model to imagine with at a time.
pub struct Imagined<'a> {
    minds: &'a mut [Box<dyn WorldModel>],
    belief: Belief,
    choices: i64,
    together: usize,
}

impl<'a> Imagined<'a> {
    /// Plans from `belief`, which is of one world, of choices out of `choices`; each of `minds`, which are the same model, imagines on a
    /// thread of its own, `together` plans at a time. It is always so many: where there are fewer, the last one is imagined
    /// again, so that no plan's last bits depend on how many others there are.
    ///
    /// # Panics
    /// If there are no minds, or none together.
    #[must_use]
    pub fn new(minds: &'a mut [Box<dyn WorldModel>], belief: Belief, choices: i64, together: usize) -> Self {
        assert!(!minds.is_empty() && together > 0, "somebody must imagine something");
        Self { minds, belief, choices, together }
    }
}

impl RollOut for Imagined<'_> {
    fn roll_out(&mut self, plans: &[Plan], score: &Score<'_>) -> Result<Values, NotFinite> {
        let Self { minds, belief, choices, together } = self;
        let (choices, together) = (*choices, *together);
        // A tensor may go to another thread, but not be seen from two.
        let beliefs: Vec<Belief> = minds.iter().map(|_| belief.shallow_clone()).collect();
        let parts: Vec<&[Plan]> = plans.chunks(together).collect();
        let in_turn = minds.len();
        let work = minds.par_iter_mut().zip(beliefs).enumerate();
        let done: Vec<Vec<Values>> = work
            .map(|(first, (mind, belief))| {
                let own = parts.iter().skip(first).step_by(in_turn);
                own.map(|part| imagine(mind.as_ref(), &belief, part, [choices, together as i64], score)).collect()
            })
            .collect::<Result<_, _>>()?;
        let mut done: Vec<_> = done.into_iter().map(Vec::into_iter).collect();
        Ok((0..parts.len()).flat_map(|part| done[part % in_turn].next().expect("each part has its turn")).collect())
    }
}

/// Imagines the plans side by side, `rows` of them.
fn imagine(
    mind: &dyn WorldModel,
    belief: &Belief,
    plans: &[Plan],
    [choices, rows]: [i64; 2],
    score: &Score<'_>,
) -> Result<Values, NotFinite> {
    let mut values = vec![Vec::with_capacity(plans[0].len()); plans.len()];
    tch::no_grad(|| {
        let mut belief = Belief::new(belief.parts().map(|(name, part)| {
            let shape: Vec<i64> = std::iter::once(rows).chain(part.size()[1..].iter().copied()).collect();
            (name, part.expand(shape.as_slice(), false).contiguous())
        }));
        let device = device_of(&belief);
        let mut pixels: Vec<f32> = Vec::new();
        let chosen = |step: usize| -> Vec<i64> {
            (0..rows as usize).map(|row| plans[row.min(plans.len() - 1)][step].into()).collect()
        };
        for step in 0..plans[0].len() {
            let action = Tensor::from_slice(&chosen(step)).one_hot(choices).to_kind(Kind::Float).to_device(device); // [rows, A]
            belief = mind.imagine(&belief, &action);
            let seen = mind.picture(&belief).to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous(); // [rows, C, H, W]
            pixels.resize(seen.numel(), 0.0);
            seen.copy_data(&mut pixels, seen.numel());
            let each = pixels.len() / rows as usize;
            for (values, picture) in values.iter_mut().zip(pixels.chunks_exact(each)) {
                if let Some(&value) = picture.iter().find(|value| !value.is_finite()) {
                    return Err(NotFinite { step: step + 1, value });
                }
                values.push(score(picture));
            }
        }
        Ok(values)
    })
}

fn device_of(belief: &Belief) -> tch::Device {
    belief.parts().next().map_or(tch::Device::Cpu, |(_, part)| part.device())
}

/// What a model believes that has seen `frames` `[T, H, W, C]`, bytes, with its eyes open, of which `actions`, one of `choices` each, led
/// to all but the first.
///
/// # Panics
/// If there is not one action for each frame but the first, or a frame is not `[side, side, colours]`.
#[must_use]
pub fn awakened(
    mind: &dyn WorldModel,
    frames: &[u8],
    [side, colours]: [i64; 2],
    actions: &[u8],
    choices: i64,
) -> Belief {
    tch::no_grad(|| {
        let mut belief = mind.start(1);
        let device = device_of(&belief);
        let frames = crate::dreamer::frames(frames, [side, colours]).to_device(device).unsqueeze(0); // [1, T, C, H, W]
        assert_eq!(frames.size()[1], actions.len() as i64 + 1, "an action for each frame but the first");
        let chosen: Vec<i64> = actions.iter().map(|&action| action.into()).collect();
        let taken = Tensor::from_slice(&chosen).one_hot(choices).to_kind(Kind::Float).unsqueeze(0); // [1, T - 1, A]
        let first = Tensor::zeros([1, 1, choices], (Kind::Float, tch::Device::Cpu));
        let clip =
            Clip { context: frames.size()[1], frames, actions: Tensor::cat(&[first, taken], 1).to_device(device) };
        for t in 0..clip.context {
            belief = mind.observe(&belief, &clip.action(t), &clip.frame(t));
        }
        belief
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt as _;
    use simulators::rng::{Purpose, Seed, stream};
    use tch::{Device, nn};
    use world_models::flowm3d::{Flowm3d, Flowm3dConfig};

    const SIDE: i64 = 16;

    fn minds(count: usize) -> Vec<Box<dyn WorldModel>> {
        let config = Flowm3dConfig {
            window: SIDE,
            patch: 8,
            map_side: 5,
            hidden: 16,
            heads: 2,
            encoder_depth: 1,
            decoder_depth: 1,
            ..Default::default()
        };
        let make = |_| {
            let weights = nn::VarStore::new(Device::Cpu);
            Box::new(Flowm3d::new(&weights.root(), &config, Seed(3))) as Box<dyn WorldModel>
        };
        (0..count).map(make).collect()
    }

    fn belief(mind: &dyn WorldModel) -> Belief {
        let mut rng = stream(Seed(1), Purpose::World, 0);
        let frames: Vec<u8> = (0..4 * SIDE * SIDE * 3).map(|_| rng.random()).collect();
        awakened(mind, &frames, [SIDE, 3], &[2, 0, 2], 5)
    }

    fn plans() -> Vec<Plan> {
        let mut rng = stream(Seed(2), Purpose::Plans, 0);
        (0..11).map(|_| (0..6).map(|_| rng.random_range(0..5)).collect()).collect()
    }

    fn roll_out(count: usize, plans: &[Plan]) -> Values {
        let mut minds = minds(count);
        let belief = belief(minds[0].as_ref());
        // Bits, so that every number of a picture counts.
        let score = |picture: &[f32]| picture.iter().map(|&x| f64::from(x.to_bits() >> 8)).sum();
        Imagined::new(&mut minds, belief, 5, 4).roll_out(plans, &score).unwrap()
    }

    #[test]
    fn a_plan_comes_to_the_same_alone_and_among_others_and_whoever_imagines_it() {
        let (plans, together) = (plans(), roll_out(1, &plans()));
        let alone: Values = plans.iter().flat_map(|plan| roll_out(1, std::slice::from_ref(plan))).collect();
        assert_eq!(together, alone);
        for minds in 2..=4 {
            assert_eq!(together, roll_out(minds, &plans), "{minds} minds");
        }
        assert!(together.iter().all(|values| values.len() == 6));
        assert_ne!(together[0], together[1], "plans differ in what they lead to");
    }

    #[test]
    fn it_is_what_the_seam_says_step_by_step() {
        let minds = minds(1);
        let mind = minds[0].as_ref();
        let plan = &plans()[0];
        let mut belief = belief(mind);
        let mut expected = Vec::new();
        for &choice in plan {
            let mut action = vec![0.0f32; 5];
            action[usize::from(choice)] = 1.0;
            belief = tch::no_grad(|| mind.imagine(&belief, &Tensor::from_slice(&action).view([1, 5])));
            expected.push(mind.picture(&belief).double_value(&[0, 1, 7, 2]));
        }
        let mut minds = minds;
        let begun = self::belief(minds[0].as_ref());
        let pixel = |picture: &[f32]| f64::from(picture[((SIDE + 7) * SIDE + 2) as usize]);
        let found = Imagined::new(&mut minds, begun, 5, 1).roll_out(std::slice::from_ref(plan), &pixel).unwrap();
        assert_eq!(found, [expected]);
    }

    #[test]
    fn numbers_that_are_none_are_told_with_their_step() {
        let mut minds = minds(1);
        let start = minds[0].start(1);
        let broken = Belief::new(start.parts().map(|(name, part)| (name, part + f64::NAN)));
        let error = Imagined::new(&mut minds, broken, 5, 2).roll_out(&plans(), &|_| 0.0).unwrap_err();
        assert_eq!(error.step, 1);
        assert!(error.value.is_nan());
    }
}
