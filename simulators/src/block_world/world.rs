//! State and step of a Blockworld.

use std::sync::Arc;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use super::config::{BlockWorldConfig, Regime};
use super::entities::{BOX, COLOURS, Entities, Kind, Pose, RADIUS, ThingState};
use super::grid;
use super::physics::Physics;
use super::surfaces::{Surface, Surfaces};
use crate::limits::OutOfRange;
use crate::rng::{Purpose, Rng, Seed, stream};
use crate::room::{self, Around, Eye, Form, Picture, Room, Scene, Thing, with_painter};
use crate::world::{SnapshotError, World};

/// How high the agent's eye is, m.
pub const EYE_HEIGHT: f32 = 1.5;
/// How high the walls are, m.
pub const WALL_HEIGHT: f32 = 2.74;
/// The angle between the upper and the lower edge of a picture, degrees.
pub(super) const FIELD: f64 = 60.0;
/// Balls are over-bright, as the original's are: OpenGL scales their normals with their mesh.
pub(super) const GAIN: f32 = 3.017;

/// What the agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Turns left.
    Left,
    /// Turns right.
    Right,
    /// Goes ahead, unless there is a wall.
    Forward,
    /// Goes back, unless there is a wall.
    Back,
    /// Stays.
    Nothing,
}

impl Action {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Left, Self::Right, Self::Forward, Self::Back, Self::Nothing];
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Along `x` and `z`, m; whole cells in the grid regime.
    pub place: [f32; 2],
    /// Degrees from `x` towards minus `z`, `0..360`.
    pub heading: u16,
}

impl Agent {
    /// Where it faces, along `x` and `z`.
    #[must_use]
    pub fn ahead(&self) -> [f32; 2] {
        // Quarters are exact.
        match self.heading {
            0 => [1.0, 0.0],
            90 => [0.0, -1.0],
            180 => [-1.0, 0.0],
            270 => [0.0, 1.0],
            degrees => {
                let angle = f64::from(degrees).to_radians();
                [libm::cos(angle) as f32, -libm::sin(angle) as f32]
            }
        }
    }

    /// How far ahead of it and to its right a place along `x` and `z` is, m.
    #[must_use]
    pub fn from_here(&self, [x, z]: [f32; 2]) -> [f32; 2] {
        let ([ahead_x, ahead_z], [x, z]) = (self.ahead(), [x - self.place[0], z - self.place[1]]);
        [ahead_x * x + ahead_z * z, ahead_x * z - ahead_z * x]
    }
}

/// Which textures a room has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomLook {
    /// Which of [`Surface::WALLS`].
    pub wall: u8,
    /// Which of [`Surface::FLOORS`].
    pub floor: u8,
}

/// The state of a [`BlockWorld`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockWorldSnapshot {
    /// Who looks.
    pub agent: Agent,
    /// Which textures the room has.
    pub room: RoomLook,
    /// What is in it.
    pub things: Vec<ThingState>,
    /// Of the physics regime: bodies, contacts, and all that the engine keeps from one step to the next.
    pub physics: Option<Physics>,
}

/// A room with things in it and an agent that looks.
///
/// A step moves the agent, then the things. A frame is `[image, image, 3]`, what the agent sees.
#[derive(Debug)]
pub struct BlockWorld {
    config: BlockWorldConfig,
    surfaces: Arc<Surfaces>,
    agent: Agent,
    room: RoomLook,
    entities: Entities,
    physics: Option<Physics>,
}

impl BlockWorld {
    /// A world of this configuration with these textures, in the start state of `stream(Seed(0), Purpose::World, 0)`.
    ///
    /// # Errors
    /// If the configuration is not valid.
    pub fn new(config: BlockWorldConfig, surfaces: Arc<Surfaces>) -> Result<Self, OutOfRange> {
        config.validate()?;
        let (agent, room) = (Agent { place: [1.0; 2], heading: 0 }, RoomLook { wall: 0, floor: 0 });
        let mut world = Self { config, surfaces, agent, room, entities: Entities::new(), physics: None };
        world.reset(&mut stream(Seed(0), Purpose::World, 0));
        Ok(world)
    }

