//! What a dead launcher has left of its removals, and removes no more.
//!
//! Theory of operation. It is found at the start, and not removed before the service is ready: it may be
//! more than a start has time for, and one entry that cannot be removed must not keep every plugin from
//! running. Then it is one job, a piece at a time. What stays is told in the log, its uid stays leased, and
//! the next start tries again.

use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use super::removal::Removal;
use super::storage::Storage;

/// Something with a hidden name.
pub(super) struct Leftover {
    path: PathBuf,
    /// Whose it was: leased until it is gone.
    uid: Option<u32>,
    /// Where it has begun.
    removal: Option<Removal>,
}

impl Leftover {
    pub(super) fn new(path: PathBuf, uid: Option<u32>) -> Self {
        Self { path, uid, removal: None }
    }

    /// A removal that has begun.
    pub(super) fn of(removal: Removal, uid: Option<u32>) -> Self {
        Self { path: removal.path().to_owned(), uid, removal: Some(removal) }
    }

    /// One piece. `true` when nothing is left of it.
    fn step(&mut self) -> std::io::Result<bool> {
        if let Some(removal) = &mut self.removal {
            return removal.step();
        }
        if !std::fs::symlink_metadata(&self.path)?.is_dir() {
            return std::fs::remove_file(&self.path).map(|()| true);
        }
        self.removal = Some(Removal::resume(self.path.clone())?);
        Ok(false)
    }

    fn stays(&self, error: &Error) {
        tracing::warn!(
            path = %self.path.display(),
            uid = self.uid,
            %error,
            "what a dead service was removing stays: the next start tries again"
        );
    }
}

/// The job.
pub(super) struct Clearing(Vec<Leftover>);

impl Clearing {
    pub(super) fn of(left: Vec<Leftover>) -> Self {
        Self(left)
    }

    /// One piece. `true` when no more is to be tried.
    pub(super) fn step(&mut self, storage: &mut Storage) -> bool {
        let Some(mut leftover) = self.0.pop() else { return true };
        match leftover.step() {
            Ok(false) => self.0.push(leftover),
            Err(error) if error.kind() != ErrorKind::NotFound => leftover.stays(&error),
            // Gone, be it by another hand.
            Ok(true) | Err(_) => {
                if let Some(uid) = leftover.uid {
                    storage.is_released(uid);
                }
            }
        }
        false
    }
}
