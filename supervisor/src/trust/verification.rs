//! A stranger's bytes and the signature that came with them.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;

use minisign_verify::{Error, Signature};

use super::key_id::{Algorithm, prefix};
use super::stepwise::pause;
use super::{KeyId, PublicKey, Refusal, Scope, Stepwise, TrustStore, TrustedKey};
use crate::failure::{Code, Failure};
use crate::package::limits;

/// The longest signature: four lines, of which two are comments.
pub(crate) const MAX_SIGNATURE: usize = 4096;
/// The largest package.
pub(crate) const MAX_PACKAGE: u64 = limits::PACKAGE_BYTES;
/// What one step reads at most: about ten milliseconds.
const PIECE: u64 = 4 << 20;
const BUFFER: usize = 256 << 10;

/// A signature and the trusted key that it names. Nothing is proven yet.
pub(crate) struct Claim {
    key: TrustedKey,
    signature: Signature,
}

impl TrustStore {
    /// Reads a signature and finds its key. Which plugins the key may sign is not asked here.
    ///
    /// SIGNATURE_INVALID, with the reason.
    pub(crate) fn claim(&self, text: &str) -> Result<Claim, Failure> {
        let refused = |refusal: Refusal| refusal.of_package();
        let (id, signature) = parse(text).map_err(refused)?;
        let key = self.find(id)?.ok_or_else(|| refused(Refusal::UnknownKey { key: id }))?;
        key.check_valid().map_err(refused)?;
        Ok(Claim { key, signature })
    }
}

/// The key that a signature names, and the signature.
fn parse(text: &str) -> Result<(KeyId, Signature), Refusal> {
    let (algorithm, key) = named_key(text).ok_or(Refusal::Malformed)?;
    if algorithm == Algorithm::Legacy {
        return Err(Refusal::Legacy { key });
    }
    Ok((key, Signature::decode(text).map_err(|_| Refusal::Malformed)?))
}

/// The algorithm and the key that a signature names in its second line.
fn named_key(text: &str) -> Option<(Algorithm, KeyId)> {
    if text.len() > MAX_SIGNATURE {
        return None;
    }
    prefix(text.lines().nth(1)?)
}

impl Claim {
    /// Reads a signature that is to be this key's, for who needs no store to trust it.
    ///
    /// SIGNATURE_INVALID, with the reason.
    pub(crate) fn of(key: &PublicKey, text: &str) -> Result<Self, Failure> {
        let (id, signature) = parse(text).map_err(|refusal| refusal.of_package())?;
        if id != key.id() {
            return Err(Refusal::OtherKey { key: id, wanted: key.id() }.of_package());
        }
        let key = TrustedKey {
            key: key.clone(),
            plugins: vec![Scope::All],
            comment: None,
            added: String::new(),
            revoked: None,
        };
        Ok(Self { key, signature })
    }

    /// What the signer says of it; signed too, and proven when the rest is.
    pub(crate) fn comment(&self) -> &str {
        self.signature.trusted_comment()
    }

    /// Copies `from`, whose owner may change it meanwhile, and gives the copy if the very bytes that
    /// are in it are what the key has signed.
    pub(crate) fn copy(
        self,
        from: File,
        to: File,
    ) -> Stepwise<Result<(File, TrustedKey), Failure>> {
        Stepwise::new(async move {
            let to = self.copy_and_verify(&from, to).await?;
            Ok((to, self.key))
        })
    }

    async fn copy_and_verify(&self, from: &File, mut to: File) -> Result<File, Failure> {
        let mismatch = || Refusal::Mismatch { key: self.key.id() }.of_package();
        let mut verifier = self.key.key.minisign().verify_stream(&self.signature).map_err(
            |error| match error {
                Error::UnsupportedLegacyMode => Refusal::Legacy { key: self.key.id() }.of_package(),
                _ => mismatch(),
            },
        )?;
        let mut buffer = vec![0; BUFFER];
        let mut copied = 0;
        loop {
            // At a position of our own: who sent the descriptor shares its offset.
            let read = match from.read_at(&mut buffer, copied) {
                Ok(0) => break,
                Ok(read) => &buffer[..read],
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    let message = format!("the package cannot be read: {error}");
                    return Err(Failure::new(Code::InvalidRequest, message));
                }
            };
            verifier.update(read);
            to.write_all(read).map_err(|error| {
                Failure::new(Code::StorageFailed, format!("cannot copy the package: {error}"))
            })?;
            let before = copied;
            copied += read.len() as u64;
            if copied > MAX_PACKAGE {
                return Err(too_large(copied));
            }
            if before / PIECE != copied / PIECE {
                pause().await;
            }
        }
        verifier.finalize().map_err(|_| mismatch())?;
        Ok(to)
    }
}

/// A package is larger than any may be.
pub(crate) fn too_large(size: u64) -> Failure {
    let message = format!("a package has at most {MAX_PACKAGE} bytes; this one has {size} or more");
    Failure::new(Code::ResourceExhausted, message)
        .with("resource", "package bytes")
        .with("limit", MAX_PACKAGE)
        .with("used", size)
}

#[cfg(test)]
#[path = "verification_tests.rs"]
mod tests;