    /// The configuration this world was made with.
    #[must_use]
    pub fn config(&self) -> &BlockWorldConfig {
        &self.config
    }

    /// Its textures.
    #[must_use]
    pub fn surfaces(&self) -> &Arc<Surfaces> {
        &self.surfaces
    }

    /// Who looks.
    #[must_use]
    pub fn agent(&self) -> Agent {
        self.agent
    }

    /// Which textures the room has.
    #[must_use]
    pub fn look(&self) -> RoomLook {
        self.room
    }

    /// How many things there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entities.len()
    }

    /// What is in the room, in the order of ids: the i-th has id `i + 1`.
    pub fn things(&self) -> impl Iterator<Item = ThingState> {
        self.entities.things()
    }

    /// Whether the agent could go so many strides ahead without meeting a wall.
    #[must_use]
    pub fn is_free(&self, strides: f32) -> bool {
        self.ahead(strides).is_some()
    }

    /// Where the agent comes by so many strides ahead, if no wall is in the way.
    fn ahead(&self, strides: f32) -> Option<[f32; 2]> {
        let (ahead, by) = (self.agent.ahead(), self.config.stride * strides);
        let to = [0, 1].map(|i: usize| ahead[i].mul_add(by, self.agent.place[i]));
        let (least, most) = match self.config.regime {
            Regime::Grid => (1.0, f32::from(self.config.room - 1)),
            Regime::Physics => (Physics::AGENT_RADIUS, f32::from(self.config.room) - Physics::AGENT_RADIUS),
        };
        to.iter().all(|at| (least..=most).contains(at)).then_some(to)
    }

    fn has_thing_at(&self, place: [f32; 2]) -> bool {
        let cell = place.map(|at| at as i16);
        self.things().any(|thing| grid::cell(thing.pose.place) == cell)
    }

    /// Draws what the agent sees, and how far and of whom each pixel is. The bytes depend on nothing but the state.
    ///
    /// # Panics
    /// If a buffer of `picture` is not of `image` by `image` pixels.
    pub fn paint(&self, picture: Picture<'_>) {
        let side = self.config.image;
        self.show(|room, things, eye| {
            let scene = Scene { around: Around::Room(room), things, eye };
            with_painter(side, side, |painter| painter.draw(&scene, picture));
        });
    }

    /// Draws the room from above, `[side, side, 3]`.
    ///
    /// # Panics
    /// If `rgb` has another length.
    pub fn plan(&self, side: usize, rgb: &mut [u8]) {
        self.show(|room, things, eye| room::plan(room, things, eye, side, rgb));
    }

    fn show(&self, see: impl FnOnce(&Room, &[Thing], Eye)) {
        let texture = |surface| Arc::clone(self.surfaces.texture(surface));
        let RoomLook { wall, floor } = self.room;
        let room = Room {
            size: [f32::from(self.config.room); 2],
            height: WALL_HEIGHT,
            wall: texture(Surface::WALLS[usize::from(wall)]),
            floor: texture(Surface::FLOORS[usize::from(floor)]),
            ceiling: texture(Surface::CeilingTileNoBorder),
        };
        let thing = |ThingState { kind, colour, texture, pose, .. }: ThingState| Thing {
            form: match kind {
                Kind::Box => Form::Box { centre: pose.place, half: BOX.map(|side| side / 2.0), axes: pose.axes() },
                Kind::Ball => Form::ball(pose.place, RADIUS, GAIN),
            },
            colour: COLOURS[usize::from(colour)].1,
            texture: texture.map(|number| Arc::clone(self.surfaces.texture(Surface::BOXES[usize::from(number)]))),
        };
        let things: Vec<Thing> = self.things().map(thing).collect();
        see(&room, &things, eye(self.agent));
    }

    /// A random place: in the grid regime a cell, where the outermost are half as likely, as rounding makes them.
    fn place(&self, rng: &mut Rng) -> [f32; 2] {
        let side = f32::from(self.config.room);
        let mut at = || rng.random_range(1.0..side - 1.0);
        match self.config.regime {
            Regime::Grid => [at().round(), at().round()],
            Regime::Physics => [at(), at()],
        }
    }

    fn draw_things(&self, rng: &mut Rng) -> Vec<ThingState> {
        let BlockWorldConfig { fewest, most, balls, moving, textures, collisions, regime, .. } = self.config;
        let count = rng.random_range(fewest..=most);
        let mut palette: Vec<u8> = (0..COLOURS.len() as u8).collect();
        palette.shuffle(rng);
        let mut things: Vec<ThingState> = Vec::with_capacity(usize::from(count));
        for number in 0..usize::from(count) {
            // One of each colour comes first.
            let colour = palette.get(number).copied().unwrap_or_else(|| rng.random_range(0..COLOURS.len() as u8));
            let kind = if rng.random_bool(balls) { Kind::Ball } else { Kind::Box };
            let texture = (textures && kind == Kind::Box).then(|| rng.random_range(0..Surface::BOXES.len() as u8));
            let taken = |[x, z]: [f32; 2]| {
                let near = |other: [f32; 2]| (other[0] - x).abs() < 1.0 && (other[1] - z).abs() < 1.0;
                near(self.agent.place) || things.iter().any(|thing| near([thing.pose.place[0], thing.pose.place[2]]))
            };
            let mut place = self.place(rng);
            while collisions && regime == Regime::Grid && taken(place) {
                place = self.place(rng);
            }
            let pose = Pose::upright([place[0], kind.middle(), place[1]]);
            let velocity = match (regime, moving) {
                (Regime::Grid, true) => [[1, 0], [-1, 0], [0, 1], [0, -1]][rng.random_range(0..4)],
                _ => [0, 0],
            };
            things.push(ThingState { kind, colour, texture, pose, velocity });
        }
        things
    }

    fn check(&self, snapshot: &BlockWorldSnapshot) -> Result<(), SnapshotError> {
        let fail = |field, value: String, allowed: String| Err(SnapshotError { field, value, allowed });
        let BlockWorldSnapshot { agent, room, things, physics } = snapshot;
        let side = f32::from(self.config.room);
        let grid = self.config.regime == Regime::Grid;
        let whole = |at: f32| !grid || (at.fract() == 0.0 && at >= 1.0 && at <= side - 1.0);
        if !agent.place.iter().all(|&at| at > 0.0 && at < side && whole(at)) {
            return fail("agent.place", format!("{:?}", agent.place), format!("places in a room of {side} m"));
        }
        if agent.heading >= 360 || !agent.heading.is_multiple_of(self.config.turn) {
            return fail(
                "agent.heading",
                agent.heading.to_string(),
                format!("multiples of {} below 360", self.config.turn),
            );
        }
        if usize::from(room.wall) >= Surface::WALLS.len() || usize::from(room.floor) >= Surface::FLOORS.len() {
            return fail("room", format!("{room:?}"), "textures that there are".to_owned());
        }
        let counts = usize::from(self.config.fewest)..=usize::from(self.config.most);
        if !counts.contains(&things.len()) {
            return fail("things", format!("{} of them", things.len()), format!("{counts:?} of them"));
        }
        for thing in things {
            let looks = usize::from(thing.colour) < COLOURS.len()
                && thing.texture.is_none_or(|number| usize::from(number) < Surface::BOXES.len());
            let numbers = thing.pose.place.iter().chain(&thing.pose.turn);
            let [x, _, z] = thing.pose.place;
            let cells = !grid || (whole(x) && whole(z) && thing.velocity.iter().all(|cells| (-1..=1).contains(cells)));
            if !looks || !numbers.copied().all(f32::is_finite) || !cells {
                return fail("things", format!("{thing:?}"), "a thing of this room".to_owned());
            }
        }
        if physics.as_ref().map(Physics::bodies) != (!grid).then_some(things.len() + 1) {
            let said =
                physics.as_ref().map_or_else(|| "none".to_owned(), |physics| format!("{} bodies", physics.bodies()));
            return fail(
                "physics",
                said,
                "a body of each thing and of the agent, in the physics regime only".to_owned(),
            );
        }
        Ok(())
    }
}

