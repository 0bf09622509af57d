//! Where a plugin comes from, and how its tree gets into the store.

use std::fs::File;
use std::path::{Path, PathBuf};

use semver::Version;

use super::Registry;
use super::operation::{FETCH, Kind, Moment, pause};
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::link::{Reply, Request, Signer};
use crate::manifest::Manifest;
use crate::package::check_name;
use crate::package::unpack::reported;
use crate::supervise::launcher_link::unexpected;
use crate::trust::{MAX_SIGNATURE, Refusal};

/// What a client asks to install.
#[derive(Debug)]
pub(crate) enum Source {
    /// A directory of this machine, which nobody has signed.
    Directory(PathBuf),
    /// A package that was uploaded.
    Package {
        /// On the file system of the supervisor's own directory, and without a name.
        file: File,
        /// As the client calls the file.
        name: Option<String>,
        /// The text of its minisign signature.
        signature: Option<String>,
    },
}

/// A tree in the store that may run as the plugin which its manifest says it is.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) digest: Digest,
    pub(crate) root: PathBuf,
    pub(crate) manifest: Manifest,
    /// `None`: it comes from a directory.
    pub(crate) signer: Option<Signer>,
}

/// What a client takes it to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) id: Option<PluginId>,
    pub(crate) version: Option<Version>,
}

impl Expected {
    /// VERSION_INCOMPATIBLE: it is another version. CONFLICT: it is another plugin.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<(), Failure> {
        if let Some(id) = self.id.as_ref().filter(|id| **id != manifest.id) {
            let message = format!("{id} was to be installed, and this is {}", manifest.id);
            return Err(Failure::new(Code::Conflict, message)
                .with("what", "id")
                .with("expected", id)
                .with("found", &manifest.id));
        }
        if let Some(version) = self.version.as_ref().filter(|asked| **asked != manifest.version) {
            let (id, found) = (&manifest.id, &manifest.version);
            let message = format!("{id} {version} was to be installed, and this is {found}");
            return Err(Failure::new(Code::VersionIncompatible, message)
                .with("what", "plugin")
                .with("required", version.to_string())
                .with("found", found.to_string()));
        }
        Ok(())
    }
}

impl Registry {
    /// Brings a tree into the store, held until [`Registry::let_go`]. Whatever fails leaves nothing
    /// behind that was not there before.
    ///
    /// SIGNATURE_INVALID: no trusted key has signed it, or none that may sign this plugin.
    /// PACKAGE_INVALID: it is signed, and no package; or its name is another's.
    pub(super) async fn fetch(&self, source: Source, kind: Kind) -> Result<Imported, Failure> {
        // As the operator knows it: the tree in the store is a copy that may be gone again.
        let shown = match &source {
            Source::Directory(source) => source.clone(),
            Source::Package { name, .. } => PathBuf::from(name.as_deref().unwrap_or("the package")),
        };
        let (request, package, name) = match source {
            Source::Directory(source) => (Request::Import { source }, None, None),
            Source::Package { file, name, signature } => {
                let signature = signature.ok_or_else(|| Refusal::Unsigned.of_package())?;
                if signature.len() > MAX_SIGNATURE {
                    return Err(Refusal::Malformed.of_package());
                }
                (Request::ImportPackage { signature }, Some(file.into()), name)
            }
        };
        // Until it is held nobody may look for trees that nobody needs.
        let importing = self.trees.import().await;
        pause(self, kind.name(), FETCH, Moment::Before);
        let answer = self.launcher.ask_with(request, package).await;
        if let Ok((Reply::Imported { digest, .. }, _)) = &answer {
            self.trees.hold(*digest);
        }
        pause(self, kind.name(), FETCH, Moment::After);
        drop(importing);
        self.discard_left().await;
        let (digest, root, signer) = match answer? {
            (Reply::Imported { digest, root, signer }, _) => (digest, root, signer),
            (Reply::Unopened { report }, _) => return Err(reported(&report)),
            (other, _) => return Err(unexpected(&other)),
        };
        let manifest = match self.accept(digest, &root, &shown, name.as_deref()).await {
            Ok(manifest) => manifest,
            Err(failure) => {
                self.let_go(digest).await;
                return Err(failure);
            }
        };
        Ok(Imported { digest, root, manifest, signer })
    }

    async fn accept(
        &self,
        digest: Digest,
        root: &Path,
        shown: &Path,
        name: Option<&str>,
    ) -> Result<Manifest, Failure> {
        let mut manifest = Manifest::load_as(root, shown)?;
        if let Some(name) = name {
            check_name(name, &manifest)?;
        }
        self.settings.limits.fill(&mut manifest.limits);
        let id = manifest.id.clone();
        self.launcher.ask_done(Request::Authorize { id, digest }).await?;
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_checked() {
        let manifest = Manifest::parse(b"id = 'a'\nversion = '1.0.0'", "x".as_ref()).unwrap();
        let check = |id: Option<&str>, version: Option<&str>| {
            let id = id.map(|id| id.parse().unwrap());
            let version = version.map(|version| version.parse().unwrap());
            Expected { id, version }.check(&manifest).map_err(|failure| failure.code)
        };
        assert_eq!(check(None, None), Ok(()));
        assert_eq!(check(Some("a"), Some("1.0.0")), Ok(()));
        assert_eq!(check(Some("b"), Some("1.0.0")), Err(Code::Conflict));
        assert_eq!(check(Some("a"), Some("1.0.1")), Err(Code::VersionIncompatible));
    }
}
