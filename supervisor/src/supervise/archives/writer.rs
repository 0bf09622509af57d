//! Writing an archive.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};

use tar::{Builder, EntryType, Header};
use tempfile::NamedTempFile;
use zstd::stream::write::Encoder;

use super::{ArchiveName, Archives, DRAFT, Record, unusable};
use crate::failure::{Code, Failure};

/// zstd's own default: logs and state are text, which any level makes small.
const LEVEL: i32 = 3;

/// An archive that has no name yet; dropped, nothing of it is left. All of it waits for the disk.
pub(crate) struct Draft {
    archives: Archives,
    tar: Builder<Encoder<'static, NamedTempFile>>,
}

impl Draft {
    pub(super) fn new(archives: &Archives) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix(DRAFT).tempfile_in(&archives.directory)?;
        let mut encoder = Encoder::new(file, LEVEL)?;
        // So that a damage is seen.
        encoder.include_checksum(true)?;
        Ok(Self { archives: archives.clone(), tar: Builder::new(encoder) })
    }

    pub(crate) fn record(&mut self, record: &Record) -> Result<(), Failure> {
        let text = serde_json::to_vec(record)
            .map_err(|error| Failure::internal(format!("a record cannot be written: {error}")))?;
        self.member("archive.json", text.len() as u64, &text[..])
    }

    /// A member from the begin of a file, as long as that is now.
    pub(crate) fn file(&mut self, name: &str, mut file: File) -> Result<(), Failure> {
        let length = file.seek(SeekFrom::End(0)).and_then(|length| {
            file.rewind()?;
            Ok(length)
        });
        let length = length.map_err(|error| self.archives.unusable(&error))?;
        self.member(name, length, file)
    }

    pub(crate) fn member(
        &mut self,
        name: &str,
        length: u64,
        content: impl Read,
    ) -> Result<(), Failure> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(length);
        // A log may still grow, or be set aside, while it is read.
        let whole = content.take(length).chain(io::repeat(0)).take(length);
        let written = self.tar.append_data(&mut header, name, whole);
        written.map_err(|error| self.archives.unusable(&error))
    }

    /// Gives it its name, if there is room for it. One that is there already stays.
    pub(crate) fn finish(self, name: &ArchiveName) -> Result<u64, Failure> {
        let Self { archives, tar } = self;
        let failed = |error: io::Error| unusable(&archives.directory, &error);
        let file = tar.into_inner().and_then(Encoder::finish).map_err(failed)?;
        let bytes = file.as_file().metadata().map_err(failed)?.len();
        let used = archives.used()?;
        if used.saturating_add(bytes) > archives.limit {
            return Err(archives.full(used, bytes));
        }
        file.as_file().sync_all().map_err(failed)?;
        file.persist_noclobber(archives.path(name)).map_err(|error| {
            if error.error.kind() != io::ErrorKind::AlreadyExists {
                return failed(error.error);
            }
            Failure::new(Code::AlreadyExists, format!("there is an archive {name} already"))
                .with("what", "archive")
                .with("name", name)
        })?;
        File::open(&archives.directory).and_then(|it| it.sync_all()).map_err(failed)?;
        Ok(bytes)
    }
}
