//! Why an episode stopped: ended by the world, or cut by a limit.

use serde::{Deserialize, Serialize};

/// Why an episode stopped; both can hold at once (a fall on the last allowed step).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Stop {
    /// The world ended: nothing follows, the next state has value zero.
    pub terminated: bool,
    /// Time was cut from outside: the last observation still has a value.
    pub truncated: bool,
}

impl Stop {
    /// Whether the episode is over, for either reason.
    #[must_use]
    pub fn any(self) -> bool {
        self.terminated || self.truncated
    }

    /// Weight of the bootstrapped next value: zero only after true termination. Nobody writes `1.0 - done` by hand.
    #[must_use]
    pub fn continuation(self) -> f32 {
        if self.terminated { 0.0 } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_is_not_a_death() {
        let cut = Stop { terminated: false, truncated: true };
        assert!(cut.any());
        assert_eq!(cut.continuation().to_bits(), 1.0f32.to_bits());
        assert_eq!(Stop { terminated: true, truncated: true }.continuation().to_bits(), 0.0f32.to_bits());
        assert!(!Stop::default().any());
    }
}
