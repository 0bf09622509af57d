//! A thread for what the loop must not wait for: the loop's has deadlines to keep.
//!
//! Theory of operation. The loop orders a piece of work and remembers whom to answer; the thread does one at
//! a time, in their order, and wakes the loop when it is done. It lives as long as the launcher, so that what
//! it starts does, too, and decides nothing. Whoever drops it waits for what was ordered, so that no other
//! launcher finds it under way.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::mailbox::Mailbox;

type Order<T> = Box<dyn FnOnce() -> T + Send>;

pub(super) struct Worker<T> {
    /// `None` only while it is dropped.
    orders: Option<Sender<Order<T>>>,
    done: Mailbox<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// The thread blocks the signals that this one does, and has its privilege.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (orders, ordered) = channel::<Order<T>>();
        let done = Mailbox::new()?;
        let post = done.post();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for order in ordered {
                // The loop would wait for ever for what a thread that is gone was to do, and what it has
                // started would be gone with it: as if the loop itself had panicked.
                let done = catch_unwind(AssertUnwindSafe(order)).unwrap_or_else(|_| abort());
                if !post.send(done) {
                    break;
                }
            }
        })?;
        Ok(Self { orders: Some(orders), done, thread: Some(thread) })
    }

    /// Has it done after all that was ordered before.
    pub(super) fn order(&self, order: impl FnOnce() -> T + Send + 'static) -> io::Result<()> {
        match self.orders.as_ref().map(|orders| orders.send(Box::new(order))) {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::other("the thread that does it has ended")),
        }
    }

    /// What has been done since it was asked last, in the order of the orders.
    pub(super) fn done(&self) -> Vec<T> {
        self.done.take()
    }
}

/// Readable when something was done.
impl<T> AsFd for Worker<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
