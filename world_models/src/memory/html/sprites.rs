//! Frames as one PNG in a `data:` address, so that a page can animate them without fetching anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use png::{BitDepth, ColorType, Encoder};

use crate::memory::FrameShape;

/// Frames in a row of the sheet.
pub(super) const COLUMNS: usize = 16;

/// Colours of the error panel, evenly spaced from no error to the largest: brightness grows all along.
const RAMP: [[u8; 3]; 6] = [[0, 0, 0], [58, 12, 96], [150, 30, 98], [222, 73, 56], [250, 157, 38], [252, 250, 170]];

/// Frames `[T, H, W, C]`, gray or RGB, 16 a row.
pub(super) fn sheet(frames: &[u8], shape: FrameShape) -> String {
    let color = if shape.channels == 3 { ColorType::Rgb } else { ColorType::Grayscale };
    encode(frames, shape, color, None)
}

/// The absolute difference of two lists of frames `[T, H, W, C]`, the largest of a pixel's channels, in colours.
pub(super) fn error_sheet(prediction: &[u8], truth: &[u8], shape: FrameShape) -> String {
    let pixels = prediction.chunks_exact(shape.channels).zip(truth.chunks_exact(shape.channels));
    let difference = |(p, t): (&[u8], &[u8])| p.iter().zip(t).map(|(p, t)| p.abs_diff(*t)).max().unwrap_or(0);
    let errors: Vec<u8> = pixels.map(difference).collect();
    encode(&errors, FrameShape { channels: 1, ..shape }, ColorType::Indexed, Some(palette()))
}

/// The ramp as a CSS gradient, for the key beside the panel.
pub(super) fn ramp_css() -> String {
    let stops: Vec<String> = RAMP.iter().map(|[r, g, b]| format!("rgb({r} {g} {b})")).collect();
    format!("linear-gradient(90deg,{})", stops.join(","))
}

/// Red, green and blue of each of the 256 levels of the error panel.
#[must_use]
pub fn palette() -> Vec<u8> {
    let color = |level: usize| {
        let at = level as f32 / 255.0 * (RAMP.len() - 1) as f32;
        let low = (at as usize).min(RAMP.len() - 2);
        let share = at - low as f32;
        std::array::from_fn::<u8, 3, _>(|c| {
            (f32::from(RAMP[low][c]) * (1.0 - share) + f32::from(RAMP[low + 1][c]) * share).round() as u8
        })
    };
    (0..256).flat_map(color).collect()
}

fn encode(frames: &[u8], shape: FrameShape, color: ColorType, palette: Option<Vec<u8>>) -> String {
    let count = frames.len() / shape.values();
    let (rows, row_bytes) = (count.div_ceil(COLUMNS).max(1), shape.width * shape.channels);
    let stride = COLUMNS * row_bytes;
    let mut pixels = vec![0; rows * shape.height * stride];
    for (i, frame) in frames.chunks_exact(shape.values()).enumerate() {
        let corner = i / COLUMNS * shape.height * stride + i % COLUMNS * row_bytes;
        for (r, line) in frame.chunks_exact(row_bytes).enumerate() {
            pixels[corner + r * stride..][..row_bytes].copy_from_slice(line);
        }
    }
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, (COLUMNS * shape.width) as u32, (rows * shape.height) as u32);
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    if let Some(palette) = palette {
        encoder.set_palette(palette);
    }
    let mut writer = encoder.write_header().expect("the header fits the pixels, and memory does not fail");
    writer.write_image_data(&pixels).expect("the sheet is as large as its header says");
    writer.finish().expect("memory does not fail");
    format!("data:image/png;base64,{}", STANDARD.encode(&file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lie_side_by_side_and_decode_to_themselves() {
        // 17 frames of 1 x 2 pixels: one row of 16, and one more below.
        let shape = FrameShape::new([1, 2, 1]);
        let frames: Vec<u8> = (1..=34).collect();
        let sheet = sheet(&frames, shape);
        let file = decode(sheet.strip_prefix("data:image/png;base64,").unwrap());
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (32, 2));
        assert_eq!(pixels[..34], frames[..]);
        assert!(pixels[34..].iter().all(|&p| p == 0));
    }

    #[test]
    fn the_ramp_starts_black_and_grows_brighter() {
        let palette = palette();
        assert_eq!((palette.len(), &palette[..3], &palette[765..]), (768, &RAMP[0][..], &RAMP[5][..]));
        let light = |i: usize| {
            u32::from(palette[3 * i]) * 3 + u32::from(palette[3 * i + 1]) * 6 + u32::from(palette[3 * i + 2])
        };
        assert!((1..256).all(|i| light(i) + 3 >= light(i - 1)));
    }

    fn decode(text: &str) -> Vec<u8> {
        let value = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => 0,
        };
        let bytes = text.as_bytes().chunks(4).flat_map(|four| {
            let bits = four.iter().fold(0u32, |bits, &c| bits << 6 | u32::from(value(c)));
            [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8]
        });
        bytes.collect()
    }
}
