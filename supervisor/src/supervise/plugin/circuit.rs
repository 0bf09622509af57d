//! Whether other plugins' calls go to a plugin: a circuit breaker, decided without a clock.
//!
//! ```text
//!            so many failures in a row
//!   Closed ─────────────────────────────▶ Open ◀──────────────┐
//!     ▲                                    │ admitted after   │ fails
//!     │                                    │ the cool-down    │
//!     └───── the try is answered ────── HalfOpen ─────────────┘
//! ```
//!
//! Theory of operation. While it is closed every call is admitted, and failures that no answer
//! interrupts are counted. While it is open none is, so that a provider that hangs does not use up its
//! callers' time; after the cool-down one call is admitted to try, and what becomes of it decides.
//! What was admitted before the last change says nothing of now, so its ticket counts no more.

use std::time::Duration;

use crate::clock::Monotonic;

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CircuitPolicy {
    /// So many failures in a row open it.
    pub(crate) failures: u32,
    /// How long none is admitted after that.
    pub(crate) cool_down: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Monotonic,
    },
    /// One call is out to try, and has ended by then.
    HalfOpen {
        until: Monotonic,
    },
}

/// An admitted call.
#[derive(Debug)]
pub(crate) struct Ticket {
    epoch: u64,
}

/// What an admitted call says of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answers, with an error or without.
    Answered,
    /// It does not, or is dead.
    Failed,
    /// Nothing: the call never came to it, or had no fair chance.
    Nothing,
}

/// What is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Opened,
    Closed,
}

#[derive(Clone, Debug)]
pub(crate) struct Circuit {
    policy: CircuitPolicy,
    state: State,
    /// Of each state that tickets are given in.
    epoch: u64,
}

impl Circuit {
    pub(crate) fn new(policy: CircuitPolicy) -> Self {
        Self { policy, state: State::Closed { failures: 0 }, epoch: 0 }
    }

    /// Admits a call that has ended after `limit`, or says how long to wait before the next.
    pub(crate) fn admit(&mut self, limit: Duration, now: Monotonic) -> Result<Ticket, Duration> {
        match self.state {
            State::Closed { .. } => {}
            State::Open { until } | State::HalfOpen { until } if now < until => {
                return Err(now.until(until));
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.enter(State::HalfOpen { until: now.plus(limit) });
            }
        }
        Ok(Ticket { epoch: self.epoch })
    }

    /// What has become of an admitted call.
    pub(crate) fn settle(
        &mut self,
        ticket: &Ticket,
        verdict: Verdict,
        now: Monotonic,
    ) -> Option<Change> {
        if ticket.epoch != self.epoch {
            return None;
        }
        match (self.state, verdict) {
            (State::Closed { .. }, Verdict::Answered) => {
                self.state = State::Closed { failures: 0 };
                None
            }
            (State::Closed { failures }, Verdict::Failed) => {
                let failures = failures + 1;
                if failures < self.policy.failures {
                    self.state = State::Closed { failures };
                    return None;
                }
                self.enter(State::Open { until: now.plus(self.policy.cool_down) });
                Some(Change::Opened)
            }
            (State::HalfOpen { .. }, Verdict::Answered) => self.close(),
            (State::HalfOpen { .. }, Verdict::Failed) => {
                self.enter(State::Open { until: now.plus(self.policy.cool_down) });
                None
            }
            // Another may try.
            (State::HalfOpen { .. }, Verdict::Nothing) => {
                self.enter(State::Open { until: now });
                None
            }
            // No ticket is given while it is open.
            (State::Closed { .. }, Verdict::Nothing) | (State::Open { .. }, _) => None,
        }
    }

    /// Begins anew: the plugin was started on request.
    pub(crate) fn close(&mut self) -> Option<Change> {
        let was = self.state;
        self.enter(State::Closed { failures: 0 });
        (!matches!(was, State::Closed { .. })).then_some(Change::Closed)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }

    /// `closed`, `open` or `half-open`.
    pub(crate) fn name(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half-open",
        }
    }

    /// How many failures in a row there were; null once they have opened it.
    pub(crate) fn failures(&self) -> Option<u32> {
        match self.state {
            State::Closed { failures } => Some(failures),
            State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// How long none is admitted, at the most.
    pub(crate) fn closed_to_calls(&self, now: Monotonic) -> Option<Duration> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until } | State::HalfOpen { until } => Some(now.until(until)),
        }
    }
}

#[cfg(test)]
mod tests;
