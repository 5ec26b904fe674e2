//! Pictures of a closed room or an open field and of what stands, rolls or lies there, as an upright eye sees them, on the CPU.
//!
//! Axes are those of Blockworld: `x` and `z` span the floor, `y` is up, metres; a heading of `d` looks along `(cos d, 0, -sin d)`. A picture
//! has four samples a pixel: what each shows is found by casting its ray, and each surface that shows in a pixel is shaded once, in
//! the pixel's middle, as multisampling hardware does. The bytes depend on nothing but the scene and the size.
//!
//! An upright eye is what makes it fast. In each column of a picture it sees ceiling, one wall and floor, whose edges follow from the wall's
//! distance alone; and an endless floor looks the same from every place that is a whole number of textures away, so an agent on a grid sees
//! the same few floors again and again.
//!
//! Light indoors is that of Blockworld's original pictures: a directional light that was meant to be a point, OpenGL's scene ambient, and
//! colours that are clamped before textures are multiplied in. On a field there are a sun and a sky, haze far away, and soft shadows on the
//! ground, since without them nobody sees whether a foot stands.

#![expect(
    clippy::inline_always,
    reason = "what is compiled for one kind of processor must be within the function that is"
)]

mod columns;
mod form;
mod lanes;
mod lens;
mod levels;
mod painter;
mod plan;
mod scene;
mod shadows;
mod sun;
mod texture;
mod things;
mod walls;

pub use form::Form;
pub(crate) use lens::Lens;
pub(crate) use painter::with_painter;
pub use painter::{Painter, Picture};
pub use plan::plan;
pub use scene::{AMBIENT, Around, Eye, Field, Room, Scene, Thing};
pub use texture::Texture;
