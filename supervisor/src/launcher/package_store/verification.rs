//! Whether a tree in the store is still what was imported, and its entry opened for execution.
//!
//! Every file is hashed once; afterwards its fingerprint (inode, size, times) stands for its content,
//! since no change of a file leaves its ctime as it was; but for one within the same tick of the clock,
//! so a file that is as young as its check is hashed again at the next. The entry's descriptor is opened before it
//! is examined and is the very one that will be executed: a file put in its place meanwhile is not
//! run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{fstat, lstat};
use sha2::{Digest as _, Sha256};

use super::sums::{Sum, Sums};
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
    entry: OwnedFd,
    entry_path: String,
    check: Check,
}

/// The files of a tree being held against their sums.
pub(super) struct Check {
    path: PathBuf,
    root: OwnedFd,
    remaining: Vec<(String, Sum)>,
    known: Known,
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
    Complete(Verified, Known),
}

impl Verification {
    pub(super) fn begin(
        digest: Digest,
        path: PathBuf,
        root: OwnedFd,
        sums: &Sums,
        entry: &str,
        known: Known,
    ) -> Result<Box<Self>, Failure> {
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
        let descriptor = open_beneath(&root, entry, OFlag::O_RDONLY).map_err(|errno| {
            altered(&path, entry, &format!("cannot be opened: {}", errno.desc()))
        })?;
        Ok(Box::new(Self {
            digest,
            entry: descriptor,
            entry_path: entry.to_owned(),
            check: Check::begin(path, root, sums, known),
        }))
    }

    /// Does one bounded piece.
    pub(super) fn step(mut self: Box<Self>) -> Result<Progress, Failure> {
        if self.check.step()? { self.complete() } else { Ok(Progress::More(self)) }
    }

    /// What was hashed under the entry's name must be the file whose descriptor will be executed.
    fn complete(self: Box<Self>) -> Result<Progress, Failure> {
        let Self { digest, entry, entry_path, check } = *self;
        let changed = |why: &str| altered(&check.path, &entry_path, why);
        let opened = Fingerprint::of(&entry).map_err(|errno| changed(errno.desc()))?;
        if check.known.get(&entry_path) != Some(&opened) {
            return Err(changed("was replaced while it was verified"));
        }
        let Check { path, mut known, began, .. } = check;
        known.retain(|_, fingerprint| began.is_some_and(|began| fingerprint.is_older(began)));
        Ok(Progress::Complete(Verified { digest, path, entry }, known))
    }
}

impl Check {
    /// `known` are files that need not be hashed again if nothing has touched them.
    pub(super) fn begin(path: PathBuf, root: OwnedFd, sums: &Sums, known: Known) -> Self {
        let remaining = sums.iter().map(|(path, sum)| (path.to_owned(), sum)).collect();
        let began = Instant::now();
        Self { path, root, remaining, known, began, current: None, buffer: Vec::new() }
    }

    /// Does one bounded piece. `true` when every file was found to be good.
    pub(super) fn step(&mut self) -> Result<bool, Failure> {
        if let Some(hashing) = self.current.take() {
            self.hash(hashing)?;
            return Ok(false);
        }
        // Files that are known cost two calls each, so many of them are one piece.
        for _ in 0..256 {
            let Some((path, sum)) = self.remaining.pop() else { return Ok(true) };
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
        if self.known.get(&path) == Some(&before) {
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
        self.known.insert(hashing.path, after);
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
