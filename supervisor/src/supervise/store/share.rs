//! How much of the store the plugins' own calls have.
//!
//! Theory of operation. What a plugin asked for stays in memory from when it is read until it is written to
//! the plugin's session, and what the supervisor itself wants of the store waits behind what is queued
//! there. So a few calls of each plugin, and a few more of all together, are in the store at a time; the
//! others wait for their turn, in order. What the supervisor does, such as a stop, waits for no turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Store;

/// Calls of one session at a time.
const OF_ONE: usize = 8;
/// Calls of all plugins at a time: each takes some MiB at the most.
pub(super) const OF_ALL: usize = 32;

/// What one session has of it; cheap to clone.
#[derive(Clone)]
pub(crate) struct Share {
    one: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// A call's turn, until it is dropped.
pub(crate) struct Turn {
    _of_one: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Store {
    /// The share of one more session.
    pub(crate) fn share(&self) -> Share {
        Share { one: Arc::new(Semaphore::new(OF_ONE)), all: Arc::clone(&self.calls) }
    }
}

impl Share {
    /// Waits for a turn. A session that has many calls waits for its own before it stands in the way of
    /// others.
    pub(crate) async fn turn(&self) -> Turn {
        // Neither is ever closed.
        let of_one = Arc::clone(&self.one).acquire_owned().await.ok();
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok();
        Turn { _of_one: of_one, _of_all: of_all }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    /// How many get their turn now.
    async fn turns(share: &Share) -> Vec<Turn> {
        let mut turns = Vec::new();
        loop {
            let mut turn = std::pin::pin!(share.turn());
            let now = std::future::poll_fn(|context| Poll::Ready(turn.as_mut().poll(context)));
            match now.await {
                Poll::Ready(turn) => turns.push(turn),
                Poll::Pending => return turns,
            }
        }
    }

    #[tokio::test]
    async fn who_has_many_calls_leaves_turns_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).unwrap();
        let (flood, other) = (store.share(), store.share());
        let held = turns(&flood).await;
        assert_eq!(held.len(), OF_ONE);
        assert_eq!(turns(&other).await.len(), OF_ONE);
        drop(held);
        assert_eq!(turns(&flood).await.len(), OF_ONE, "they come back");
        let sessions: Vec<Share> = (0..10).map(|_| store.share()).collect();
        let mut all = Vec::new();
        for session in &sessions {
            all.extend(turns(session).await);
        }
        assert_eq!(all.len(), OF_ALL);
        // The supervisor's own is done all the same.
        assert_eq!(store.plugins().await.unwrap(), []);
    }
}
