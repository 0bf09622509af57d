//! From bytes to lines, and from a line to a record.

use bulkhead_ipc_protocol::log_line;

use super::rate::{Dropped, Rate};
use super::{Level, Record, Stream};
use crate::supervise::timestamp;

/// A line longer than this becomes several records.
const MAX_LINE: usize = log_line::MAX_LINE;

/// Who wrote: one stream of one start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) stream: Stream,
    pub(crate) generation: u64,
}

pub(super) struct Line<'a> {
    pub(super) text: &'a [u8],
    /// Where in the bytes it ends, its line feed included.
    pub(super) end: usize,
    pub(super) cut: bool,
}

/// The lines of `bytes`, long ones in pieces; the unfinished last one only if asked for.
pub(super) fn lines(bytes: &[u8], last: bool) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[start..];
        if rest.is_empty() {
            return None;
        }
        let line = match rest.iter().take(MAX_LINE + 1).position(|byte| *byte == b'\n') {
            Some(length) => Line { text: &rest[..length], end: start + length + 1, cut: false },
            None if rest.len() > MAX_LINE => {
                Line { text: &rest[..MAX_LINE], end: start + MAX_LINE, cut: true }
            }
            None if last => Line { text: rest, end: bytes.len(), cut: false },
            None => return None,
        };
        start = line.end;
        let text = line.text.strip_suffix(b"\r").unwrap_or(line.text);
        Some(Line { text, ..line })
    })
}

/// A line as a record: what the SDK wrote, or else text, whose level may stand before it.
pub(super) fn record(line: &Line<'_>, of: Source, at: u64) -> Record {
    let otherwise = if of.stream == Stream::Stderr { Level::Warn } else { Level::Info };
    let empty = Record { cut: line.cut, ..empty(otherwise, of, at) };
    match log_line::decode(line.text) {
        Some(written) if of.stream == Stream::Stderr => Record {
            level: written.level.into(),
            target: Some(written.target),
            message: written.message,
            fields: written.fields,
            ..empty
        },
        _ => {
            let (level, text) = prefixed(line.text).unwrap_or((otherwise, line.text));
            Record { level, message: String::from_utf8_lossy(text).into_owned(), ..empty }
        }
    }
}

/// All of what was written, as records.
#[cfg(any(test, fuzzing))]
pub(crate) fn records(bytes: &[u8], of: Source) -> Vec<Record> {
    lines(bytes, true).map(|line| record(&line, of, 0)).collect()
}

/// The record that stands for lines that were over the limit.
pub(super) fn dropped(lines: Dropped, rate: Option<Rate>, of: Source, at: u64) -> Record {
    let limit = rate.map(|rate| format!(" of {rate}")).unwrap_or_default();
    let message = format!(
        "{} lines ({} bytes) dropped: over the rate limit{limit}",
        lines.lines, lines.bytes
    );
    Record { message, dropped: Some(lines), ..empty(Level::Warn, of, at) }
}

const LOST: &str = " bytes of output are lost: they could not be kept";

/// The record that stands for output that could not be kept.
pub(crate) fn lost(bytes: u64, of: Source, at: u64) -> Record {
    let message = format!("{bytes}{LOST}");
    Record { message, ..empty(Level::Error, of, at) }
}

impl Record {
    /// Whether it stands for output that could not be kept, or reads so.
    pub(crate) fn is_lost(&self) -> bool {
        let bytes = self.message.strip_suffix(LOST);
        bytes.is_some_and(|bytes| bytes.parse::<u64>().is_ok())
    }
}

fn empty(level: Level, of: Source, at: u64) -> Record {
    Record {
        sequence: 0,
        time: timestamp(),
        stream: of.stream,
        level,
        target: None,
        message: String::new(),
        fields: Vec::new(),
        cut: false,
        dropped: None,
        generation: of.generation,
        at,
    }
}

/// The level that `<N>` before a line says, as in syslog(3), and the line without it: what programs
/// write that run under systemd (sd-daemon(3)).
fn prefixed(text: &[u8]) -> Option<(Level, &[u8])> {
    let [b'<', digit, b'>', rest @ ..] = text else { return None };
    let level = match digit {
        b'0'..=b'3' => Level::Error,
        b'4' => Level::Warn,
        b'5' | b'6' => Level::Info,
        b'7' => Level::Debug,
        _ => return None,
    };
    Some((level, rest))
}
