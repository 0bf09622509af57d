//! The deadlines of calls.
//!
//! Most calls end before their deadline, so an entry is not searched for when its call ends: it
//! stays until it is due, or until such leftovers outnumber the calls.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A call of ours.
    Outgoing(u64),
    /// A call of the peer's.
    Incoming(u64),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Due)>>,
}

/// Leftovers that are not worth sweeping.
const TOLERATED: usize = 256;

impl Timers {
    /// Adds a deadline. `live` says which calls are not over, and `count` how many.
    pub(super) fn add(&mut self, at: Instant, due: Due, count: usize, live: impl Fn(Due) -> bool) {
        if self.heap.len() > TOLERATED + 2 * count {
            self.heap.retain(|Reverse((_, due))| live(*due));
        }
        self.heap.push(Reverse((at, due)));
    }

    /// The earliest deadline, perhaps of a call that is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Due> {
        let Reverse((at, due)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some(due)
    }
}
