//! Removing a tree that somebody else filled: any depth, any number of files, in bounded pieces.
//!
//! Theory of operation. The tree is first renamed to a hidden name, so that for everybody else it is
//! gone at once. Then its entries are unlinked one by one; a directory that is not empty is moved up
//! beneath the hidden name under a number, so that no path ever grows longer than two names and no
//! recursion or row of descriptors is needed, however deep the plugin has nested it. No link is
//! followed: unlinkat(2) and renameat(2) act on the entry itself. What is mounted somewhere in the tree
//! is not the tree's, and is left alone. An entry that cannot be removed does not keep the others: the
//! failure is told once nothing else is left.

use std::ffi::{CStr, CString};
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_sandbox::mount_id::MountId;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat};
use nix::unistd::{Uid, UnlinkatFlags, fchown, unlinkat};

/// Entries per piece, roughly: a few milliseconds.
const PIECE: usize = 512;

/// So many entries that cannot be removed are passed by.
const MAX_STUCK: usize = PIECE / 2;

/// A removal under way.
pub(super) struct Removal {
    hidden: PathBuf,
    root: OwnedFd,
    mount: MountId,
    moved: u64,
    /// The entries that cannot be removed, and why the first cannot.
    stuck: Vec<CString>,
    why: Option<Errno>,
}

impl Removal {
    /// Hides `tree` in `parking`, a directory of the same file system. `None` if there is no such
    /// tree.
    pub(super) fn begin(tree: &Path, parking: &Path) -> std::io::Result<Option<Self>> {
        let hidden = hidden_name(parking)?;
        match std::fs::rename(tree, &hidden) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            result => result?,
        }
        Self::resume(hidden).map(Some)
    }

    /// Removes what has a hidden name already.
    pub(super) fn resume(hidden: PathBuf) -> std::io::Result<Self> {
        let (Some(parent), Some(name)) = (hidden.parent(), hidden.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = open(parent, flags, Mode::empty())?;
        let mount = MountId::of(parent.as_fd())?;
        let root = enter(&parent, &CString::new(name.as_encoded_bytes())?, mount)?;
        Ok(Self { hidden, root, mount, moved: 0, stuck: Vec::new(), why: None })
    }

    /// The hidden name.
    pub(super) fn path(&self) -> &Path {
        &self.hidden
    }

    /// Makes the hidden directory that of `uid`, so that it can be seen whose the tree was.
    pub(super) fn name_owner(&self, uid: u32) -> nix::Result<()> {
        fchown(&self.root, Some(Uid::from_raw(uid)), None)
    }

    /// Removes a bounded number of entries. `true` when nothing is left; a failure when nothing is left
    /// but what cannot be removed.
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
            if self.stuck.contains(&name) {
                continue;
            }
            done += self.remove(&name).unwrap_or_else(|errno| {
                self.why.get_or_insert(errno);
                self.stuck.push(name);
                1
            });
            if done >= PIECE {
                break;
            }
        }
        match (self.why, self.stuck.first()) {
            (Some(errno), Some(name)) if done == 0 || self.stuck.len() >= MAX_STUCK => {
                Err(stays(&self.hidden, name, errno))
            }
            _ => Ok(false),
        }
    }

    /// Removes a file, or a directory or a piece of it; says how many entries that were.
    fn remove(&mut self, name: &CStr) -> nix::Result<usize> {
        if unlink(&self.root, name)? {
            return Ok(1);
        }
        let directory = enter(&self.root, name, self.mount)?;
        let inner = names(directory.try_clone().map_err(|_| Errno::EMFILE)?)?;
        let (mut gone, mut failed) = (0, None);
        for inner_name in &inner {
            match self.take_out(&directory, inner_name) {
                Ok(()) => gone += 1,
                Err(errno) => failed = failed.or(Some(errno)),
            }
        }
        match failed {
            None => rmdir(&self.root, name).map(|_| gone + 1),
            Some(errno) if gone == 0 => Err(errno),
            // There may be more of it: the next step goes on here.
            Some(_) => Ok(gone),
        }
    }

    /// Takes an entry out of a directory beneath the hidden one.
    fn take_out(&mut self, directory: &OwnedFd, name: &CStr) -> nix::Result<()> {
        if unlink(directory, name)? || rmdir(directory, name)? {
            return Ok(());
        }
        // Moving a directory rewrites its `..`, for which it must be writable.
        enter(directory, name, self.mount)?;
        self.move_up(directory, name)
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

/// A name that is free: beneath a parking place are only our own, and those of launchers before us.
pub(super) fn hidden_name(parking: &Path) -> std::io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let hidden = parking.join(format!("{HIDDEN}{}-{number}", std::process::id()));
        match std::fs::symlink_metadata(&hidden) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(hidden),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
}

/// What the hidden names begin with.
pub(super) const HIDDEN: &str = ".removing-";

/// Why a tree is not removed, with what to do.
fn stays(hidden: &Path, name: &CStr, errno: Errno) -> std::io::Error {
    let path = hidden.join(name.to_string_lossy().as_ref());
    let hint = match errno {
        Errno::EXDEV | Errno::EBUSY => "; something is mounted there: unmount it",
        _ => "",
    };
    let text = format!("{}: {}{hint}", path.display(), errno.desc());
    std::io::Error::new(std::io::Error::from(errno).kind(), text)
}

/// Opens a directory for emptying. Not through a link, whatever its mode, and only if it is of that mount
/// (else EXDEV).
fn enter(parent: &OwnedFd, name: &CStr, mount: MountId) -> nix::Result<OwnedFd> {
    if MountId::at(parent.as_fd(), name)? != mount {
        return Err(Errno::EXDEV);
    }
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
