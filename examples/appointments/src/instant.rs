//! FHIR's `instant`: a moment with its date, time of day and offset, kept as it was written.
//!
//! Two clinics may write the same moment as `09:00:00-05:00` and `14:00:00Z`. Comparing uses the moment;
//! the text goes back out byte for byte, since offset and fraction say something about where it came from.

use std::cmp::Ordering;

use jiff::fmt::temporal::{DateTimePrinter, Pieces, PiecesOffset};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, code};

/// A moment and its text (<https://hl7.org/fhir/R4/datatypes.html#instant>, RFC 3339).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instant {
    text: String,
    at: Timestamp,
}

impl Instant {
    /// Reads `2018-01-01T06:38:25.807500+00:00`: a fraction of up to nine digits is optional, `Z` or an offset is not.
    ///
    /// `path` names the field in the error.
    ///
    /// # Errors
    /// [`code::TIME_INVALID`], saying which part is missing or wrong.
    pub fn parse(path: &str, text: &str) -> Result<Self, Fault> {
        let fault = |message: &str| Fault::new(code::TIME_INVALID, path, text, message);
        if !text.is_ascii() || text.is_empty() {
            return Err(fault("is not a time; write it as 2026-03-09T10:00:00-04:00"));
        }
        if text.len() <= 10 {
            return Err(fault("has no time of day; write it as 2026-03-09T10:00:00-04:00"));
        }
        let (date_time, zone) = split(text)
            .ok_or_else(|| fault("is not RFC 3339; write it as 2026-03-09T10:00:00-04:00"))?;
        if zone.is_empty() {
            return Err(fault("has no offset; end it with Z or, for example, -05:00"));
        }
        debug_assert!(!date_time.is_empty());
        let at: Timestamp = text.parse().map_err(|err| fault(&format!("is not a time: {err}")))?;
        Ok(Self { text: text.to_owned(), at })
    }

    /// The moment `at`, written with `offset` and no more digits than it needs.
    pub fn at_offset(at: Timestamp, offset: Offset) -> Self {
        Self { text: at.display_with_offset(offset).to_string(), at }
    }

    /// The moment.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The text as it was read.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The moment `minutes` later, written with the same offset and number of fraction digits.
    ///
    /// # Errors
    /// [`code::TIME_INVALID`] past the year 9999.
    pub fn later(&self, minutes: u32) -> Result<Self, Fault> {
        self.plus(SignedDuration::from_mins(i64::from(minutes)))
    }

    /// The moment `length` later, written with the same offset and at least as many fraction digits.
    ///
    /// # Errors
    /// [`code::TIME_INVALID`] past the year 9999.
    pub fn plus(&self, length: SignedDuration) -> Result<Self, Fault> {
        let at = self.at.checked_add(length).map_err(|_| {
            let message = "plus its duration is past the year 9999";
            Fault::new(code::TIME_INVALID, "end", &self.text, message)
        })?;
        let digits = self
            .text
            .split_once('.')
            .map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
        let digits = u8::try_from(digits).unwrap_or(9).min(9);
        let enough = at.subsec_nanosecond() % 10_i32.pow(9 - u32::from(digits)) == 0;
        let printer = DateTimePrinter::new().precision(enough.then_some(digits));
        let offset = Pieces::parse(&self.text).ok().and_then(|pieces| pieces.offset());
        let text = match offset {
            Some(PiecesOffset::Numeric(numeric)) => {
                let mut text = String::new();
                printer
                    .print_timestamp_with_offset(&at, numeric.offset(), &mut text)
                    .expect("writing to a string cannot fail");
                text
            }
            _ => printer.timestamp_to_string(&at),
        };
        Ok(Self { text, at })
    }
}

/// Splits RFC 3339 into date with time, and zone (empty when absent). `None` when the shape is wrong.
///
/// jiff reads more than RFC 3339 (week dates, no colons, missing seconds); a format that other programs read
/// should not drift, so the shape is checked first.
fn split(text: &str) -> Option<(&str, &str)> {
    const SHAPE: &[u8; 19] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    let fits = |(shape, byte): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't'),
        other => byte == other,
    };
    if bytes.len() < SHAPE.len() || !SHAPE.iter().zip(bytes).all(fits) {
        return None;
    }
    let mut end = SHAPE.len();
    if bytes.get(end) == Some(&b'.') {
        let digits = bytes[end + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        end += 1 + digits;
    }
    let (date_time, zone) = text.split_at(end);
    let good = match zone.as_bytes() {
        [] | [b'Z' | b'z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    good.then_some((date_time, zone))
}

impl TryFrom<String> for Instant {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::parse("", &text)
    }
}

impl From<Instant> for String {
    fn from(instant: Instant) -> Self {
        instant.text
    }
}

impl std::fmt::Display for Instant {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.text)
    }
}

impl PartialEq for Instant {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Instant {}

impl PartialOrd for Instant {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Instant {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(test)]
#[path = "instant_tests.rs"]
mod tests;