impl Clone for BlockWorld {
    fn clone(&self) -> Self {
        let mut entities = Entities::new();
        entities.replace(&self.things().collect::<Vec<_>>());
        let (config, surfaces, physics) = (self.config.clone(), Arc::clone(&self.surfaces), self.physics.clone());
        Self { config, surfaces, agent: self.agent, room: self.room, entities, physics }
    }
}

impl World for BlockWorld {
    type Action = Action;
    type Snapshot = BlockWorldSnapshot;

    /// Wall and floor textures, if they are random; the agent's place; how many things, the order of colours; then of each thing: colour (beyond
    /// the palette), kind, texture, place, velocity; in the physics regime then of each how it begins. The agent looks along `x`.
    fn reset(&mut self, rng: &mut Rng) {
        self.room = if self.config.textures {
            // The first wall and floor are those of worlds without textures; walls at random are never white.
            let wall = rng.random_range(1..Surface::WALLS.len() as u8);
            RoomLook { wall, floor: rng.random_range(0..Surface::FLOORS.len() as u8) }
        } else {
            RoomLook { wall: 0, floor: 0 }
        };
        self.agent = Agent { place: self.place(rng), heading: 0 };
        let mut things = self.draw_things(rng);
        self.physics = match self.config.regime {
            Regime::Grid => None,
            Regime::Physics => Some(Physics::new(&self.config, self.agent, &mut things, rng)),
        };
        self.entities.replace(&things);
    }

