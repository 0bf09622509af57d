//! Which mount a file was reached by (statx(2)).

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::syscall;

/// A mount; as long as a file in it is held open no other has its id.
///
/// The device says less: a directory that is mounted a second time has that of the first, and files on
/// overlayfs have others than its directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountId(Known);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Mount(u64),
    /// Major and minor number: the kernel (before 5.8) does not tell the mount.
    Device(u32, u32),
}

impl MountId {
    /// That of an open file.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn of(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        Self::at(file, c"")
    }

    /// That of an entry of an open directory, whatever it is: a link is not followed.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn at(directory: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        Ok(Self(Known::of(&syscall::stat_mount(directory, name)?)))
    }
}

impl Known {
    fn of(stat: &libc::statx) -> Self {
        if stat.stx_mask & libc::STATX_MNT_ID == 0 {
            Self::Device(stat.stx_dev_major, stat.stx_dev_minor)
        } else {
            Self::Mount(stat.stx_mnt_id)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_kernel_that_does_not_tell_the_mount_tells_the_device() {
        let root = File::open("/").unwrap();
        let mut stat = syscall::stat_mount(root.as_fd(), c"").unwrap();
        assert_eq!(Known::of(&stat), Known::Mount(stat.stx_mnt_id));
        stat.stx_mask &= !libc::STATX_MNT_ID;
        assert_eq!(Known::of(&stat), Known::Device(stat.stx_dev_major, stat.stx_dev_minor));
    }
}
