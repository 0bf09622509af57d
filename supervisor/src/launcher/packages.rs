//! A package on its way into the store.
//!
//! ```text
//! copied and hashed ──▶ opened by `bulkhead unpack`, ──▶ imported as any ──▶ signer noted ─┐
//!   │    into a file      in a compartment                 directory is                    ▼
//!   │    of our own         │                                │               what was unpacked
//!   └─ not what was signed  └─ not a package                 └─ refused ───▶ is removed
//! ```
//! The supervisor sends a descriptor and may go on to write that file: so the bytes that are opened
//! are the very bytes that were hashed, in a copy without a name. Nothing here understands a package.
//! What the compartment leaves is believed to be no more than a directory of a stranger.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use bulkhead_sandbox::Strictness;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statfs::{fstatfs, statfs};

use super::errands::Purpose;
use super::event_loop::Launcher;
use super::jobs::Work;
use super::one_shot::{Ended, Task};
use super::package_store::{Importing, PackageStore, Scratch, Step};
use super::plugins::no_descriptors;
use super::removal::Removal;
use super::storage::Storage;
use super::unpacking;
use crate::failure::{Code, Failure};
use crate::id::Digest;
use crate::link::{Reply, RequestNumber, Signer};
use crate::trust::{Claim, MAX_PACKAGE, Stepwise, TrustedKey, too_large};

/// Packages on their way at once: each has a copy, and what comes out of it, on the disk.
const MAX_PACKAGES: usize = 4;

/// A package as a job of the loop.
pub(super) struct Package(Phase);

enum Phase {
    Copying(Stepwise<Result<(File, TrustedKey), Failure>>),
    Importing {
        importing: Importing,
        opening: Box<Opening>,
    },
    /// What was unpacked is removed. `None` if it cannot be before the next start.
    Clearing {
        removal: Option<Removal>,
        uid: u32,
        result: Result<Reply, Failure>,
    },
}

/// What one piece came to.
pub(super) enum Progress {
    More(Package),
    /// The copy, which is what the key has signed.
    Verified(File, TrustedKey),
    Done(Reply),
}

/// What a package is opened into, and by whom it is signed.
pub(super) struct Opening {
    scratch: Scratch,
    uid: u32,
    signer: TrustedKey,
}

impl Opening {
    fn clear(self, result: Result<Reply, Failure>) -> Package {
        let Self { scratch, uid, .. } = self;
        Package(Phase::Clearing { removal: scratch.clear(), uid, result })
    }
}

impl Package {
    fn copy(claim: Claim, from: File, to: File) -> Self {
        Self(Phase::Copying(claim.copy(from, to)))
    }

    /// Does one bounded piece.
    pub(super) fn step(
        self,
        store: &mut PackageStore,
        storage: &mut Storage,
    ) -> Result<Progress, Failure> {
        match self.0 {
            Phase::Copying(mut copying) => match copying.step() {
                None => Ok(Progress::More(Self(Phase::Copying(copying)))),
                Some(verified) => verified.map(|(file, key)| Progress::Verified(file, key)),
            },
            Phase::Importing { importing, opening } => {
                Ok(Progress::More(match store.step_import(importing) {
                    Ok(Step::More(importing)) => Self(Phase::Importing { importing, opening }),
                    Ok(Step::Done(digest)) => {
                        let result = imported(store, digest, &opening.signer);
                        opening.clear(result)
                    }
                    Err(failure) => opening.clear(Err(failure)),
                }))
            }
            Phase::Clearing { removal: Some(mut removal), uid, result } => {
                let removal = match removal.step() {
                    Ok(false) => Some(removal),
                    Ok(true) => None,
                    Err(error) => {
                        // Its files keep their owner, so its uid is nobody else's until then.
                        tracing::warn!(%error, "an unpacked package stays behind until the next start");
                        return result.map(Progress::Done);
                    }
                };
                if removal.is_none() {
                    storage.return_uid(uid);
                }
                Ok(Progress::More(Self(Phase::Clearing { removal, uid, result })))
            }
            Phase::Clearing { removal: None, result, .. } => result.map(Progress::Done),
        }
    }

    /// Nobody wants it any more: what is left to do is to remove it. `None` where nothing is.
    pub(super) fn give_up(self) -> Option<Self> {
        match self.0 {
            // Its copy has no name.
            Phase::Copying(_) => None,
            Phase::Importing { importing, opening } => {
                let importing = importing.give_up();
                Some(Self(Phase::Importing { importing, opening }))
            }
            clearing @ Phase::Clearing { .. } => Some(Self(clearing)),
        }
    }
}

fn imported(store: &PackageStore, digest: Digest, signer: &TrustedKey) -> Result<Reply, Failure> {
    store.note_signer(digest, &signer.key)?;
    let signer = Signer { key: signer.id(), comment: signer.comment.clone() };
    Ok(Reply::Imported { digest, root: store.tree(digest), signer: Some(signer) })
}

