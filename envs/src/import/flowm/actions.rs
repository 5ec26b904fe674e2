//! The actions of an episode: the tensor `actions` of a file of `torch.save`, every number of it checked.

use std::path::Path;

use super::World;
use crate::import::ImportError;
use crate::import::pickle::Element;
use crate::import::tensors::TorchFile;

/// Name of the tensor.
pub(super) const KEY: &str = "actions";
/// Bytes that the frames of an episode may have, of which each thread that records holds one. Those of Blockworld have 25 MB.
const EPISODE_BYTES: usize = 256 << 20;

impl World {
    /// `[height, width, channels]` of an observation.
    pub(super) fn frame(self) -> [usize; 3] {
        self.spec(1).observation.shape().try_into().expect("both worlds show pictures")
    }

    /// Numbers of an action.
    pub(super) fn action_width(self) -> usize {
        self.spec(1).action.size()
    }
}

/// The actions in the file at `path`, as it has them, one for each frame: `[F]` in Blockworld, `[F, 2]` in MNIST World.
///
/// # Errors
/// When the file is not one of `torch.save`, asks for more than tensors, or has no `actions` of the shape, type and values that the
/// world has.
pub fn actions(path: &Path, world: World) -> Result<Vec<i64>, ImportError> {
    read(&TorchFile::open(path)?, world)
}

/// The same, of an open file.
pub(super) fn read(file: &TorchFile, world: World) -> Result<Vec<i64>, ImportError> {
    let refuse = |reason: String| Err(file.refuse(KEY, reason));
    let space = world.spec(1).action;
    let width = space.size();
    let table = file.table(KEY, (!space.shape().is_empty()).then_some(width as u64))?;
    if table.element != Element::I64 {
        return refuse(format!("holds {:?}; I64 is expected", table.element));
    }
    let most = (EPISODE_BYTES / world.frame().iter().product::<usize>()) as u64;
    let frames = table.shape[1];
    if !(2..=most).contains(&frames) {
        return refuse(format!("has {frames} frames; allowed: 2..={most}"));
    }
    let mut bytes = Vec::new();
    file.read(&table, 0, &mut bytes)?;
    let actions: Vec<i64> = bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    for (t, action) in actions.chunks_exact(width).enumerate() {
        if let Err(outside) = space.check(action) {
            let allowed = format!("{} has {}", world.name(), outside.allowed);
            return refuse(format!("has {} at frame {t}; {allowed}", action[outside.component]));
        }
    }
    // Anything else would be the way to the second frame, in a file whose rows line up otherwise.
    if world == World::Mnist && actions[..2] != [0, 0] {
        let [dx, dy] = [actions[0], actions[1]];
        return refuse(format!("begins with ({dx}, {dy}); nothing led to the first frame, so it is (0, 0)"));
    }
    Ok(actions)
}
