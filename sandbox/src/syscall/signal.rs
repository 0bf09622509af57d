//! Signals (signal(7)).

use std::ffi::{c_int, c_long};
use std::ptr;

use super::{Call, check, done};

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
