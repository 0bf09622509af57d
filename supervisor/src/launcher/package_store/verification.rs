//! Whether a tree in the store is still what was imported, and its entry opened for execution.
//!
//! Every file is hashed once; afterwards its fingerprint (inode, size, times) stands for its content,
//! since no change of a file leaves its ctime as it was; but for one within the same tick of the clock,
//! so a file that is as young as its check is hashed again at the next. The entry's descriptor is opened before it
//! is examined and is the very one that will be executed: a file put in its place meanwhile is not
//! run.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, lstat};
use sha2::{Digest as _, Sha256};

use super::listing::{BadList, Listing};
use super::sums::{Files, Sum, Sums};
use super::tree::{Fingerprint, Instant, Kind, open_beneath};
use crate::failure::{Code, Failure};
use crate::id::Digest;

const PIECE: usize = 4 << 20;
const BUFFER: usize = 256 << 10;

/// Files that were hashed and found good.
pub(super) type Known = BTreeMap<String, Fingerprint>;

/// A tree being verified for a start.
pub(crate) struct Verification {
    digest: Digest,
    tree: PathBuf,
    list: PathBuf,
    entry: String,
    phase: Phase,
}

enum Phase {
    /// Nothing is read or open yet.
    Waiting,
    Listing {
        root: OwnedFd,
        listing: Listing,
    },
    Checking {
        entry: OwnedFd,
        check: Box<Check>,
    },
}

/// The files of a tree being held against their sums.
pub(super) struct Check {
    path: PathBuf,
    root: OwnedFd,
    remaining: Files,
    /// Found to be good before; other checks of the tree have the same.
    known: Arc<Known>,
    /// Hashed by this check and found to be good.
    hashed: Known,
    began: Option<Instant>,
    current: Option<Hashing>,
    buffer: Vec<u8>,
}

struct Hashing {
    path: String,
    expected: Digest,
    file: File,
    before: Fingerprint,
    hash: Sha256,
}

/// A tree that is what it should be.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) digest: Digest,
    /// The tree's directory.
    pub(crate) path: PathBuf,
    /// The binary, as it was hashed.
    pub(crate) entry: OwnedFd,
}

pub(super) enum Progress {
    More(Box<Verification>),
    Complete(Verified, Arc<Known>),
}

impl Verification {
    pub(super) fn begin(digest: Digest, tree: PathBuf, list: PathBuf, entry: &str) -> Box<Self> {
        Box::new(Self { digest, tree, list, entry: entry.to_owned(), phase: Phase::Waiting })
    }

    /// Whether it holds memory and descriptors.
    pub(in crate::launcher) fn has_begun(&self) -> bool {
        !matches!(self.phase, Phase::Waiting)
    }

    /// Does one bounded piece. `known` are files that need not be hashed again if nothing has touched
    /// them.
    pub(super) fn step(
        mut self: Box<Self>,
        known: &HashMap<Digest, Arc<Known>>,
    ) -> Result<Progress, Failure> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Waiting) {
            Phase::Waiting => self.open()?,
            Phase::Listing { root, mut listing } => match listing.step() {
                Ok(None) => Phase::Listing { root, listing },
                Ok(Some(sums)) => {
                    let entry = self.open_entry(&root, &sums)?;
                    let known = known.get(&self.digest).cloned().unwrap_or_default();
                    let check = Box::new(Check::begin(self.tree.clone(), root, sums, known));
                    Phase::Checking { entry, check }
                }
                Err(BadList::Unreadable) => return Err(self.missing()),
                Err(BadList::Altered { found }) => return Err(self.other_list(found)),
            },
            Phase::Checking { entry, mut check } => {
                if check.step()? {
                    return self.complete(entry, *check);
                }
                Phase::Checking { entry, check }
            }
        };
        Ok(Progress::More(self))
    }

    fn open(&self) -> Result<Phase, Failure> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = open(&self.tree, flags, Mode::empty()).map_err(|_| self.missing())?;
        let listing = Listing::open(&self.list, self.digest).map_err(|_| self.missing())?;
        Ok(Phase::Listing { root, listing })
    }

    fn open_entry(&self, root: &OwnedFd, sums: &Sums) -> Result<OwnedFd, Failure> {
        let entry = self.entry.as_str();
        let sum = sums.get(entry).ok_or_else(|| {
            Failure::new(
                Code::NotFound,
                format!("the package has no file {entry:?}; correct `entry` in plugin.toml"),
            )
            .with("path", entry)
            .with("what", "entry")
            .with("name", entry)
            .with("stage", "lookup")
        })?;
        if !sum.executable {
            return Err(Failure::new(
                Code::EntryInvalid,
                format!(
                    "{entry:?} has no run bit; set it with chmod +x and install the package again"
                ),
            )
            .with("path", entry)
            .with("stage", "mode"));
        }
        open_beneath(root, entry, OFlag::O_RDONLY).map_err(|errno| {
            altered(&self.tree, entry, &format!("cannot be opened: {}", errno.desc()))
        })
    }

    fn missing(&self) -> Failure {
        let digest = self.digest;
        Failure::new(
            Code::NotFound,
            format!("the store has no package {digest}; install the plugin again"),
        )
        .with("what", "package")
        .with("name", digest)
    }

    fn other_list(&self, found: Digest) -> Failure {
        let list = &self.list;
        Failure::new(
            Code::IntegrityFailed,
            format!("{} is not what was installed; install the plugin again", list.display()),
        )
        .with("path", list)
        .with("expected", self.digest)
        .with("found", found)
    }

    /// What was hashed under the entry's name must be the file whose descriptor will be executed.
    fn complete(self: Box<Self>, entry: OwnedFd, check: Check) -> Result<Progress, Failure> {
        let changed = |why: &str| altered(&check.path, &self.entry, why);
        let opened = Fingerprint::of(&entry).map_err(|errno| changed(errno.desc()))?;
        if !check.is_good(&self.entry, &opened) {
            return Err(changed("was replaced while it was verified"));
        }
        let Check { path, mut known, hashed, began, .. } = check;
        let is_old = |print: &Fingerprint| began.is_some_and(|began| print.is_older(began));
        // What is as it was goes on being shared.
        if !hashed.is_empty() || !known.values().all(is_old) {
            let known = Arc::make_mut(&mut known);
            known.extend(hashed);
            known.retain(|_, print| is_old(print));
        }
        Ok(Progress::Complete(Verified { digest: self.digest, path, entry }, known))
    }
}