    fn step(&mut self, action: Action) {
        let turn = self.config.turn;
        match action {
            Action::Left => self.agent.heading = (self.agent.heading + turn) % 360,
            Action::Right => self.agent.heading = (self.agent.heading + 360 - turn) % 360,
            Action::Forward | Action::Back | Action::Nothing => {}
        }
        let strides = match action {
            Action::Forward => 1.0,
            Action::Back => -1.0,
            _ => 0.0,
        };
        if let Some(physics) = &mut self.physics {
            let ahead = self.agent.ahead();
            physics.step(ahead.map(|way| way * strides * self.config.stride));
            self.agent.place = physics.agent();
            self.entities.each_pose(|number, _, pose, _| *pose = physics.pose(number));
            return;
        }
        if let Some(to) = self.ahead(strides)
            && !(self.config.collisions && self.has_thing_at(to))
        {
            self.agent.place = to;
        }
        let agent = self.agent.place.map(|at| at as i16);
        grid::step(&mut self.entities, self.config.room, self.config.collisions.then_some(agent));
    }

    fn frame_shape(&self) -> [usize; 3] {
        [self.config.image, self.config.image, 3]
    }

    fn render(&self, frame: &mut [u8]) {
        self.paint(Picture { rgb: frame, depth: None, ids: None });
    }

    fn snapshot(&self) -> BlockWorldSnapshot {
        let things = self.things().collect();
        BlockWorldSnapshot { agent: self.agent, room: self.room, things, physics: self.physics.clone() }
    }

    fn restore(&mut self, snapshot: &BlockWorldSnapshot) -> Result<(), SnapshotError> {
        self.check(snapshot)?;
        (self.agent, self.room) = (snapshot.agent, snapshot.room);
        self.entities.replace(&snapshot.things);
        self.physics.clone_from(&snapshot.physics);
        Ok(())
    }
}

/// What the agent sees with.
pub(super) fn eye(Agent { place: [x, z], heading }: Agent) -> Eye {
    let (heading, field) = (f64::from(heading).to_radians(), FIELD.to_radians());
    Eye { place: [x, EYE_HEIGHT, z], heading, field, horizon: 0.5 }
}
