//! A game as the page is told of it: numbers, and pictures as PNG files in `data:` addresses.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use simulators::image::Image;
use world_models::memory::html::{palette, quantise};

use super::controls::controls;
use super::game::{Errors, Game, Imagined};
use crate::film;

/// What there is to say of a game that never changes.
#[derive(Debug, Clone)]
pub struct About {
    /// Id of the env.
    pub env: String,
    /// One line that says what it is.
    pub line: String,
    /// The model's kind and where its run is, if there is one.
    pub model: Option<(String, String)>,
}

/// All that the page shows.
///
/// # Errors
/// If a picture cannot be encoded.
pub fn look(game: &Game, about: &About) -> Result<Value> {
    let shape = game.spec().observation.shape();
    let [height, width] = [shape[0], shape[1]];
    let picture = |bytes: &[u8]| address(&in_colours(bytes, width, height));
    let imagined = game.imagined();
    let error = |imagined: &Imagined| address(&difference(&quantise(&imagined.picture), game.frame(), width, height));
    let last = game.history().last().map(|moment| moment.errors);
    let (shut_for, means) = game.in_the_dark();
    let history: Vec<Value> = game
        .history()
        .map(|moment| {
            json!({ "step": moment.step, "open": moment.open, "model": moment.errors.model, "copy": moment.errors.copy })
        })
        .collect();
    Ok(json!({
        "env": about.env,
        "about": about.line,
        "model": about.model.as_ref().map(|(kind, run)| json!({ "kind": kind, "run": run })),
        "seed": game.seed(),
        "step": game.steps(),
        "over": game.is_over(),
        "return": game.total(),
        "play": controls(&game.spec().action),
        "eyes": { "open": game.eyes_are_open(), "shut_for": shut_for },
        "pictures": {
            "world": picture(game.frame())?,
            "imagined": imagined.map(|imagined| picture(&quantise(&imagined.picture))).transpose()?,
            "error": imagined.map(error).transpose()?,
            "map": address(&game.map())?,
        },
        "mse": {
            "now": last.map(mse),
            "since_shut": means.map(mse),
        },
        "not_finite": imagined.map_or(0, |imagined| imagined.repairs.not_finite),
        "history": history,
    }))
}

fn mse(Errors { model, copy }: Errors) -> Value {
    json!({ "model": model, "copy": copy })
}

/// A frame `[H, W, C]` of one channel or three.
fn in_colours(bytes: &[u8], width: usize, height: usize) -> Image {
    let rgb =
        if bytes.len() == width * height { bytes.iter().flat_map(|&byte| [byte; 3]).collect() } else { bytes.to_vec() };
    Image { width, height, rgb }
}

/// The absolute difference of two frames, the largest of a pixel's channels, in the colours of the memory report.
fn difference(a: &[u8], b: &[u8], width: usize, height: usize) -> Image {
    let (colours, channels) = (palette(), a.len() / (width * height));
    let pixels = a.chunks_exact(channels).zip(b.chunks_exact(channels));
    let levels = pixels.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0));
    let rgb = levels.flat_map(|level| colours[usize::from(level) * 3..][..3].iter().copied()).collect();
    Image { width, height, rgb }
}

fn address(image: &Image) -> Result<String> {
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(film::png(image)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_largest_of_a_pixels_channels() {
        let image = difference(&[0, 0, 0, 9, 9, 9], &[0, 0, 0, 9, 255, 10], 2, 1);
        let colours = palette();
        assert_eq!(image.pixel(0, 0), colours[..3]);
        assert_eq!(image.pixel(1, 0), colours[246 * 3..][..3]);
    }

    #[test]
    fn an_address_is_the_picture() {
        let image = in_colours(&[0, 80, 160, 255, 7, 9], 3, 2);
        let address = address(&image).unwrap();
        let file = STANDARD.decode(address.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        assert_eq!(Image::from_png(&file).unwrap(), image);
        assert_eq!(image.pixel(1, 0), [80; 3]);
    }
}
