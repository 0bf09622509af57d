//! Waits for the end of the command, and meanwhile passes signals on.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use bulkhead_sandbox::stop::{self, Ladder, StopError, Stopped};
use bulkhead_sandbox::{Child, ChildError, Exit, Signal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::COULD_NOT_START;
use crate::cli::problem::Problem;
use crate::failure::Code;
use crate::manifest::TimeSpan;

/// What a person, a terminal or a supervisor sends to a command. The command has a session of its
/// own, so the terminal's signals reach it only through us. Ctrl-Z is left to its default: it stops
/// this process, and the command goes on until `fg`.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// After SIGKILL the kernel needs a moment; longer than this is a process that hangs in it.
const DISAPPEAR: Duration = Duration::from_secs(10);

pub(super) struct Signals {
    descriptor: SignalFd,
}

pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) timed_out: bool,
    pub(super) timeline: Vec<stop::Step>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("waiting for the command failed: {0}")]
    Wait(#[from] Errno),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Stop(#[from] StopError),
}

impl From<WatchError> for Problem {
    fn from(error: WatchError) -> Self {
        Problem::new(Code::SandboxFailed, error.to_string()).exiting(COULD_NOT_START)
    }
}

impl Signals {
    /// From here on signals wait to be read. Before the start, so that none is lost.
    pub(super) fn block() -> Result<Self, Errno> {
        let mut set = SigSet::empty();
        for signal in PASSED_ON {
            set.add(signal);
        }
        set.thread_block()?;
        let descriptor =
            SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { descriptor })
    }

    /// Those that have arrived.
    fn read(&self) -> Result<Vec<Signal>, Errno> {
        let mut signals = Vec::new();
        while let Some(info) = self.descriptor.read_signal()? {
            signals.extend(Signal::try_from(info.ssi_signo as i32));
        }
        Ok(signals)
    }
}

/// Blocks until nothing of the command is left.
pub(super) fn until_end(
    mut child: Child,
    signals: &Signals,
    timeout: Option<TimeSpan>,
    kill_after: TimeSpan,
) -> Result<Ended, WatchError> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout.duration());
    loop {
        for signal in signals.read()? {
            child.signal(signal)?;
        }
        if child.try_reap()?.is_some() {
            let Stopped { exit, .. } =
                stop::ladder(child, Ladder { grace: Duration::ZERO, disappear: DISAPPEAR })?;
            return Ok(Ended { exit, timed_out: false, timeline: Vec::new() });
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            let Stopped { exit, timeline } =
                stop::ladder(child, Ladder { grace: kill_after.duration(), disappear: DISAPPEAR })?;
            return Ok(Ended { exit, timed_out: true, timeline });
        }
        wait(&child, signals, left)?;
    }
}

fn wait(child: &Child, signals: &Signals, left: Option<Duration>) -> Result<(), Errno> {
    let mut descriptors = [
        PollFd::new(child.pidfd(), PollFlags::POLLIN),
        PollFd::new(signals.descriptor.as_fd(), PollFlags::POLLIN),
    ];
    // Rounded up, so that a rest of less than a millisecond does not spin.
    let timeout = match left {
        Some(left) => {
            PollTimeout::try_from(left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32)
                .unwrap_or(PollTimeout::MAX)
        }
        None => PollTimeout::NONE,
    };
    match poll(&mut descriptors, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
