//! Ids, capabilities and limits (credentials(7), capabilities(7), setrlimit(2)).

use std::ffi::{c_int, c_long, c_uint, c_ulong};
use std::ptr;

use super::{Call, done};

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
    set_capabilities(0)
}

/// capset(2): these permitted and effective, by number; none to be inherited.
pub(crate) fn set_capabilities(held: u64) -> Call {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    /// _LINUX_CAPABILITY_VERSION_3, which takes two words for each set.
    const VERSION: u32 = 0x2008_0522;
    let header = Header { version: VERSION, pid: 0 };
    let words = [held as u32, (held >> 32) as u32];
    // Effective, permitted, inheritable.
    let sets = words.map(|word| [word, word, 0]);
    // SAFETY: header and data have the layout of that version and outlive the call.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })
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
