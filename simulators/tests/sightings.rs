//! Sightings against brute force: for every window pixel, go back through the whole history and look.

use proptest::prelude::*;
use rand::RngExt;
use simulators::digits::DigitBank;
use simulators::mnist_world::{MnistWorld, MnistWorldConfig, Sightings};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::World;
use std::sync::Arc;

/// Camera and positions at one step.
type Moment = ([i16; 2], Vec<[i16; 2]>);

/// Whether world pixel `(row, col)` is one of the window's pixels, each tried in turn.
fn in_window(config: &MnistWorldConfig, camera: [i16; 2], row: usize, col: usize) -> bool {
    let shows = |centre: i16, at: usize| {
        let start = i64::from(centre) - (config.window / 2) as i64;
        (0..config.window as i64).any(|i| (start + i).rem_euclid(config.world as i64) == at as i64)
    };
    shows(camera[0], col) && shows(camera[1], row)
}

fn brute_force(config: &MnistWorldConfig, history: &[Moment], now: &Moment, ids: &[u8]) -> Vec<i32> {
    let (side, window) = (config.world, config.window);
    let world_pixel = |i: usize| {
        let start = now.0.map(|centre| i64::from(centre) - (window / 2) as i64);
        [start[1] + (i / window) as i64, start[0] + (i % window) as i64].map(|v| v.rem_euclid(side as i64) as usize)
    };
    let last = |i: usize| {
        let [row, col] = world_pixel(i);
        let seen_at = |(camera, positions): &Moment| match ids[i] {
            0 => in_window(config, *camera, row, col),
            id => {
                // Where the patch point shown now was then.
                let digit = usize::from(id) - 1;
                let moved = |axis: usize| i64::from(positions[digit][axis]) - i64::from(now.1[digit][axis]);
                let then = [row as i64 + moved(1), col as i64 + moved(0)].map(|v| v.rem_euclid(side as i64) as usize);
                in_window(config, *camera, then[0], then[1])
            }
        };
        history.iter().rposition(seen_at).map_or(-1, |t| t as i32)
    };
    (0..window * window).map(last).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn last_seen_is_what_going_back_finds(
        seed in 0_u64..1 << 40, world in 10_usize..30, window in 1_usize..=20, digits in 1_usize..4, velocity in 0_i8..3,
    ) {
        let config = MnistWorldConfig {
            world, window: window.min(world), digits, digit_px: 8, velocity, step: 4, ..Default::default()
        };
        let bank = Arc::new(DigitBank::draw(Seed(1), 2, 8));
        let mut simulated = MnistWorld::new(config.clone(), bank).unwrap();
        simulated.reset(&mut stream(Seed(seed), Purpose::World, 0));
        let mut policy = stream(Seed(seed), Purpose::Policy, 0);
        let mut sightings = Sightings::new(&config);
        let mut history = Vec::new();
        let pixels = config.window * config.window;
        let (mut ids, mut found) = (vec![0; pixels], vec![0; pixels]);
        for t in 0..12 {
            let now = (simulated.camera(), simulated.positions().to_vec());
            simulated.entity_mask(&mut ids);
            sightings.last_seen(now.0, &now.1, &ids, &mut found);
            prop_assert_eq!(&found, &brute_force(&config, &history, &now, &ids), "step {}", t);
            sightings.observe(t, now.0, &now.1);
            sightings.last_seen(now.0, &now.1, &ids, &mut found);
            prop_assert!(found.iter().all(|&seen| seen == t), "what is in view is seen now");
            history.push(now);
            simulated.step([policy.random_range(-4..=4), policy.random_range(-4..=4)]);
        }
        sightings.clear();
        simulated.entity_mask(&mut ids);
        sightings.last_seen(simulated.camera(), simulated.positions(), &ids, &mut found);
        prop_assert!(found.iter().all(|&seen| seen == -1));
    }
}
