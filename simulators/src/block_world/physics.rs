//! The physics regime: things and the agent as rigid bodies of rapier.

use std::fmt;

use rand::RngExt as _;
use rapier3d::prelude::{
    ColliderBuilder, PhysicsWorld, Pose as Placed, RigidBodyBuilder, RigidBodyHandle, Rotation, Vector,
};
use serde::{Deserialize, Serialize};

use super::config::BlockWorldConfig;
use super::entities::{BOX, Kind, Pose, RADIUS, ThingState};
use super::world::{Agent, WALL_HEIGHT};
use crate::rng::Rng;

/// Seconds that a step of the world takes.
pub const STEP_SECONDS: f32 = 1.0 / 15.0;
/// Steps of the engine in one of the world.
const SUBSTEPS: u32 = 2;
/// The agent's height, m.
const AGENT_HEIGHT: f32 = 1.6;
/// kg per cubic metre: things of light wood, and an agent who can push them.
const THING_DENSITY: f32 = 100.0;
const AGENT_DENSITY: f32 = 400.0;
/// How high above where they would stand things may begin, m.
const DROP: f32 = 1.0;
/// Speeds at which things may begin, m/s.
const START: f32 = 2.0;

/// Bodies, contacts, and all that the engine keeps from one step to the next. Equal states have equal bytes.
#[derive(Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Physics {
    engine: PhysicsWorld,
    agent: RigidBodyHandle,
    things: Vec<RigidBodyHandle>,
}

impl Physics {
    /// How wide the agent is from its middle, m.
    pub const AGENT_RADIUS: f32 = 0.4;

    /// Puts walls and bodies in place: things begin above the floor, turned and thrown at random, and where they would touch another, above it.
    pub(super) fn new(config: &BlockWorldConfig, agent: Agent, things: &mut [ThingState], rng: &mut Rng) -> Self {
        let mut engine = PhysicsWorld::default();
        engine.integration_parameters.dt = STEP_SECONDS / SUBSTEPS as f32;
        let side = f32::from(config.room);
        // Floor, ceiling and walls, a metre thick: only those that a body is near are looked at.
        let (half, height) = (side / 2.0, WALL_HEIGHT + 2.0 * DROP);
        let shell = engine.insert_body(RigidBodyBuilder::fixed());
        for (middle, [x, y, z]) in [
            (Vector::new(half, -0.5, half), [half + 1.0, 0.5, half + 1.0]),
            (Vector::new(half, height + 0.5, half), [half + 1.0, 0.5, half + 1.0]),
            (Vector::new(-0.5, height / 2.0, half), [0.5, height / 2.0, half]),
            (Vector::new(side + 0.5, height / 2.0, half), [0.5, height / 2.0, half]),
            (Vector::new(half, height / 2.0, -0.5), [half, height / 2.0, 0.5]),
            (Vector::new(half, height / 2.0, side + 0.5), [half, height / 2.0, 0.5]),
        ] {
            let wall = ColliderBuilder::cuboid(x, y, z).translation(middle).friction(0.7).restitution(0.4);
            engine.insert_collider(wall, Some(shell));
        }
        let [x, z] = agent.place;
        let body = RigidBodyBuilder::dynamic().translation(Vector::new(x, AGENT_HEIGHT / 2.0, z)).lock_rotations();
        let form = ColliderBuilder::capsule_y(AGENT_HEIGHT / 2.0 - Self::AGENT_RADIUS, Self::AGENT_RADIUS);
        let (agent, _) =
            engine.insert(body.can_sleep(false), form.density(AGENT_DENSITY).friction(0.0).restitution(0.0));
        let mut bodies = Vec::with_capacity(things.len());
        let mut placed = vec![[x, z]];
        for thing in things {
            let [x, y, z] = thing.pose.place;
            // So many are near that it must begin above them.
            let below = placed.iter().filter(|at| (at[0] - x).abs() < 1.1 && (at[1] - z).abs() < 1.1).count();
            placed.push([x, z]);
            let drop = if config.moving { rng.random_range(0.0..DROP) } else { 0.0 };
            let y = BOX[1].mul_add(below as f32, y + drop);
            let angle = rng.random_range(0.0..std::f32::consts::TAU) / 2.0;
            thing.pose = Pose { place: [x, y, z], turn: [0.0, libm::sinf(angle), 0.0, libm::cosf(angle)] };
            let mut throw = || if config.moving { rng.random_range(-START..START) } else { 0.0 };
            let velocity = Vector::new(throw(), 0.0, throw());
            let turn = Rotation::from_xyzw(0.0, libm::sinf(angle), 0.0, libm::cosf(angle));
            let body =
                RigidBodyBuilder::dynamic().pose(Placed::from_parts(Vector::new(x, y, z), turn)).linvel(velocity);
            let form = match thing.kind {
                Kind::Box => ColliderBuilder::cuboid(BOX[0] / 2.0, BOX[1] / 2.0, BOX[2] / 2.0).restitution(0.2),
                Kind::Ball => ColliderBuilder::ball(RADIUS).restitution(0.7),
            };
            bodies.push(engine.insert(body, form.density(THING_DENSITY).friction(0.4)).0);
        }
        Self { engine, agent, things: bodies }
    }

