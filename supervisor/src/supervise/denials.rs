//! Which system call a plugin died of.
//!
//! Theory of operation. The launcher opens the kernel's audit stream, where it may, and hands it on: its
//! records hold text that plugins chose, so they are read here. One task keeps the last refusals, by
//! uid; who tells of a death asks for that of the plugin's uid, and waits a moment for it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_sandbox::kernel_audit::{self, Denial, LATENESS};
use bulkhead_sandbox::{Cause, Exit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Refusals that nobody has asked for yet; the oldest go first.
const KEPT: usize = 256;

#[derive(Default)]
pub(crate) struct Denials {
    /// Whether there is a stream.
    observable: bool,
    kept: Mutex<VecDeque<Denial>>,
    arrived: Notify,
}

impl Denials {
    /// Listens from now on. Must run inside the runtime.
    pub(crate) fn listen(stream: Option<OwnedFd>) -> io::Result<Arc<Self>> {
        let denials = Arc::new(Self { observable: stream.is_some(), ..Self::default() });
        if let Some(stream) = stream {
            #[expect(
                deprecated,
                reason = "its replacement is unsafe, for types that close early: OwnedFd does not"
            )]
            let stream = AsyncFd::with_interest(stream, Interest::READABLE)?;
            tokio::spawn(Arc::clone(&denials).keep(stream));
        }
        Ok(denials)
    }

    async fn keep(self: Arc<Self>, stream: AsyncFd<OwnedFd>) {
        loop {
            let read = |stream: &OwnedFd| kernel_audit::receive(stream.as_fd());
            match stream.async_io(Interest::READABLE, read).await {
                Ok(Some(denial)) => self.add(denial),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the kernel's audit stream cannot be read any more");
                    return;
                }
            }
        }
    }

    fn add(&self, denial: Denial) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(denial);
        drop(kept);
        self.arrived.notify_waiters();
    }

    /// The last refusal of this uid; it and those before it are forgotten.
    fn take(&self, uid: u32) -> Option<String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept.iter().rev().find(|denial| denial.uid == uid)?.call.clone();
        kept.retain(|denial| denial.uid != uid);
        Some(last)
    }

    /// Adds to the end of a plugin with this uid which system call it was, where it was one.
    pub(crate) async fn explain(&self, exit: &mut Exit, uid: u32) {
        if exit.cause != Cause::Seccomp || !self.observable {
            return;
        }
        let found = async {
            loop {
                let arrived = self.arrived.notified();
                if let Some(call) = self.take(uid) {
                    return call;
                }
                arrived.await;
            }
        };
        exit.denied_call = tokio::time::timeout(LATENESS, found).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_sandbox::{Status, Usage};

    use super::*;

    fn death(cause: Cause) -> Exit {
        let status = Status::Signaled { signal: 31, core: false };
        Exit { status, usage: Usage::default(), cause, denied_call: None }
    }

    fn denial(uid: u32, call: &str) -> Denial {
        Denial { uid, call: call.to_owned() }
    }

    #[tokio::test]
    async fn a_death_gets_the_last_call_of_its_own_uid_once() {
        let denials = Denials { observable: true, ..Denials::default() };
        denials.add(denial(7, "bpf"));
        denials.add(denial(7, "ptrace"));
        denials.add(denial(8, "mount"));
        let mut exit = death(Cause::Seccomp);
        denials.explain(&mut exit, 7).await;
        assert_eq!(exit.denied_call.as_deref(), Some("ptrace"));
        let mut another = death(Cause::Seccomp);
        denials.explain(&mut another, 7).await;
        assert_eq!(another.denied_call, None, "a call is the cause of one death");
        let mut other_cause = death(Cause::Killed);
        denials.explain(&mut other_cause, 8).await;
        assert_eq!(other_cause.denied_call, None);
    }

    #[tokio::test]
    async fn a_record_that_comes_after_the_death_is_waited_for() {
        let denials = Arc::new(Denials { observable: true, ..Denials::default() });
        let late = Arc::clone(&denials);
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            late.add(denial(7, "ptrace"));
        });
        let mut exit = death(Cause::Seccomp);
        denials.explain(&mut exit, 7).await;
        assert_eq!(exit.denied_call.as_deref(), Some("ptrace"));
    }

    #[test]
    fn what_nobody_asks_for_is_bounded() {
        let denials = Denials { observable: true, ..Denials::default() };
        for uid in 0..2 * KEPT as u32 {
            denials.add(denial(uid, "bpf"));
        }
        assert_eq!(denials.kept.lock().unwrap().len(), KEPT);
        assert_eq!(denials.take(0), None);
        assert!(denials.take(2 * KEPT as u32 - 1).is_some());
    }
}
