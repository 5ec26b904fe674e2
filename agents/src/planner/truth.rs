//! Plans tried in Blockworld itself, and what is red in a picture of it.

use rayon::prelude::*;
use simulators::block_world::{Action, BlockWorld, COLOURS, RED};
use simulators::room::AMBIENT;
use simulators::world::World as _;

use super::{NotFinite, Plan, RollOut, Score, Values};

/// By how much red must lie above green and blue: half of what it does on the darkest face of a red thing, 0.325. So a pixel counts of which a
/// dark face fills half, and a brighter one two fifths; of the other colours, walls and floors, none comes near it (wood, the reddest,
/// has 0.17).
const MARGIN: f32 = AMBIENT * (COLOURS[RED as usize].1[0] - COLOURS[RED as usize].1[1]) / 2.0;

/// How many pixels of `[3, H, W]` show something red.
#[must_use]
pub fn red_pixels(picture: &[f32]) -> f64 {
    let (red, others) = picture.split_at(picture.len() / 3);
    let (green, blue) = others.split_at(others.len() / 2);
    let colours = red.iter().zip(green).zip(blue);
    colours.filter(|((red, green), blue)| **red - green.max(**blue) > MARGIN).count() as f64
}

/// A Blockworld as it is. What it shows is bytes, told as models tell theirs: `[3, H, W]`, 0 to 1.
#[derive(Debug)]
pub struct TrueWorld<'a>(pub &'a BlockWorld);

impl TrueWorld<'_> {
    /// Does what `plan` says in a copy of the world; `see` is shown the world after each step.
    ///
    /// # Panics
    /// If a choice is not the number of an action.
    pub fn carry_out(&self, plan: &Plan, mut see: impl FnMut(&BlockWorld)) {
        follow(self.0.clone(), plan, &mut see);
    }

    /// As [`RollOut::roll_out`], where nothing can go wrong.
    pub fn values(&self, plans: &[Plan], score: &Score<'_>) -> Values {
        let side = self.0.config().image;
        // A world can be copied here only, since two threads cannot look at one.
        let worlds: Vec<BlockWorld> = plans.iter().map(|_| self.0.clone()).collect();
        let work = worlds.into_par_iter().zip(plans);
        let values = work.map(|(world, plan)| {
            let (mut bytes, mut picture) = (vec![0; side * side * 3], vec![0.0; side * side * 3]);
            let mut values = Vec::with_capacity(plan.len());
            follow(world, plan, &mut |world| {
                world.render(&mut bytes);
                planes(&bytes, &mut picture);
                values.push(score(&picture));
            });
            values
        });
        values.collect()
    }
}

fn follow(mut world: BlockWorld, plan: &Plan, see: &mut dyn FnMut(&BlockWorld)) {
    for &choice in plan {
        world.step(Action::ALL[usize::from(choice)]);
        see(&world);
    }
}

impl RollOut for TrueWorld<'_> {
    fn roll_out(&mut self, plans: &[Plan], score: &Score<'_>) -> Result<Values, NotFinite> {
        Ok(self.values(plans, score))
    }
}

