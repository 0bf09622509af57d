//! What is wrong with an input: where, which value, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest piece of an offending value that a message quotes, in characters.
const QUOTED: usize = 80;

/// One refusal, precise enough to fix the input without reading this program.
///
/// Its text is `line 12: period.end: "2018-…": ends before it starts …`; what does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A stable code: see [`code`].
    pub code: String,
    /// Line of the NDJSON input, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Path of the field in the resource or request, as `participant[0].individual`.
    pub path: String,
    /// The value found there, clipped to 80 characters; empty when there is none.
    pub value: String,
    /// Why it is refused, and what would be accepted.
    pub message: String,
}

/// The codes of faults. They are part of the service's contract.
pub mod code {
    /// A line is not a JSON object.
    pub const NDJSON_INVALID: &str = "NDJSON_INVALID";
    /// A resource is of a type that this service does not keep.
    pub const RESOURCE_UNSUPPORTED: &str = "RESOURCE_UNSUPPORTED";
    /// A field is missing or has a value that FHIR or this service does not allow.
    pub const FIELD_INVALID: &str = "FIELD_INVALID";
    /// A time is not RFC 3339, or lacks its time of day or its offset.
    pub const TIME_INVALID: &str = "TIME_INVALID";
    /// A period ends before it starts, or is longer than can be right.
    pub const PERIOD_INVALID: &str = "PERIOD_INVALID";
    /// No appointment has this id.
    pub const NOT_FOUND: &str = "NOT_FOUND";
    /// The time is taken; `details.conflicts` says by what.
    pub const CONFLICT: &str = "CONFLICT";
    /// An appointment with this id exists already, with other content.
    pub const ALREADY_EXISTS: &str = "ALREADY_EXISTS";
    /// The appointment's status does not allow the change.
    pub const STATUS_INVALID: &str = "STATUS_INVALID";
    /// Some lines of an import were refused; `details.faults` lists them.
    pub const IMPORT_INVALID: &str = "IMPORT_INVALID";
}

impl Fault {
    /// A fault of the field at `path`, whose value was `value`.
    pub fn new(code: &str, path: &str, value: impl fmt::Display, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            line: None,
            path: path.to_owned(),
            value: clip(&value.to_string()),
            message: message.to_owned(),
        }
    }

    /// The same fault, on that line of an NDJSON input.
    pub fn on_line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(out, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        if !self.value.is_empty() {
            write!(out, "\"{}\": ", self.value)?;
        }
        out.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

fn clip(value: &str) -> String {
    match value.char_indices().nth(QUOTED) {
        None => value.to_owned(),
        Some((end, _)) => format!("{}…", &value[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_line_path_and_value() {
        let fault =
            Fault::new(code::TIME_INVALID, "period.end", "soon", "is not a time").on_line(12);
        assert_eq!(fault.to_string(), "line 12: period.end: \"soon\": is not a time");
    }

    #[test]
    fn long_values_are_clipped_between_characters() {
        let fault = Fault::new(code::FIELD_INVALID, "id", "é".repeat(200), "is too long");
        assert_eq!(fault.value.chars().count(), QUOTED + 1);
        assert!(fault.value.ends_with('…'));
    }
}
