//! What is in the room, as entities and their components.

use bevy_ecs::prelude::{Component, Entity, World};
use bevy_ecs::query::QueryState;
use serde::{Deserialize, Serialize};

/// The palette, and its colours' names.
pub const COLOURS: [(&str, [f32; 3]); 6] = [
    ("red", [1.0, 0.0, 0.0]),
    ("green", [0.0, 1.0, 0.0]),
    ("blue", [0.0, 0.0, 1.0]),
    ("purple", [0.44, 0.15, 0.76]),
    ("yellow", [1.0, 1.0, 0.0]),
    ("grey", [0.39, 0.39, 0.39]),
];

/// Which of [`COLOURS`] is red: what is looked for.
pub const RED: u8 = 0;

/// A box's sides along `x`, `y`, `z`, m.
pub(super) const BOX: [f32; 3] = [0.7, 1.5, 0.7];
/// A ball's radius, m.
pub(super) const RADIUS: f32 = 0.425;

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Component)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A box of 0.7 by 1.5 by 0.7 m.
    Box,
    /// A ball with a radius of 0.425 m.
    Ball,
}

impl Kind {
    /// How high its middle is when it stands on the floor, m.
    pub(super) fn middle(self) -> f32 {
        match self {
            Self::Box => BOX[1] / 2.0,
            Self::Ball => RADIUS,
        }
    }
}

/// Where a thing's middle is, and how it is turned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Component)]
pub struct Pose {
    /// `x`, `y`, `z`, m.
    pub place: [f32; 3],
    /// A quaternion `x`, `y`, `z`, `w` of length one.
    pub turn: [f32; 4],
}

impl Pose {
    /// Upright.
    pub(super) fn upright(place: [f32; 3]) -> Self {
        Self { place, turn: [0.0, 0.0, 0.0, 1.0] }
    }

    /// Where its own axes point.
    pub(super) fn axes(&self) -> [[f32; 3]; 3] {
        let [x, y, z, w] = self.turn;
        [
            [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)],
            [2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)],
            [2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)],
        ]
    }
}

/// Cells that a thing goes in a step, along `x` and `z`: of the grid regime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Component)]
pub(super) struct Speed(pub [i8; 2]);

/// How a thing looks: which colour of the palette, and which texture of boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Component)]
pub(super) struct Looks {
    pub colour: u8,
    pub texture: Option<u8>,
}

/// All of a thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThingState {
    /// What it is.
    pub kind: Kind,
    /// Which of [`COLOURS`].
    pub colour: u8,
    /// Which of the textures of boxes, if it has one.
    pub texture: Option<u8>,
    /// Where it is.
    pub pose: Pose,
    /// Cells that it goes in a step, along `x` and `z`; zero in the physics regime.
    pub velocity: [i8; 2],
}

/// The things of a room, in the order in which they came.
#[derive(Debug)]
pub(super) struct Entities {
    pub world: World,
    order: Vec<Entity>,
    all: QueryState<(&'static Kind, &'static Looks, &'static Pose, &'static Speed)>,
}

impl Entities {
    pub fn new() -> Self {
        let mut world = World::new();
        let all = world.query();
        Self { world, order: Vec::new(), all }
    }

    /// Puts these in the place of all that are there.
    pub fn replace(&mut self, things: &[ThingState]) {
        self.world.clear_entities();
        self.order.clear();
        for &ThingState { kind, colour, texture, pose, velocity } in things {
            let entity = self.world.spawn((kind, Looks { colour, texture }, pose, Speed(velocity)));
            self.order.push(entity.id());
        }
        // The first thing makes the archetype that all have.
        self.all.update_archetypes(&self.world);
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// What is where.
    pub fn things(&self) -> impl Iterator<Item = ThingState> {
        self.order.iter().map(|&entity| {
            let (kind, looks, pose, speed) = self.all.get_manual(&self.world, entity).expect("things keep their parts");
            let Looks { colour, texture } = *looks;
            ThingState { kind: *kind, colour, texture, pose: *pose, velocity: speed.0 }
        })
    }

    /// Changes where one is, and how fast it goes.
    pub fn each_pose(&mut self, mut change: impl FnMut(usize, &Kind, &mut Pose, &mut Speed)) {
        for (number, &entity) in self.order.iter().enumerate() {
            let mut entity = self.world.entity_mut(entity);
            let parts = entity.get_components_mut::<(&Kind, &mut Pose, &mut Speed)>();
            let (kind, mut pose, mut speed) = parts.expect("things keep their parts");
            change(number, kind, &mut pose, &mut speed);
        }
    }
}
