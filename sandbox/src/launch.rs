//! What to start: the program, who it is, and the descriptors it gets.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::policy::Policy;

/// One start. Consumed by [`crate::spawn`]: the descriptors are closed on our side when it returns.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Names the compartment: its cgroup directory and its host name. Letters, digits, `-`, `_` and
    /// `.`, at most 64 bytes, not beginning with a dot.
    pub name: &'a str,
    /// What confines it.
    pub policy: &'a Policy,
    /// As whom it runs.
    pub identity: Identity,
    /// What is executed.
    pub program: Program,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Becomes descriptor 3 of the program; without it descriptor 3 is closed.
    pub bootstrap: Option<OwnedFd>,
    /// Not enforced but learned from: a socket whose other end belongs to a [`crate::learning::Listener`],
    /// which is asked about each call that the narrowest profile does not allow. Every other layer holds.
    /// Refused under [`crate::Strictness::Strict`].
    pub learner: Option<OwnedFd>,
}

/// As whom the program runs. It never has a capability, whoever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A uid and gid of its own, and no supplementary group. Needs CAP_SETUID and CAP_SETGID.
    Leased {
        /// Not 0.
        uid: u32,
        /// Not 0.
        gid: u32,
    },
    /// Our own effective uid and gid. Supplementary groups cannot be dropped without privilege:
    /// the enforcement says so. Refused under [`crate::Strictness::Strict`] when that uid is 0.
    Invoker,
}

/// What is executed. The environment holds exactly `env`: nothing of ours is inherited.
#[derive(Debug)]
pub struct Program {
    /// The executable.
    pub file: ProgramFile,
    /// Arguments, the program's own name (`argv[0]`) first.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory, inside the compartment.
    pub cwd: PathBuf,
}

/// The executable.
#[derive(Debug)]
pub enum ProgramFile {
    /// The very file behind this descriptor, whatever has since happened to its name
    /// (`execveat(AT_EMPTY_PATH)`). An ELF program: a script's interpreter could not open it.
    Descriptor(OwnedFd),
    /// A path inside the compartment, absolute. A script works where its interpreter is visible.
    Path(PathBuf),
}

/// The program's standard streams. Pipes, files or a terminal; never closed, use `/dev/null`.
#[derive(Debug)]
pub struct Stdio {
    /// Descriptor 0.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
}
