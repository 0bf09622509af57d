//! How much work is under way, and waiting until none is.

use std::sync::Arc;

use tokio::sync::watch;

/// A counter of work under way. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Pending(Arc<watch::Sender<usize>>);

/// One piece of work. Dropping it says that it is over, however it ended.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<watch::Sender<usize>>);

impl Pending {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(crate) fn begin(&self) -> Ticket {
        self.0.send_modify(|count| *count += 1);
        Ticket(self.0.clone())
    }

    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until nothing is under way.
    pub(crate) async fn none(&self) {
        // The sender is alive as long as `self` is, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
