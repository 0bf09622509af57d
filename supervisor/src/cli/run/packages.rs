//! Packages that are run without a service.
//!
//! Each is verified, as far as there is a signature of a key that is trusted here, and opened in a
//! compartment, into a directory of its own, which is then run as any other. Whoever runs a package
//! by hand may run one that nobody has signed; that is said.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use bulkhead_sandbox::Identity;
use nix::unistd::geteuid;

use super::service::{Scratch, own_uids};
use crate::cli::exec::say;
use crate::cli::install::read_signature;
use crate::cli::problem::Problem;
use crate::config::Config;
use crate::failure::{Code, Failure};
use crate::launcher::unpacking::unpack;
use crate::manifest::Manifest;
use crate::package;
use crate::package::unpack::reported;
use crate::signing::path_of;
use crate::trust::{MAX_PACKAGE, PublicKey, TrustStore, too_large};

/// Directories to run, and what of them is removed afterwards.
pub(in crate::cli) struct Opened {
    pub(in crate::cli) directories: Vec<PathBuf>,
    _scratch: Vec<Scratch>,
}

/// Opens the packages among `paths`; directories stay as they are.
pub(in crate::cli) fn open(paths: &[PathBuf]) -> Result<Opened, Problem> {
    let (mut directories, mut made) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_file() {
            let scratch = Scratch::new()?;
            directories.push(open_package(path, &scratch)?);
            made.push(scratch);
        } else {
            directories.push(path.clone());
        }
    }
    Ok(Opened { directories, _scratch: made })
}

fn open_package(path: &Path, scratch: &Scratch) -> Result<PathBuf, Problem> {
    let store = TrustStore::at(Config::load(None)?.trust);
    let (copy, signer) = verified(path, &store)?;
    let (directory, manifest) = open_copy(path, copy, scratch)?;
    if let Some(key) = signer {
        store.authorize(&manifest.id, &[key])?;
    }
    Ok(directory)
}

/// Opens a package of one's own, whoever has signed it.
pub(in crate::cli) fn unpacked(path: &Path, scratch: &Scratch) -> Result<PathBuf, Problem> {
    let file = File::open(path).map_err(|error| cannot(path, &error))?;
    open_copy(path, file, scratch).map(|(directory, _)| directory)
}

fn open_copy(
    path: &Path,
    mut copy: File,
    scratch: &Scratch,
) -> Result<(PathBuf, Manifest), Problem> {
    copy.rewind().map_err(|error| cannot(path, &error))?;
    let directory = scratch.path().join("tree");
    let identity = make(&directory).map_err(|error| cannot(&directory, &error))?;
    if let Some(report) = unpack(&copy, &directory, identity)? {
        return Err(reported(&report).into());
    }
    let manifest = Manifest::load(&directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    package::check_name(&name, &manifest)?;
    Ok((directory, manifest))
}

/// A copy of the package, and the trusted key that has signed it.
///
/// SIGNATURE_INVALID: there is a signature by a key that is known here, and it does not hold.
fn verified(path: &Path, store: &TrustStore) -> Result<(File, Option<PublicKey>), Problem> {
    let file = package::open(path)?;
    let copy = tempfile::tempfile().map_err(|error| cannot(&std::env::temp_dir(), &error))?;
    let signature = path_of(path);
    let unknown = if signature.exists() {
        match store.claim(&read_signature(&signature)?) {
            Ok(claim) => {
                let (copy, signer) = claim.copy(file, copy).finish()?;
                return Ok((copy, Some(signer.key)));
            }
            Err(failure) if failure.details["reason"] == "unknown-key" => {
                format!("signed with key {}, which is not trusted here", failure.details["key"])
            }
            Err(failure) => return Err(failure.into()),
        }
    } else {
        "not signed".to_owned()
    };
    say(&format!("warning: {} is {unknown}: nobody vouches for it", path.display()));
    Ok((copied(path, &file, copy)?, None))
}

fn copied(path: &Path, file: &File, mut to: File) -> Result<File, Problem> {
    let length = io::copy(&mut file.take(MAX_PACKAGE + 1), &mut to);
    match length.map_err(|error| cannot(path, &error))? {
        length if length > MAX_PACKAGE => Err(too_large(length).into()),
        _ => Ok(to),
    }
}

/// Makes an empty directory of whoever opens the package: as root, a uid of this run's own.
fn make(directory: &Path) -> io::Result<Identity> {
    DirBuilder::new().mode(0o700).create(directory)?;
    if !geteuid().is_root() {
        return Ok(Identity::Invoker);
    }
    // Not one that a plugin is given before all the others are.
    let (first, count) = own_uids();
    let uid = first + count - 1;
    chown(directory, Some(uid), Some(uid))?;
    Ok(Identity::Leased { uid, gid: uid })
}

fn cannot(path: &Path, error: &io::Error) -> Problem {
    let message = format!("cannot open a package: {}: {error}", path.display());
    Failure::new(Code::StorageFailed, message).with("path", path).into()
}
