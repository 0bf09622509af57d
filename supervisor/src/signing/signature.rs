//! Signing a package.

use std::fs::{File, Permissions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use minisign::{PublicKey, SecretKey};
use semver::Version;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::package;
use crate::trust::{self, KeyId};

/// Anybody can change this line of a signature, so it says nothing.
const UNTRUSTED_COMMENT: &str = "signature from bulkhead";

/// A signature that was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signed {
    pub(crate) signature: PathBuf,
    pub(crate) key: KeyId,
    pub(crate) id: PluginId,
    pub(crate) version: Version,
}

/// Where the signature of a file is, unless another place is named.
pub(crate) fn path_of(package: &Path) -> PathBuf {
    let mut path = package.as_os_str().to_owned();
    path.push(".minisig");
    path.into()
}

/// Signs a package; a signature that was there is replaced.
///
/// # Errors
/// What is no package, or would not be installed under its name, is not signed.
pub(crate) fn sign(path: &Path, signature: &Path, key: &SecretKey) -> Result<Signed, Failure> {
    let mut file = package::open(path)?;
    let manifest = package::inspect(&file, path)?;
    file.rewind().map_err(|error| package::unreadable(path, &error))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // As minisign has it, so that its -V shows when and what.
    let comment = format!("timestamp:{}\tfile:{name}\thashed", now.as_secs());
    let failed = |error: minisign::PError| {
        let message = format!("cannot sign {}: {error}", path.display());
        Failure::new(Code::InvalidRequest, message).with("path", path)
    };
    let public = PublicKey::from_secret_key(key).map_err(failed)?;
    let made =
        minisign::sign(Some(&public), key, &mut file, Some(&comment), Some(UNTRUSTED_COMMENT))
            .map_err(failed)?;
    write(signature, &made.to_bytes())?;
    let public: trust::PublicKey = public.to_base64().parse().map_err(Failure::internal)?;
    Ok(Signed {
        signature: signature.to_owned(),
        key: public.id(),
        id: manifest.id,
        version: manifest.version,
    })
}

fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let message = format!("cannot write {}: {error}", path.display());
        Failure::new(Code::StorageFailed, message).with("path", path)
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::with_prefix_in(".signing-", parent).map_err(failed)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map(drop::<File>).map_err(|error| failed(error.error))
}
