//! What people are shown of a world.

use crate::articulated::Portrait;
use crate::image::Image;

/// What there is to see of a world.
#[derive(Clone, Debug)]
pub enum View {
    /// A body on open ground.
    Body(Portrait),
    /// A world that is a picture already; it is shown enlarged.
    Pixels(Image),
}

impl View {
    /// The picture of it.
    ///
    /// # Panics
    /// If a side is zero or, of a body, more than 8192.
    #[must_use]
    pub fn draw(&self, width: usize, height: usize) -> Image {
        match self {
            Self::Body(portrait) => portrait.draw(width, height),
            Self::Pixels(image) => image.enlarged(width, height),
        }
    }
}
