//! Times as people write them in a request: a day, a local time, or a moment with its offset.

use appointments::instant::Instant;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

use crate::clinic::{Clinic, Window};
use crate::fault::{Fault, code};

/// The longest range that a request may ask for, in days.
pub(crate) const LONGEST_RANGE: i32 = 366;

/// Reads a moment: `2026-03-09T10:00:00-04:00`, or `2026-03-09T10:00` on the clinic's clocks.
///
/// # Errors
/// [`code::TIME_INVALID`]; for a local time also [`code::TIME_SKIPPED`] and [`code::TIME_AMBIGUOUS`].
pub(crate) fn moment(clinic: &Clinic, path: &str, text: &str) -> Result<Timestamp, Fault> {
    match local(text) {
        Some(local) => clinic.exact(path, local),
        None => Ok(Instant::parse(path, text)?.at()),
    }
}

/// Reads a range. A day as its start means from midnight on, as its end to the following midnight.
///
/// Without `to` the range is `days` long.
///
/// # Errors
/// As [`moment`]; [`code::RANGE_INVALID`] when it ends before it begins, or is longer than [`LONGEST_RANGE`].
pub(crate) fn range(
    clinic: &Clinic,
    from: &str,
    to: Option<&str>,
    days: i32,
) -> Result<Window, Fault> {
    let start = match date(from) {
        Some(date) => whole(clinic, "from", from, date)?.start,
        None => moment(clinic, "from", from)?,
    };
    let end = if let Some(to) = to {
        match date(to) {
            Some(date) => whole(clinic, "to", to, date)?.end,
            None => moment(clinic, "to", to)?,
        }
    } else {
        let last = clinic.date(start).saturating_add(jiff::Span::new().days(days - 1));
        whole(clinic, "from", from, last)?.end
    };
    let fault = |message: &str| Fault::new(code::RANGE_INVALID, "to", to.unwrap_or(""), message);
    if end <= start {
        return Err(fault(&format!("is not after `from`, {from}")));
    }
    if end.duration_since(start).as_hours() > i64::from(LONGEST_RANGE) * 24 {
        return Err(fault(&format!("is more than {LONGEST_RANGE} days after `from`, {from}")));
    }
    Ok(Window { start, end })
}

/// Reads a day, `2026-03-09`.
///
/// # Errors
/// [`code::TIME_INVALID`].
pub(crate) fn day(path: &str, text: &str) -> Result<Date, Fault> {
    date(text).ok_or_else(|| {
        Fault::new(code::TIME_INVALID, path, text, "is not a day; write it as 2026-03-09")
    })
}

fn whole(clinic: &Clinic, path: &str, text: &str, date: Date) -> Result<Window, Fault> {
    clinic.day(date).ok_or_else(|| {
        Fault::new(
            code::TIME_INVALID,
            path,
            text,
            "is beyond the calendar; use the years 1 to 9998",
        )
    })
}

fn date(text: &str) -> Option<Date> {
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    shaped.then(|| text.parse().ok()).flatten()
}

/// A date and time of day without an offset.
fn local(text: &str) -> Option<DateTime> {
    let (day, time) = text.split_once(['T', 't', ' '])?;
    let plain = matches!(time.len(), 5 | 8)
        && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    let date = date(day).filter(|_| plain)?;
    format!("{date}T{time}").parse().ok()
}

#[cfg(test)]
#[path = "moment_tests.rs"]
mod tests;
