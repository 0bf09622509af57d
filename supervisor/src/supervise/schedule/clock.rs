//! The time of day, by which schedules go.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
#[cfg(any(test, debug_assertions))]
use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    /// The machine's. Others set it.
    Machine,
    /// One that a test has set, and that goes so many times as fast.
    #[cfg(any(test, debug_assertions))]
    Set { time: Timestamp, at: Instant, rate: u32 },
}

impl Clock {
    /// The machine's; in a debug build the one that a test wants.
    pub(super) fn of_service() -> Self {
        #[cfg(debug_assertions)]
        if let Ok(text) = std::env::var(crate::link::CLOCK_VARIABLE) {
            if let Some(clock) = Self::parse(&text) {
                return clock;
            }
            tracing::error!(text, "is no clock; the machine's holds");
        }
        Self::Machine
    }

    #[cfg(any(test, debug_assertions))]
    pub(super) fn set(time: Timestamp, rate: u32) -> Self {
        Self::Set { time, at: Instant::now(), rate: rate.max(1) }
    }

    #[cfg(debug_assertions)]
    fn parse(text: &str) -> Option<Self> {
        let (time, rate) = text.split_once('*').unwrap_or((text, "1"));
        Some(Self::set(time.parse().ok()?, rate.parse().ok()?))
    }

    pub(super) fn now(&self) -> Timestamp {
        match self {
            Self::Machine => Timestamp::now(),
            #[cfg(any(test, debug_assertions))]
            Self::Set { time, at, rate } => *time + at.elapsed() * *rate,
        }
    }

    /// How far this clock goes in a while.
    pub(super) fn goes(&self, span: Duration) -> SignedDuration {
        let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        match self {
            Self::Machine => span,
            #[cfg(any(test, debug_assertions))]
            Self::Set { rate, .. } => span.saturating_mul(i32::try_from(*rate).unwrap_or(i32::MAX)),
        }
    }

    /// How long this clock takes for a span; at once for one that is over.
    pub(super) fn takes(&self, span: SignedDuration) -> Duration {
        let span = span.max(SignedDuration::ZERO).unsigned_abs();
        match self {
            Self::Machine => span,
            #[cfg(any(test, debug_assertions))]
            Self::Set { rate, .. } => span / *rate,
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_of_a_test_goes_as_fast_as_it_says() {
        let clock = Clock::parse("2026-03-08T01:59:00-05:00*60").unwrap();
        let begun: Timestamp = "2026-03-08T06:59:00Z".parse().unwrap();
        assert_eq!(clock.now(), begun);
        let minutes = SignedDuration::from_mins(2);
        let wait = clock.takes(minutes);
        assert_eq!((wait, clock.goes(wait)), (Duration::from_secs(2), minutes));
        tokio::time::advance(wait).await;
        assert_eq!(clock.now(), begun + minutes);
        assert_eq!(clock.takes(-minutes), Duration::ZERO);
        for bad in ["", "noon", "2026-03-08T01:59:00", "2026-03-08T01:59:00Z*x"] {
            assert!(Clock::parse(bad).is_none(), "{bad}");
        }
    }
}
