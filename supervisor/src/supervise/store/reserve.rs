//! Room on the disk that is kept for the moment when there is none.
//!
//! Theory of operation. A file beside the store takes up some of the disk. Where it is full, and an
//! operation that makes room again could not be written down, the file is removed and the operation is
//! tried once more: there is room for its few pages then. Until the file could be made again plugins
//! get no more state kept, so that what was given back is not used up by them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

/// How much is kept: an operation writes some hundred KiB.
const SIZE: u64 = 2 << 20;
/// It is made again only where so many times as much is free.
const PLENTY: u64 = 4;

/// The file; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reserve {
    path: Arc<PathBuf>,
    released: Arc<AtomicBool>,
}

impl Reserve {
    /// Beside the store at that path. A disk without room to spare has none.
    pub(super) fn open(store: &Path) -> Self {
        let mut path = store.as_os_str().to_owned();
        path.push("-reserve");
        let reserve =
            Self { path: Arc::new(path.into()), released: Arc::new(AtomicBool::new(false)) };
        // One that a supervisor before this one has released is not there; neither is one of a new store.
        reserve.released.store(!reserve.path.exists(), Ordering::Relaxed);
        reserve.refill();
        if !reserve.path.exists() {
            tracing::warn!(path = %reserve.path.display(), "no room is kept for a full disk");
            // Where the disk has plenty it cannot be made at all: that takes nothing from the plugins.
            reserve.released.store(!reserve.has_plenty(), Ordering::Relaxed);
        }
        reserve
    }

    /// Gives the room back; whether there was any.
    pub(super) fn release(&self) -> bool {
        self.released.store(true, Ordering::Relaxed);
        let released = fs::remove_file(&*self.path).is_ok();
        if released {
            tracing::warn!(path = %self.path.display(), "the disk is full: the reserve is released");
        }
        released
    }

    /// Whether it is needed, and could not be made again yet.
    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
    }

    /// Makes it again where there is room.
    pub(super) fn refill(&self) {
        if !self.is_released() || !self.has_plenty() {
            return;
        }
        match self.make() {
            Ok(()) => self.released.store(false, Ordering::Relaxed),
            Err(error) => {
                let _ = fs::remove_file(&*self.path);
                tracing::debug!(path = %self.path.display(), %error, "no reserve");
            }
        }
    }

    fn has_plenty(&self) -> bool {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        statvfs(directory).is_ok_and(|found| {
            let free = found.blocks_available().saturating_mul(found.fragment_size());
            free >= SIZE * PLENTY
        })
    }

    fn make(&self) -> std::io::Result<()> {
        let file = File::create(&*self.path)?;
        // Not a hole: the room is taken.
        match fallocate(&file, FallocateFlags::empty(), 0, SIZE as i64) {
            // Some file systems cannot; what is written takes room on all of them.
            Err(Errno::EOPNOTSUPP) => (&file).write_all(&vec![0xff; SIZE as usize]),
            done => done.map_err(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn it_takes_room_gives_it_back_once_and_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("db");
        let reserve = Reserve::open(&store);
        let file = directory.path().join("db-reserve");
        assert!(fs::metadata(&file).unwrap().blocks() * 512 >= SIZE, "it is no hole");
        assert!(!reserve.is_released());
        assert!(reserve.release());
        assert!(!file.exists() && reserve.is_released());
        assert!(!reserve.release(), "there is no more");
        reserve.refill();
        assert!(file.exists() && !reserve.is_released());
        // The next supervisor finds it.
        assert!(!Reserve::open(&store).is_released());
    }
}
