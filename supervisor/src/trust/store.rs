//! The trust store: a directory with one file per key.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::{KeyId, PublicKey, Refusal, Scope, TrustedKey};
use crate::config::{check_ours, read_ours};
use crate::failure::{Code, Failure};
use crate::id::PluginId;

/// Of a key's file.
const SUFFIX: &str = ".toml";

/// A file of the store, and the key in it.
pub(crate) type Listed = (PathBuf, Result<TrustedKey, Failure>);

/// Where the keys are. Nothing of it is kept in memory.
#[derive(Clone, Debug)]
pub(crate) struct TrustStore {
    directory: PathBuf,
}

impl TrustStore {
    /// A directory that need not exist: then no key is trusted.
    pub(crate) fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    pub(super) fn file(&self, id: KeyId) -> PathBuf {
        self.directory.join(format!("{id}{SUFFIX}"))
    }

    /// The key of that name, trusted or revoked.
    ///
    /// CONFIG_INVALID: the directory or the file can be written by others, or is not what it must be.
    pub(crate) fn find(&self, id: KeyId) -> Result<Option<TrustedKey>, Failure> {
        if !self.check()? {
            return Ok(None);
        }
        let path = self.file(id);
        let Some(text) = read_ours(&path)? else { return Ok(None) };
        let key = TrustedKey::parse(&text, &path)?;
        if key.id() != id {
            let message =
                format!("{} holds key {}; name it {}{SUFFIX}", path.display(), key.id(), key.id());
            return Err(Failure::new(Code::ConfigInvalid, message).with("path", path));
        }
        Ok(Some(key))
    }

    /// Whether what one of these keys has signed may run as that plugin: by the first that may.
    pub(crate) fn authorize(&self, id: &PluginId, keys: &[PublicKey]) -> Result<KeyId, Failure> {
        let mut refused = Refusal::Unsigned.of_plugin(id);
        for signed_by in keys {
            match self.check_key(id, signed_by) {
                Ok(()) => return Ok(signed_by.id()),
                Err(failure) => refused = failure,
            }
        }
        Err(refused)
    }

    fn check_key(&self, id: &PluginId, signed_by: &PublicKey) -> Result<(), Failure> {
        let of_plugin = |refusal: Refusal| refusal.of_plugin(id);
        match self.find(signed_by.id())? {
            // Another key can have the same name.
            Some(trusted) if trusted.key == *signed_by => {
                trusted.check_valid().map_err(of_plugin)?;
                trusted.check_scope(id).map_err(of_plugin)
            }
            _ => Err(of_plugin(Refusal::UnknownKey { key: signed_by.id() })),
        }
    }

    /// Every key, by name; a file that is none is an error in its place.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, Failure> {
        if !self.check()? {
            return Ok(Vec::new());
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(|error| self.unreadable(&error))? {
            let path = entry.map_err(|error| self.unreadable(&error))?.path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        let read = |path: PathBuf| {
            let name = path.file_stem().and_then(|stem| stem.to_str());
            let broken = |why: &str| {
                let message = format!("{} {why}", path.display());
                Failure::new(Code::ConfigInvalid, message).with("path", &path)
            };
            let key = match name.and_then(|name| name.parse().ok()) {
                None => Err(broken("is not named for a key id")),
                Some(id) => match self.find(id) {
                    Ok(None) => Err(broken("has a name in lower case, or is gone")),
                    Ok(Some(key)) => Ok(key),
                    Err(failure) => Err(failure),
                },
            };
            (path, key)
        };
        Ok(paths.into_iter().map(read).collect())
    }

    /// Trusts a key for these plugins; one that is trusted already also for these.
    ///
    /// CONFLICT: it was revoked. ALREADY_EXISTS: another key has that name.
    pub(crate) fn add(
        &self,
        key: PublicKey,
        plugins: Vec<Scope>,
        comment: Option<String>,
        now: String,
    ) -> Result<TrustedKey, Failure> {
        let id = key.id();
        let known = self.find(id)?;
        let is_new = known.is_none();
        let mut trusted = match known {
            None => {
                TrustedKey { key, plugins: Vec::new(), comment: None, added: now, revoked: None }
            }
            Some(known) if known.key != key => {
                let message = format!(
                    "{} has another key of the name {id}; make a new key pair",
                    self.file(id).display()
                );
                return Err(Failure::new(Code::AlreadyExists, message)
                    .with("what", "key")
                    .with("name", id));
            }
            Some(TrustedKey { revoked: Some(at), .. }) => {
                let message = format!(
                    "key {id} was revoked at {at} and stays so; make a new key pair, or remove {} \
                     if that was a mistake",
                    self.file(id).display()
                );
                return Err(Failure::new(Code::Conflict, message).with("state", "revoked"));
            }
            Some(known) => known,
        };
        trusted.plugins.extend(plugins);
        trusted.plugins.sort();
        trusted.plugins.dedup();
        trusted.comment = comment.or(trusted.comment);
        self.write(&trusted, is_new)?;
        Ok(trusted)
    }

    /// What it has signed does not start any more. One that is revoked stays as it is.
    ///
    /// NOT_FOUND: no such key.
    pub(crate) fn revoke(&self, id: KeyId, now: String) -> Result<TrustedKey, Failure> {
        let mut key = self.find(id)?.ok_or_else(|| {
            let message = format!("there is no key {id} in {}", self.directory.display());
            Failure::new(Code::NotFound, message).with("what", "key").with("name", id)
        })?;
        if key.revoked.is_none() {
            key.revoked = Some(now);
            self.write(&key, false)?;
        }
        Ok(key)
    }

    /// Complete or not at all, whatever happens meanwhile.
    fn write(&self, key: &TrustedKey, is_new: bool) -> Result<(), Failure> {
        let path = self.file(key.id());
        let text = key.to_text()?;
        let write = || -> std::io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o755).create(&self.directory)?;
            let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory)?;
            file.write_all(text.as_bytes())?;
            file.as_file().set_permissions(Permissions::from_mode(0o644))?;
            file.as_file().sync_all()?;
            if is_new {
                // Somebody may have added it at the same moment, for other plugins.
                file.persist_noclobber(&path)?;
            } else {
                file.persist(&path)?;
            }
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| {
            let (code, hint) = match error.kind() {
                ErrorKind::PermissionDenied => {
                    (Code::PermissionDenied, "; only who owns the trust store can change it")
                }
                ErrorKind::AlreadyExists => (Code::Conflict, "; it was just added, look at it"),
                _ => (Code::StorageFailed, ""),
            };
            let message = format!("cannot write {}: {error}{hint}", path.display());
            Failure::new(code, message).with("path", path)
        })
    }

    /// Whether there is a directory, which then is ours.
    fn check(&self) -> Result<bool, Failure> {
        match fs::metadata(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unreadable(&error)),
            Ok(metadata) => check_ours(&self.directory, &metadata).map(|()| true),
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> Failure {
        let message = format!("cannot read {}: {error}", self.directory.display());
        Failure::new(Code::ConfigInvalid, message).with("path", &self.directory)
    }

    /// Whether this user is who may change it, as far as that can be told before trying.
    pub(crate) fn check_writer(&self) -> Result<(), Failure> {
        let owner = self
            .directory
            .ancestors()
            .find_map(|path| fs::metadata(path).ok())
            .map_or(0, |metadata| metadata.uid());
        if geteuid().is_root() || geteuid().as_raw() == owner {
            return Ok(());
        }
        let message = format!(
            "the trust store {} belongs to uid {owner}; become that user to change it",
            self.directory.display()
        );
        Err(Failure::new(Code::PermissionDenied, message).with("path", &self.directory))
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