impl Check {
    /// `known` are files that need not be hashed again if nothing has touched them.
    pub(super) fn begin(path: PathBuf, root: OwnedFd, sums: Sums, known: Arc<Known>) -> Self {
        Self {
            path,
            root,
            remaining: sums.into_files(),
            known,
            hashed: Known::new(),
            began: Instant::now(),
            current: None,
            buffer: Vec::new(),
        }
    }

    fn is_good(&self, path: &str, print: &Fingerprint) -> bool {
        self.hashed.get(path).or_else(|| self.known.get(path)) == Some(print)
    }

    /// Does one bounded piece. `true` when every file was found to be good.
    pub(super) fn step(&mut self) -> Result<bool, Failure> {
        if let Some(hashing) = self.current.take() {
            self.hash(hashing)?;
            return Ok(false);
        }
        // Files that are known cost two calls each, so many of them are one piece.
        for _ in 0..256 {
            let Some((path, sum)) = self.remaining.next() else { return Ok(true) };
            if let Some(hashing) = self.open(path, sum)? {
                self.current = Some(hashing);
                break;
            }
        }
        Ok(false)
    }

    /// Whether the tree still has its name, and nobody took or replaced it meanwhile.
    pub(super) fn is_in_place(&self) -> bool {
        let (Ok(now), Ok(checked)) = (lstat(&self.path), fstat(&self.root)) else { return false };
        (now.st_dev, now.st_ino) == (checked.st_dev, checked.st_ino)
    }

    /// `None` if the file is known to be good.
    fn open(&mut self, path: String, sum: Sum) -> Result<Option<Hashing>, Failure> {
        let changed = |why: String| altered(&self.path, &path, &why);
        let file = open_beneath(&self.root, &path, OFlag::O_RDONLY)
            .map_err(|errno| changed(format!("cannot be opened: {}", errno.desc())))?;
        let stat = fstat(&file).map_err(|errno| changed(errno.desc().to_owned()))?;
        if Kind::of(&stat) != Kind::Regular {
            return Err(changed("is no regular file any more".to_owned()));
        }
        if stat.st_mode & 0o7777 != sum.mode() {
            return Err(changed(format!(
                "has mode {:04o} instead of {:04o}",
                stat.st_mode & 0o7777,
                sum.mode()
            )));
        }
        let before = Fingerprint::from_stat(&stat);
        if self.is_good(&path, &before) {
            return Ok(None);
        }
        Ok(Some(Hashing {
            path,
            expected: sum.digest,
            file: file.into(),
            before,
            hash: Sha256::new(),
        }))
    }

    fn hash(&mut self, mut hashing: Hashing) -> Result<(), Failure> {
        self.buffer.resize(BUFFER, 0);
        let mut piece = 0;
        while piece < PIECE {
            let read = hashing.file.read(&mut self.buffer).map_err(|error| {
                altered(&self.path, &hashing.path, &format!("cannot be read: {error}"))
            })?;
            if read == 0 {
                return self.finish(hashing);
            }
            piece += read;
            hashing.hash.update(&self.buffer[..read]);
        }
        self.current = Some(hashing);
        Ok(())
    }

    fn finish(&mut self, hashing: Hashing) -> Result<(), Failure> {
        let found = Digest::new(hashing.hash.finalize().into());
        if found != hashing.expected {
            return Err(altered(&self.path, &hashing.path, "has another content")
                .with("expected", hashing.expected)
                .with("found", found));
        }
        let after = Fingerprint::of(&hashing.file)
            .map_err(|errno| altered(&self.path, &hashing.path, errno.desc()))?;
        if after != hashing.before {
            return Err(altered(&self.path, &hashing.path, "changed while it was read"));
        }
        self.hashed.insert(hashing.path, after);
        Ok(())
    }
}

fn altered(tree: &Path, path: &str, why: &str) -> Failure {
    let path = tree.join(path);
    Failure::new(
        Code::IntegrityFailed,
        format!("{} is not what was installed: it {why}; install the plugin again", path.display()),
    )
    .with("path", path)
}
