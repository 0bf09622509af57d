//! How much a plugin's storage takes, counted in bounded pieces.
//!
//! Theory of operation. Where no quota of the file system bounds what a plugin writes, or one above what
//! its manifest may have, somebody has to look. Only the launcher may enter the storage, so it counts, and decides nothing: the
//! directories are walked one beneath the other, by descriptor, following no link and entering no
//! other mount; not no other device, as files on overlayfs have another than their directories, and subvolumes
//! of btrfs than each other. What the plugin changes meanwhile is counted as it is found. Where it nests
//! deeper than [`MAX_DEPTH`], that is told, as nobody would ever come to the end of it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use bulkhead_sandbox::mount_id::MountId;
use bulkhead_sandbox::quota::{self, Quota};
use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::link::StorageUsage;

/// Entries per piece: some milliseconds.
const PIECE: usize = 1024;
/// Directories beneath each other, each of which takes two descriptors.
const MAX_DEPTH: usize = 64;
/// The unit of `st_blocks` (stat(2)).
const BLOCK: u64 = 512;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC);

/// A count under way.
pub(super) struct Measure {
    /// From the storage itself down to where the count is.
    open: Vec<Level>,
    mount: MountId,
    found: StorageUsage,
}

struct Level {
    directory: OwnedFd,
    entries: OwningIter,
}

impl Level {
    fn of(directory: OwnedFd) -> nix::Result<Self> {
        let again = openat(&directory, ".", DIRECTORY, Mode::empty())?;
        Ok(Self { directory, entries: Dir::from_fd(again)?.into_iter() })
    }
}

impl Measure {
    /// Begins to count what lies beneath `root`, a directory; `leased` is the uid that is its owner and
    /// nobody else's.
    pub(super) fn begin(root: &Path, leased: Option<u32>) -> nix::Result<Self> {
        let directory = open(root, DIRECTORY, Mode::empty())?;
        let stat = fstat(&directory)?;
        let quota = leased.and_then(|uid| enforced_quota(&directory, uid));
        let found = StorageUsage { quota, ..StorageUsage::default() };
        let mount = MountId::of(directory.as_fd())?;
        let mut measure = Self { open: Vec::new(), mount, found };
        measure.count(&stat);
        measure.open.push(Level::of(directory)?);
        Ok(measure)
    }

    /// Counts a bounded number of entries; what was found, when all are counted.
    pub(super) fn step(&mut self) -> nix::Result<Option<StorageUsage>> {
        for _ in 0..PIECE {
            let Some(level) = self.open.last_mut() else { return Ok(Some(self.found)) };
            let Some(entry) = level.entries.next() else {
                self.open.pop();
                continue;
            };
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let mount = MountId::at(level.directory.as_fd(), name);
            let stat = fstatat(&level.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
            let (mount, stat) = match mount.and_then(|mount| Ok((mount, stat?))) {
                Ok(found) => found,
                // Removed meanwhile.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno),
            };
            if mount != self.mount {
                continue;
            }
            let inner = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFDIR => openat(&level.directory, name, DIRECTORY, Mode::empty()),
                _ => Err(Errno::ENOTDIR),
            };
            self.count(&stat);
            match inner.and_then(Level::of) {
                Ok(_) if self.open.len() == MAX_DEPTH => self.found.uncounted = true,
                Ok(inner) => self.open.push(inner),
                // A file; or removed or replaced meanwhile.
                Err(Errno::ENOTDIR | Errno::ENOENT | Errno::ELOOP) => {}
                // Without privilege, what its owner has closed to himself.
                Err(Errno::EACCES) => self.found.uncounted = true,
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    fn count(&mut self, stat: &FileStat) {
        self.found.bytes += stat.st_blocks as u64 * BLOCK;
        self.found.files += 1;
    }
}

/// What the kernel tells that uid of its limits, where they are enforced.
fn enforced_quota(directory: &OwnedFd, uid: u32) -> Option<Quota> {
    // Told for nothing to whoever asks; the rest takes a process.
    if quota::state(directory.as_fd()) != quota::State::Enforced {
        return None;
    }
    quota::seen_by(directory.as_fd(), uid)
        .inspect_err(|errno| tracing::warn!(uid, %errno, "the quota of a plugin cannot be seen"))
        .ok()
}

#[cfg(test)]
#[path = "measuring_tests.rs"]
mod tests;