    /// Bodies that move: the agent's and those of things.
    pub(super) fn bodies(&self) -> usize {
        self.things.len() + 1
    }

    /// A step in which the agent wants to go `by` metres along `x` and `z`.
    pub(super) fn step(&mut self, by: [f32; 2]) {
        let velocity = by.map(|by| by / STEP_SECONDS);
        for _ in 0..SUBSTEPS {
            let agent = &mut self.engine.bodies[self.agent];
            let falls = agent.linvel().y;
            agent.set_linvel(Vector::new(velocity[0], falls, velocity[1]), true);
            self.engine.step();
        }
    }

    /// Where the agent is, along `x` and `z`.
    pub(super) fn agent(&self) -> [f32; 2] {
        let place = self.engine.bodies[self.agent].translation();
        [place.x, place.z]
    }

    /// Where thing number `number` is.
    pub(super) fn pose(&self, number: usize) -> Pose {
        let body = &self.engine.bodies[self.things[number]];
        let (place, turn) = (body.translation(), body.rotation());
        Pose { place: place.into(), turn: [turn.x, turn.y, turn.z, turn.w] }
    }

    fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(&(&self.engine, self.agent, &self.things)).expect("bodies are plain data")
    }
}

impl Clone for Physics {
    fn clone(&self) -> Self {
        let of = &self.engine;
        let engine = PhysicsWorld {
            gravity: of.gravity,
            integration_parameters: of.integration_parameters,
            islands: of.islands.clone(),
            broad_phase: of.broad_phase.clone(),
            narrow_phase: of.narrow_phase.clone(),
            bodies: of.bodies.clone(),
            colliders: of.colliders.clone(),
            impulse_joints: of.impulse_joints.clone(),
            multibody_joints: of.multibody_joints.clone(),
            soft_bodies: of.soft_bodies.clone(),
            ..PhysicsWorld::default()
        };
        Self { engine, agent: self.agent, things: self.things.clone() }
    }
}

impl PartialEq for Physics {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Physics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Physics of {} bodies", self.bodies())
    }
}

/// Its bytes, each as two hexadecimal digits: texts hold snapshots too.
impl From<Physics> for String {
    fn from(physics: Physics) -> Self {
        let digit = |four: u8| char::from(b"0123456789abcdef"[usize::from(four)]);
        physics.bytes().into_iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

impl TryFrom<String> for Physics {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused = |why: &dyn fmt::Display| format!("no state of the physics engine: {why}");
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |&byte: &u8| char::from(byte).to_digit(16).map(|four| four as u8);
        let byte = |[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
        let bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty());
        let bytes = bytes.ok_or_else(|| refused(&"not pairs of hexadecimal digits"))?;
        let (engine, agent, things): (PhysicsWorld, _, Vec<_>) =
            postcard::from_bytes(&bytes).map_err(|error| refused(&error))?;
        if !things.iter().chain([&agent]).all(|&handle| engine.bodies.contains(handle)) {
            return Err(refused(&"bodies are missing"));
        }
        Ok(Self { engine, agent, things })
    }
}
