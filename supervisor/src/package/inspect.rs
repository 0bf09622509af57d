//! What a package is, without unpacking it: for its author, and for who verified its signature.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

use super::member::MANIFEST;
use super::pack::file_name;
use super::reader::read;
use super::sink::Sink;
pub(crate) use super::source::unreadable;
use crate::failure::{Code, Failure};
use crate::manifest::{self, Manifest};

/// Opens a file that is to be a package.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    let file = File::options()
        .read(true)
        // A FIFO is refused and not waited for.
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(|error| unreadable(path, &error))?;
    if file.metadata().map_err(|error| unreadable(path, &error))?.is_file() {
        Ok(file)
    } else {
        let message = format!("{} is not a regular file, so it is no package", path.display());
        Err(Failure::new(Code::InvalidRequest, message).with("path", path))
    }
}

/// Reads all of the package and gives its manifest; `path` must have the name that belongs to it.
///
/// # Errors
/// [`Code::PackageInvalid`], [`Code::ManifestInvalid`].
pub(crate) fn inspect(package: &File, path: &Path) -> Result<Manifest, Failure> {
    let mut sink = ManifestOnly::default();
    read(package, &mut sink).map_err(|error| Failure::from(error).with("path", path))?;
    let manifest = Manifest::parse(&sink.manifest, &path.join(MANIFEST))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    check_name(&name, &manifest).map_err(|failure| failure.with("path", path))?;
    Ok(manifest)
}

/// A package says by its name what is in it, so it must not say something else.
///
/// # Errors
/// [`Code::PackageInvalid`], with the name `expected`.
pub(crate) fn check_name(name: &str, manifest: &Manifest) -> Result<(), Failure> {
    let expected = file_name(&manifest.id, &manifest.version);
    if name == expected {
        return Ok(());
    }
    let message = format!(
        "{name:?} holds plugin {} {}, so its name must be {expected}; rename it",
        manifest.id, manifest.version
    );
    Err(Failure::new(Code::PackageInvalid, message)
        .with("reason", "file-name")
        .with("expected", expected)
        .with("found", name))
}

/// Keeps the manifest and nothing else.
#[derive(Default)]
struct ManifestOnly {
    inside: bool,
    manifest: Vec<u8>,
}

impl Sink for ManifestOnly {
    fn directory(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn file(&mut self, path: &str, _: bool) -> io::Result<()> {
        self.inside = path == MANIFEST;
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        // One byte more than a manifest may have, and it is refused for its length.
        let room = (manifest::MAX_BYTES as usize + 1).saturating_sub(self.manifest.len());
        if self.inside {
            self.manifest.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok(())
    }
}
