//! System calls that neither std nor nix wraps, each with a safe face.
//!
//! Most of them are made in the child, between clone3 and execve, where nothing may allocate, lock or
//! rely on glibc's idea of the current thread: the process may have been cloned while another thread
//! held any lock. So these are bare calls, and ids are changed here rather than by glibc, whose
//! setresuid(3) signals the threads that it remembers and waits for them for ever.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

/// The result of one call: nothing is allocated on either side.
pub(crate) type Call<T = ()> = Result<T, Errno>;

fn check(result: c_long) -> Call<c_long> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

fn done(result: c_long) -> Call {
    check(result).map(|_| ())
}

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

/// pidfd_open(2) of ourselves.
pub(crate) fn pidfd_of_self() -> Call<OwnedFd> {
    // SAFETY: no pointer is passed; our own pid cannot be reused while we run.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) })?;
    // SAFETY: a new descriptor, owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Every signal but SIGKILL and SIGSTOP back to its default. CLONE_CLEAR_SIGHAND leaves those alone
/// that are ignored, and std ignores SIGPIPE.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: a zeroed sigaction is SIG_DFL with an empty mask. Refused for SIGKILL, SIGSTOP and
        // the two that glibc keeps, which is as well.
        unsafe {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        }
    }
}

/// Blocks or unblocks every signal.
pub(crate) fn block_signals(block: bool) -> Call {
    // SAFETY: the set is initialised by sigfillset before it is read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        let how = if block { libc::SIG_SETMASK } else { libc::SIG_UNBLOCK };
        done(c_long::from(libc::sigprocmask(how, &raw const all, ptr::null_mut())))
    }
}

/// Waits for any signal, all of which must be blocked (rt_sigtimedwait(2)); its number.
pub(crate) fn wait_signal() -> Call<c_int> {
    // SAFETY: the set is initialised before it is read; no siginfo is asked for; the kernel's set is
    // 8 bytes, the beginning of libc's.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            ptr::null_mut::<libc::siginfo_t>(),
            ptr::null::<libc::timespec>(),
            8_usize,
        ))
        .map(|signal| signal as c_int)
    }
}

/// kill(2).
pub(crate) fn kill(pid: i32, signal: c_int) -> Call {
    // SAFETY: no pointer is passed.
    done(c_long::from(unsafe { libc::kill(pid, signal) }))
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

/// A file from its beginning; how much of it.
pub(crate) fn read_start(file: RawFd, buffer: &mut [u8]) -> Call<usize> {
    // SAFETY: pointer and length are of one slice.
    check(unsafe { libc::pread(file, buffer.as_mut_ptr().cast(), buffer.len(), 0) as c_long })
        .map(|length| length as usize)
}

/// setsid(2).
pub(crate) fn new_session() -> Call {
    // SAFETY: no argument.
    done(c_long::from(unsafe { libc::setsid() }))
}

/// setgroups(2) to none.
pub(crate) fn clear_groups() -> Call {
    // SAFETY: a length of zero: the pointer is not read.
    done(unsafe { libc::syscall(libc::SYS_setgroups, 0_usize, ptr::null::<libc::gid_t>()) })
}

/// setresgid(2).
pub(crate) fn set_gid(gid: u32) -> Call {
    // SAFETY: no pointer is passed.
    done(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
}

/// setresuid(2).
pub(crate) fn set_uid(uid: u32) -> Call {
    // SAFETY: no pointer is passed.
    done(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// prctl(2) with integer arguments.
pub(crate) fn prctl(option: c_int, argument: c_ulong, second: c_ulong) -> Call {
    // SAFETY: only options with integer arguments are used in this crate (death signal, capability
    // bounds, secure bits, no new privileges, dumpable, subreaper): nothing is dereferenced.
    done(c_long::from(unsafe { libc::prctl(option, argument, second, 0, 0) }))
}

/// capset(2): no capability in any set.
pub(crate) fn drop_capabilities() -> Call {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    /// _LINUX_CAPABILITY_VERSION_3, which takes two words for each set.
    const VERSION: u32 = 0x2008_0522;
    let header = Header { version: VERSION, pid: 0 };
    let none = [[0_u32; 3]; 2];
    // SAFETY: header and data have the layout of that version and outlive the call.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })
}

/// prlimit64(2) of ourselves, soft and hard at once.
pub(crate) fn set_limit(resource: c_uint, limit: u64) -> Call {
    let limit = libc::rlimit64 { rlim_cur: limit, rlim_max: limit };
    // SAFETY: the new limit outlives the call; the old one is not asked for.
    done(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            ptr::null_mut::<libc::rlimit64>(),
        )
    })
}

/// Whether a pidfd's process still runs.
pub(crate) fn is_alive(pidfd: RawFd) -> bool {
    let mut polled = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, which outlives the call; zero timeout.
    unsafe { libc::poll(&raw mut polled, 1, 0) == 0 }
}

/// F_DUPFD_CLOEXEC: a copy at `least` or above.
pub(crate) fn duplicate_above(fd: RawFd, least: RawFd) -> Call<RawFd> {
    // SAFETY: no pointer is passed.
    check(c_long::from(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) }))
        .map(|fd| fd as RawFd)
}

