//! Where the members of a package go.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};

/// Takes the members in the order of the archive. Their paths are checked: relative, of plain
/// names, none twice, every directory before what it holds.
pub(crate) trait Sink {
    fn directory(&mut self, path: &str) -> io::Result<()>;
    /// Begins a file; the one before is complete.
    fn file(&mut self, path: &str, executable: bool) -> io::Result<()>;
    /// More of the file that was begun last.
    fn content(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Nowhere: only the checks count.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn directory(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn file(&mut self, _: &str, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn content(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Into a directory, which nobody else writes. Each name is created, never opened, and no link is
/// followed on the way to it, so even if somebody did, nothing outside would be written.
///
/// One component at a time with openat(2), not openat2(2): below Landlock ABI 3 the compartment's
/// filter refuses that one.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    current: Option<File>,
}

impl Tree {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root, current: None }
    }

    /// The directory that `path` lies in, and its last name.
    fn parent<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let mut at = self.root.as_fd().try_clone_to_owned()?;
        let mut rest = path;
        while let Some((name, after)) = rest.split_once('/') {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            at = openat(&at, name, flags, Mode::empty())?;
            rest = after;
        }
        Ok((at, rest))
    }
}

impl Sink for Tree {
    fn directory(&mut self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(mkdirat(&parent, name, Mode::from_bits_truncate(0o755))?)
    }

    fn file(&mut self, path: &str, executable: bool) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_EXCL
            | OFlag::O_NOFOLLOW
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        let file = openat(&parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Apart from the creation, where the umask would have a say.
        fchmod(&file, Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 }))?;
        self.current = Some(file.into());
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.current {
            Some(file) => file.write_all(bytes),
            None => Err(io::Error::other("no file was begun; this is a defect of bulkhead")),
        }
    }
}
