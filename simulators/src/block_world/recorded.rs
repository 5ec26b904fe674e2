//! States of Blockworld's original generator, as its `states.json` has them, and what they look like.

use std::sync::Arc;

use serde::Deserialize;

use super::entities::{COLOURS, Kind};
use super::world::{FIELD, GAIN};
use crate::room::{Eye, Form, Room, Scene, Texture, Thing};

/// Along `x` and along `z`, m: states do not say it.
const SIZE: [f32; 2] = [16.0; 2];

/// A state.
///
/// Where it says that something is, it is one step later: the original draws, then moves, then writes down. Measured: pictures are
/// those of places minus velocities.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Recorded {
    /// The name of the picture, a file.
    pub frame: String,
    agent: Agent,
    room: Surfaces,
    entities: Vec<Entity>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Agent {
    x: f32,
    z: f32,
    heading_deg: f64,
    eye_height: f32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Surfaces {
    wall_tex: String,
    floor_tex: String,
    ceil_tex: String,
    wall_height: f32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Entity {
    kind: Kind,
    color: Colour,
    x: f32,
    z: f32,
    /// Sides of a box, or the diameter of a ball.
    size: Vec<f32>,
    texture: Option<String>,
    /// Along `x` and `z`, m a step.
    velocity: [f32; 2],
}

/// A colour of the original's, in the order of [`COLOURS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Colour {
    Red,
    Green,
    Blue,
    Purple,
    Yellow,
    Grey,
}

impl Colour {
    fn rgb(self) -> [f32; 3] {
        COLOURS[self as usize].1
    }
}

/// A field of a state that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {value}, allowed: {allowed}")]
pub struct Impossible {
    /// Which, such as `entities[2].size`.
    pub field: String,
    /// What it is.
    pub value: String,
    /// What it may be.
    pub allowed: String,
}

impl Recorded {
    /// Names of textures that it takes to draw it.
    pub fn textures(&self) -> impl Iterator<Item = &str> {
        let Surfaces { wall_tex, floor_tex, ceil_tex, .. } = &self.room;
        let things = self.entities.iter().filter_map(|entity| entity.texture.as_ref());
        [wall_tex, floor_tex, ceil_tex].into_iter().chain(things).map(String::as_str)
    }

    /// The room, what is in it, and the eye, with what `named` gives for the names of [`Recorded::textures`].
    ///
    /// # Errors
    /// The first field that cannot be.
    pub fn look(&self, named: impl Fn(&str) -> Arc<Texture>) -> Result<(Room, Vec<Thing>, Eye), Impossible> {
        self.check()?;
        let room = Room {
            size: SIZE,
            height: self.room.wall_height,
            wall: named(&self.room.wall_tex),
            floor: named(&self.room.floor_tex),
            ceiling: named(&self.room.ceil_tex),
        };
        let thing = |entity: &Entity| {
            let [x, z] = [entity.x - entity.velocity[0], entity.z - entity.velocity[1]];
            let form = match (entity.kind, entity.size.as_slice()) {
                (Kind::Box, &[wide, tall, deep]) => Form::standing([x, z], [wide, tall, deep]),
                (_, sizes) => Form::ball([x, sizes[0] / 2.0, z], sizes[0] / 2.0, GAIN),
            };
            Thing { form, colour: entity.color.rgb(), texture: entity.texture.as_deref().map(&named) }
        };
        let Agent { x, z, heading_deg, eye_height } = self.agent;
        let place = [x, eye_height, z];
        let eye = Eye { place, heading: heading_deg.to_radians(), field: FIELD.to_radians(), horizon: 0.5 };
        Ok((room, self.entities.iter().map(thing).collect(), eye))
    }

    fn check(&self) -> Result<(), Impossible> {
        let refuse = |field: String, value: &dyn std::fmt::Debug, allowed: &str| {
            Err(Impossible { field, value: format!("{value:?}"), allowed: allowed.to_owned() })
        };
        let inside = |field: &str, value: f32, most: f32| {
            if value > 0.0 && value < most {
                Ok(())
            } else {
                refuse(field.to_owned(), &value, &format!("more than 0, less than {most}"))
            }
        };
        inside("room.wall_height", self.room.wall_height, 100.0)?;
        inside("agent.x", self.agent.x, SIZE[0])?;
        inside("agent.z", self.agent.z, SIZE[1])?;
        inside("agent.eye_height", self.agent.eye_height, self.room.wall_height)?;
        if !self.agent.heading_deg.is_finite() {
            return refuse("agent.heading_deg".to_owned(), &self.agent.heading_deg, "a finite number");
        }
        if self.entities.len() > Scene::MOST {
            return refuse("entities".to_owned(), &self.entities.len(), &format!("at most {} of them", Scene::MOST));
        }
        for (number, Entity { kind, x, z, size, velocity, .. }) in self.entities.iter().enumerate() {
            let of = |field: &str| format!("entities[{number}].{field}");
            let far = 1000.0;
            let numbers = [("x", *x), ("z", *z), ("velocity[0]", velocity[0]), ("velocity[1]", velocity[1])];
            for (field, value) in numbers {
                if value.is_nan() || value.abs() > far {
                    return refuse(of(field), &value, &format!("-{far} to {far}"));
                }
            }
            let count = if *kind == Kind::Box { 3 } else { 1 };
            if size.len() != count || !size.iter().all(|side| *side > 0.0 && *side < far) {
                return refuse(of("size"), size, &format!("{count} of more than 0 and less than {far}"));
            }
        }
        Ok(())
    }
}
