//! The session that is in force now, and what happens to calls when another takes its place.

use std::sync::Arc;

use bulkhead_ipc_driver::Peer;
use bulkhead_ipc_protocol::{Call, CallFailure, EndReason, Payload};
use tokio::sync::watch;

use crate::deadline::Deadline;

/// The current session. Clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<watch::Sender<Current>>);

#[derive(Clone, Debug, Default)]
struct Current {
    /// Counts sessions, so that a caller can wait for a later one than it used.
    generation: u64,
    peer: Option<Peer>,
    /// No session will come any more.
    over: bool,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Current::default())))
    }

    /// A new session is in force. Returns its number.
    pub(crate) fn attach(&self, peer: Peer) -> u64 {
        let mut generation = 0;
        self.0.send_modify(|current| {
            current.generation += 1;
            current.peer = Some(peer);
            generation = current.generation;
        });
        generation
    }

    /// That session ended. Changes nothing if a later one is in force.
    pub(crate) fn detach(&self, generation: u64) {
        self.0.send_if_modified(|current| {
            let ours = current.generation == generation;
            if ours {
                current.peer = None;
            }
            ours
        });
    }

    /// No session will come any more: who waits for one fails.
    pub(crate) fn close(&self) {
        self.0.send_modify(|current| current.over = true);
    }

    /// The session in force, if there is one.
    pub(crate) fn peer(&self) -> Option<Peer> {
        self.0.borrow().peer.clone()
    }

    /// Waits until a session is in force, or until none is: a change of [`Link::peer`].
    pub(crate) async fn changed_to(&self, present: bool) {
        // The sender is alive as long as `self` is, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|current| current.peer.is_some() == present).await;
    }

    /// Makes a call on the session in force, or on the next one if there is none; `repeat` allows it to be made
    /// again on a later session when the one it went out on ends.
    pub(crate) async fn call(
        &self,
        call: Call,
        deadline: Deadline,
        repeat: bool,
    ) -> Result<Payload, CallFailure> {
        let limit = deadline.remaining();
        let mut used = 0;
        loop {
            let waiting = self.later_than(used);
            let (generation, peer) = tokio::time::timeout_at(deadline.instant(), waiting)
                .await
                .map_err(|_| CallFailure::Timeout { limit })??;
            used = generation;
            let timeout = Some(deadline.remaining());
            let failure = match peer.call(Call { timeout, ..call.clone() }).await {
                Ok(reply) => return Ok(reply),
                Err(CallFailure::Timeout { .. }) => CallFailure::Timeout { limit },
                Err(other) => other,
            };
            if !(repeat && matches!(failure, CallFailure::Ended(_))) {
                return Err(failure);
            }
        }
    }

    /// The first session after number `used`.
    async fn later_than(&self, used: u64) -> Result<(u64, Peer), CallFailure> {
        let mut current = self.0.subscribe();
        let ready = current
            .wait_for(|current| {
                current.over || (current.peer.is_some() && current.generation > used)
            })
            .await;
        let gone = || CallFailure::Ended(EndReason::Closed);
        let ready = ready.map_err(|_| gone())?;
        match &ready.peer {
            Some(peer) if ready.generation > used => Ok((ready.generation, peer.clone())),
            _ => Err(gone()),
        }
    }
}
