//! Which files of a project change: inotify(7), a watch on each of its directories.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};

use crate::cli::problem::Problem;
use crate::failure::{Code, Failure};
use crate::inotify::Notices;

/// An editor writes several files, and a checkout many: they are one change.
const QUIET: Duration = Duration::from_millis(100);
/// Directories at most. A project that has more has something in it that is none of its sources.
const MOST: usize = 4096;

/// A project under watch.
pub(super) struct Watch {
    inotify: Notices,
    root: PathBuf,
    directories: HashMap<WatchDescriptor, PathBuf>,
    /// Something has changed that nobody has dealt with.
    pending: bool,
}

impl Watch {
    pub(super) fn new(root: &Path) -> Result<Self, Problem> {
        let failed = |error: io::Error| cannot(root, &error);
        let inotify = Notices::new().map_err(failed)?;
        let mut watch =
            Self { inotify, root: root.to_owned(), directories: HashMap::new(), pending: false };
        watch.add(root).map_err(failed)?;
        Ok(watch)
    }

    /// Waits until something has changed that is not dealt with, and then until nothing more does for
    /// a moment. Dropped meanwhile, it forgets nothing.
    pub(super) async fn changed(&mut self) -> Result<(), Problem> {
        while !self.pending {
            self.take().await.map_err(|error| cannot(&self.root, &error))?;
        }
        while let Ok(taken) = tokio::time::timeout(QUIET, self.take()).await {
            taken.map_err(|error| cannot(&self.root, &error))?;
        }
        Ok(())
    }

    /// What has changed until the last [`Watch::changed`] is built, or cannot be.
    pub(super) fn is_dealt_with(&mut self) {
        self.pending = false;
    }

    /// Takes the next events.
    async fn take(&mut self) -> io::Result<()> {
        let events = self.inotify.next().await?;
        for event in events {
            self.heed(&event)?;
        }
        Ok(())
    }

    fn heed(&mut self, event: &InotifyEvent) -> io::Result<()> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // Something has changed, and nobody knows what.
            self.pending = true;
            return self.add(&self.root.clone());
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.directories.remove(&event.wd);
            return Ok(());
        }
        let Some(directory) = self.directories.get(&event.wd) else { return Ok(()) };
        let Some(name) = event.name.as_deref().filter(|name| matters(name)) else { return Ok(()) };
        let path = directory.join(name);
        let made = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        if event.mask.contains(AddWatchFlags::IN_ISDIR) && event.mask.intersects(made) {
            self.add(&path)?;
        }
        // A file that is made is not written yet.
        self.pending |= event.mask != AddWatchFlags::IN_CREATE;
        Ok(())
    }

    /// Watches a directory and all beneath it. One that is gone meanwhile is none.
    fn add(&mut self, directory: &Path) -> io::Result<()> {
        if self.directories.len() >= MOST {
            return Err(io::Error::other(format!("it has more than {MOST} directories")));
        }
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW;
        match self.inotify.watch(directory, flags) {
            Ok(descriptor) => self.directories.insert(descriptor, directory.to_owned()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            Err(Errno::ENOSPC) => {
                let why = "too many directories are watched on this machine; raise the sysctl fs.inotify.max_user_watches";
                return Err(io::Error::other(why));
            }
            Err(errno) => return Err(errno.into()),
        };
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() && matters(&entry.file_name()) {
                self.add(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether a file or directory can be a source: not what a build, an editor or a version control
/// writes.
fn matters(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let made = ["target", "package", "Cargo.lock", "4913"];
    let endings = ["~", ".swp", ".tmp", ".plugin", ".minisig"];
    !(name.starts_with('.')
        || made.contains(&name.as_ref())
        || endings.iter().any(|ending| name.ends_with(ending)))
}

fn cannot(root: &Path, error: &io::Error) -> Problem {
    let message = format!("cannot watch {}: {error}", root.display());
    Failure::new(Code::StorageFailed, message).with("path", root).into()
}

#[cfg(test)]
mod tests;
