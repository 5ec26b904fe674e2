//! Pictures as files: a GIF of many, a PNG of one. What a person asks of them: sizes.

use std::io::Cursor;
use std::str::FromStr;

use anyhow::{Context, Result};
use color_quant::NeuQuant;
use gif::{DisposalMethod, Encoder, Frame, Repeat};
use rayon::prelude::*;
use simulators::image::Image;
use simulators::view::View;

/// Most frames a second of a GIF: many programs show faster ones slowly.
pub const MOST_FPS: u32 = 50;
/// Least and most pixels of a side.
const SIDES: std::ops::RangeInclusive<usize> = 16..=2048;

/// Width and height of a picture, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSize {
    /// Of a row.
    pub width: usize,
    /// Of a column.
    pub height: usize,
}

/// A text that is no size of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pixels are expected, width x height such as 480x360 or one number for both, each 16 to 2048")]
pub struct FrameSizeError;

impl FromStr for FrameSize {
    type Err = FrameSizeError;

    fn from_str(text: &str) -> Result<Self, FrameSizeError> {
        let (width, height) = text.split_once('x').unwrap_or((text, text));
        let side = |text: &str| text.parse().ok().filter(|side| SIDES.contains(side)).ok_or(FrameSizeError);
        Ok(Self { width: side(width)?, height: side(height)? })
    }
}

impl FrameSize {
    /// What suits a view: four to three for a body; for a world of pixels a square of whole enlargements.
    #[must_use]
    pub fn suiting(view: &View) -> Self {
        match view {
            View::Body(_) => Self { width: 480, height: 360 },
            View::Pixels(image) => {
                let times = (400 / image.width.max(image.height)).max(1);
                let [width, height] =
                    [image.width, image.height].map(|side| (side * times).clamp(*SIDES.start(), *SIDES.end()));
                Self { width, height }
            }
        }
    }

    /// The picture of a view, of this size.
    #[must_use]
    pub fn draw(self, view: &View) -> Image {
        view.draw(self.width, self.height)
    }
}

/// Colours of a GIF; the one after them stands for "as in the frame before".
const COLOURS: usize = 255;
/// Bits of each channel by which a colour is looked up.
const BITS: u32 = 6;
/// Frames that the colours are taken from.
const SAMPLED: usize = 8;
/// Pixels of about one colour that count: the sky is large, but a thin limb must keep its colour too.
const COUNTED: u8 = 32;

/// Which of the triples of [`BITS`] bits a colour is.
fn place(pixel: [u8; 3]) -> usize {
    pixel.into_iter().fold(0, |at, byte| at << BITS | usize::from(byte >> (8 - BITS)))
}

/// The colours of all frames, the same for each, so that nothing flickers.
struct Palette {
    /// Red, green, blue of each.
    rgb: Vec<u8>,
    /// The colour nearest to each triple of [`BITS`] bits.
    nearest: Vec<u8>,
}

impl Palette {
    fn of(images: &[Image]) -> Self {
        let mut counted = vec![0u8; 1 << (3 * BITS)];
        let mut pixels = Vec::new();
        for pixel @ &[r, g, b] in images.iter().flat_map(|image| image.rgb.as_chunks::<3>().0) {
            let count = &mut counted[place(*pixel)];
            if *count < COUNTED {
                *count += 1;
                pixels.extend([r, g, b, u8::MAX]);
            }
        }
        let network = NeuQuant::new(1, COLOURS, &pixels);
        let mut rgb = network.color_map_rgb();
        rgb.resize((COLOURS + 1) * 3, 0);
        let byte = |bits: u32| ((bits << (8 - BITS)) | (1 << (7 - BITS))) as u8;
        let mask = (1 << BITS) - 1;
        let nearest = (0..1u32 << (3 * BITS)).into_par_iter().map(|at| {
            let [r, g, b] = [at >> (2 * BITS), at >> BITS, at].map(|bits| byte(bits & mask));
            network.index_of(&[r, g, b, u8::MAX]) as u8
        });
        Self { rgb, nearest: nearest.collect() }
    }

    /// The colour of each pixel.
    fn indices(&self, image: &Image) -> Vec<u8> {
        let pixels = image.rgb.as_chunks::<3>().0.iter();
        pixels.map(|pixel| self.nearest[place(*pixel)]).collect()
    }
}

