//! A picture in memory.

use std::io::Cursor;

/// Rows of pixels, from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`: red, green, blue.
    pub rgb: Vec<u8>,
}

/// The longest side of a picture that is read, pixels.
const LONGEST: usize = 8192;

/// Why a picture could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The bytes are not those of a PNG file.
    #[error("not a PNG picture")]
    Png(#[from] png::DecodingError),
    /// Too large, or empty.
    #[error("a picture of {width} by {height} pixels, allowed: 1 to {LONGEST} along each side")]
    Size {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
    },
}

/// What is around a picture that does not fill its frame.
const FRAME: [u8; 3] = [24, 26, 30];

impl Image {
    /// All black.
    ///
    /// # Panics
    /// If a side is zero.
    #[must_use]
    pub fn black(width: usize, height: usize) -> Self {
        assert!(width > 0 && height > 0, "a picture of {width} by {height} pixels");
        Self { width, height, rgb: vec![0; width * height * 3] }
    }

    /// From the bytes of a PNG file; transparency is passed over.
    ///
    /// # Errors
    /// If they are not such a file, or the picture is larger than 8192 pixels along a side.
    pub fn from_png(bytes: &[u8]) -> Result<Self, ImageError> {
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let (width, height) = (reader.info().width as usize, reader.info().height as usize);
        let fits = [width, height].iter().all(|side| (1..=LONGEST).contains(side));
        let size = reader.output_buffer_size().filter(|_| fits).ok_or(ImageError::Size { width, height })?;
        let mut pixels = vec![0; size];
        let frame = reader.next_frame(&mut pixels)?;
        let channels = frame.color_type.samples();
        let colour = |pixel: &[u8]| if channels < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] };
        Ok(Self { width, height, rgb: pixels[..frame.buffer_size()].chunks_exact(channels).flat_map(colour).collect() })
    }

    /// The pixel in column `x` of row `y`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        assert!(x < self.width);
        self.rgb.as_chunks().0[y * self.width + x]
    }

    /// As large as it can be in the middle of `width` by `height` pixels, each of its own pixels a square; a whole number of
    /// pixels wide where there is room for that.
    pub(crate) fn enlarged(&self, width: usize, height: usize) -> Self {
        let mut large = Self::black(width, height);
        // In parts of a thousand, so that a picture larger than its frame is made smaller.
        let room = (width * 1000 / self.width).min(height * 1000 / self.height);
        let factor = if room >= 1000 { room / 1000 * 1000 } else { room.max(1) };
        let [w, h] = [self.width, self.height].map(|side| (side * factor / 1000).max(1));
        let [left, top] = [(width - w.min(width)) / 2, (height - h.min(height)) / 2];
        for (at, pixel) in large.rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let inside = |at: usize, first: usize, side: usize| {
                let own = at.checked_sub(first)? * 1000 / factor;
                (own < side).then_some(own)
            };
            let own = (inside(at % width, left, self.width), inside(at / width, top, self.height));
            *pixel = if let (Some(x), Some(y)) = own { self.pixel(x, y) } else { FRAME };
        }
        large
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_png_is_refused() {
        assert_eq!(Image::from_png(b"no picture").unwrap_err().to_string(), "not a PNG picture");
    }

    #[test]
    fn pixels_become_squares_in_the_middle() {
        let small = Image { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6] };
        let large = small.enlarged(7, 5);
        // Three times as large: six by three, one row and no column of the frame before it.
        assert_eq!((large.pixel(0, 1), large.pixel(2, 3), large.pixel(3, 1)), ([1, 2, 3], [1, 2, 3], [4, 5, 6]));
        assert_eq!((large.pixel(6, 1), large.pixel(0, 0), large.pixel(3, 4)), (FRAME, FRAME, FRAME));
        let wide = Image { width: 4, height: 4, rgb: (0..48).collect() };
        assert_eq!(wide.enlarged(2, 2).pixel(1, 1), wide.pixel(2, 2));
    }
}
