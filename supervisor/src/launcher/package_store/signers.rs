//! Which keys have signed a tree.
//!
//! `store/<digest>.signer` has one public key a line, as minisign writes it: the whole key, as a
//! key's name is whatever its maker chose. The same tree can come in several packages, of several
//! keys; each is noted, so that none can be taken away by another's.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;

use super::PackageStore;
use crate::failure::{Code, Failure};
use crate::id::Digest;
use crate::launcher::whole_file;
use crate::trust::PublicKey;

/// After the digest.
pub(super) const SUFFIX: &str = ".signer";
/// The longest list: more keys than anybody trusts.
const MAX_BYTES: u64 = 64 << 10;

impl PackageStore {
    pub(super) fn signer_list(&self, digest: Digest) -> PathBuf {
        self.path.join(format!("{digest}{SUFFIX}"))
    }

    /// The keys that have signed a tree; none where it was copied from a directory.
    ///
    /// NOT_FOUND: no such tree. INTEGRITY_FAILED: the list is not what was written.
    pub(in crate::launcher) fn signers(&self, digest: Digest) -> Result<Vec<PublicKey>, Failure> {
        if !self.tree(digest).is_dir() {
            return Err(Failure::new(
                Code::NotFound,
                format!("the store has no package {digest}; install the plugin again"),
            )
            .with("what", "package")
            .with("name", digest));
        }
        self.read_signers(digest)
    }

    fn read_signers(&self, digest: Digest) -> Result<Vec<PublicKey>, Failure> {
        let path = self.signer_list(digest);
        let altered = |why: String| {
            let message = format!(
                "{} is not what was written ({why}); install the plugin again",
                path.display()
            );
            Failure::new(Code::IntegrityFailed, message).with("path", &path)
        };
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.map_err(|error| altered(error.to_string()))?,
        };
        let mut text = String::new();
        file.take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| altered(error.to_string()))?;
        let parse = |line: &str| line.parse().map_err(|error| altered(format!("{error}")));
        text.lines().map(parse).collect()
    }

    /// Notes that a key has signed a tree that is in the store.
    pub(in crate::launcher) fn note_signer(
        &self,
        digest: Digest,
        key: &PublicKey,
    ) -> Result<(), Failure> {
        // A list that was damaged is worth nothing: who installs again has a reason.
        let mut keys = self.read_signers(digest).unwrap_or_default();
        if keys.contains(key) {
            return Ok(());
        }
        keys.push(key.clone());
        let path = self.signer_list(digest);
        let hidden = self.path.join(format!(".signer-{digest}"));
        let text: String = keys.iter().flat_map(|key| [key.as_str(), "\n"]).collect();
        let write = || {
            whole_file::write(&path, &hidden, 0o444, text.as_bytes())?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| {
            Failure::new(Code::StorageFailed, format!("cannot write {}: {error}", path.display()))
                .with("path", &path)
        })
    }
}