/// `[H, W, 3]` bytes as `[3, H, W]`, 0 to 1.
fn planes(bytes: &[u8], picture: &mut [f32]) {
    let count = bytes.len() / 3;
    for (at, pixel) in bytes.as_chunks::<3>().0.iter().enumerate() {
        for (colour, &byte) in pixel.iter().enumerate() {
            picture[colour * count + at] = f32::from(byte) / 255.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulators::block_world::{BlockWorldConfig, Surfaces};
    use simulators::rng::{Purpose, Seed, stream};
    use simulators::room::Picture;

    fn world(preset: &str, seed: u64) -> BlockWorld {
        let config = BlockWorldConfig { image: 64, ..BlockWorldConfig::preset(preset).unwrap() };
        let mut world = BlockWorld::new(config, Surfaces::drawn()).unwrap();
        world.reset(&mut stream(Seed(seed), Purpose::World, 0));
        world
    }

    /// Red pixels of a picture by the margin, and by which thing each pixel shows.
    fn counts(world: &BlockWorld) -> [f64; 2] {
        let (mut rgb, mut ids, mut picture) = (vec![0; 64 * 64 * 3], vec![0; 64 * 64], vec![0.0; 64 * 64 * 3]);
        world.paint(Picture { rgb: &mut rgb, depth: None, ids: Some(&mut ids) });
        planes(&rgb, &mut picture);
        let red: Vec<bool> = world.things().map(|thing| thing.colour == RED).collect();
        let shown = ids.iter().filter(|&&id| id > 0 && red[usize::from(id) - 1]).count();
        [red_pixels(&picture), shown as f64]
    }

    #[test]
    fn the_margin_is_half_of_the_darkest_red() {
        assert!((MARGIN - 0.325).abs() < 1e-6);
        let pixel = |rgb: [f32; 3]| red_pixels(&rgb);
        // Both faces of a box, a half of either before a grey wall, and a bright ball; then all other colours in every light.
        for red in [[0.65, 0.0, 0.0], [0.835, 0.0, 0.0], [0.74, 0.36, 0.36], [1.0, 0.0, 0.0]] {
            assert!((pixel(red) - 1.0).abs() < 1e-9, "{red:?}");
        }
        for (name, colour) in COLOURS.iter().skip(1) {
            for light in [0.65f32, 0.835, 1.3, 2.76] {
                assert!(pixel(colour.map(|x| (x * light).min(1.0))) < 0.5, "{name} in a light of {light}");
            }
        }
    }

    #[test]
    fn what_is_counted_is_what_shows_of_red_things() {
        for preset in ["dynamic", "probe"] {
            let (mut margin, mut shown, mut views) = (0.0, 0.0, 0);
            for seed in 0..40 {
                let mut world = world(preset, seed);
                for _ in 0..4 {
                    world.step(Action::Left);
                    let [by_margin, by_id] = counts(&world);
                    assert!((by_margin - by_id).abs() <= 6.0 + 0.2 * by_id, "{preset} {seed}: {by_margin} {by_id}");
                    (margin, shown, views) = (margin + by_margin, shown + by_id, views + usize::from(by_id > 0.0));
                }
            }
            assert!(views > 30, "red is in view often enough to tell: {views}");
            assert!((margin - shown).abs() < 0.1 * shown, "{preset}: {margin} {shown}");
        }
    }

    #[test]
    fn textures_and_balls_of_other_colours_are_not_red() {
        for seed in 0..40 {
            let mut world = world("tex", seed);
            for _ in 0..4 {
                world.step(Action::Left);
                let [by_margin, by_id] = counts(&world);
                assert!(by_margin <= by_id + 4.0 + 0.12 * by_id, "{seed}: {by_margin} {by_id}");
            }
        }
    }

    #[test]
    fn a_roll_out_shows_what_carrying_out_does_and_leaves_the_world_where_it_is() {
        let world = world("dynamic", 7);
        let before = world.snapshot();
        let plans: Vec<Plan> = vec![vec![2, 2, 0, 2, 4], vec![1, 2, 2, 2, 2]];
        let values = TrueWorld(&world).roll_out(&plans, &|picture| picture.iter().map(|&x| f64::from(x)).sum());
        for (plan, values) in plans.iter().zip(values.unwrap()) {
            let mut expected = Vec::new();
            TrueWorld(&world).carry_out(plan, |world| {
                let mut bytes = vec![0; 64 * 64 * 3];
                world.render(&mut bytes);
                expected.push(bytes.iter().map(|&byte| f64::from(byte)).sum::<f64>() / 255.0);
            });
            assert!(values.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-2), "{values:?} {expected:?}");
            assert_eq!(values.len(), 5);
        }
        assert_eq!(world.snapshot(), before);
    }
}
