//! When each point of a Blockworld was last in view: the ground truth of a memory test.

use super::config::BlockWorldConfig;
use super::entities::{BOX, Kind, Pose, RADIUS};
use super::world::{Agent, WALL_HEIGHT, eye};
use crate::room::Lens;

/// How far from a thing's surface the point of one of its pixels may lie, m: depths are recorded in whole millimetres.
const SLACK: f32 = 0.01;

/// The steps of one episode at which the agent looked, and what it saw.
///
/// A point is either a point on the surface of a thing, which moves and turns with it, or a point of a wall, the floor or the ceiling,
/// which stays. It is in view where its own side faces the eye, it lies within the picture, and one of the four pixels whose middles are
/// around it shows the thing, or the room, that it belongs to: nothing stands before it, as far as pixels can tell.
///
/// Surfaces are not cut into patches: a pixel far away shows some metres of floor, of which all are in view, and the middles of pixels would
/// hit few patches of them. Works from what datasets have, so it can be fed from a recorded episode as well as from a live world.
#[derive(Clone, Debug)]
pub struct Sightings {
    /// Side of a picture, pixels.
    side: usize,
    /// Along `x`, `y`, `z`, m.
    room: [f32; 3],
    kinds: Vec<Option<Kind>>,
    /// In the order in which they came.
    looks: Vec<Look>,
}

/// What was where when the agent looked.
#[derive(Clone, Debug)]
struct Look {
    t: i32,
    lens: Lens,
    bodies: Vec<Body>,
    /// `[side, side]`.
    ids: Vec<u8>,
}

/// Where a thing's middle is, and where its own axes point.
#[derive(Clone, Copy, Debug)]
struct Body {
    place: [f32; 3],
    axes: [[f32; 3]; 3],
}

/// A point as it is asked for.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// Of the room.
    Fixed([f32; 3]),
    /// Of a thing, along its own axes.
    Of { thing: usize, at: [f32; 3] },
}

