//! Workspaces that wait for their next use: making one costs as much as a step does.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Workspaces of whatever kinds were used, one for each thread that was ever at work at the same time as others.
#[derive(Default)]
pub(super) struct Rooms(Mutex<Vec<Box<dyn Any + Send>>>);

impl Rooms {
    /// Runs `work` in a workspace of the kind `R`, made if none is free.
    #[inline(always)]
    pub fn with<R: Any + Send, T>(&self, make: impl FnOnce() -> R, work: impl FnOnce(&mut R) -> T) -> T {
        let free = {
            let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let found = rooms.iter().position(|room| room.is::<R>());
            found.map(|found| rooms.swap_remove(found))
        };
        let mut room = free.and_then(|room| room.downcast::<R>().ok()).unwrap_or_else(|| Box::new(make()));
        let result = work(&mut room);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(room);
        result
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rooms")
    }
}
