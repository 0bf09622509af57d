//! The descriptors that a plugin is given, with our ends of them.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use bulkhead_sandbox::Stdio;
use bulkhead_sandbox::descriptors::seqpacket_pair;
use interprocess::os::unix::unnamed_pipe::{UnnamedPipeExt as _, pipe};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

/// Both ends of what a plugin is given.
pub(super) struct Channels {
    pub(super) stdio: Stdio,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) bootstrap_ours: OwnedFd,
    pub(super) bootstrap_theirs: OwnedFd,
}

impl Channels {
    pub(super) fn open() -> std::io::Result<Self> {
        let (stdout_theirs, stdout) = output()?;
        let (stderr_theirs, stderr) = output()?;
        let (bootstrap_ours, bootstrap_theirs) = seqpacket_pair()?;
        // A plugin that takes no session must not hold up the launcher.
        let flags = OFlag::from_bits_retain(fcntl(&bootstrap_ours, FcntlArg::F_GETFL)?);
        fcntl(&bootstrap_ours, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let stdin = File::open("/dev/null")?.into();
        let stdio = Stdio { stdin, stdout: stdout_theirs, stderr: stderr_theirs };
        Ok(Self { stdio, stdout, stderr, bootstrap_ours, bootstrap_theirs })
    }
}

/// A pipe for a program to write: its end blocks, as programs expect, and ours does not.
pub(super) fn output() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (sender, receiver) = pipe(false)?;
    receiver.set_nonblocking(true)?;
    let (sender, receiver) = (OwnedFd::from(sender), OwnedFd::from(receiver));
    for end in [&sender, &receiver] {
        fcntl(end.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok((sender, receiver))
}
