//! A place in the store where somebody else may write for a while.
//!
//! ```text
//! store/.unpack-N/         0700: nobody finds what is beneath
//! store/.unpack-N/tree/    0700, of the uid that writes there
//! ```
//! It begins with a dot, so that what a dead launcher has left of it is removed at the next start.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, chown};

use super::PackageStore;
use super::import::HiddenDirectory;
use crate::failure::{Code, Failure};
use crate::launcher::removal::Removal;
use crate::launcher::storage::Ownership;

/// Removed when it is dropped, in one go; better by [`Scratch::clear`].
pub(in crate::launcher) struct Scratch(HiddenDirectory);

impl Scratch {
    /// The directory to write in.
    pub(in crate::launcher) fn work(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    /// Removes it a piece at a time. `None` if that cannot even begin; the next start clears it.
    pub(in crate::launcher) fn clear(self) -> Option<Removal> {
        self.0.clear()
    }
}

impl PackageStore {
    /// An empty directory of `uid`, on the store's file system.
    pub(in crate::launcher) fn scratch(
        &mut self,
        uid: u32,
        ownership: Ownership,
    ) -> Result<Scratch, Failure> {
        self.imports += 1;
        let scratch =
            Scratch(HiddenDirectory::create(self.path.join(format!(".unpack-{}", self.imports)))?);
        let work = scratch.work();
        let make = || -> std::io::Result<()> {
            DirBuilder::new().mode(0o700).create(&work)?;
            if matches!(ownership, Ownership::Leased(_)) {
                chown(&work, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
            }
            Ok(())
        };
        make().map_err(|error| {
            Failure::new(Code::StorageFailed, format!("cannot make {}: {error}", work.display()))
                .with("path", &work)
        })?;
        Ok(scratch)
    }
}
