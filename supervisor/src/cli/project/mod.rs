//! An author's project, and the plugin's directory that is built of it.
//!
//! A project has `plugin.toml` beside its `Cargo.toml`: cargo builds the program, and it, the manifest
//! and `assets/` are laid out in a temporary directory as a package has them. Without a `Cargo.toml`
//! the directory is the plugin's itself, whatever builds it.

mod cargo;
mod tree;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::args::ProjectFlags;
use super::problem::Problem;
use super::run::Scratch;
use crate::failure::{Code, Failure};
use crate::manifest::{FILE_NAME, Manifest};

pub(super) use cargo::Cargo;
pub(super) use tree::copy;

/// What of a project is packed besides its program.
const ASSETS: &str = "assets";

pub(super) struct Project {
    root: PathBuf,
    /// None: it is built elsewhere.
    cargo: Option<Cargo>,
}

/// A plugin's directory, as it was when it was built.
pub(super) struct Built {
    pub(super) directory: PathBuf,
    pub(super) manifest: Manifest,
    /// Of all that is in it.
    pub(super) fingerprint: [u8; 32],
    _scratch: Option<Scratch>,
}

impl Project {
    /// # Errors
    /// [`Code::NotFound`] where there is no `plugin.toml`.
    pub(super) fn find(flags: &ProjectFlags) -> Result<Self, Problem> {
        let shown = &flags.directory;
        let root = shown.canonicalize().map_err(|error| cannot("find", shown, &error))?;
        if !root.join(FILE_NAME).is_file() {
            let message = format!(
                "there is no {FILE_NAME} in {}; `bulkhead new NAME` begins a plugin",
                root.display()
            );
            return Err(Failure::new(Code::NotFound, message).with("path", root).into());
        }
        let cargo = root.join("Cargo.toml").is_file().then(|| Cargo::new(&root, flags.release));
        Ok(Self { root, cargo })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn cargo(&self) -> Option<&Cargo> {
        self.cargo.as_ref()
    }

    /// Builds it. What cargo says goes to standard error.
    ///
    /// # Errors
    /// What the manifest, the build or the file system has against it.
    pub(super) async fn build(&self) -> Result<Built, Problem> {
        // Its faults are told before anything is built.
        let manifest = Manifest::load(&self.root)?;
        let (directory, scratch) = match &self.cargo {
            None => (self.root.clone(), None),
            Some(cargo) => {
                let program = cargo.build(&manifest).await?;
                let scratch = Scratch::new()?;
                let directory = scratch.path().join(manifest.id.as_str());
                self.lay_out(&manifest, &program, &directory)
                    .map_err(|error| cannot("lay out", &self.root, &error))?;
                (directory, Some(scratch))
            }
        };
        let fingerprint =
            tree::fingerprint(&directory).map_err(|error| cannot("read", &directory, &error))?;
        Ok(Built { directory, manifest, fingerprint, _scratch: scratch })
    }

    fn lay_out(&self, manifest: &Manifest, program: &Path, to: &Path) -> io::Result<()> {
        let entry = to.join(manifest.entry());
        std::fs::create_dir_all(entry.parent().unwrap_or(to))?;
        std::fs::copy(self.root.join(FILE_NAME), to.join(FILE_NAME))?;
        std::fs::copy(program, &entry)?;
        std::fs::set_permissions(&entry, std::fs::Permissions::from_mode(0o755))?;
        let assets = self.root.join(ASSETS);
        if assets.is_dir() { copy(&assets, &to.join(ASSETS)) } else { Ok(()) }
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Problem {
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        _ => Code::StorageFailed,
    };
    Failure::new(code, format!("cannot {what} {}: {error}", path.display()))
        .with("path", path)
        .into()
}

#[cfg(test)]
mod tests;
