//! How much of one peer's doing there is room for beside the other sessions of a thread.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

/// How many calls and events a peer may have handed over, in which time. What is beyond waits unread,
/// first here and then, as the socket fills, in the peer's own write. Replies are not counted, but one
/// that comes behind what waits does so too.
///
/// Without one, a peer that sends without a pause takes as much of the thread as there is: it is never
/// idle, so a scheduler that is fair lets others run before it, and each of its sessions is then late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many calls, withdrawals and events together.
    pub portion: usize,
    /// From the first of a portion to the first of the next, if it was a full one.
    pub every: Duration,
}

/// Where a session stands in its [`Pace`].
pub(crate) struct Paced {
    pace: Option<Pace>,
    /// When the first of this portion was handed over.
    began: Option<Instant>,
    handed: usize,
    sleep: Option<Pin<Box<Sleep>>>,
    rests: bool,
}

impl Paced {
    pub(crate) fn new(pace: Option<Pace>) -> Self {
        Self { pace, began: None, handed: 0, sleep: None, rests: false }
    }

    /// Whether nothing more is to be read or handed over for now. The task is woken when there is.
    pub(crate) fn rests(&mut self, context: &mut Context<'_>) -> bool {
        if self.rests {
            let sleep = self.sleep.as_mut().map(|sleep| sleep.as_mut().poll(context));
            self.rests = sleep.is_some_and(|sleep| sleep.is_pending());
        }
        self.rests
    }

    /// So many were handed over in the turn that began at `now`.
    pub(crate) fn handed(&mut self, count: usize, now: Instant) {
        let Some(pace) = self.pace.filter(|_| count > 0) else { return };
        let next = |began: Instant| began + pace.every;
        if self.began.is_none_or(|began| now >= next(began)) {
            self.began = Some(now);
            self.handed = 0;
        }
        self.handed += count;
        if self.handed >= pace.portion
            && let Some(began) = self.began.take()
        {
            let end = next(began).into();
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(end),
                None => self.sleep = Some(Box::pin(sleep_until(end))),
            }
            self.rests = true;
        }
    }
}
