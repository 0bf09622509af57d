//! Reading an archive, from its begin to its end.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};

use serde::{Deserialize, Serialize};
use tar::Archive;
use zstd::stream::read::Decoder;

use super::record::FORMAT;
use super::{ArchiveName, Record};
use crate::failure::{Code, Failure};
use crate::plugin_data::Sparse;

/// The record, which has a configuration in it.
const MAX_RECORD: u64 = 4 << 20;
/// A line of the state: a key and a value, in hexadecimal digits.
const MAX_LINE: u64 = 4 << 20;

type Tar = Archive<Decoder<'static, BufReader<File>>>;

/// An archive whose record was read.
pub(crate) struct Reader {
    name: ArchiveName,
    record: Record,
    tar: Tar,
}

/// One key of a plugin's state.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The value, two digits a byte.
    pub(crate) hex: String,
}

impl Entry {
    pub(crate) fn new(key: String, value: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(value.len() * 2);
        for byte in value {
            write!(hex, "{byte:02x}").expect("writing to a String does not fail");
        }
        Self { key, hex }
    }

    pub(crate) fn value(&self) -> Option<Vec<u8>> {
        let digit = |c: u8| char::from(c).to_digit(16);
        let pairs = self.hex.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
            _ => None,
        });
        pairs.collect()
    }
}

impl Reader {
    pub(super) fn new(file: File, name: &ArchiveName) -> Result<Self, Failure> {
        let failed = |error: io::Error| damaged(name, &error.to_string());
        let mut tar = Archive::new(Decoder::new(file).map_err(failed)?);
        let mut text = String::new();
        let first = tar.entries().map_err(failed)?.next();
        let mut first = first.ok_or_else(|| damaged(name, "it is empty"))?.map_err(failed)?;
        if &*first.path_bytes() != b"archive.json" {
            return Err(damaged(name, "it does not begin with archive.json"));
        }
        first.by_ref().take(MAX_RECORD).read_to_string(&mut text).map_err(failed)?;
        drop(first);
        let record: Record =
            serde_json::from_str(&text).map_err(|error| damaged(name, &error.to_string()))?;
        if record.format != FORMAT {
            return Err(damaged(name, &format!("it is of format {}, not {FORMAT}", record.format)));
        }
        // A tar stream is read once, so it begins anew.
        let mut file = tar.into_inner().finish().into_inner();
        io::Seek::rewind(&mut file).map_err(failed)?;
        let tar = Archive::new(Decoder::new(file).map_err(failed)?);
        Ok(Self { name: name.clone(), record, tar })
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Gives each key of the state to `keep`, and writes the data to `data`. Whether there was any.
    pub(crate) fn take(
        mut self,
        data: File,
        limit: u64,
        mut keep: impl FnMut(Entry) -> Result<(), Failure>,
    ) -> Result<Option<File>, Failure> {
        let name = self.name;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::FileTooLarge => {
                damaged(&name, "its data is longer than any that is kept")
            }
            _ => damaged(&name, &error.to_string()),
        };
        let mut data = Some(data);
        let mut found = None;
        for member in self.tar.entries().map_err(failed)? {
            let mut member = member.map_err(failed)?;
            match &*member.path_bytes() {
                b"state.jsonl" => {}
                b"data.tar" => {
                    let Some(file) = data.take() else {
                        return Err(damaged(&name, "it has data twice"));
                    };
                    let mut sparse = Sparse::new(file, limit);
                    io::copy(&mut member, &mut sparse).map_err(failed)?;
                    found = Some(sparse.finish().map_err(failed)?);
                    continue;
                }
                _ => continue,
            }
            let mut lines = BufReader::new(member);
            loop {
                let mut line = String::new();
                let read = lines.by_ref().take(MAX_LINE).read_line(&mut line).map_err(failed)?;
                if read == 0 {
                    break;
                }
                let entry = serde_json::from_str(&line)
                    .map_err(|error| damaged(&name, &format!("its state: {error}")))?;
                keep(entry)?;
            }
        }
        // The checksum is at the end.
        io::copy(&mut self.tar.into_inner(), &mut io::sink()).map_err(failed)?;
        Ok(found)
    }
}

pub(crate) fn damaged(name: &ArchiveName, why: &str) -> Failure {
    Failure::new(
        Code::IntegrityFailed,
        format!("the archive {name} cannot be taken up: {why}; install without it"),
    )
    .with("path", name)
}
