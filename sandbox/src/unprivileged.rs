//! Starting a trusted program of ours without our privilege: the supervisor.
//!
//! This is not its compartment, which it makes around itself ([`crate::confinement`]); here it only loses
//! what it must never have: another user's rights, capabilities, descriptors, and a life longer than
//! ours.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

/// The descriptor at which the program finds what it was given.
const GIVEN: RawFd = 3;

/// A program to start. Standard input is `/dev/null`; output and error are ours.
#[derive(Debug)]
pub struct Unprivileged {
    /// The executable, by its path.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// As whom it runs. `None`: as we do, which must be without privilege.
    pub user: Option<User>,
    /// Becomes descriptor 3, the only one beyond the standard three.
    pub descriptor: OwnedFd,
}

/// A user to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Real, effective and saved uid.
    pub uid: u32,
    /// Real, effective and saved gid.
    pub gid: u32,
    /// Supplementary groups, all of them.
    pub groups: Vec<u32>,
}

impl Unprivileged {
    /// Starts it. It is in a process group of its own, so that a terminal's Ctrl-C is ours to
    /// handle, and it is killed when the calling *thread* ends (PR_SET_PDEATHSIG): call from one
    /// that lives as long as it should. What is between fork and exec allocates nothing.
    pub fn start(self) -> io::Result<Child> {
        // The standard library reports a failed exec over a pipe of its own. While this duplicate,
        // the lowest from 3 on, is open, 3 is taken: the pipe cannot be what is laid over.
        let _three = self.descriptor.try_clone()?;
        let raw = self.descriptor.as_raw_fd();
        // SAFETY: getpid(2) has no precondition.
        let parent = unsafe { libc::getpid() };
        let user = self.user;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit())
            .process_group(0);
        // SAFETY: `prepare` makes system calls only and touches no lock and no heap, as the time
        // between fork and exec demands; `raw` is open in the child because `descriptor` lives
        // until the end of this function, and the user's groups are a complete slice.
        unsafe {
            command.pre_exec(move || prepare(raw, parent, user.as_ref()));
        }
        command.spawn()
    }
}

/// Takes descriptor 3 as a program finds it that [`Unprivileged::start`] started. Once per process;
/// an error if it is no SOCK_SEQPACKET socket, as when a person starts the program by hand.
pub fn given() -> io::Result<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // SAFETY: borrowed for the two calls below only; if it is not open they fail with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(GIVEN) };
    if getsockopt(&borrowed, sockopt::SockType)? != SockType::SeqPacket {
        return Err(io::Error::from_raw_os_error(libc::ESOCKTNOSUPPORT));
    }
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and it came with the exec: nothing in this process made it, and the flag
    // above lets this line run once, so it has one owner.
    Ok(unsafe { OwnedFd::from_raw_fd(GIVEN) })
}

/// In the child. The order matters: the death signal is cleared by a change of ids, and a change of
/// ids needs the capabilities that it takes away.
fn prepare(raw: RawFd, parent: libc::pid_t, user: Option<&User>) -> io::Result<()> {
    // SAFETY: `mask` is a local that sigemptyset initialises before it is read.
    unsafe {
        let mut mask = std::mem::zeroed();
        check(libc::sigemptyset(&raw mut mask))?;
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()))?;
    }
    if let Some(User { uid, gid, groups }) = user {
        // SAFETY: pointer and length are of the same slice; the others take numbers only. From a
        // uid 0 to another the kernel empties the capability sets, the ambient one too
        // (capabilities(7)).
        unsafe {
            check(libc::setgroups(groups.len(), groups.as_ptr()))?;
            check(libc::setresgid(*gid, *gid, *gid))?;
            check(libc::setresuid(*uid, *uid, *uid))?;
        }
    }
    // SAFETY: all arguments are numbers.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        // A parent that died before this line sends no signal any more.
        if libc::getppid() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        if raw == GIVEN {
            check(libc::fcntl(raw, libc::F_SETFD, 0))?;
        } else {
            check(libc::dup2(raw, GIVEN))?;
        }
        // Closed by the exec, not now: among them is the pipe that reports its failure.
        check(libc::syscall(
            libc::SYS_close_range,
            GIVEN + 1,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        ) as libc::c_int)
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