impl Launcher {
    /// Admits a package that is signed by a trusted key, as it says.
    pub(super) fn import_package(
        &mut self,
        number: RequestNumber,
        signature: &str,
        package: OwnedFd,
    ) -> Result<(), Failure> {
        self.jobs.check_room(self.starts.count())?;
        let under_way = self.jobs.packages() + self.errands.packages();
        if under_way >= MAX_PACKAGES {
            let message = format!("{under_way} packages are being opened; try again later");
            return Err(Failure::new(Code::ResourceExhausted, message)
                .with("resource", "packages")
                .with("limit", MAX_PACKAGES)
                .with("used", under_way));
        }
        self.trust_log.look(&self.trust);
        let claim = self.trust.claim(signature)?;
        let package = admitted(package, &self.settings.state)?;
        let copy = tempfile::tempfile_in(self.store.path()).map_err(|error| {
            let path = self.store.path();
            let message = format!("cannot copy a package to {}: {error}", path.display());
            Failure::new(Code::StorageFailed, message).with("path", path)
        })?;
        self.jobs.push(number, Work::Package(Package::copy(claim, package, copy)));
        Ok(())
    }

    /// Has a verified package opened.
    pub(super) fn open_package(
        &mut self,
        number: RequestNumber,
        package: &File,
        signer: TrustedKey,
    ) -> Result<(), Failure> {
        // The service may have been told to stop while it was copied.
        self.check_serving()?;
        // Not our own descriptor, which can write.
        let stdin = unpacking::reading(package).map_err(|error| no_descriptors(&error))?;
        let uid = self.storage.borrow_uid()?;
        let scratch = match self.store.scratch(uid, self.ownership) {
            Ok(scratch) => scratch,
            Err(failure) => {
                self.storage.return_uid(uid);
                return Err(failure);
            }
        };
        let strictness =
            if self.rules.strict { Strictness::Strict } else { Strictness::BestEffort };
        let task = Task {
            // No plugin's id has this character.
            name: format!("_unpack-{}", self.generation),
            strictness,
            within: self.unpack.within,
            arguments: self.unpack.arguments.clone(),
            program: self.unpack.program.clone(),
            ..unpacking::task(stdin, scratch.work(), self.ownership.identity(uid))
        };
        let opening = Box::new(Opening { scratch, uid, signer });
        if let Err((failure, Purpose::Unpack(opening))) =
            self.start_errand(number, task, Purpose::Unpack(opening))
        {
            self.jobs.push(number, Work::Package(opening.clear(Err(failure))));
        }
        Ok(())
    }

    /// The compartment is gone: imports what it has left, or removes it.
    pub(super) fn package_opened(
        &mut self,
        reply_to: Option<RequestNumber>,
        opening: Box<Opening>,
        ended: Ended,
    ) {
        let begin = match unpacking::judge(ended) {
            // Nobody is left to be told.
            Ok(None) if reply_to.is_none() => Err(Ok(Reply::Done)),
            Ok(None) => self.store.import(&opening.scratch.work()).map_err(Err),
            Ok(Some(report)) => Err(Ok(Reply::Unopened { report })),
            Err(failure) => Err(Err(failure)),
        };
        let package = match begin {
            Ok(importing) => Package(Phase::Importing { importing, opening }),
            Err(result) => opening.clear(result),
        };
        self.jobs.resume(reply_to, Work::Package(package));
    }
}

/// A file that can be read without waiting for anybody: a regular one on the file system of the
/// supervisor's own directory. On one of its making (FUSE) a read could last for ever.
fn admitted(package: OwnedFd, home: &Path) -> Result<File, Failure> {
    let stat = regular_at_home(&package, home, "a package")?;
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    if size > MAX_PACKAGE {
        return Err(too_large(size));
    }
    Ok(package.into())
}

/// A file that can be used without waiting for anybody: a regular one on the file system of the
/// supervisor's own directory. `what` it is to be, for the error.
pub(super) fn regular_at_home(
    file: &OwnedFd,
    home: &Path,
    what: &str,
) -> Result<FileStat, Failure> {
    let refused = |why: &str| {
        Failure::new(Code::InvalidRequest, format!("{what} must be {why}")).with("what", what)
    };
    let unusable = |errno: nix::Error| refused(&format!("a file that can be examined ({errno})"));
    let stat = fstat(file).map_err(unusable)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(refused("a regular file"));
    }
    let there = fstatfs(file).map_err(unusable)?;
    let here = statfs(home).map_err(unusable)?;
    if (there.filesystem_type(), there.filesystem_id())
        != (here.filesystem_type(), here.filesystem_id())
    {
        return Err(refused(&format!("a file on the file system of {}", home.display())));
    }
    Ok(stat)
}