/// A GIF that plays the views at `fps` frames a second (at most 50) over and over; `drawn` hears how many are done.
///
/// # Errors
/// If they cannot be encoded.
///
/// # Panics
/// If there are none.
pub fn gif(views: &[View], size: FrameSize, fps: f64, mut drawn: impl FnMut(usize)) -> Result<Vec<u8>> {
    let samples = views.iter().step_by(views.len().div_ceil(SAMPLED)).map(|view| size.draw(view));
    let palette = Palette::of(&samples.collect::<Vec<_>>());
    let mut bytes = Vec::new();
    let (width, height) = (size.width as u16, size.height as u16);
    let mut encoder = Encoder::new(&mut bytes, width, height, &palette.rgb).context("cannot encode a GIF")?;
    encoder.set_repeat(Repeat::Infinite).context("cannot encode a GIF")?;
    let same = COLOURS as u8;
    let mut before: Vec<u8> = Vec::new();
    for (i, view) in views.iter().enumerate() {
        let now = palette.indices(&size.draw(view));
        let mut shown = now.clone();
        for (shown, _) in shown.iter_mut().zip(&before).filter(|(now, before)| *now == *before) {
            *shown = same;
        }
        // In hundredths of a second, with nothing lost to rounding over many frames.
        let until = |frames: usize| (frames as f64 * 100.0 / fps).round();
        let frame = Frame {
            width,
            height,
            delay: (until(i + 1) - until(i)) as u16,
            dispose: DisposalMethod::Keep,
            transparent: Some(same),
            buffer: shown.into(),
            ..Frame::default()
        };
        encoder.write_frame(&frame).context("cannot encode a GIF")?;
        before = now;
        drawn(i + 1);
    }
    drop(encoder);
    Ok(bytes)
}

/// Lays a picture onto a larger one.
///
/// # Panics
/// If it does not fit there.
pub fn lay(onto: &mut Image, image: &Image, left: usize, top: usize) {
    for (row, pixels) in image.rgb.chunks_exact(image.width * 3).enumerate() {
        let begin = ((top + row) * onto.width + left) * 3;
        onto.rgb[begin..begin + pixels.len()].copy_from_slice(pixels);
    }
}

/// The picture as a PNG.
///
/// # Errors
/// If it cannot be encoded.
pub fn png(image: &Image) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().context("cannot encode a PNG")?;
    writer.write_image_data(&image.rgb).context("cannot encode a PNG")?;
    writer.finish().context("cannot encode a PNG")?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!("480x360".parse(), Ok(FrameSize { width: 480, height: 360 }));
        assert_eq!("64".parse(), Ok(FrameSize { width: 64, height: 64 }));
        for text in ["", "x", "480x", "15", "2049x64", "-64", "64x64x64", "1e2", "64 x 64"] {
            assert_eq!(text.parse::<FrameSize>(), Err(FrameSizeError), "{text}");
        }
    }

    /// A red square that wanders over a ramp of greys.
    fn wandering(at: usize) -> View {
        let mut image = Image::black(40, 30);
        for (i, pixel) in image.rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let inside = (at..at + 5).contains(&(i % 40)) && (at..at + 5).contains(&(i / 40));
            *pixel = if inside { [250, 10, 10] } else { [(i / 6) as u8; 3] };
        }
        View::Pixels(image)
    }

    #[test]
    fn a_gif_shows_each_frame_for_its_time_and_nearly_in_its_colours() {
        let views: Vec<View> = (0..7).map(|i| wandering(i * 4)).collect();
        let size = FrameSize { width: 40, height: 30 };
        let bytes = gif(&views, size, 30.0, |_| {}).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(&bytes[..]).unwrap();
        let (mut screen, mut delays) = (vec![0; 40 * 30 * 3], 0);
        for view in &views {
            let frame = decoder.read_next_frame().unwrap().unwrap();
            delays += u32::from(frame.delay);
            for (pixel, new) in screen.as_chunks_mut::<3>().0.iter_mut().zip(frame.buffer.as_chunks::<4>().0) {
                if new[3] > 0 {
                    *pixel = [new[0], new[1], new[2]];
                }
            }
            let off = screen.iter().zip(&size.draw(view).rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(off < 24, "a byte is off by {off}");
        }
        assert!(decoder.read_next_frame().unwrap().is_none());
        assert_eq!(delays, 23, "7 frames at 30 a second, in hundredths");
    }

    #[test]
    fn a_gif_of_many_minutes_keeps_its_pace() {
        let views: Vec<View> = (0..3).map(wandering).collect();
        let bytes = gif(&views, FrameSize { width: 16, height: 16 }, 1.0 / 400.0, |_| {}).unwrap();
        let mut decoder = gif::DecodeOptions::new().read_info(&bytes[..]).unwrap();
        for _ in 0..3 {
            assert_eq!(decoder.read_next_frame().unwrap().unwrap().delay, 40_000);
        }
    }
}
