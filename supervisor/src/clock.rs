//! Time that two processes can compare: `CLOCK_MONOTONIC`, which is one for the whole machine.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_MONOTONIC` (clock_gettime(2)): the same in launcher and supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Monotonic(u64);

impl Monotonic {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .expect("CLOCK_MONOTONIC exists on every Linux, and the pointer is ours");
        Self(Duration::from(time).as_nanos() as u64)
    }

    pub(crate) fn nanos(self) -> u64 {
        self.0
    }

    /// How long before `later` this was; zero if it was not.
    pub(crate) fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }

    pub(crate) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_saturate() {
        let now = Monotonic::now();
        let later = now.plus(Duration::from_millis(3));
        assert_eq!(now.until(later), Duration::from_millis(3));
        assert_eq!(later.until(now), Duration::ZERO);
        assert!(now <= Monotonic::now());
        assert_eq!(now.plus(Duration::MAX), Monotonic(u64::MAX));
    }
}
