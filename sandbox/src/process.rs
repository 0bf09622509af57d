//! A running compartment: waiting for it, signalling it, ending it, never by polling.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use crate::cgroup::{Cgroup, CgroupError};
use crate::enforcement::Enforcement;
use crate::exit::{Cause, Evidence, Exit, Status, Usage};
use crate::syscall;

/// How long dropping a running child waits for it to disappear after SIGKILL.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// A running compartment.
///
/// Everything is told by descriptors: [`Child::pidfd`] becomes readable when the program has ended
/// and with it all that its pid namespace held, [`Child::events_fd`] when the cgroup may have become
/// empty. Dropping a `Child` kills what is left of the compartment and removes its cgroup.
#[derive(Debug)]
pub struct Child {
    pub(crate) pid: i32,
    pub(crate) program_pid: Option<i32>,
    pub(crate) pidfd: OwnedFd,
    /// The init writes the program's wait status here before it ends.
    pub(crate) verdict: File,
    /// `None` without a cgroup, and once it is removed.
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) enforcement: Enforcement,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) file_size_limit: Option<u64>,
    pub(crate) killed: Cell<bool>,
    pub(crate) status: Option<Status>,
}

/// Why a running compartment could not be handled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// A signal that the init cannot pass on.
    #[error("{0} cannot be passed on to a compartment; use kill, or freeze its cgroup")]
    Signal(Signal),
    /// A system call failed.
    #[error("{action} process {pid} failed: {source}")]
    Call {
        /// `signalling`, `waiting for`.
        action: &'static str,
        /// The init's pid.
        pid: i32,
        /// The error.
        source: io::Error,
    },
    /// The cgroup could not be used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// It still runs.
    #[error("process {pid} still runs; kill it and wait until its compartment is empty")]
    Running {
        /// The init's pid.
        pid: i32,
    },
}

impl Child {
    /// Of the compartment's init: readable (POLLIN) when all of the pid namespace is gone.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The init's pid, for people. Signals go by [`Child::pidfd`], which cannot hit a stranger.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The program's own pid in our pid namespace, for people.
    pub fn program_pid(&self) -> Option<i32> {
        self.program_pid
    }

    /// Its cgroup, where there is one.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// What the compartment was measured to be.
    pub fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// `cgroup.events`: readable (POLLPRI) when [`Child::is_empty`] may have changed.
    pub fn events_fd(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.as_ref().map(Cgroup::events_fd)
    }

    /// What it has used so far; all unknown without a cgroup.
    pub fn usage(&self) -> Usage {
        self.cgroup.as_ref().map(Cgroup::usage).unwrap_or_default()
    }

    /// `/proc/PID/net/dev` of the program as the kernel writes it: what went over its network devices. `None`
    /// where there is no program any more, or no cgroup by which to know it.
    pub fn network_devices(&self) -> Option<String> {
        let (cgroup, pid) = (self.cgroup.as_ref()?, self.program_pid?);
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
        // Asked afterwards: the number could by now be another process's.
        cgroup.has_process(pid).then_some(text)
    }

    /// Sends a signal to the program: to the init, which passes it on. SIGKILL is [`Child::kill`].
    /// A program that has ended already is no error.
    pub fn signal(&self, signal: Signal) -> Result<(), ChildError> {
        match signal {
            Signal::SIGKILL => self.kill(),
            // These would act on the init itself.
            Signal::SIGSTOP => Err(ChildError::Signal(signal)),
            _ => self.send(signal),
        }
    }

