//! The supervisor's process, as the launcher sees it.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use bulkhead_sandbox::descriptors::seqpacket_pair;
use bulkhead_sandbox::unprivileged::{Unprivileged, User};
use nix::sys::socket::{setsockopt, sockopt};

use super::outbox::Outbox;
use crate::clock::Monotonic;
use crate::logging;

/// Heartbeats that may be missed before a supervisor counts as hung.
const MISSED: u32 = 5;
/// What it may take from the exec to the first heartbeat, at least.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// What it may take to adopt everything and become ready.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// Room for an adoption and an exit of some hundred plugins without waiting.
const SEND_BUFFER: usize = 1 << 20;

/// Variables of the launcher's environment that the supervisor gets.
const ENVIRONMENT: &[&str] = &[
    #[cfg(debug_assertions)]
    crate::link::PAUSE_VARIABLE,
    #[cfg(debug_assertions)]
    crate::link::CLOCK_VARIABLE,
    logging::FILTER_VARIABLE,
    logging::FORMAT_VARIABLE,
    crate::journal::STREAM_VARIABLE,
    "LANG",
    "PATH",
    "RUST_BACKTRACE",
    "TZ",
];

/// How the supervisor is started.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) user: Option<User>,
}

/// A supervisor that runs.
pub(super) struct Supervisor {
    process: Child,
    pub(super) outbox: Outbox,
    started: Monotonic,
    /// When it said that it is.
    pub(super) ready: Option<Monotonic>,
    /// When it was last heard of.
    heard: Option<Monotonic>,
    heartbeat: Duration,
    /// It is listened to no more: it only remains to be reaped.
    silenced: bool,
    killed: bool,
}

impl Supervisor {
    pub(super) fn start(command: &Command, heartbeat: Duration) -> std::io::Result<Self> {
        let (ours, theirs) = seqpacket_pair()?;
        // Best effort: with the default there is room for one packet at least.
        let _ = setsockopt(&ours, sockopt::SndBuf, &SEND_BUFFER);
        let env = ENVIRONMENT
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
            .collect();
        let process = Unprivileged {
            program: command.program.clone(),
            args: command.args.clone(),
            env,
            user: command.user.clone(),
            descriptor: theirs,
        }
        .start()?;
        Ok(Self {
            process,
            outbox: Outbox::new(ours)?,
            started: Monotonic::now(),
            ready: None,
            heard: None,
            heartbeat,
            silenced: false,
            killed: false,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn hear(&mut self, now: Monotonic) {
        self.heard = Some(now);
    }

    /// When it counts as hung unless it is heard of before. `None` once nothing more is expected.
    pub(super) fn patience(&self) -> Option<Monotonic> {
        if self.silenced {
            return None;
        }
        let silence = self.heartbeat * MISSED;
        let silent = match self.heard {
            Some(heard) => heard.plus(silence),
            None => self.started.plus(silence.max(START_PATIENCE)),
        };
        let unready = self.ready.is_none().then(|| self.started.plus(READY_PATIENCE));
        Some(unready.map_or(silent, |unready| unready.min(silent)))
    }

    /// Whether its loop turned lately: the condition of the service manager's watchdog.
    pub(super) fn is_fresh(&self, now: Monotonic) -> bool {
        self.ready.is_some() && self.patience().is_some_and(|until| now < until)
    }

    pub(super) fn is_silenced(&self) -> bool {
        self.silenced
    }

    /// It said all that it had to say, and may end by itself.
    pub(super) fn silence(&mut self) {
        self.silenced = true;
    }

    /// Ends it, whatever it does. Its end is told by SIGCHLD.
    pub(super) fn kill(&mut self) {
        self.silenced = true;
        if !self.killed {
            self.killed = true;
            // An error means that it has ended: it is not reaped, so the pid is still its own.
            let _ = self.process.kill();
        }
    }

    /// Its status, if it has ended. Never waits.
    pub(super) fn try_reap(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }
}

impl AsFd for Supervisor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.outbox.as_fd()
    }
}