/// A pixel whose depth is not where the thing is that it shows.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("pixel {pixel} shows thing {thing} at {depth} m, where that is not")]
pub struct Misplaced {
    /// By row.
    pub pixel: usize,
    /// Its id, from 1.
    pub thing: u8,
    /// m along the eye's axis.
    pub depth: f32,
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn minus(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

impl Body {
    fn of(pose: &Pose) -> Self {
        Self { place: pose.place, axes: pose.axes() }
    }

    /// A point of the world along the thing's axes, from its middle.
    fn own(&self, point: [f32; 3]) -> [f32; 3] {
        let from = minus(point, self.place);
        self.axes.map(|axis| dot(axis, from))
    }

    /// The same the other way round.
    fn world(&self, own: [f32; 3]) -> [f32; 3] {
        [0, 1, 2].map(|i: usize| self.place[i] + own.iter().zip(&self.axes).map(|(at, axis)| at * axis[i]).sum::<f32>())
    }
}

/// Half of a box's side along one of its axes.
fn half(axis: usize) -> f32 {
    BOX[axis] / 2.0
}

/// The axis whose face of a box a point of its surface is on.
fn face(at: [f32; 3]) -> usize {
    let out = |axis: usize| at[axis].abs() - half(axis);
    (1..3).fold(0, |best, axis| if out(axis) > out(best) { axis } else { best })
}

/// Whether a point of a thing's surface faces the eye, both along the thing's axes.
fn faces(kind: Kind, at: [f32; 3], eye: [f32; 3]) -> bool {
    match kind {
        Kind::Box => {
            let axis = face(at);
            eye[axis] * at[axis].signum() > half(axis)
        }
        Kind::Ball => dot(at, minus(eye, at)) > 0.0,
    }
}

/// Whether a point is on a thing's surface.
fn is_on(kind: Kind, at: [f32; 3]) -> bool {
    match kind {
        Kind::Box => (at[face(at)].abs() - half(face(at))).abs() <= SLACK,
        Kind::Ball => (dot(at, at).sqrt() - RADIUS).abs() <= SLACK,
    }
}

impl Look {
    /// Whether the point was in view.
    fn shows(&self, kinds: &[Option<Kind>], side: usize, point: Point) -> bool {
        let (id, at) = match point {
            Point::Fixed(at) => (0, at),
            Point::Of { thing, at } => {
                let body = &self.bodies[thing];
                if !kinds[thing].is_some_and(|kind| faces(kind, at, body.own(self.lens.place()))) {
                    return false;
                }
                (thing + 1, body.world(at))
            }
        };
        let Some([x, y]) = self.lens.image(at, side) else { return false };
        let pixel = |at: f32, by: f32| ((at + by) as usize).min(side - 1);
        let is_shown = |(x, y): (usize, usize)| usize::from(self.ids[y * side + x]) == id;
        let (left, right, up, down) = (pixel(x, -0.5), pixel(x, 0.5), pixel(y, -0.5), pixel(y, 0.5));
        [(left, up), (right, up), (left, down), (right, down)].into_iter().any(is_shown)
    }
}

impl Sightings {
    /// Nothing seen yet, in an episode with things of these kinds: the i-th has id `i + 1`; `None` where there is no such thing.
    #[must_use]
    pub fn new(config: &BlockWorldConfig, kinds: &[Option<Kind>]) -> Self {
        let side = f32::from(config.room);
        Self { side: config.image, room: [side, WALL_HEIGHT, side], kinds: kinds.to_vec(), looks: Vec::new() }
    }

    /// The agent looks at step `t`, which is after all steps so far.
    /// Shapes: a pose of each thing; `ids [image, image]`, 0 the room, `i + 1` the i-th thing.
    ///
    /// # Panics
    /// If there is not a pose a thing, or an id a pixel.
    pub fn observe(&mut self, t: i32, agent: Agent, poses: &[Pose], ids: &[u8]) {
        assert_eq!(
            (poses.len(), ids.len()),
            (self.kinds.len(), self.side * self.side),
            "a pose a thing, an id a pixel"
        );
        let lens = Lens::new(&eye(agent), self.side, self.side);
        self.looks.push(Look { t, lens, bodies: poses.iter().map(Body::of).collect(), ids: ids.to_vec() });
    }

    /// For each pixel the last step at which the point that its middle shows was in view, -1 for never.
    /// Shapes: a pose of each thing; `ids`, `depth` (m along the eye's axis) and `out` `[image, image]`.
    ///
    /// # Errors
    /// The first pixel of a thing whose depth is not on the surface of that thing.
    ///
    /// # Panics
    /// If a length does not fit.
    pub fn last_seen(
        &self,
        agent: Agent,
        poses: &[Pose],
        ids: &[u8],
        depth: &[f32],
        out: &mut [i32],
    ) -> Result<(), Misplaced> {
        let Self { side, kinds, looks, .. } = self;
        assert_eq!(poses.len(), kinds.len(), "a pose a thing");
        assert_eq!([ids.len(), depth.len(), out.len()], [side * side; 3], "an id, a depth and a step a pixel");
        let lens = Lens::new(&eye(agent), *side, *side);
        let bodies: Vec<Body> = poses.iter().map(Body::of).collect();
        for (pixel, ((&id, &depth), out)) in ids.iter().zip(depth).zip(out).enumerate() {
            let ray = lens.ray([pixel % side, pixel / side].map(|at| at as f32 + 0.5));
            let point = match usize::from(id).checked_sub(1) {
                None => Point::Fixed(lens.along(ray, self.depth_of_room(lens.place(), ray))),
                Some(thing) => {
                    let misplaced = Misplaced { pixel, thing: id, depth };
                    let body = bodies.get(thing).ok_or(misplaced)?;
                    let at = body.own(lens.along(ray, depth));
                    kinds[thing].filter(|&kind| is_on(kind, at)).ok_or(misplaced)?;
                    Point::Of { thing, at }
                }
            };
            *out = looks.iter().rev().find(|look| look.shows(kinds, *side, point)).map_or(-1, |look| look.t);
        }
        Ok(())
    }

    /// How far a ray comes, m along the eye's axis, until it meets a wall, the floor or the ceiling.
    fn depth_of_room(&self, from: [f32; 3], ray: [f32; 3]) -> f32 {
        let to = |axis: usize| match ray[axis] {
            way if way > 0.0 => (self.room[axis] - from[axis]) / way,
            way if way < 0.0 => -from[axis] / way,
            _ => f32::INFINITY,
        };
        to(0).min(to(1)).min(to(2))
    }
}
