//! Processes: made, executed, waited for (clone(2), execve(2), waitid(2), pidfd_open(2)).

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::{Call, check, done};

/// What clone3(2) is asked for.
pub(crate) struct Clone<'a> {
    /// CLONE_NEW… flags. CLONE_PIDFD and CLONE_CLEAR_SIGHAND are always added.
    pub(crate) namespaces: c_int,
    /// The cgroup in which the child begins (CLONE_INTO_CGROUP).
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// What clone3(2) gave.
pub(crate) enum Cloned {
    /// `placed`: the child is in the cgroup that was asked for, if one was.
    Parent {
        pid: i32,
        pidfd: OwnedFd,
        placed: bool,
    },
    Child,
}

/// clone3(2), without CLONE_VM: the child has a copy of our memory and only the calling thread.
///
/// # Safety
/// In the child, until it executes or exits, only code may run that neither allocates, nor takes a
/// lock, nor unwinds: this process may have other threads, which do not exist there and whose locks
/// stay taken.
pub(crate) unsafe fn clone3(request: &Clone<'_>) -> Call<Cloned> {
    // libc has these two as an int, in which they are 0 (linux/sched.h).
    const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: c_int = -1;
    // SAFETY: clone_args is plain integers; zero means "not used" for each.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    let mut flags = request.namespaces as u64 | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    if let Some(cgroup) = request.cgroup {
        flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    args.flags = flags;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: `args` and `pidfd` outlive the call; no stack is given, as memory is copied and the
    // child goes on on a copy of this one. The caller promises what the child may do.
    let cloned = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>())
    });
    let (pid, placed) = match cloned {
        // Container runtimes answer so to clone3, whose flags their filters cannot see.
        // SAFETY: promised by the caller.
        Err(Errno::ENOSYS) => (unsafe { clone(request.namespaces, &mut pidfd) }?, false),
        other => (other?, true),
    };
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: on success the kernel has stored a new descriptor there, which nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: pid as i32, pidfd, placed: placed || request.cgroup.is_none() })
}

/// clone(2) with CLONE_PIDFD: what [`clone3`] does but for the cgroup and the signal handlers.
///
/// # Safety
/// As for [`clone3`].
unsafe fn clone(namespaces: c_int, pidfd: &mut c_int) -> Call<c_long> {
    let flags = (namespaces | libc::CLONE_PIDFD | libc::SIGCHLD) as c_ulong;
    // SAFETY: both sets are initialised by the calls that fill them in. The descriptor is stored
    // through the third argument on every architecture; a null stack goes on on a copy of this one.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        // No handler of ours may run in the child, which unblocks signals once they are reset.
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = check(libc::syscall(libc::SYS_clone, flags, 0, ptr::from_mut(pidfd), 0, 0));
        if !matches!(pid, Ok(0)) {
            libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        }
        pid
    }
}

/// fork without glibc's handlers (which lock the allocator): the child's pid, or 0 in the child.
///
/// # Safety
/// As for [`clone3`].
pub(crate) unsafe fn fork() -> Call<i32> {
    // SAFETY: SIGCHLD as the only flag copies memory; null for stack and tids asks for none. The
    // argument order of clone(2) differs between architectures only in its unused tail.
    check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as c_ulong, 0, 0, 0, 0) })
        .map(|pid| pid as i32)
}

/// _exit(2) of the whole process, without destructors or atexit handlers.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends the process; no state of it is touched.
    unsafe { libc::_exit(code) }
}

/// Whether a pidfd's process still runs.
pub(crate) fn is_alive(pidfd: RawFd) -> bool {
    let mut polled = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which outlives the call; zero timeout.
    unsafe { libc::poll(&raw mut polled, 1, 0) == 0 }
}

