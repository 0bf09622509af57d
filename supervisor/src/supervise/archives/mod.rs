//! Archives: what a plugin leaves behind when it is uninstalled, for a later installation to take up.
//!
//! ```text
//! <id>-<version>-<time>.tar.zst
//!   archive.json    what it is: [`Record`]
//!   plugin.toml     the manifest
//!   audit.jsonl     its rows of the audit, as they were hashed
//!   usage.jsonl     what it used, in the rows of the history
//!   state.jsonl     one key of its state a line, the value in hexadecimal digits
//!   logs/           its log books
//!   data.tar        /data, as its own uid wrote it (`bulkhead archive-data`); nobody here reads it
//! ```
//! Theory of operation. One is written under a hidden name, flushed to the disk, and renamed, so there
//! is none or a whole one, whoever dies meanwhile; what was hidden is removed at the next start. All
//! of them together are bounded: what does not fit is refused, and nothing is deleted to make room, as
//! only the operator knows what is dear to him.

mod name;
mod reader;
mod record;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Serialize;
use utoipa::ToSchema;

use crate::failure::{Code, Failure};

pub(crate) use name::{ArchiveName, BadArchiveName};
pub(crate) use reader::{Entry, Reader, damaged};
pub(crate) use record::Record;
pub(crate) use writer::Draft;

/// What a file has that is not an archive yet.
const DRAFT: &str = ".draft-";

/// The archives of this service.
#[derive(Clone, Debug)]
pub(crate) struct Archives {
    directory: PathBuf,
    /// Of all together, in bytes.
    limit: u64,
}

/// An archive, as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    #[schema(value_type = String)]
    pub(crate) name: ArchiveName,
    pub(crate) bytes: u64,
    /// What it says of itself; null where it cannot be read.
    pub(crate) record: Option<Record>,
}

impl Archives {
    /// Opens or makes the directory, and removes the drafts that a dead supervisor has left.
    pub(crate) fn open(directory: PathBuf, limit: u64) -> Result<Self, Failure> {
        let archives = Self { directory, limit };
        let failed = |error: io::Error| archives.unusable(&error);
        std::fs::create_dir_all(&archives.directory).map_err(failed)?;
        for entry in std::fs::read_dir(&archives.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().as_encoded_bytes().starts_with(DRAFT.as_bytes()) {
                std::fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(archives)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    fn path(&self, name: &ArchiveName) -> PathBuf {
        self.directory.join(name.as_str())
    }

    /// The names and sizes, in order.
    fn sizes(&self) -> Result<Vec<(ArchiveName, u64)>, Failure> {
        let failed = |error: io::Error| self.unusable(&error);
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().into_string().ok().and_then(|name| name.parse().ok());
            // What somebody else has put there is none of ours.
            let Some(name) = name else { continue };
            match entry.metadata() {
                Ok(metadata) => all.push((name, metadata.len())),
                // It was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        all.sort();
        Ok(all)
    }

    /// What all take together, in bytes.
    pub(crate) fn used(&self) -> Result<u64, Failure> {
        Ok(self.sizes()?.iter().map(|(_, bytes)| bytes).sum())
    }

    /// Reads the begin of each: call it where waiting does no harm.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, Failure> {
        let all = self.sizes()?.into_iter().map(|(name, bytes)| {
            let record = self.read(&name).ok().map(|reader| reader.record().clone());
            Listed { name, bytes, record }
        });
        Ok(all.collect())
    }

    pub(crate) fn has(&self, name: &ArchiveName) -> bool {
        self.path(name).is_file()
    }

    /// Opens one and reads what it says of itself.
    pub(crate) fn read(&self, name: &ArchiveName) -> Result<Reader, Failure> {
        match File::open(self.path(name)) {
            Ok(file) => Reader::new(file, name),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(missing(name)),
            Err(error) => Err(self.unusable(&error)),
        }
    }

    pub(crate) fn remove(&self, name: &ArchiveName) -> Result<(), Failure> {
        match std::fs::remove_file(self.path(name)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(missing(name)),
            Err(error) => Err(self.unusable(&error)),
        }
    }

    /// A file without a name, on the same disk.
    pub(crate) fn spool(&self) -> Result<File, Failure> {
        tempfile::tempfile_in(&self.directory).map_err(|error| self.unusable(&error))
    }

    /// Begins an archive.
    ///
    /// # Errors
    /// [`Code::ResourceExhausted`]: there is no room for another.
    pub(crate) fn draft(&self) -> Result<Draft, Failure> {
        let used = self.used()?;
        if used >= self.limit {
            return Err(self.full(used, 1));
        }
        Draft::new(self).map_err(|error| self.unusable(&error))
    }

    fn full(&self, used: u64, asked: u64) -> Failure {
        let limit = self.limit;
        Failure::new(
            Code::ResourceExhausted,
            format!(
                "the archives take {used} of {limit} bytes, and this one {asked} more; remove one \
                 (`bulkhead archives rm NAME`), or raise [retention] archives"
            ),
        )
        .with("resource", "archives")
        .with("limit", limit)
        .with("used", used)
        .with("asked", asked)
    }

    fn unusable(&self, error: &io::Error) -> Failure {
        unusable(&self.directory, error)
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    let message = format!("the archives in {shown} cannot be used: {error}");
    Failure::new(Code::StorageFailed, message).with("path", path)
}

fn missing(name: &ArchiveName) -> Failure {
    let message = format!("there is no archive {name}; `bulkhead archives` lists those that are");
    Failure::new(Code::NotFound, message).with("what", "archive").with("name", name)
}
