//! MNIST World against a second, slow, plain implementation: whole-world pictures in wide integers, positions from the
//! closed form. Every byte has to agree.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rand::RngExt;
use simulators::digits::DigitBank;
use simulators::mnist_world::{MnistWorld, MnistWorldConfig};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::World;
use std::sync::Arc;

/// The spec read aloud: no steps, no tiles, no saturation.
struct PlainWorld<'a> {
    config: &'a MnistWorldConfig,
    bank: &'a DigitBank,
    start: Vec<[i16; 2]>,
    velocities: Vec<[i8; 2]>,
    images: Vec<u32>,
}

impl<'a> PlainWorld<'a> {
    fn new(config: &'a MnistWorldConfig, bank: &'a DigitBank, world: &MnistWorld) -> Self {
        Self {
            config,
            bank,
            start: world.positions().to_vec(),
            velocities: world.velocities().to_vec(),
            images: world.digit_images().to_vec(),
        }
    }

    fn wrap(&self, value: i64) -> usize {
        value.rem_euclid(self.config.world as i64) as usize
    }

    fn position(&self, digit: usize, t: i64) -> [usize; 2] {
        [0, 1].map(|axis| self.wrap(i64::from(self.start[digit][axis]) + t * i64::from(self.velocities[digit][axis])))
    }

    /// Ink of one digit at a point of its patch.
    fn ink(&self, digit: usize, row: usize, col: usize) -> u32 {
        let stride = self.bank.patch(0).len() / self.bank.side();
        let ink = f64::from(self.bank.patch(self.images[digit] as usize)[row * stride + col]);
        let scale = if digit == 0 { 1.0 } else { f64::from(self.config.distractor_ink) };
        (ink * scale + 0.5).floor() as u32
    }

    /// Frame and entity ids of the whole torus at time `t`.
    fn picture(&self, t: i64) -> (Vec<u8>, Vec<u8>) {
        let side = self.config.world;
        let mut sum = vec![0_u32; side * side];
        let mut most = vec![0_u32; side * side];
        let mut ids = vec![0_u8; side * side];
        for digit in 0..self.config.digits {
            let [x, y] = self.position(digit, t);
            for row in 0..self.config.digit_px {
                for col in 0..self.config.digit_px {
                    let pixel = ((y + row) % side) * side + (x + col) % side;
                    let ink = self.ink(digit, row, col);
                    sum[pixel] += ink;
                    if ink > most[pixel] {
                        (most[pixel], ids[pixel]) = (ink, digit as u8 + 1);
                    }
                }
            }
        }
        (sum.into_iter().map(|v| v.min(255) as u8).collect(), ids)
    }

    fn crop(&self, picture: &[u8], [cx, cy]: [i64; 2]) -> Vec<u8> {
        let (side, window) = (self.config.world, self.config.window);
        let half = (window / 2) as i64;
        let pixel =
            |r: usize, c: usize| picture[self.wrap(cy - half + r as i64) * side + self.wrap(cx - half + c as i64)];
        (0..window * window).map(|i| pixel(i / window, i % window)).collect()
    }
}

fn compare(config: &MnistWorldConfig, bank: &Arc<DigitBank>, seed: u64, steps: i64) {
    let mut world = MnistWorld::new(config.clone(), Arc::clone(bank)).unwrap();
    world.reset(&mut stream(Seed(seed), Purpose::World, 0));
    let mut policy = stream(Seed(seed), Purpose::Policy, 0);
    let plain = PlainWorld::new(config, bank, &world);
    let mut camera = [0_i64; 2];
    let mut frame = vec![0; config.window * config.window];
    let mut ids = frame.clone();
    let mut whole = vec![0; config.world * config.world];
    for t in 0..=steps {
        if t > 0 {
            let action =
                [policy.random_range(-config.step..=config.step), policy.random_range(-config.step..=config.step)];
            camera = [camera[0] + i64::from(action[0]), camera[1] + i64::from(action[1])];
            world.step(action);
        }
        world.render(&mut frame);
        let (picture, entities) = plain.picture(t);
        assert_eq!(frame, plain.crop(&picture, camera), "frame {t} of seed {seed}, {config:?}");
        assert_eq!(world.camera().map(|v| v as usize), camera.map(|v| plain.wrap(v)));
        if t % 10 == 0 {
            world.entity_mask(&mut ids);
            assert_eq!(ids, plain.crop(&entities, camera), "entities {t} of seed {seed}, {config:?}");
            world.render_world(&mut whole);
            assert_eq!(whole, picture, "world {t} of seed {seed}, {config:?}");
        }
    }
}

#[test]
fn the_papers_worlds_agree_with_the_plain_one() {
    let bank = Arc::new(DigitBank::draw(Seed(1), 5, 28));
    for (i, name) in MnistWorldConfig::preset_names().iter().enumerate() {
        let config = MnistWorldConfig::preset(name).unwrap();
        (0..50).for_each(|seed| compare(&config, &bank, 1000 * i as u64 + seed, 100));
    }
}

#[test]
fn worlds_of_any_size_agree_with_the_plain_one() {
    let banks: Vec<_> = [8, 12, 13, 21, 28, 32].map(|side| Arc::new(DigitBank::draw(Seed(2), 3, side))).into();
    for seed in 0..800 {
        let mut draw = stream(Seed(99), Purpose::World, seed);
        let bank = &banks[draw.random_range(0..banks.len())];
        let world = draw.random_range(bank.side()..=if seed % 8 == 0 { 75 } else { 45 });
        let config = MnistWorldConfig {
            world,
            // Windows up to several tiles wide, whole worlds among them.
            window: if seed % 5 == 0 { world } else { draw.random_range(1..=world) },
            digits: draw.random_range(1..=7),
            digit_px: bank.side(),
            velocity: draw.random_range(0..=7),
            step: draw.random_range(0..=7),
            distractor_ink: [1.0, 0.5, 0.25, 0.0][draw.random_range(0..4)],
        };
        compare(&config, bank, seed, 100);
    }
}

#[test]
fn a_world_as_small_as_its_digit_wraps_onto_itself() {
    let bank = Arc::new(DigitBank::draw(Seed(3), 3, 8));
    let config =
        MnistWorldConfig { world: 8, window: 8, digits: 3, digit_px: 8, velocity: 7, step: 7, ..Default::default() };
    (0..20).for_each(|seed| compare(&config, &bank, seed, 100));
}
