//! Quotas of a file system (quotactl(2)), by a descriptor on it: the path of a block device, which the
//! older call wants, does not exist where a service has a /dev of its own.

use std::ffi::{c_int, c_long, c_void};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use nix::errno::Errno;

use super::{Call, done};

/// USRQUOTA (linux/quota.h): limits of users, not of groups or projects.
const OF_USERS: c_int = 0;
/// Q_XGETQSTAT and what it gives of the flags (linux/dqblk_xfs.h). Every file system that has quotas
/// answers it, not only XFS.
const GET_STATE: c_int = 0x5805;
const ACCOUNTED: u16 = 1 << 0;
const ENFORCED: u16 = 1 << 1;

/// `fs_quota_stat` (linux/dqblk_xfs.h): 80 bytes, of which the flags are read.
#[repr(C)]
struct State {
    version: i8,
    flags: u16,
    rest: [u64; 9],
}

/// What a file system does about its users' quotas: (are they counted, are they enforced).
pub(crate) fn quota_state(on: BorrowedFd<'_>) -> Call<(bool, bool)> {
    let mut state = State { version: 1, flags: 0, rest: [0; 9] };
    // SAFETY: `state` has the size and layout of what this command writes, and outlives the call.
    unsafe { quotactl(on, GET_STATE, 0, (&raw mut state).cast()) }?;
    Ok((state.flags & ACCOUNTED != 0, state.flags & ENFORCED != 0))
}

/// Q_GETQUOTA of a user. Without CAP_SYS_ADMIN only of our own effective uid.
pub(crate) fn get_quota(on: BorrowedFd<'_>, uid: u32) -> Call<libc::dqblk> {
    // SAFETY: plain integers, for which zero is a value.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    // SAFETY: `quota` is what this command writes, and outlives the call.
    unsafe { quotactl(on, libc::Q_GETQUOTA, uid, (&raw mut quota).cast()) }?;
    Ok(quota)
}

/// Q_SETQUOTA of a user: what `dqb_valid` names.
pub(crate) fn set_quota(on: BorrowedFd<'_>, uid: u32, quota: &libc::dqblk) -> Call {
    // SAFETY: this command reads a `dqblk`, which outlives the call, and writes nothing there.
    unsafe { quotactl(on, libc::Q_SETQUOTA, uid, ptr::from_ref(quota).cast_mut().cast()) }
}

/// quotactl_fd(2), Linux 5.14.
///
/// # Safety
/// `data` must point to what the command reads or writes.
unsafe fn quotactl(on: BorrowedFd<'_>, command: c_int, uid: u32, data: *mut c_void) -> Call {
    let command = libc::QCMD(command, OF_USERS);
    loop {
        // SAFETY: promised by the caller.
        let result = done(unsafe {
            libc::syscall(libc::SYS_quotactl_fd, on.as_raw_fd(), command, uid, data) as c_long
        });
        if result != Err(Errno::EINTR) {
            return result;
        }
    }
}
