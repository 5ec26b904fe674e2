//! What there is to see.

use std::sync::Arc;

use super::form::Form;
use super::texture::Texture;

/// A room between `0` and its size, closed by a ceiling.
#[derive(Clone, Debug)]
pub struct Room {
    /// Along `x` and along `z`, m.
    pub size: [f32; 2],
    /// m.
    pub height: f32,
    /// Of all four walls.
    pub wall: Arc<Texture>,
    /// Of the floor.
    pub floor: Arc<Texture>,
    /// Of the ceiling.
    pub ceiling: Arc<Texture>,
}

/// Level ground under an open sky, as far as the eye sees; the sun shines, and things cast shadows on the ground.
#[derive(Clone, Debug)]
pub struct Field {
    /// Of the ground, whose height is 0.
    pub ground: Arc<Texture>,
}

/// Where things are.
#[derive(Clone, Copy, Debug)]
pub enum Around<'a> {
    /// Indoors, in the light of Blockworld's original.
    Room(&'a Room),
    /// Out of doors.
    Field(&'a Field),
}

/// A form with a colour.
#[derive(Clone, Debug)]
pub struct Thing {
    /// Where it is.
    pub form: Form,
    /// Red, green, blue, 0 to 1.
    pub colour: [f32; 3],
    /// Of each face of a box; what is round has none.
    pub texture: Option<Arc<Texture>>,
}

/// Who looks: upright, along the floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Eye {
    /// In the room, or above the ground, m.
    pub place: [f32; 3],
    /// Radians from `x` towards minus `z`.
    pub heading: f64,
    /// The angle between the upper and the lower edge of a picture whose horizon is in its middle, radians.
    pub field: f64,
    /// How far down the picture its horizon is, 0.5 for its middle. One who wants to look down raises it, as a view camera's lens is
    /// shifted: what is upright stays so.
    pub horizon: f32,
}

/// What is around, what is in it, and who looks.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// What is around.
    pub around: Around<'a>,
    /// At most [`Scene::MOST`] of them. Where two are at the same distance the first is seen.
    pub things: &'a [Thing],
    /// The eye.
    pub eye: Eye,
}

impl Scene<'_> {
    /// Things that a scene may have.
    pub const MOST: usize = 42;
}

/// Towards the light.
const LIGHT: [f32; 3] = [0.264_818_72, 0.926_865_5, 0.264_818_72];
/// Of every surface, wherever it faces: the light's ambient share and OpenGL's of the scene. No face is darker.
pub const AMBIENT: f32 = 0.65;
/// Of what faces the light.
const DIFFUSE: f32 = 0.7;

/// A colour in the light, clamped as vertices' colours are. `gain` is the length of the normals.
#[inline(always)]
pub(super) fn lit(colour: [f32; 3], normal: [f32; 3], gain: f32) -> [f32; 3] {
    let facing = normal[0] * LIGHT[0] + normal[1] * LIGHT[1] + normal[2] * LIGHT[2];
    let factor = AMBIENT + DIFFUSE * gain * facing.max(0.0);
    colour.map(|x| (x * factor).clamp(0.0, 1.0))
}
