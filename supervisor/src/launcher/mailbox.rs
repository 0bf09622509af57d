//! What other threads send to the loop: it is woken, and takes what has come.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::eventfd::{EfdFlags, EventFd};

pub(super) struct Mailbox<T> {
    come: Receiver<T>,
    post: Post<T>,
}

/// The way into a [`Mailbox`].
pub(super) struct Post<T> {
    sender: Sender<T>,
    wake: Arc<EventFd>,
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), wake: Arc::clone(&self.wake) }
    }
}

impl<T> Post<T> {
    /// Whether somebody is there to take it.
    pub(super) fn send(&self, it: T) -> bool {
        self.sender.send(it).is_ok() && self.wake.write(1).is_ok()
    }
}

impl<T> Mailbox<T> {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let (sender, come) = channel();
        Ok(Self { come, post: Post { sender, wake } })
    }

    pub(super) fn post(&self) -> Post<T> {
        self.post.clone()
    }

    /// What has come since it was asked last. The descriptor is then readable no more.
    pub(super) fn take(&self) -> Vec<T> {
        // Before the look, so that what comes after it wakes again. EAGAIN: nothing woke us.
        let _ = self.post.wake.read();
        self.come.try_iter().collect()
    }
}

/// Readable when something has come.
impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.post.wake.as_fd()
    }
}
