//! Shows what the camera of an MNIST World sees, as text: `cargo run --example window -- [SEED]`.
#![expect(clippy::print_stdout, reason = "an example that shows something")]

use simulators::digits::DigitBank;
use simulators::mnist_world::{MnistWorld, MnistWorldConfig};
use simulators::rng::{Purpose, Seed, stream};
use simulators::world::World;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(7), |text| text.parse())?;
    let config = MnistWorldConfig::default();
    let bank = Arc::new(DigitBank::draw(Seed::try_from(seed)?, 20, config.digit_px));
    let mut world = MnistWorld::new(config, bank)?;
    world.reset(&mut stream(Seed(seed), Purpose::World, 0));

    let [height, width, _] = world.frame_shape();
    let mut frame = vec![0; height * width];
    for action in [[0, 0], [6, 0], [0, 6]] {
        world.step(action);
        world.render(&mut frame);
        println!("moved by {action:?}, camera at {:?}, digits {:?}", world.camera(), world.digit_labels());
        for row in frame.chunks(width) {
            // Two characters a pixel: a character cell is about twice as high as wide.
            println!("{}", row.iter().map(|&ink| [" .", "::", "oo", "@@"][usize::from(ink / 64)]).collect::<String>());
        }
    }
    Ok(())
}
