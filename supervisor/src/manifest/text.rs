//! Text that a person will see on a terminal and in logs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One line of at most 1000 characters without control characters: what a plugin says about itself
/// must not be able to repaint an operator's screen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Line(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLine {
    #[error("{0:?} has a control or formatting character; write one line of plain text")]
    Control(String),
    #[error("the text has {0} characters; at most 1000 are kept")]
    TooLong(usize),
}

impl Line {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters, line separators, and those that reorder or hide text (Unicode UAX #9).
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl TryFrom<String> for Line {
    type Error = BadLine;

    fn try_from(text: String) -> Result<Self, BadLine> {
        let length = text.chars().count();
        if length > 1000 {
            Err(BadLine::TooLong(length))
        } else if text.contains(is_unsafe) {
            Err(BadLine::Control(text))
        } else {
            Ok(Self(text))
        }
    }
}

impl From<Line> for String {
    fn from(line: Line) -> String {
        line.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_script_but_no_escape_sequences() {
        for good in ["", "Terminplanung für Ärzte", "予約", "مواعيد"] {
            assert_eq!(Line::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in ["a\nb", "\u{1b}[2J", "a\u{202e}b", "a\u{0}"] {
            assert_eq!(Line::try_from(bad.to_owned()), Err(BadLine::Control(bad.into())));
        }
        assert_eq!(Line::try_from("ü".repeat(1001)), Err(BadLine::TooLong(1001)));
    }
}
