//! Hard limits that a file system sets to what a user keeps on it (quotactl(2)).
//!
//! Theory of operation. To *set* a limit takes CAP_SYS_ADMIN, which an administrator has once and the
//! service never. To *see* one takes being that user: so whoever holds a directory and may change its
//! ids has a process forked that becomes the user, asks, writes down the answer and ends
//! ([`seen_by`]). What is told is thus the kernel's own word, and not what somebody says to have
//! provisioned.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read, write};
use serde::{Deserialize, Serialize};

use crate::syscall::{self, Clone, Cloned};

/// Bytes in the kernel's unit of block limits (QIF_DQBLKSIZE, linux/quota.h).
const BLOCK: u64 = 1024;

/// What a file system does about the limits of its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It knows none: it has no quotas, or they are off.
    Off,
    /// It counts what each keeps and refuses nothing.
    Counted,
    /// Who has a limit cannot keep more.
    Enforced,
}

/// What a user may keep on a file system, and keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// The hard limit; `None`: there is none.
    pub limit_bytes: Option<u64>,
    /// The hard limit of files and directories; `None`: there is none.
    pub limit_files: Option<u64>,
    /// What all the user's files on it take.
    pub used_bytes: u64,
    /// How many files and directories the user owns there.
    pub used_files: u64,
}

/// What the file system of an open file or directory does.
pub fn state(on: BorrowedFd<'_>) -> State {
    match syscall::quota_state(on) {
        Ok((_, true)) => State::Enforced,
        Ok((true, false)) => State::Counted,
        // A kernel before 5.14, a filter, a file system without: in no case is there a limit to see.
        Ok((false, false)) | Err(_) => State::Off,
    }
}

/// The quota of a user. EPERM: we are neither that user nor have CAP_SYS_ADMIN. ESRCH: quotas are off.
pub fn of(on: BorrowedFd<'_>, uid: u32) -> Result<Quota, Errno> {
    match syscall::get_quota(on, uid) {
        Ok(found) => Ok(Quota::from(&found)),
        // XFS has no record of a user who never had a file or a limit.
        Err(Errno::ENOENT) => Ok(Quota::default()),
        Err(errno) => Err(errno),
    }
}

/// Sets the hard limits of a user, and no soft ones; `None`: no limit. EPERM: takes CAP_SYS_ADMIN.
pub fn set(
    on: BorrowedFd<'_>,
    uid: u32,
    limit_bytes: Option<u64>,
    limit_files: Option<u64>,
) -> Result<(), Errno> {
    // Rounded down: a limit is never more than was asked for. Zero would be none at all.
    let blocks = limit_bytes.map_or(0, |bytes| (bytes / BLOCK).max(1));
    let quota = libc::dqblk {
        dqb_bhardlimit: blocks,
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: limit_files.map_or(0, |files| files.max(1)),
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: libc::QIF_LIMITS,
    };
    syscall::set_quota(on, uid, &quota)
}

/// The quota of a user as that user sees it, for who has CAP_SETUID and CAP_SETGID only: asked by a
/// process that is forked for it and has given up all else. It waits for that process, whose few
/// system calls may read one block of the disk.
pub fn seen_by(on: BorrowedFd<'_>, uid: u32) -> Result<Quota, Errno> {
    let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the child makes system calls only: it allocates nothing, takes no lock and ends without
    // unwinding.
    match unsafe { syscall::clone3(&Clone { namespaces: 0, cgroup: None }) }? {
        Cloned::Child => {
            let asked = ask_as(on, uid, &ours);
            syscall::exit(asked.err().map_or(0, |errno| errno as i32))
        }
        Cloned::Parent { pidfd, .. } => {
            drop(ours);
            syscall::result_of(&pidfd)?;
            let mut bytes = [0; Quota::BYTES];
            match read(&theirs, &mut bytes)? {
                Quota::BYTES => Ok(Quota::from_bytes(bytes)),
                _ => Err(Errno::EPIPE),
            }
        }
    }
}

/// In the forked process.
fn ask_as(on: BorrowedFd<'_>, uid: u32, answer: &OwnedFd) -> Result<(), Errno> {
    syscall::clear_groups()?;
    syscall::set_gid(uid)?;
    // From uid 0 to another the kernel empties the capability sets (capabilities(7)).
    syscall::set_uid(uid)?;
    let bytes = of(on, uid)?.to_bytes();
    match write(answer, &bytes)? {
        Quota::BYTES => Ok(()),
        _ => Err(Errno::EPIPE),
    }
}

impl From<&libc::dqblk> for Quota {
    fn from(found: &libc::dqblk) -> Self {
        let limit = |limit: u64| (limit != 0).then_some(limit);
        Self {
            limit_bytes: limit(found.dqb_bhardlimit).map(|blocks| blocks.saturating_mul(BLOCK)),
            limit_files: limit(found.dqb_ihardlimit),
            used_bytes: found.dqb_curspace,
            used_files: found.dqb_curinodes,
        }
    }
}

/// As it crosses the pipe: four numbers, of which 0 as a limit is none, as in the kernel.
impl Quota {
    const BYTES: usize = 32;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let numbers = [
            self.limit_bytes.unwrap_or(0),
            self.limit_files.unwrap_or(0),
            self.used_bytes,
            self.used_files,
        ];
        let mut bytes = [0; Self::BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let mut numbers = [0; 4];
        for (number, place) in numbers.iter_mut().zip(bytes.as_chunks().0) {
            *number = u64::from_ne_bytes(*place);
        }
        let [limit_bytes, limit_files, used_bytes, used_files] = numbers;
        let limit = |limit: u64| (limit != 0).then_some(limit);
        Self {
            limit_bytes: limit(limit_bytes),
            limit_files: limit(limit_files),
            used_bytes,
            used_files,
        }
    }
}

#[cfg(test)]
mod tests;