/// dup3(2) onto `target`.
pub(crate) fn duplicate_onto(fd: RawFd, target: RawFd, close_on_exec: bool) -> Call {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: no pointer is passed. In the child no Rust value owns a descriptor below 16.
    done(c_long::from(unsafe { libc::dup3(fd, target, flags) }))
}

/// close_range(2), inclusive.
pub(crate) fn close_range(first: RawFd, last: RawFd) -> Call {
    // SAFETY: no pointer is passed. Only called in the child, in which every value that owns a
    // descriptor is forgotten, never dropped.
    done(unsafe { libc::syscall(libc::SYS_close_range, first as c_uint, last as c_uint, 0) })
}

/// One byte from a socket or pipe: whether one came (false: the other end is closed).
pub(crate) fn receive_byte(fd: RawFd) -> Call<bool> {
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte of room, which outlives the call.
        match check(unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, 0) } as c_long) {
            Err(Errno::EINTR) => {}
            other => return other.map(|length| length == 1),
        }
    }
}

/// A few bytes to a socket, without SIGPIPE.
pub(crate) fn send_bytes(fd: RawFd, bytes: &[u8]) -> Call {
    // SAFETY: the slice outlives the call.
    done(unsafe {
        libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) as c_long
    })
}

/// open(2) without creating: a descriptor that the caller must keep or close.
pub(crate) fn open(path: &CStr, flags: c_int) -> Call<OwnedFd> {
    // SAFETY: the path is terminated and outlives the call.
    let fd = check(c_long::from(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }))?;
    // SAFETY: a new descriptor, owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Makes an empty file; one that exists is fine.
pub(crate) fn make_file(path: &CStr, mode: libc::mode_t) -> Call {
    // SAFETY: the path is terminated and outlives the call.
    let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFREG | mode, 0) };
    exists_is_fine(done(c_long::from(made)))
}

/// Makes a directory; one that exists is fine.
pub(crate) fn make_directory(path: &CStr, mode: libc::mode_t) -> Call {
    // SAFETY: the path is terminated and outlives the call.
    exists_is_fine(done(c_long::from(unsafe { libc::mkdir(path.as_ptr(), mode) })))
}

/// Makes a symbolic link; one that exists is fine.
pub(crate) fn make_link(content: &CStr, path: &CStr) -> Call {
    // SAFETY: both are terminated and outlive the call.
    exists_is_fine(done(c_long::from(unsafe { libc::symlink(content.as_ptr(), path.as_ptr()) })))
}

fn exists_is_fine(result: Call) -> Call {
    if result == Err(Errno::EEXIST) { Ok(()) } else { result }
}

/// chdir(2).
pub(crate) fn enter(path: &CStr) -> Call {
    // SAFETY: the path is terminated and outlives the call.
    done(c_long::from(unsafe { libc::chdir(path.as_ptr()) }))
}

/// umask(2).
pub(crate) fn set_umask(mask: libc::mode_t) {
    // SAFETY: no pointer is passed; cannot fail.
    unsafe { libc::umask(mask) };
}

/// sethostname(2).
pub(crate) fn set_host_name(name: &[u8]) -> Call {
    // SAFETY: pointer and length are of one slice.
    done(c_long::from(unsafe { libc::sethostname(name.as_ptr().cast::<c_char>(), name.len()) }))
}

/// mount(2) of a new file system.
pub(crate) fn mount(kind: &CStr, target: &CStr, flags: c_ulong, options: &CStr) -> Call {
    // SAFETY: all strings are terminated and outlive the call; tmpfs and proc take a string as data.
    done(c_long::from(unsafe {
        libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
    }))
}

/// open_tree(2): a copy of the mounts at and beneath `path`, attached nowhere.
pub(crate) fn clone_tree(path: &CStr, recursive: bool) -> Call<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE as c_uint;
    }
    // SAFETY: the path is terminated and outlives the call.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: a new descriptor, owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// move_mount(2): attaches what [`clone_tree`] gave.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: &CStr) -> Call {
    // SAFETY: both paths are terminated and outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
}

/// mount_setattr(2): sets attributes of a mount, and with `recursive` of those beneath it, and cuts
/// them off from what the machine mounts later.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> Call {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the attributes have the size that is stated and outlive the call, as does the path.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// pivot_root(".", "."), which stacks the old root on the new one, and its detachment.
pub(crate) fn pivot_here() -> Call {
    // SAFETY: both paths are terminated literals.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the path is a terminated literal.
    done(c_long::from(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }))
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

/// The kernel's Landlock ABI (landlock_create_ruleset(2) with LANDLOCK_CREATE_RULESET_VERSION), 0
/// where there is none. The landlock crate knows it too, but tells only after restricting.
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: c_uint = 1;
    // SAFETY: with this flag the null attributes are not read.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0_usize, VERSION)
    };
    u32::try_from(abi).unwrap_or(0)
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
        Cloned::Parent { pidfd, .. } => {
            use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
            loop {
                match waitid(Id::PIDFd(std::os::fd::AsFd::as_fd(&pidfd)), WaitPidFlag::WEXITED) {
                    Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno),
                    Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                    Ok(WaitStatus::Exited(_, errno)) => return Err(Errno::from_raw(errno)),
                    Ok(_) => return Err(Errno::ECHILD),
                }
            }
        }
    }
}
