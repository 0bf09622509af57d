//! Files with holes: zeros are passed over instead of written.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

/// What is looked at as a whole.
const BLOCK: usize = 4096;

/// Writes a file from its begin; what is nothing but zeros becomes a hole. [`Sparse::finish`] gives
/// it its length.
pub(crate) struct Sparse {
    file: File,
    at: u64,
    /// No byte is written from here on.
    limit: u64,
}

impl Sparse {
    pub(crate) fn new(file: File, limit: u64) -> Self {
        Self { file, at: 0, limit }
    }

    pub(crate) fn finish(self) -> io::Result<File> {
        self.file.set_len(self.at)?;
        Ok(self.file)
    }
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(BLOCK)];
        let end = self.at + piece.len() as u64;
        if end > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if piece.iter().any(|byte| *byte != 0) {
            self.file.write_all_at(piece, self.at)?;
        }
        self.at = end;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