    /// Kills all of it at once: `cgroup.kill`, and the pid namespace by its init.
    pub fn kill(&self) -> Result<(), ChildError> {
        // Of what is left of a compartment whose program has ended by itself, this is no cause.
        self.killed.set(self.killed.get() || self.status.is_none());
        // The init first where there is no cgroup.kill to do it all (kernel before 5.14).
        match self.cgroup.as_ref().map(Cgroup::kill) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => self.send(Signal::SIGKILL),
        }
    }

    fn send(&self, signal: Signal) -> Result<(), ChildError> {
        match syscall::pidfd_send_signal(self.pidfd.as_fd(), signal as i32) {
            Err(errno) if errno != Errno::ESRCH => {
                Err(ChildError::Call { action: "signalling", pid: self.pid, source: errno.into() })
            }
            _ => Ok(()),
        }
    }

    /// Whether no process of it is left.
    pub fn is_empty(&self) -> Result<bool, ChildError> {
        match &self.cgroup {
            Some(cgroup) => Ok(cgroup.is_empty()?),
            // The kernel ends a pid namespace before its init counts as ended.
            None => Ok(self.status.is_some() || self.wait_pidfd(Duration::ZERO)),
        }
    }

    /// How it ended, or `None` while it runs. Never blocks. May be asked again; the usage is that of
    /// the moment, and final once [`Child::is_empty`].
    pub fn try_reap(&mut self) -> Result<Option<Exit>, ChildError> {
        if self.status.is_none() {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            let own = loop {
                match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
                    Err(Errno::EINTR) => {}
                    // Someone else in this process has reaped it: the verdict still tells.
                    Err(Errno::ECHILD) => break Status::Unknown,
                    Err(errno) => {
                        return Err(ChildError::Call {
                            action: "waiting for",
                            pid: self.pid,
                            source: errno.into(),
                        });
                    }
                    Ok(WaitStatus::StillAlive) => return Ok(None),
                    Ok(status) => break Status::of_wait(status),
                }
            };
            self.status = Some(self.verdict().unwrap_or(own));
        }
        Ok(self.status.map(|status| self.exit(status)))
    }

    /// The program's status as the init wrote it; `None` if it was killed before it could.
    fn verdict(&mut self) -> Option<Status> {
        let mut record = [0; Status::RECORD];
        self.verdict.read_exact(&mut record).ok()?;
        Status::from_record(record)
    }

    fn exit(&self, status: Status) -> Exit {
        let usage = self.usage();
        let evidence = Evidence {
            memory_limit: self.memory_limit,
            file_size_limit: self.file_size_limit,
            killed: self.killed.get(),
        };
        Exit {
            status,
            usage,
            cause: Cause::of(status, &usage, evidence),
            denied_call: None,
            denied_accesses: Vec::new(),
        }
    }

    /// Removes the cgroup of a compartment that is empty, and gives its end. Refused (and the
    /// compartment killed) while something of it runs.
    pub fn remove(mut self) -> Result<Exit, ChildError> {
        let exit = self.try_reap()?.ok_or(ChildError::Running { pid: self.pid })?;
        if !self.is_empty()? {
            return Err(ChildError::Running { pid: self.pid });
        }
        if let Some(cgroup) = self.cgroup.take() {
            cgroup.remove()?;
        }
        Ok(exit)
    }

    /// Waits until the program has ended or `deadline` has passed; whether it has.
    pub fn wait_exited(&self, deadline: Option<Instant>) -> bool {
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if self.wait_pidfd(left.unwrap_or(Duration::from_secs(60))) {
                return true;
            }
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
        }
    }

    /// Waits until no process of it is left or `deadline` has passed; whether none is.
    pub fn wait_empty(&self, deadline: Instant) -> Result<bool, ChildError> {
        let left = deadline.saturating_duration_since(Instant::now());
        match &self.cgroup {
            Some(cgroup) => Ok(cgroup.wait_empty(left)?),
            None => Ok(self.status.is_some() || self.wait_exited(Some(deadline))),
        }
    }

    fn wait_pidfd(&self, at_most: Duration) -> bool {
        wait_for(self.pidfd.as_fd(), PollFlags::POLLIN, at_most)
    }
}

/// Waits for an event of a descriptor; whether it came. A signal ends the wait early.
pub(crate) fn wait_for(descriptor: BorrowedFd<'_>, event: PollFlags, at_most: Duration) -> bool {
    // Rounded up, so that a rest of less than a millisecond does not spin.
    let millis = at_most.as_micros().div_ceil(1000).min(60_000) as u16;
    let mut polled = [PollFd::new(descriptor, event)];
    matches!(poll(&mut polled, PollTimeout::from(millis)), Ok(1..))
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_some() && self.cgroup.is_none() {
            return;
        }
        // Best effort: there is nobody to tell.
        let _ = self.kill();
        let deadline = Instant::now() + DROP_WAIT;
        self.wait_exited(Some(deadline));
        let _ = self.try_reap();
        let _ = self.wait_empty(deadline);
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.remove();
        }
    }
}
