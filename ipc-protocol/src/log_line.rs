//! Log records on standard error: one line each, a JSON text sequence (RFC 7464).
//!
//! A plugin's log goes to standard error and not through the session, so that it outlives both
//! ends of one: the pipe is kept by the launcher, and what is in it when a supervisor dies is read
//! by the next. A record is told from what a program prints by its first byte, the record separator
//! (0x1E), which no text has; then comes one JSON object and a line feed. Whatever does not decode
//! is a line of text like any other.

use serde::{Deserialize, Serialize};

/// The byte before a record: RS, 0x1E.
pub const SEPARATOR: u8 = 0x1e;

/// The longest line that [`encode`] makes, separator and line feed included, in bytes. A reader may
/// cut lines that are longer.
pub const MAX_LINE: usize = 16 * 1024;

/// What is left of a message that makes a line too long, in bytes: JSON writes a byte as six at the most.
const SHORTENED: usize = (MAX_LINE - 2048) / 6;

/// How serious a log record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For a developer.
    Debug,
    /// For an operator, of no concern.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// One line of a plugin's log, with its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// How serious it is.
    pub level: Level,
    /// Where in the program it comes from, such as `appointments::book`.
    pub target: String,
    /// The text.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    level: String,
    target: String,
    message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<(String, String)>,
}

const LEVELS: [(Level, &str); 5] = [
    (Level::Trace, "trace"),
    (Level::Debug, "debug"),
    (Level::Info, "info"),
    (Level::Warn, "warn"),
    (Level::Error, "error"),
];

/// The line of a record. One that would be longer than [`MAX_LINE`] loses its fields, then the end
/// of its message, in whose place stands `…`.
pub fn encode(record: &LogRecord) -> Vec<u8> {
    let level = LEVELS.iter().find(|(level, _)| *level == record.level).map_or("info", |l| l.1);
    let mut line = Line {
        level: level.to_owned(),
        target: cut(&record.target, 256),
        message: record.message.clone(),
        fields: record.fields.clone(),
    };
    let mut bytes = write(&line);
    if bytes.len() > MAX_LINE {
        line.fields.clear();
        bytes = write(&line);
    }
    if bytes.len() > MAX_LINE {
        line.message = cut(&record.message, SHORTENED);
        bytes = write(&line);
    }
    bytes
}

/// Whether that can be a message whose end [`encode`] took away.
pub fn is_shortened(message: &str) -> bool {
    message.strip_suffix('…').is_some_and(|rest| (SHORTENED - 3..=SHORTENED).contains(&rest.len()))
}

fn write(line: &Line) -> Vec<u8> {
    let mut bytes = vec![SEPARATOR];
    serde_json::to_writer(&mut bytes, line).expect("strings have a JSON form, a Vec takes it");
    bytes.push(b'\n');
    bytes
}

/// At most `length` bytes of the text, whole characters, with a mark where it is cut.
fn cut(text: &str, length: usize) -> String {
    if text.len() <= length {
        return text.to_owned();
    }
    let end = (0..=length).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// The record of a line, with or without its line feed; `None` if it is a line of text.
pub fn decode(line: &[u8]) -> Option<LogRecord> {
    let line: Line = serde_json::from_slice(line.strip_prefix(&[SEPARATOR])?).ok()?;
    let (level, _) = LEVELS.iter().find(|(_, name)| *name == line.level)?;
    Some(LogRecord {
        level: *level,
        target: line.target,
        message: line.message,
        fields: line.fields,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str, fields: &[(&str, &str)]) -> LogRecord {
        LogRecord {
            level: Level::Warn,
            target: "clinic".to_owned(),
            message: message.to_owned(),
            fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn the_bytes_are_what_another_language_would_write() {
        let bytes = encode(&record("two\nlines", &[("patient", "17")]));
        let expected = "\u{1e}{\"level\":\"warn\",\"target\":\"clinic\",\
                        \"message\":\"two\\nlines\",\"fields\":[[\"patient\",\"17\"]]}\n";
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(decode(&bytes), Some(record("two\nlines", &[("patient", "17")])));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), decode(&bytes));
    }

    #[test]
    fn every_level_comes_back() {
        for (level, _) in LEVELS {
            let record = LogRecord { level, ..record("m", &[]) };
            assert_eq!(decode(&encode(&record)), Some(record));
        }
    }

    #[test]
    fn text_is_not_a_record() {
        for text in ["", "hello", "{}", "\u{1e}", "\u{1e}{\"level\":\"loud\"}", "\u{1e}[1]"] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_long_record_is_cut_to_one_line() {
        let long = "\u{1}ü".repeat(20_000);
        let bytes = encode(&record(&long, &[("also", &long)]));
        assert!(bytes.len() <= MAX_LINE, "{}", bytes.len());
        let cut = decode(&bytes).unwrap();
        assert!(cut.message.ends_with('…') && long.starts_with(cut.message.trim_end_matches('…')));
        assert!(cut.fields.is_empty() && is_shortened(&cut.message));
        let crab = decode(&encode(&record(&format!("x{}", "🦀\u{1}".repeat(9000)), &[]))).unwrap();
        assert!(is_shortened(&crab.message) && !is_shortened("wait…") && !is_shortened(&long));
        for target in ["x".repeat(257), format!("{}ü", "x".repeat(255)), "x".repeat(300)] {
            let cut = decode(&encode(&LogRecord { target, ..record("m", &[]) })).unwrap().target;
            assert_eq!(cut, format!("{}…", "x".repeat(cut.len() - "…".len())));
            assert!((255..=256).contains(&(cut.len() - "…".len())), "{cut}");
        }
        let fits = record(&"x".repeat(10_000), &[("k", "v")]);
        assert_eq!(decode(&encode(&fits)), Some(fits));
    }
}
