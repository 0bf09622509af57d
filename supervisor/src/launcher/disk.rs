//! Writes that wait for the disk, by a thread of their own: the loop's has deadlines to keep.
//!
//! Theory of operation. The loop orders a write and remembers whom to answer; the thread does one at a
//! time, in their order, and wakes the loop when it is done. So an answer still means that the disk has what
//! it speaks of. The thread starts nothing and decides nothing: plugins are the children of the main one.
//! Whoever drops this waits for what was ordered, so that no other launcher finds it under way.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// The head of the audit.
    Head,
    /// The names of the plugins' storage.
    Storage,
}

type Order = (Write, Box<dyn FnOnce() -> io::Result<()> + Send>);

pub(super) struct Disk {
    /// `None` only while it is dropped.
    orders: Option<Sender<Order>>,
    written: Receiver<(Write, io::Result<()>)>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// The thread blocks the signals that this one does.
    pub(super) fn start() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let (orders, ordered) = channel::<Order>();
        let (done, written) = channel();
        let waker = Arc::clone(&wake);
        let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
            for (what, write) in ordered {
                if done.send((what, write())).is_err() || waker.write(1).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { orders: Some(orders), written, wake, thread: Some(thread) })
    }

    /// Has it done after all that was ordered before.
    pub(super) fn order(
        &self,
        what: Write,
        write: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let sent = self.orders.as_ref().map(|orders| orders.send((what, Box::new(write))));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::other("the thread that writes to the disk has ended")),
        }
    }

    /// What has been written since it was asked last. The descriptor is then readable no more.
    pub(super) fn written(&self) -> Vec<(Write, io::Result<()>)> {
        // Before the look, so that what comes after it wakes again. EAGAIN: nothing woke us.
        let _ = self.wake.read();
        self.written.try_iter().collect()
    }
}

/// Readable when something was written.
impl AsFd for Disk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
