//! `bulkhead unpack`: opens one package, in a compartment of its own.
//!
//! The launcher starts it after it has verified the signature, and imports the tree that it leaves,
//! as it imports any directory. Standard input is the package; the current directory is empty, and
//! all that can be written. It ends with 0, or writes the [`Failure`] as JSON to standard output and
//! ends with 1. What it writes is then worth nothing, and whoever made the directory removes it.

use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::reader::{Contents, read};
use super::sink::Tree;
use crate::failure::{Code, Failure};

/// The whole life of the process.
pub(crate) fn run() -> ExitCode {
    let Err(failure) = unpack(io::stdin().lock(), Path::new(".")) else {
        return ExitCode::SUCCESS;
    };
    let text = serde_json::to_string(&failure).unwrap_or_default();
    let mut output = io::stdout().lock();
    // Whoever does not listen learns from the exit code that it failed.
    let _ = writeln!(output, "{text}").and_then(|()| output.flush());
    ExitCode::FAILURE
}

/// Opens the package into `directory`, which must be empty.
///
/// # Errors
/// [`Code::PackageInvalid`] with `reason`, and `member` where it is about one;
/// [`Code::StorageFailed`] where it cannot be read or written. The directory may have a part of it.
pub(crate) fn unpack(package: impl Read, directory: &Path) -> Result<Contents, Failure> {
    let unusable = |error: io::Error| {
        let message = format!("cannot unpack into {}: {error}", directory.display());
        Failure::new(Code::StorageFailed, message).with("path", directory)
    };
    if std::fs::read_dir(directory).map_err(unusable)?.next().is_some() {
        let message = format!("cannot unpack into {}: it is not empty", directory.display());
        return Err(Failure::new(Code::InvalidRequest, message).with("path", directory));
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root =
        open(directory, flags, Mode::empty()).map_err(|errno| unusable(io::Error::from(errno)))?;
    read(package, &mut Tree::new(root)).map_err(Failure::from)
}

/// What [`run`] has written, as whoever started it reads it. A stranger's bytes went through it, so
/// only what it can have to say is believed.
pub(crate) fn reported(report: &[u8]) -> Failure {
    match serde_json::from_slice::<Failure>(report) {
        Ok(failure) if matches!(failure.code, Code::PackageInvalid | Code::StorageFailed) => {
            failure
        }
        _ => Failure::internal(format!(
            "`bulkhead unpack` failed and said {:?}",
            String::from_utf8_lossy(&report[..report.len().min(200)])
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_opening_of_a_package_can_say_is_believed() {
        let code = |failure: &Failure| reported(&serde_json::to_vec(failure).unwrap()).code;
        assert_eq!(code(&Failure::new(Code::PackageInvalid, "x")), Code::PackageInvalid);
        assert_eq!(code(&Failure::new(Code::PermissionDenied, "x")), Code::Internal);
        let garbage = reported(&vec![b'x'; 100_000]);
        assert_eq!(garbage.code, Code::Internal);
        assert!(garbage.message.len() < 1000);
    }
}
