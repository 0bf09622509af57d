//! Removing a tree that somebody else filled: any depth, any number of files, in bounded pieces.
//!
//! Theory of operation. The tree is first renamed to a hidden name, so that for everybody else it is
//! gone at once. Then its entries are unlinked one by one; a directory that is not empty is moved up
//! beneath the hidden name under a number, so that no path ever grows longer than two names and no
//! recursion or row of descriptors is needed, however deep the plugin has nested it. No link is
//! followed: unlinkat(2) and renameat(2) act on the entry itself.

use std::ffi::{CStr, CString};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Entries per piece, roughly: a few milliseconds.
const PIECE: usize = 512;

/// Distinguishes the removals of one process; what an earlier process left is removed at the start.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A removal under way.
pub(super) struct Removal {
    hidden: PathBuf,
    root: OwnedFd,
    moved: u64,
}

impl Removal {
    /// Hides `tree` in `parking`, a directory of the same file system. `None` if there is no such
    /// tree.
    pub(super) fn begin(tree: &Path, parking: &Path) -> std::io::Result<Option<Self>> {
        let hidden = parking.join(format!(
            ".removing-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        match std::fs::rename(tree, &hidden) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            result => result?,
        }
        Self::resume(hidden).map(Some)
    }

    /// Removes what has a hidden name already.
    pub(super) fn resume(hidden: PathBuf) -> std::io::Result<Self> {
        let root = open(
            &hidden,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        // Without privilege even its owner cannot empty a directory that has no write bit.
        fchmod(&root, Mode::S_IRWXU)?;
        Ok(Self { hidden, root, moved: 0 })
    }

    /// Removes a bounded number of entries. `true` when nothing is left.
    pub(super) fn step(&mut self) -> std::io::Result<bool> {
        let names = names(openat(
            &self.root,
            ".",
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?)?;
        if names.is_empty() {
            std::fs::remove_dir(&self.hidden)?;
            return Ok(true);
        }
        let mut done = 0;
        for name in names {
            done += self.remove(&name)?;
            if done >= PIECE {
                break;
            }
        }
        Ok(false)
    }

    /// Removes a file, or a directory or a piece of it; says how many entries that were.
    fn remove(&mut self, name: &CStr) -> nix::Result<usize> {
        if unlink(&self.root, name)? {
            return Ok(1);
        }
        let directory = enter(&self.root, name)?;
        let inner = names(directory.try_clone().map_err(|_| Errno::EMFILE)?)?;
        for inner_name in &inner {
            if unlink(&directory, inner_name)? || rmdir(&directory, inner_name)? {
                continue;
            }
            // Moving a directory rewrites its `..`, for which it must be writable.
            enter(&directory, inner_name)?;
            self.move_up(&directory, inner_name)?;
        }
        // If more than one piece was in it, the next step goes on here.
        rmdir(&self.root, name)?;
        Ok(inner.len() + 1)
    }

    fn move_up(&mut self, from: &OwnedFd, name: &CStr) -> nix::Result<()> {
        loop {
            self.moved += 1;
            match renameat(from, name, &self.root, format!(".moved-{}", self.moved).as_str()) {
                // The tree itself may have such a name.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                result => return result,
            }
        }
    }
}

/// `false` if it is a directory.
fn unlink(parent: &OwnedFd, name: &CStr) -> nix::Result<bool> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => Ok(true),
        // EISDIR on Linux; EPERM by POSIX.
        Err(Errno::EISDIR | Errno::EPERM) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// `false` if it is not empty.
fn rmdir(parent: &OwnedFd, name: &CStr) -> nix::Result<bool> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Opens a directory for emptying. Not through a link, and whatever its mode.
fn enter(parent: &OwnedFd, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
        && stat.st_mode & 0o700 != 0o700
    {
        // It is a directory, nothing of the owner's runs any more, and so it stays one.
        fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
    }
    openat(parent, name, flags, Mode::empty())
}

/// At most a piece of a directory's names.
fn names(directory: OwnedFd) -> nix::Result<Vec<CString>> {
    let mut directory = Dir::from_fd(directory)?;
    let mut names = Vec::new();
    for entry in directory.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
            if names.len() == PIECE {
                break;
            }
        }
    }
    Ok(names)
}

/// Removes a tree or a file in one go: for the start and for small things. Already gone is well.
pub(crate) fn remove_at_once(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => return std::fs::remove_file(path),
        Ok(_) => {}
    }
    let mut removal = Removal::resume(path.to_owned())?;
    while !removal.step()? {}
    Ok(())
}
