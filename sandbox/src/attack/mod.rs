//! What an ill-meaning program tries: the attacks that are safe on a machine that somebody uses.
//!
//! Theory of operation. An attack is made by a process of its own, which ends with the error number
//! that the kernel gave it ([`main`]). Made outside any compartment it is the control: what nobody can do
//! on this machine anyway proves nothing. Made inside, it must not do what it did outside. A [`Scene`]
//! is what the attacks are aimed at: all of it is ours and gone afterwards. `bulkhead doctor --attack`
//! and the tests are of the same attacks.

mod attempts;
mod scene;
mod trial;

use std::io;

use crate::exit::Status;

#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use attempts::int80;
pub use attempts::{ATTACKS, terminal_pair};
pub use scene::Scene;
pub use trial::{Inside, Verdict, inside, judge, outside};

/// The variable that names the attack to make.
pub const NAME: &str = "BULKHEAD_ATTACK";
/// The variable with what it is made on: a pid, a port, a path.
pub const ARGUMENT: &str = "BULKHEAD_ATTACK_ON";

/// The exit code of a process that knows no such attack.
const UNKNOWN: u8 = 254;
/// That of one whose error has no number.
const NO_NUMBER: u8 = 255;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// The kernel refused with this errno(3).
    Errno(i32),
    /// A signal ended the process.
    Signal(i32),
}

impl Outcome {
    /// Of a process that made an attempt. `None`: it knows no such attack, or how it ended is not known.
    #[must_use]
    pub fn of(status: Status) -> Option<Self> {
        match status {
            Status::Exited(0) => Some(Outcome::Done),
            Status::Exited(code) if code == i32::from(UNKNOWN) => None,
            Status::Exited(code) => Some(Outcome::Errno(code)),
            Status::Signaled { signal, .. } => Some(Outcome::Signal(signal)),
            Status::Unknown => None,
        }
    }
}

/// Ended by the seccomp filter.
pub const KILLED: Outcome = Outcome::Signal(libc::SIGSYS);

impl std::fmt::Display for Outcome {
    /// `done`, `EPERM`, `SIGSYS`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Errno(number) => write!(f, "{:?}", nix::errno::Errno::from_raw(*number)),
            Outcome::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => f.write_str(signal.as_str()),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// What an attack is made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The kernel itself.
    Kernel,
    /// A process of the same machine: its pid.
    Process,
    /// A file of such a process beneath /proc: the path.
    ProcFile,
    /// A TCP port on 127.0.0.1 on which somebody listens.
    Port,
    /// A UDP port on 127.0.0.1 on which somebody listens.
    UdpPort,
    /// The path of a Unix socket that all may connect to.
    UnixSocket,
    /// The same, of one that takes datagrams.
    UnixDatagram,
    /// The name of an abstract Unix socket.
    AbstractSocket,
    /// The path of a file that all may read and write.
    File,
    /// The path of a file that only its owner may read.
    ClosedFile,
    /// The path of a file of the attacker's own.
    OwnFile,
    /// The path of a file that all may read and write, and of a directory of the attacker's own, with `:` between.
    FileAndDirectory,
    /// The path of a `cgroup.procs`.
    Cgroup,
    /// A path in a place that a test makes for it: not part of a trial.
    Made,
}

/// One thing to try.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Short, and of the command line.
    pub name: &'static str,
    /// What the attacker wants, for a person.
    pub aim: &'static str,
    /// What it is made on.
    pub on: Target,
    /// Errors that say that the kernel took it up: the arguments are wrong on purpose, so that nothing
    /// comes of it.
    taken_up: &'static [i32],
    make: fn(&str) -> io::Result<()>,
}

impl Attack {
    /// Whether that is a success for the attacker.
    #[must_use]
    pub fn succeeds(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Done => true,
            Outcome::Errno(number) => self.taken_up.contains(&number),
            Outcome::Signal(_) => false,
        }
    }
}

/// The attack of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Attack> {
    ATTACKS.iter().find(|attack| attack.name == name)
}

/// For a program that is something else as well: makes the attack that it is asked for, if it is, and ends.
pub fn make_if_asked() {
    if std::env::var_os(NAME).is_some() {
        std::process::exit(main().into());
    }
}

/// Makes the attack that the environment names; gives the exit code, which is its error number, or 0.
#[must_use]
pub fn main() -> u8 {
    let Some(attack) = std::env::var(NAME).ok().and_then(|name| find(&name)) else {
        return UNKNOWN;
    };
    let argument = std::env::var(ARGUMENT).unwrap_or_default();
    match (attack.make)(&argument) {
        Ok(()) => 0,
        Err(error) => {
            let number = error.raw_os_error().and_then(|number| u8::try_from(number).ok());
            number.unwrap_or(NO_NUMBER)
        }
    }
}
