//! The one system call that puts a filter in force.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

/// Puts `program` in force for the calling thread, for good: it survives `execve(2)` and is inherited.
///
/// The caller must have set `no_new_privs`; nothing is allocated, so this may run between `clone` and
/// `execve`.
///
/// # Errors
/// `EINVAL` when the program is empty, longer than 4096 instructions, or malformed; `EACCES` without
/// `no_new_privs`; `ENOSYS` where the kernel has no seccomp. Source: `seccomp(2)`.
pub fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    // No flag is given, so no descriptor is made.
    put_in_force(program, 0).map(|_| ())
}

/// As [`install`], and gives the filter's listener: a descriptor, close-on-exec, on which calls are put to
/// whoever has it (Linux 5.5).
///
/// # Errors
/// As [`install`]; `EBUSY` where this process is under a filter with a listener already.
pub(crate) fn install_asking(program: &[libc::sock_filter]) -> io::Result<RawFd> {
    // A signal then does not withdraw a question that was read: a runtime that signals its threads at short
    // intervals would never have one answered. Linux before 5.19 does not know it.
    let patient =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match put_in_force(program, patient) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            put_in_force(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)
        }
        installed => installed,
    }
}

fn put_in_force(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<RawFd> {
    let len =
        u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` points at `len` initialised instructions which outlive the call, and the kernel
    // only copies from them (the pointer is `*mut` in C for no other reason than history). Nothing is
    // written back with any of these flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            flags,
            &raw const program,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
