//! A filter's listener (seccomp_unotify(2)): calls that wait for an answer.

use std::ffi::{c_long, c_uint, c_ulong};
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

use super::{Call, check, done};

/// Room for one descriptor in a control message, aligned as one must be.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Sends one byte and one descriptor over a Unix socket, without SIGPIPE and without allocating.
pub(crate) fn send_descriptor(socket: RawFd, byte: u8, descriptor: RawFd) -> Call {
    let mut data = libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
    let mut control = Control([0; 24]);
    // SAFETY: both only compute with their argument. 24 bytes are the room that one descriptor takes: a
    // header of 16, and 4 padded to 8.
    let (space, length) = unsafe {
        let size = size_of::<RawFd>() as c_uint;
        (libc::CMSG_SPACE(size), libc::CMSG_LEN(size))
    };
    // SAFETY: plain integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = (space as usize).min(control.0.len());
    // SAFETY: the first header lies within `control`, which is aligned and long enough for it and the
    // descriptor; all that `message` points at outlives the call.
    done(unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = length as usize;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast::<RawFd>(), descriptor);
        libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) as c_long
    })
}

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// Names this question to [`answer`].
    pub(crate) id: u64,
    /// The calling thread in our pid namespace; 0 where it is in none below ours.
    pub(crate) thread: i32,
    pub(crate) number: u32,
    pub(crate) arguments: [u64; 6],
}

/// The next call that waits. `ENOENT`: its thread was killed meanwhile; `EINTR` as ever.
pub(crate) fn next_question(listener: BorrowedFd<'_>) -> Call<Question> {
    // SAFETY: plain integers, for which zero is a value, and which the kernel demands.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request's number has the size of what is written there, which outlives the call.
    check(c_long::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV as c_ulong as _,
            &raw mut asked,
        )
    }))?;
    Ok(Question {
        id: asked.id,
        thread: asked.pid as i32,
        number: asked.data.nr as u32,
        arguments: asked.data.args,
    })
}

/// Whether the call still waits: if so, its thread is the one that asked, and not another by its number.
pub(crate) fn still_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the request's number has the size of what is read there, which outlives the call.
    let asked = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID as c_ulong as _,
            &raw const id,
        )
    };
    asked == 0
}

/// Answers a call: it goes on as it would have without the filter, or it fails by that error. `ENOENT`: it
/// waits no more.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, refused: Option<Errno>) -> Call {
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    match refused {
        Some(errno) => answer.error = -(errno as i32),
        None => answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    }
    // SAFETY: the request's number has the size of what is read there, which outlives the call.
    done(c_long::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND as c_ulong as _,
            &raw mut answer,
        )
    }))
}
