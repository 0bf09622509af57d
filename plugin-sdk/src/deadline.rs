//! Until when.

use std::time::Duration;

use tokio::time::Instant;

/// A moment by which something must be done, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `budget` from now.
    pub fn after(budget: Duration) -> Self {
        let now = Instant::now();
        // A budget beyond what the clock can express is as good as a century.
        Self(
            now.checked_add(budget)
                .unwrap_or_else(|| now + Duration::from_secs(100 * 366 * 86_400)),
        )
    }

    /// The deadline at a moment of tokio's clock, for `tokio::time::timeout_at`.
    pub fn at(moment: Instant) -> Self {
        Self(moment)
    }

    /// The moment itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// How much time is left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}
