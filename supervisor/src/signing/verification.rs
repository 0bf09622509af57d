//! Verifying a package by hand, as the service does when it is installed.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use semver::Version;
use serde::Serialize;

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::package;
use crate::trust::{Claim, KeyId, MAX_SIGNATURE, PublicKey, TrustStore};

/// By whose word a package is good.
pub(crate) enum By {
    /// This key's, whatever it may sign.
    Key(PublicKey),
    /// That of a key which this store trusts for the plugin.
    Trust(TrustStore),
}

/// A package that is what its signer signed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verified {
    pub(crate) key: KeyId,
    pub(crate) id: PluginId,
    pub(crate) version: Version,
    /// What the signer says of it, and signed too.
    pub(crate) comment: String,
}

/// Verifies the signature, then opens the package and holds it against its file name, and the
/// plugin's id against what the key may sign.
///
/// # Errors
/// [`Code::SignatureInvalid`] with `reason`; [`Code::PackageInvalid`]; [`Code::NotFound`] where one
/// of the files does not exist.
pub(crate) fn verify(path: &Path, signature: &Path, by: &By) -> Result<Verified, Failure> {
    let text = read_signature(signature)?;
    let claim = match by {
        By::Key(key) => Claim::of(key, &text)?,
        By::Trust(store) => store.claim(&text)?,
    };
    let comment = claim.comment().to_owned();
    let file = package::open(path)?;
    let copy = tempfile::tempfile().map_err(|error| {
        let directory = std::env::temp_dir();
        let message =
            format!("cannot copy the package to {}: {error}; set TMPDIR", directory.display());
        Failure::new(Code::StorageFailed, message).with("path", directory)
    })?;
    // What is opened is the copy that was verified: the file itself may be another by now.
    let (mut copy, signer): (File, _) = claim.copy(file, copy).finish()?;
    copy.rewind().map_err(|error| package::unreadable(path, &error))?;
    let manifest = package::inspect(&copy, path)?;
    if let By::Trust(store) = by {
        store.authorize(&manifest.id, std::slice::from_ref(&signer.key))?;
    }
    Ok(Verified { key: signer.id(), id: manifest.id, version: manifest.version, comment })
}

fn read_signature(path: &Path) -> Result<String, Failure> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let message = format!(
                "there is no signature {}; --signature names another place",
                path.display()
            );
            Failure::new(Code::NotFound, message)
                .with("path", path)
                .with("what", "signature")
                .with("name", path)
        }
        _ => package::unreadable(path, &error),
    })?;
    let mut text = Vec::new();
    // One more than there may be, so that a longer one is refused and not cut.
    file.take(MAX_SIGNATURE as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| package::unreadable(path, &error))?;
    // What is not UTF-8 is no signature, which the next to read it finds.
    Ok(String::from_utf8_lossy(&text).into_owned())
}
