//! Why bytes are not a package: the member, a stable word, and a sentence.

use std::fmt;
use std::io;

use serde::Serialize;
use serde_json::Value;

use super::limits;
use crate::failure::{Code, Failure};

/// Why. The word of a variant (`trailing-data`) is in the details of the [`Failure`] and is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(crate) enum Reason {
    #[error("it does not begin as a zstd frame; is it a package?")]
    NotCompressed,
    #[error("the zstd frame is not one that can be decompressed: {cause}")]
    BadFrame { cause: String },
    #[error("it ends too early; it was cut off")]
    Truncated,
    #[error("something follows the zstd frame; a package is one frame and nothing else")]
    TrailingData,
    #[error("something follows the end of the archive, where only zeros may be")]
    TrailingMember,
    #[error("the archive's end is marked by one block of zeros and not by two")]
    BadEnd,
    #[error("it has more than {limit} bytes")]
    PackageTooLarge { limit: u64 },
    #[error("its files have more than {limit} bytes together")]
    TreeTooLarge { limit: u64 },
    #[error("it has {size} bytes, more than {limit}")]
    FileTooLarge { size: u64, limit: u64 },
    #[error("it has more than {limit} files and directories")]
    TooManyMembers { limit: usize },
    #[error("it expands to more than {limit} times its size")]
    Bomb { limit: u64 },

    #[error("the header's checksum is wrong")]
    BadChecksum,
    #[error("the header is not of the POSIX ustar format (pax and GNU extensions are not used)")]
    NotUstar,
    #[error("the header's field `{field}` is not a plain octal number")]
    BadNumber { field: &'static str },
    #[error("the header's field `{field}` has bytes after its end")]
    BadField { field: &'static str },
    #[error("it is {kind}; a package has regular files and directories only")]
    Kind { kind: &'static str },
    #[error(
        "its mode is {mode:o}; only permission bits may be set, no setuid, setgid or sticky bit"
    )]
    Mode { mode: u32 },
    #[error("it is a directory and claims content")]
    DirectoryContent,
    #[error("the bytes after its content are not zeros")]
    Padding,

    #[error("its name is empty")]
    NameEmpty,
    #[error("its name has more than {limit} bytes")]
    NameTooLong { limit: usize },
    #[error("its name cannot be split at a `/` into at most 155 and 100 bytes, as ustar needs it")]
    NameSplit,
    #[error("its name has more than {limit} parts")]
    NameTooDeep { limit: usize },
    #[error("its name is absolute")]
    NameAbsolute,
    #[error("its name has a part that is empty, `.` or `..`")]
    NameComponent,
    #[error(
        "its name has a character other than printable ASCII without `\\`, or a blank at an end"
    )]
    NameCharacters,
    #[error("its name, or a directory in it, begins with `.`: hidden files are not packed")]
    NameHidden,
    #[error("its name is {other} already, or differs from it in upper and lower case only")]
    NameTaken { other: String },
    #[error("{parent} is a file and no directory")]
    InsideFile { parent: String },
    #[error("it must be {what}")]
    Layout { what: &'static str },
    #[error("it has no plugin.toml")]
    NoManifest,
    #[error("it has no program in bin/")]
    NoProgram,
}

/// A reason, and the member it is about; none where it is about the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) member: Option<String>,
    pub(crate) reason: Reason,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            // Quoted and escaped: it is a stranger's.
            Some(member) => write!(f, "{member:?} cannot be in a package: {}", self.reason),
            None => write!(f, "this is not a package: {}", self.reason),
        }
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self { member: None, reason }
    }
}

impl Reason {
    /// `member` as it is in the header, whatever bytes that are.
    pub(super) fn of(self, member: &[u8]) -> Fault {
        let shown = &member[..member.len().min(limits::PATH_BYTES)];
        Fault { member: Some(String::from_utf8_lossy(shown).into_owned()), reason: self }
    }
}

/// What can end the reading of a package.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{0}")]
    Fault(Fault),
    #[error("the package cannot be read: {0}")]
    Source(#[source] io::Error),
    #[error("cannot write {member:?}: {error}")]
    Sink {
        member: String,
        #[source]
        error: io::Error,
    },
}

impl<F: Into<Fault>> From<F> for ReadError {
    fn from(fault: F) -> Self {
        Self::Fault(fault.into())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let mut failure = Failure::new(Code::PackageInvalid, fault.to_string());
        if let Ok(details @ Value::Object(_)) = serde_json::to_value(&fault.reason) {
            failure.details = details;
        }
        match fault.member {
            Some(member) => failure.with("member", member),
            None => failure,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::Fault(fault) => fault.into(),
            ReadError::Source(_) => Failure::new(Code::StorageFailed, message),
            ReadError::Sink { member, .. } => {
                Failure::new(Code::StorageFailed, message).with("member", member)
            }
        }
    }
}
