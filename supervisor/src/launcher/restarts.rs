//! When a supervisor that ended is started again, and when no more.
//!
//! Pure. A supervisor that had become ready is started again at once: its plugins wait for it. One
//! that ends again and again soon after is given growing pauses, and one that does not even become
//! ready, five times in a row, is not coming up: the service then stops with an error, so that the
//! service manager and its administrator learn of it.

use std::time::Duration;

use crate::clock::Monotonic;

/// Starts in a row that may fail before the launcher gives up.
pub(super) const MAX_FAILED_STARTS: u32 = 5;
/// A supervisor that served at least this long has not failed.
const STABLE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The recent history of the supervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Restarts {
    /// Starts in a row that never became ready.
    failed: u32,
    /// Ends in a row before it was stable, ready or not.
    unstable: u32,
}

/// What to do after an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    StartAfter(Duration),
    GiveUp { failed: u32 },
}

impl Restarts {
    /// The supervisor that was started at `started`, and became ready at `ready`, ended.
    pub(super) fn ended(&mut self, ready: Option<Monotonic>, now: Monotonic) -> Decision {
        match ready {
            None => {
                self.failed += 1;
                self.unstable += 1;
                if self.failed >= MAX_FAILED_STARTS {
                    return Decision::GiveUp { failed: self.failed };
                }
            }
            Some(ready) => {
                self.failed = 0;
                self.unstable = if ready.until(now) >= STABLE { 0 } else { self.unstable + 1 };
                if self.unstable <= 1 {
                    return Decision::StartAfter(Duration::ZERO);
                }
            }
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.unstable.saturating_sub(1)).min(16));
        Decision::StartAfter(pause.min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(restarts: &mut Restarts, ready: bool, count: usize) -> Vec<Decision> {
        let now = Monotonic::now();
        (0..count).map(|_| restarts.ended(ready.then_some(now), now)).collect()
    }

    #[test]
    fn five_failed_starts_in_a_row_are_the_end() {
        let after = |millis| Decision::StartAfter(Duration::from_millis(millis));
        assert_eq!(
            pauses(&mut Restarts::default(), false, 5),
            [after(100), after(200), after(400), after(800), Decision::GiveUp { failed: 5 }]
        );
    }

    #[test]
    fn one_that_became_ready_starts_the_count_anew() {
        let mut restarts = Restarts::default();
        pauses(&mut restarts, false, 4);
        pauses(&mut restarts, true, 1);
        let decisions = pauses(&mut restarts, false, 5);
        assert!(decisions[..4].iter().all(|each| matches!(each, Decision::StartAfter(_))));
        assert_eq!(decisions[4], Decision::GiveUp { failed: 5 });
    }

    #[test]
    fn a_crash_after_ready_restarts_at_once_and_a_loop_of_them_with_growing_pauses() {
        let decisions = pauses(&mut Restarts::default(), true, 12);
        assert_eq!(decisions[0], Decision::StartAfter(Duration::ZERO));
        assert_eq!(decisions[1], Decision::StartAfter(Duration::from_millis(200)));
        assert_eq!(decisions[11], Decision::StartAfter(LONGEST_PAUSE));
        let mut restarts = Restarts::default();
        pauses(&mut restarts, true, 12);
        let now = Monotonic::now();
        assert_eq!(
            restarts.ended(Some(now), now.plus(STABLE)),
            Decision::StartAfter(Duration::ZERO)
        );
    }
}
