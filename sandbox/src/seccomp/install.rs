//! The one system call that puts a filter in force.
#![allow(unsafe_code)]

use std::io;

/// Puts `program` in force for the calling thread, for good: it survives `execve(2)` and is inherited.
///
/// The caller must have set `no_new_privs`; nothing is allocated, so this may run between `clone` and
/// `execve`.
///
/// # Errors
/// `EINVAL` when the program is empty, longer than 4096 instructions, or malformed; `EACCES` without
/// `no_new_privs`; `ENOSYS` where the kernel has no seccomp. Source: `seccomp(2)`.
pub fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    let len =
        u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` points at `len` initialised instructions which outlive the call, and the kernel
    // only copies from them (the pointer is `*mut` in C for no other reason than history). No flag is
    // given, so nothing is written back and no descriptor is made.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            0 as libc::c_ulong,
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