/// pidfd_send_signal(2).
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> Call {
    // SAFETY: a null siginfo makes the kernel fill in that of kill(2).
    done(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
}

/// pidfd_open(2) of a process.
pub(crate) fn pidfd_open(process: i32) -> Call<OwnedFd> {
    // SAFETY: no pointer is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: a new descriptor, owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The same of ourselves, whose pid cannot be reused while we run.
pub(crate) fn pidfd_of_self() -> Call<OwnedFd> {
    // SAFETY: changes nothing.
    pidfd_open(unsafe { libc::getpid() })
}

/// execve(2) of a path. Returns only to say why not.
///
/// # Safety
/// `arguments` and `environment` must be arrays of pointers to terminated strings that end with a
/// null pointer.
pub(crate) unsafe fn execute(
    path: &CStr,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Errno {
    // SAFETY: promised by the caller.
    unsafe { libc::execve(path.as_ptr(), arguments, environment) };
    Errno::last()
}

/// execveat(2) of an open file. Returns only to say why not.
///
/// # Safety
/// As for [`execute`].
pub(crate) unsafe fn execute_descriptor(
    file: RawFd,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> Errno {
    // SAFETY: promised by the caller; the empty path is a terminated literal.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file,
            c"".as_ptr(),
            arguments,
            environment,
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// Runs `body` in a new process in new `namespaces` and gives its result, or why there was none.
///
/// # Safety
/// `body` must neither allocate, nor take a lock, nor unwind: see [`clone3`].
pub(crate) unsafe fn try_in_child(namespaces: c_int, body: fn() -> Call) -> Call {
    // SAFETY: the child runs `body`, for which the caller promises, and ends.
    match unsafe { clone3(&Clone { namespaces, cgroup: None }) }? {
        // An errno fits an exit code.
        Cloned::Child => exit(body().err().map_or(0, |errno| errno as i32)),
        Cloned::Parent { pidfd, .. } => result_of(&pidfd),
    }
}

/// Waits for a child that exits with an errno, or 0, and gives that.
pub(crate) fn result_of(pidfd: &OwnedFd) -> Call {
    loop {
        match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, errno)) => return Err(Errno::from_raw(errno)),
            Ok(_) => return Err(Errno::ECHILD),
        }
    }
}

/// A child that has ended.
pub(crate) struct Ended {
    pub(crate) pid: i32,
    /// `si_code`.
    pub(crate) code: c_int,
    /// `si_status`.
    pub(crate) status: c_int,
}

/// Any child that has ended, left as it is (WNOWAIT); `None` if none has.
pub(crate) fn peek_ended() -> Call<Option<Ended>> {
    // SAFETY: siginfo_t is plain data; waitid fills it in, or leaves si_pid 0 with WNOHANG.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        done(libc::syscall(
            libc::SYS_waitid,
            libc::P_ALL,
            0,
            &raw mut info,
            flags,
            ptr::null_mut::<libc::rusage>(),
        ))?;
        Ok((info.si_pid() != 0).then(|| Ended {
            pid: info.si_pid(),
            code: info.si_code,
            status: info.si_status(),
        }))
    }
}

/// Reaps a child that has ended.
pub(crate) fn reap(pid: i32) -> Call {
    // SAFETY: no pointer but nulls, which ask for nothing.
    done(unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PID,
            pid,
            ptr::null_mut::<libc::siginfo_t>(),
            libc::WEXITED | libc::WNOHANG,
            ptr::null_mut::<libc::rusage>(),
        )
    })
}

/// Waits until any child has ended, and reaps it; an error where there is none.
pub(crate) fn reap_any() -> Call {
    loop {
        // SAFETY: no pointer but nulls, which ask for nothing.
        let reaped = done(unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_ALL,
                0,
                ptr::null_mut::<libc::siginfo_t>(),
                libc::WEXITED,
                ptr::null_mut::<libc::rusage>(),
            )
        });
        if reaped != Err(Errno::EINTR) {
            return reaped;
        }
    }
}

/// setsid(2).
pub(crate) fn new_session() -> Call {
    // SAFETY: no argument.
    done(c_long::from(unsafe { libc::setsid() }))
}
