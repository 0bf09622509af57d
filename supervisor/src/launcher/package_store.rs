//! The store of plugin trees: root-owned, read-only, named by their content.
//!
//! ```text
//! store/<digest>/        the tree: directories 0555, files 0444 or 0555
//! store/<digest>.sums    one line per file; its SHA-256 is the digest
//! store/<digest>.signer  one line per key that has signed it; none where it came as a directory
//! store/.import-N        a copy that is not complete, or a damaged tree that a good one has
//!                        replaced; removed after the next start
//! store/.unpack-N        what is just being unpacked; likewise
//! ```
//! The list is written before the tree gets its name, so a tree that can be seen is complete.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::removal::Removal;
use crate::failure::{Code, Failure};
use crate::id::Digest;

mod import;
mod importing;
mod listing;
mod scratch;
mod signers;
mod sums;
#[cfg(test)]
mod tests;
mod tree;
mod verification;

pub(super) use importing::Importing;
pub(super) use scratch::Scratch;
pub(super) use sums::check_path;
pub(super) use verification::{Verification, Verified};

/// A list of sums is at most this long: 10,000 files with the longest paths.
const MAX_SUMS: u64 = 16 << 20;

/// The store. One launcher at a time owns it; it holds the state directory's lock.
pub(super) struct PackageStore {
    path: PathBuf,
    /// The number of the last import.
    imports: u64,
    /// What a dead launcher left half done.
    left: Vec<PathBuf>,
    /// Fingerprints of verified files by tree.
    known: HashMap<Digest, Arc<verification::Known>>,
}

/// What one piece of work came to.
pub(super) enum Step<Work, Done> {
    More(Work),
    Done(Done),
}

impl PackageStore {
    /// Opens or creates the store, and finds what a dead launcher left half done.
    pub(super) fn open(path: PathBuf) -> std::io::Result<Self> {
        match DirBuilder::new().mode(0o755).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let (mut left, mut imports) = (Vec::new(), 0);
        let mut complete = Vec::new();
        let mut lists = Vec::new();
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                // What is still there keeps its number.
                let number = name.rsplit('-').next().and_then(|text| text.parse().ok());
                imports = imports.max(number.unwrap_or(0));
                left.push(entry.path());
            } else if let Some(digest) =
                name.strip_suffix(".sums").or_else(|| name.strip_suffix(signers::SUFFIX))
            {
                lists.push((digest.to_owned(), entry.path()));
            } else {
                complete.push(name.into_owned());
            }
        }
        for (digest, list) in lists {
            if !complete.contains(&digest) {
                // Now, as the next import may write it anew.
                if let Err(error) = fs::remove_file(&list) {
                    tracing::warn!(path = %list.display(), %error, "a list without its tree stays");
                }
            }
        }
        Ok(Self { path, imports, left, known: HashMap::new() })
    }

    /// What a dead launcher left half done, once.
    pub(super) fn take_left(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.left)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn tree(&self, digest: Digest) -> PathBuf {
        self.path.join(digest.to_string())
    }

    fn list(&self, digest: Digest) -> PathBuf {
        self.path.join(format!("{digest}.sums"))
    }

    /// Begins to verify a tree and to open its entry.
    ///
    /// The steps fail with NOT_FOUND: no such tree. ENTRY_INVALID: the package has no such entry, or one
    /// without a run bit. INTEGRITY_FAILED: what lies in the store is not what was imported.
    pub(super) fn verify(&self, digest: Digest, entry: &str) -> Box<Verification> {
        Verification::begin(digest, self.tree(digest), self.list(digest), entry)
    }

    fn read_list(&self, digest: Digest) -> Option<Vec<u8>> {
        let file = File::open(self.list(digest)).ok()?;
        let mut text = Vec::new();
        file.take(MAX_SUMS).read_to_end(&mut text).ok()?;
        Some(text)
    }

    /// One piece of a verification.
    pub(super) fn step_verification(
        &mut self,
        verification: Box<Verification>,
    ) -> Result<Step<Box<Verification>, Verified>, Failure> {
        match verification.step(&self.known)? {
            verification::Progress::More(verification) => Ok(Step::More(verification)),
            verification::Progress::Complete(verified, known) => {
                self.known.insert(verified.digest, known);
                Ok(Step::Done(verified))
            }
        }
    }

    /// Takes a tree out of sight; the removal itself is done in pieces. Already gone is well.
    pub(super) fn discard(&mut self, digest: Digest) -> Result<Option<Removal>, Failure> {
        self.known.remove(&digest);
        let failed = |path: &Path, error: &std::io::Error| {
            Failure::new(Code::StorageFailed, format!("cannot remove {}: {error}", path.display()))
                .with("path", path)
        };
        let tree = self.tree(digest);
        let removal = Removal::begin(&tree, &self.path).map_err(|error| failed(&tree, &error))?;
        for list in [self.list(digest), self.signer_list(digest)] {
            match fs::remove_file(&list) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed(&list, &error));
                }
                _ => {}
            }
        }
        Ok(removal)
    }
}
