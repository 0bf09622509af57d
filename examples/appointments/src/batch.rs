//! Cutting a stream of NDJSON into batches of whole lines.

use bulkhead_plugin_sdk::{Error, Result};

use crate::fault::{Fault, code};
use crate::import::ImportRequest;
use crate::ndjson::LONGEST_LINE;

/// Bytes from which on a batch is full.
const FULL: usize = 256 * 1024;

/// Collects the pieces of a stream.
pub(crate) struct Batches {
    /// What every batch has in common.
    template: ImportRequest,
    bytes: Vec<u8>,
    next_line: u64,
}

impl Batches {
    /// For the stream that follows the lines of `request`, with its options.
    pub(crate) fn new(request: &ImportRequest) -> Self {
        let lines = request.ndjson.lines().count() as u64;
        let template = ImportRequest { ndjson: String::new(), ..request.clone() };
        Self { template, bytes: Vec::new(), next_line: request.first_line.saturating_add(lines) }
    }

    /// Takes a piece, cut anywhere. Gives a batch when one is full.
    ///
    /// # Errors
    /// [`code::NDJSON_INVALID`] for a line that is too long, or is not UTF-8.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Option<ImportRequest>> {
        self.bytes.extend_from_slice(piece);
        let end = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if self.bytes.len() - end > LONGEST_LINE {
            let message = format!("is longer than {LONGEST_LINE} bytes");
            let line = self.next_line + newlines(&self.bytes);
            return Err(refused(&Fault::new(code::NDJSON_INVALID, "", "", &message).on_line(line)));
        }
        if end < FULL { Ok(None) } else { self.take(end).map(Some) }
    }

    /// What is left when the stream has ended; its last line need not end in a newline.
    ///
    /// # Errors
    /// As [`Batches::push`].
    pub(crate) fn rest(&mut self) -> Result<Option<ImportRequest>> {
        if self.bytes.is_empty() { Ok(None) } else { self.take(self.bytes.len()).map(Some) }
    }

    fn take(&mut self, end: usize) -> Result<ImportRequest> {
        let rest = self.bytes.split_off(end);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        let first_line = self.next_line;
        self.next_line += newlines(&bytes);
        let ndjson = String::from_utf8(bytes).map_err(|err| {
            let good = err.utf8_error().valid_up_to();
            let line = first_line + newlines(&err.as_bytes()[..good]);
            refused(&Fault::new(code::NDJSON_INVALID, "", "", "is not UTF-8").on_line(line))
        })?;
        Ok(ImportRequest { ndjson, first_line, ..self.template.clone() })
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').count() as u64 - 1
}

fn refused(fault: &Fault) -> Error {
    Error::new(fault.code.clone(), fault.to_string()).with_details(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &[u8], size: usize) -> Result<Vec<ImportRequest>> {
        let mut batches =
            Batches::new(&ImportRequest { first_line: 1, ..ImportRequest::default() });
        let mut all = Vec::new();
        for piece in text.chunks(size) {
            all.extend(batches.push(piece)?);
        }
        all.extend(batches.rest()?);
        Ok(all)
    }

    #[test]
    fn batches_are_whole_lines_and_know_their_number() {
        let text = (1..=40_000).map(|nth| format!("línea {nth}\n")).collect::<Vec<_>>().concat();
        for size in [1, 7, 4096, 65_536] {
            let batches = cut(text.as_bytes(), size).unwrap();
            assert!(batches.len() > 1);
            let mut joined = String::new();
            for batch in batches {
                assert!(batch.ndjson.starts_with(&format!("línea {}\n", batch.first_line)));
                joined.push_str(&batch.ndjson);
            }
            assert_eq!(joined, text);
        }
        assert_eq!(cut(b"no newline at the end", 5).unwrap().len(), 1);
        assert_eq!(cut(b"", 5).unwrap(), []);
    }

    #[test]
    fn a_line_without_end_and_bytes_that_are_no_text_are_refused_with_their_line() {
        let mut text = b"one\ntwo\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', LONGEST_LINE + 1));
        let error = cut(&text, 1000).unwrap_err();
        assert_eq!(error.details().unwrap()["line"], 3);
        let error = cut(b"one\n\xff\n", 2).unwrap_err();
        assert_eq!(error.details().unwrap()["line"], 2);
    }
}
