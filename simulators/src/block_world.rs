//! Blockworld: an agent in a closed room, among blocks and balls that go on moving when it does not look.
//!
//! Two regimes of one world. In the *grid* regime agent and blocks are on whole cells, turn by quarters, move at cardinal speeds, and turn back
//! at the walls without staying there: the published generator's (Lillemark et al. 2026, *Flow Equivariant World Models*). In the *physics*
//! regime they are rigid bodies that fall, slide, collide, bounce and stack, and the agent pushes them.
//!
//! Axes: `x` and `z` span the floor, `y` is up, metres (a cell is one metre); a heading of `d` degrees looks along `(cos d, 0, -sin d)`.

mod config;
mod entities;
mod grid;
mod physics;
mod recorded;
mod sightings;
mod surfaces;
mod world;

pub use config::{BlockWorldConfig, Regime};
pub use entities::{COLOURS, Kind, Pose, RED, ThingState};
pub use recorded::{Impossible, Recorded};
pub use sightings::{Misplaced, Sightings};
pub use surfaces::{Surface, SurfaceError, Surfaces};
pub use world::{Action, Agent, BlockWorld, BlockWorldSnapshot, RoomLook};
