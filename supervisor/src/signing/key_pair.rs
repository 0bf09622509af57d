//! A new pair of keys, in two files.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use minisign::KeyPair;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::config;
use crate::failure::{Code, Failure};
use crate::trust::{KeyId, PublicKey};

/// What minisign writes into its own, so that it reads ours without a warning.
const COMMENT: &str = "minisign encrypted secret key";

/// Where the two halves are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPaths {
    pub(crate) secret: PathBuf,
    pub(crate) public: PathBuf,
}

impl KeyPaths {
    /// `signing.key` and `signing.pub` in the user's configuration, unless others are given. The
    /// public half goes beside a secret one that was given.
    pub(crate) fn of(secret: Option<&Path>, public: Option<&Path>) -> Self {
        let secret = secret.map_or_else(|| config::of_user().join("signing.key"), Path::to_owned);
        let public = public.map_or_else(|| secret.with_extension("pub"), Path::to_owned);
        Self { secret, public }
    }
}

/// A pair of keys that was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    pub(crate) key: KeyId,
    pub(crate) secret_file: PathBuf,
    pub(crate) public_file: PathBuf,
    pub(crate) public_key: PublicKey,
    pub(crate) encrypted: bool,
}

/// Makes a pair; the secret half is encrypted if there is a password.
///
/// # Errors
/// [`Code::AlreadyExists`] where one of the files does and `replace` is not set;
/// [`Code::StorageFailed`].
pub(crate) fn make(
    paths: &KeyPaths,
    password: Option<String>,
    replace: bool,
) -> Result<Made, Failure> {
    if paths.secret == paths.public {
        let message = format!(
            "the public key would be written over the secret one, {}; name another file with -p",
            paths.secret.display()
        );
        return Err(Failure::new(Code::InvalidRequest, message).with("path", &paths.public));
    }
    if !replace {
        check_free(paths)?;
    }
    let encrypted = password.is_some();
    let pair = match password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password)),
        None => KeyPair::generate_unencrypted_keypair(),
    }
    .map_err(|error| Failure::new(Code::Internal, format!("no key can be made: {error}")))?;
    let internal = |error: minisign::PError| Failure::internal(format!("a key's text: {error}"));
    let secret = pair.sk.to_box(Some(COMMENT)).map_err(internal)?.to_bytes();
    let public = pair.pk.to_box().map_err(internal)?.to_bytes();
    let public_key: PublicKey = pair.pk.to_base64().parse().map_err(Failure::internal)?;
    write(&paths.secret, &secret, 0o600, replace)?;
    if let Err(failure) = write(&paths.public, &public, 0o644, replace) {
        // Half a pair is of no use, and would be in the way of the next.
        let _ = std::fs::remove_file(&paths.secret);
        return Err(failure);
    }
    Ok(Made {
        key: public_key.id(),
        secret_file: paths.secret.clone(),
        public_file: paths.public.clone(),
        public_key,
        encrypted,
    })
}

/// Whether neither file exists.
///
/// # Errors
/// [`Code::AlreadyExists`].
pub(crate) fn check_free(paths: &KeyPaths) -> Result<(), Failure> {
    for path in [&paths.secret, &paths.public] {
        // A dangling link is something too.
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    Ok(())
}

fn exists(path: &Path) -> Failure {
    let message = format!(
        "{} exists already, and a key that is gone cannot be made again; choose another name, or --force",
        path.display()
    );
    Failure::new(Code::AlreadyExists, message)
        .with("what", "key")
        .with("name", path)
        .with("path", path)
}

/// The file has its mode before it has a byte, and its name when it is complete.
fn write(path: &Path, content: &[u8], mode: u32, replace: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let message = format!("cannot write {}: {error}", path.display());
        Failure::new(Code::StorageFailed, message).with("path", path)
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    let mut file = NamedTempFile::with_prefix_in(".key-", parent).map_err(failed)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    if replace {
        file.persist(path).map_err(|error| failed(error.error))?;
    } else {
        file.persist_noclobber(path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => failed(error.error),
        })?;
    }
    Ok(())
}
