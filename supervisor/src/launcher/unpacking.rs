//! `bulkhead unpack`: how it is started, and what its end means.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_sandbox::{Cause, Identity, Status, Strictness};

use super::one_shot::{Ended, OneShot, Stdout, Task};
use super::plugins::no_descriptors;
use crate::failure::{Code, Failure};
use crate::package::limits;

/// The time for one package.
const WITHIN: Duration = Duration::from_secs(120);

/// Opens what is read from `stdin` into `directory`, which is the identity's own and empty.
pub(super) fn task(stdin: OwnedFd, directory: PathBuf, identity: Identity) -> Task {
    Task {
        name: "_unpack".to_owned(),
        identity,
        program: "/proc/self/exe".into(),
        arguments: arguments(),
        stdin,
        stdout: Stdout::Kept,
        directory,
        writable: true,
        file_size: limits::FILE_BYTES,
        strictness: Strictness::BestEffort,
        within: WITHIN,
    }
}

/// The role's own, with the program's name first.
pub(super) fn arguments() -> Vec<String> {
    ["bulkhead", "unpack"].map(str::to_owned).to_vec()
}

/// The time that the role has.
pub(super) fn within() -> Duration {
    WITHIN
}

/// A file from its begin, by a descriptor that cannot write.
pub(super) fn reading(file: &File) -> std::io::Result<OwnedFd> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map(OwnedFd::from)
}

/// Opens a package in a compartment and waits for that: for who is no service. `None`: its tree is
/// there; else what the role said of it. The compartment has the layers that this machine can give to
/// whoever asks.
pub(crate) fn unpack(
    package: &File,
    directory: &Path,
    identity: Identity,
) -> Result<Option<Vec<u8>>, Failure> {
    let stdin = reading(package).map_err(|error| no_descriptors(&error))?;
    judge(OneShot::run(None, task(stdin, directory.to_owned(), identity))?)
}

/// What the end of `bulkhead unpack` means: `None` that a tree is there, a report that the package
/// was refused. The report is a stranger's word, which is passed on and not read here.
pub(super) fn judge(ended: Ended) -> Result<Option<Vec<u8>>, Failure> {
    let Ended { exit, output, late } = ended;
    if let Some(within) = late {
        let message = format!("the package was not opened within {within:?}");
        return Err(Failure::new(Code::Timeout, message)
            .with("stage", "unpack")
            .with("budgetMs", within.as_millis() as u64));
    }
    match (exit.status, exit.cause) {
        (Status::Exited(0), _) => Ok(None),
        (Status::Exited(_), _) if !output.is_empty() => Ok(Some(output)),
        (_, Cause::OutOfMemory { .. }) => Err(Failure::new(
            Code::ResourceExhausted,
            "opening the package takes more memory than a package may need",
        )
        .with("resource", "memory")),
        (_, Cause::Killed) => {
            Err(Failure::new(Code::ShuttingDown, "the package was not opened: the service stops"))
        }
        (status, cause) => Err(Failure::internal(format!(
            "`bulkhead unpack` ended without a word ({status:?}, {cause:?})"
        ))),
    }
}
