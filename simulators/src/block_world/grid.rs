//! Steps of the grid regime: whole cells, cardinal speeds.

use super::entities::{Entities, Pose, Speed};

/// The cell of a pose.
pub(super) fn cell(place: [f32; 3]) -> [i16; 2] {
    [place[0] as i16, place[2] as i16]
}

/// Moves every thing by its velocity. At a wall (cells 0 and `room`) it turns back and moves in the same step, so that it never stays; with
/// `agent` given, things also turn back from each other and from the agent's cell, and stay where there is no way back either.
pub(super) fn step(entities: &mut Entities, room: u16, agent: Option<[i16; 2]>) {
    let mut taken: Vec<[i16; 2]> = Vec::new();
    if let Some(agent) = agent {
        taken.extend(entities.things().map(|thing| cell(thing.pose.place)));
        taken.push(agent);
    }
    entities.each_pose(|number, _, pose: &mut Pose, speed: &mut Speed| {
        let from = cell(pose.place);
        let ahead = |speed: [i8; 2]| [from[0] + i16::from(speed[0]), from[1] + i16::from(speed[1])];
        let wall = |cell: [i16; 2]| cell.iter().any(|&at| at <= 0 || at >= room as i16);
        // Where nothing collides `taken` is empty.
        let free = |cell: [i16; 2]| !wall(cell) && (cell == from || !taken.contains(&cell));
        let mut to = ahead(speed.0);
        if !free(to) {
            speed.0 = speed.0.map(|cells| -cells);
            to = ahead(speed.0);
        }
        if free(to) {
            (pose.place[0], pose.place[2]) = (f32::from(to[0]), f32::from(to[1]));
            if let Some(taken) = taken.get_mut(number) {
                *taken = to;
            }
        }
    });
}
