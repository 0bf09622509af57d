//! An import from its first piece to its answer.
//!
//! ```text
//! copying ──▶ name is free ───────────────────────────────────────▶ published
//!    │  └───▶ name is taken ─▶ checking ─▶ damaged ─▶ exchanged ──▶ repaired
//!    │                            └──────▶ good ────▶ clearing ───▶ there already
//!    └─ failed, given up ───────────────────────────▶ clearing ───▶ the failure
//! ```
//! Each arrow is taken between two turns of the launcher's loop, and what takes long (copying,
//! checking, clearing) is done in pieces.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, open, renameat2};
use nix::sys::stat::Mode;

use super::import::{Copied, HiddenDirectory, Import};
use super::verification::Check;
use super::{PackageStore, Step};
use crate::failure::{Code, Failure};
use crate::id::Digest;
use crate::launcher::removal::Removal;
use crate::launcher::whole_file;

/// An import under way.
pub(crate) struct Importing(Phase);

enum Phase {
    Copying(Box<Import>),
    /// A tree of this name is there: is it what it should be?
    Checking {
        copied: Copied,
        digest: Digest,
        check: Box<Check>,
    },
    /// What was copied is not needed. `None` if it cannot be removed before the next start.
    Clearing {
        removal: Option<Removal>,
        result: Result<Digest, Failure>,
    },
}

impl Importing {
    /// Nobody wants it any more: what is left to do is to remove it.
    pub(crate) fn give_up(self) -> Self {
        let failure =
            Failure::new(Code::ShuttingDown, "the import was given up: who asked is gone");
        match self.0 {
            Phase::Copying(import) => clearing(import.abandon(), Err(failure)),
            Phase::Checking { copied, .. } => clearing(copied.abandon(), Err(failure)),
            clearing @ Phase::Clearing { .. } => Self(clearing),
        }
    }
}

fn clearing(hidden: HiddenDirectory, result: Result<Digest, Failure>) -> Importing {
    Importing(Phase::Clearing { removal: hidden.clear(), result })
}

impl PackageStore {
    /// Begins to copy `source`. Nothing is visible in the store before the last step.
    pub(in crate::launcher) fn import(&mut self, source: &Path) -> Result<Importing, Failure> {
        self.imports += 1;
        let import = Import::begin(source, self.path.join(format!(".import-{}", self.imports)))?;
        Ok(Importing(Phase::Copying(import)))
    }

    /// One piece of an import; at the end the digest of the tree, which is then in the store and
    /// good: a tree of the same name that was damaged is replaced.
    pub(in crate::launcher) fn step_import(
        &mut self,
        importing: Importing,
    ) -> Result<Step<Importing, Digest>, Failure> {
        let next = match importing.0 {
            Phase::Copying(mut import) => match import.step() {
                Ok(false) => Importing(Phase::Copying(import)),
                Ok(true) => return self.name(import.complete()),
                Err(failure) => clearing(import.abandon(), Err(failure)),
            },
            Phase::Checking { copied, digest, mut check } => match check.step() {
                Ok(false) => Importing(Phase::Checking { copied, digest, check }),
                // A removal may have taken it while it was read.
                Ok(true) if check.is_in_place() && self.has_list(digest) => {
                    clearing(copied.abandon(), Ok(digest))
                }
                Ok(true) => return self.publish(copied, digest).map(Step::Done),
                Err(failure) => {
                    tracing::warn!(%digest, %failure, "a damaged package is replaced");
                    return self.publish(copied, digest).map(Step::Done);
                }
            },
            Phase::Clearing { removal: None, result } => return result.map(Step::Done),
            Phase::Clearing { removal: Some(mut removal), result } => {
                let removal = match removal.step() {
                    Ok(false) => Some(removal),
                    Ok(true) => None,
                    Err(error) => {
                        tracing::warn!(%error, "a partial import stays behind");
                        None
                    }
                };
                Importing(Phase::Clearing { removal, result })
            }
        };
        Ok(Step::More(next))
    }

    /// Gives a complete copy its name, unless a tree has it that may be good.
    fn name(&mut self, copied: Copied) -> Result<Step<Importing, Digest>, Failure> {
        let digest = Digest::of(copied.sums.to_text().as_bytes());
        let tree = self.tree(digest);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match open(&tree, flags, Mode::empty()) {
            Ok(root) => {
                // Nothing that was known before counts: who installs again has a reason.
                let check = Check::begin(tree, root, copied.sums.clone(), Arc::default());
                let check = Box::new(check);
                Ok(Step::More(Importing(Phase::Checking { copied, digest, check })))
            }
            // Not there; or there and no directory.
            Err(_) => self.publish(copied, digest).map(Step::Done),
        }
    }

    fn has_list(&self, digest: Digest) -> bool {
        self.read_list(digest).is_some_and(|text| Digest::of(&text) == digest)
    }

    /// Makes a complete copy the tree of its name, in one moment, whatever has that name now.
    fn publish(&mut self, copied: Copied, digest: Digest) -> Result<Digest, Failure> {
        let (tree, list) = (self.tree(digest), self.list(digest));
        let failed = |path: &Path, error: &std::io::Error| {
            Failure::new(Code::StorageFailed, format!("cannot write {}: {error}", path.display()))
                .with("path", path)
        };
        self.write_list(digest, &copied).map_err(|error| failed(&list, &error))?;
        match renameat2(AT_FDCWD, copied.path(), AT_FDCWD, &tree, RenameFlags::RENAME_EXCHANGE) {
            // The hidden name has the damaged tree now. A plugin may run from it, so it stays until
            // the next start.
            Ok(()) => drop(self.known.remove(&digest)),
            Err(Errno::ENOENT) => fs::rename(copied.path(), &tree).map_err(|error| {
                let _ = fs::remove_file(&list);
                failed(&tree, &error)
            })?,
            Err(errno) => return Err(failed(&tree, &errno.into())),
        }
        copied.keep();
        File::open(&self.path)
            .and_then(|store| store.sync_all())
            .map_err(|error| failed(&self.path, &error))?;
        Ok(digest)
    }

    fn write_list(&self, digest: Digest, copied: &Copied) -> std::io::Result<()> {
        let hidden = self.path.join(format!(".sums-{digest}"));
        whole_file::write(&self.list(digest), &hidden, 0o444, copied.sums.to_text().as_bytes())
    }
}
