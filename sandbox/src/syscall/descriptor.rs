//! Descriptors: copied, closed, read and written.

use std::ffi::{CStr, c_int, c_long, c_uint};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Call, check, done};

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

/// A file from its beginning; how much of it.
pub(crate) fn read_start(file: RawFd, buffer: &mut [u8]) -> Call<usize> {
    // SAFETY: pointer and length are of one slice.
    check(unsafe { libc::pread(file, buffer.as_mut_ptr().cast(), buffer.len(), 0) as c_long })
        .map(|length| length as usize)
}

/// statx(2) of `name` in a directory, or of an open file where that is empty: its device, and its mount where
/// the kernel tells it (`stx_mask`). No link is followed, and nothing mounted for it.
pub(crate) fn stat_mount(file: BorrowedFd<'_>, name: &CStr) -> Call<libc::statx> {
    stat(file, name, 0, libc::STATX_MNT_ID)
}

/// Whether an open file is a directory, by what is known of it here: a server is not asked.
pub(crate) fn is_directory(file: BorrowedFd<'_>) -> Call<bool> {
    let found = stat(file, c"", libc::AT_STATX_DONT_SYNC, libc::STATX_TYPE)?;
    Ok(libc::mode_t::from(found.stx_mode) & libc::S_IFMT == libc::S_IFDIR)
}

fn stat(file: BorrowedFd<'_>, name: &CStr, flags: c_int, mask: c_uint) -> Call<libc::statx> {
    // SAFETY: plain integers, for which zero is a value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is terminated and lives for the call; `stat` is what this call writes, and outlives it.
    done(unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_raw_fd(),
            name.as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | flags,
            mask,
            &raw mut stat,
        )
    })?;
    Ok(stat)
}
