//! Giving up every capability, and every way to gain one (capabilities(7)).

use nix::errno::Errno;

use crate::syscall::{self, Call};

/// SECBIT_NOROOT, NO_SETUID_FIXUP, KEEP_CAPS (not set, but locked) and NO_CAP_AMBIENT_RAISE, each
/// locked: uid 0 means nothing, whatever is executed.
const SECURE_BITS: libc::c_ulong = 0b1110_1111;
/// Beyond the last capability that any kernel has.
const LAST: libc::c_ulong = 63;

/// Child: the parts that need CAP_SETPCAP. Without that capability there is nothing to bound either.
pub(crate) fn bound() -> Call {
    for capability in 0..=LAST {
        match syscall::prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            // The first number that the kernel does not know.
            Err(Errno::EINVAL) => break,
            Err(Errno::EPERM) if capability == 0 => return Ok(()),
            other => other?,
        }
    }
    syscall::prctl(libc::PR_SET_SECUREBITS, SECURE_BITS, 0)
}

/// Child: empties every set.
pub(crate) fn clear() -> Call {
    let cleared = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    syscall::prctl(libc::PR_CAP_AMBIENT, cleared, 0)?;
    syscall::drop_capabilities()
}
