//! `[[schedule]]`: methods that are called by the clock.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::service::MethodName;
use super::units::TimeSpan;

/// The most schedules of one plugin.
const MAX_SCHEDULES: usize = 64;

/// One task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// What its history is kept under; the method where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<MethodName>,
    pub(crate) cron: Cron,
    #[serde(default)]
    pub(crate) timezone: Timezone,
    pub(crate) method: MethodName,
    #[serde(default)]
    pub(crate) overlap: Overlap,
    #[serde(default)]
    pub(crate) missed: Missed,
    /// Each run begins up to this much later, so that not every machine begins at once.
    #[serde(default = "at_once")]
    pub(crate) jitter: TimeSpan,
    /// The deadline of a run. None: that of any call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<TimeSpan>,
}

fn at_once() -> TimeSpan {
    TimeSpan::from_secs(0)
}

impl Schedule {
    pub(crate) fn name(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.method).as_str()
    }
}

/// What several schedules say together, and one of several fields: the key at fault, and why.
pub(super) fn check(schedules: &[Schedule]) -> Result<(), (String, String)> {
    if schedules.len() > MAX_SCHEDULES {
        let why = format!("there are {}; at most {MAX_SCHEDULES} are allowed", schedules.len());
        return Err((format!("schedule[{MAX_SCHEDULES}]"), why));
    }
    let mut seen = BTreeSet::new();
    for (index, schedule) in schedules.iter().enumerate() {
        if !seen.insert(schedule.name()) {
            let key = if schedule.name.is_some() { "name" } else { "method" };
            let why = format!(
                "{:?} is another schedule; give this one a name of its own",
                schedule.name()
            );
            return Err((format!("schedule[{index}].{key}"), why));
        }
        if schedule.timeout.is_some_and(|timeout| timeout.millis() == 0) {
            return Err((format!("schedule[{index}].timeout"), "must be longer than zero".into()));
        }
    }
    Ok(())
}

/// What happens when a task is due while it still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Overlap {
    #[default]
    Skip,
    /// It starts when the running one ends; at most one waits.
    Queue,
    Allow,
}

/// What happens to runs that were due while the plugin or the machine was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Missed {
    #[default]
    Skip,
    /// Once, however many were missed.
    Once,
}

/// An IANA time zone, by its name: `America/New_York`; `UTC` if not given. What it means is in the
/// program itself, so that it means the same on every machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Timezone {
    name: String,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTimezone {
    #[error("{0:?} is not the name of a time zone: write for example UTC or America/New_York")]
    Syntax(String),
    #[error(
        "there is no time zone {0:?}: write the name of one, for example UTC or America/New_York"
    )]
    Unknown(String),
}

impl Timezone {
    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl Default for Timezone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl TryFrom<String> for Timezone {
    type Error = BadTimezone;

    fn try_from(name: String) -> Result<Self, BadTimezone> {
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"_+-".contains(&c))
        };
        if name.len() > 64 || !name.split('/').all(part) {
            return Err(BadTimezone::Syntax(name));
        }
        // One spelling only: elsewhere the names are files, and this is no place to guess.
        match TimeZone::get(&name) {
            Ok(zone) if zone.iana_name() == Some(&name) => Ok(Self { name, zone }),
            _ => Err(BadTimezone::Unknown(name)),
        }
    }
}

impl From<Timezone> for String {
    fn from(zone: Timezone) -> String {
        zone.name
    }
}

/// The five fields of crontab(5): minute, hour, day of month, month, day of week. Each is `*`, a
/// number, a range `1-5`, a step `*/15` or `0-30/10`, or a list of those. Sunday is 0 or 7.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Cron {
    text: String,
    /// One bit per allowed value.
    fields: [u64; 5],
    /// Which begin with `*`.
    starred: [bool; 5],
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadCron {
    #[error(
        "{text:?} has {found} fields: write five, minute hour day month weekday, for example 30 2 * * 1-5"
    )]
    FieldCount { text: String, found: usize },
    #[error(
        "{value:?} is not a {field}: write *, a number from {first} to {last}, a range, a step or a list"
    )]
    Field { field: &'static str, value: String, first: u8, last: u8 },
    #[error(
        "{text:?} never comes: none of its months has such a day; write a day that one of them has"
    )]
    Never { text: String },
}

/// The places of the fields.
pub(crate) const MINUTE: usize = 0;
pub(crate) const HOUR: usize = 1;
pub(crate) const DAY: usize = 2;
pub(crate) const MONTH: usize = 3;
pub(crate) const WEEKDAY: usize = 4;

/// The longest that each month can be, from January.
const MONTH_LENGTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

const FIELDS: [(&str, RangeInclusive<u8>); 5] = [
    ("minute", 0..=59),
    ("hour", 0..=23),
    ("day of the month", 1..=31),
    ("month", 1..=12),
    ("day of the week", 0..=7),
];

impl Cron {
    /// For each field in the order of crontab(5) the set of values, bit `n` for value `n`; of the
    /// week, bits 0 to 6 with Sunday at 0.
    pub(crate) fn fields(&self) -> [u64; 5] {
        self.fields
    }

    /// Whether a field begins with `*`, by which crontab(5) tells a free field from a restricted one.
    pub(crate) fn is_free(&self, field: usize) -> bool {
        self.starred[field]
    }

    /// Whether its days are days of some year. A restricted day of the week always is one.
    fn comes(&self) -> bool {
        let in_month = |month: usize| self.fields[MONTH] & 1 << month != 0;
        let has_day = |length: u8| self.fields[DAY] & ((1 << (length + 1)) - 1) != 0;
        !self.is_free(WEEKDAY)
            || (1..).zip(MONTH_LENGTHS).any(|(month, length)| in_month(month) && has_day(length))
    }
}

impl FromStr for Cron {
    type Err = BadCron;

    fn from_str(text: &str) -> Result<Self, BadCron> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.len() != FIELDS.len() {
            return Err(BadCron::FieldCount { text: text.to_owned(), found: words.len() });
        }
        let mut fields = [0; 5];
        for ((bits, word), (field, range)) in fields.iter_mut().zip(&words).zip(&FIELDS) {
            *bits = field_bits(word, range).ok_or_else(|| BadCron::Field {
                field,
                value: (*word).to_owned(),
                first: *range.start(),
                last: *range.end(),
            })?;
        }
        // Sunday has two names.
        if fields[4] & 1 << 7 != 0 {
            fields[4] = fields[4] & !(1 << 7) | 1;
        }
        let mut starred = [false; 5];
        for (starred, word) in starred.iter_mut().zip(&words) {
            *starred = word.starts_with('*');
        }
        let cron = Self { text: words.join(" "), fields, starred };
        if cron.comes() { Ok(cron) } else { Err(BadCron::Never { text: cron.text }) }
    }
}

fn field_bits(word: &str, range: &RangeInclusive<u8>) -> Option<u64> {
    word.split(',').try_fold(0, |bits, item| Some(bits | item_bits(item, range)?))
}

fn item_bits(item: &str, range: &RangeInclusive<u8>) -> Option<u64> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        text.parse::<u8>().ok().filter(|_| digits)
    };
    let (span, step) = match item.split_once('/') {
        Some((span, step)) => (span, number(step).filter(|step| *step > 0)?),
        None => (item, 1),
    };
    let (first, last) = match span.split_once('-') {
        _ if span == "*" => (*range.start(), *range.end()),
        Some((first, last)) => (number(first)?, number(last)?),
        None if item.contains('/') => (number(span)?, *range.end()),
        None => (number(span)?, number(span)?),
    };
    if first > last || !range.contains(&first) || !range.contains(&last) {
        return None;
    }
    Some((first..=last).step_by(usize::from(step)).fold(0, |bits, value| bits | 1 << value))
}

impl TryFrom<String> for Cron {
    type Error = BadCron;

    fn try_from(text: String) -> Result<Self, BadCron> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> String {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(cron: &str, field: usize) -> Vec<u32> {
        let bits = cron.parse::<Cron>().unwrap().fields()[field];
        (0..64).filter(|bit| bits & 1 << bit != 0).collect()
    }

    #[test]
    fn fields_are_sets() {
        assert_eq!(values("*/15 * * * *", 0), [0, 15, 30, 45]);
        assert_eq!(values("5,10-12,50/5 * * * *", 0), [5, 10, 11, 12, 50, 55]);
        assert_eq!(values("* 9-17/4 * * *", 1), [9, 13, 17]);
        assert_eq!(values("* * * */6 *", 3), [1, 7]);
        assert_eq!(values("* * * * 5-7", 4), [0, 5, 6]);
        assert_eq!(values("* * * * *", 4), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_bad_field_is_named() {
        let cases = [
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of the month"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "day of the week"),
            ("5-1 * * * *", "minute"),
            ("*/0 * * * *", "minute"),
            ("+5 * * * *", "minute"),
            (", * * * *", "minute"),
            ("* * * jan *", "month"),
        ];
        for (text, name) in cases {
            match text.parse::<Cron>() {
                Err(BadCron::Field { field, .. }) => assert_eq!(field, name, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!("* * * *".parse::<Cron>(), Err(BadCron::FieldCount { found: 4, .. })));
    }

    #[test]
    fn time_zones_are_names() {
        for good in ["UTC", "America/New_York", "America/Argentina/Buenos_Aires", "Etc/GMT+3"] {
            assert_eq!(Timezone::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in ["", "/etc/passwd", "../x", "Europe/", "Europe Berlin", "+02:00"] {
            let refused = Timezone::try_from(bad.to_owned()).unwrap_err();
            assert_eq!(refused, BadTimezone::Syntax(bad.to_owned()));
        }
        for unknown in ["Mars/Olympus", "America/Gotham", "america/new_york", "local", "unknown"] {
            let refused = Timezone::try_from(unknown.to_owned()).unwrap_err();
            assert_eq!(refused, BadTimezone::Unknown(unknown.to_owned()));
        }
    }

    #[test]
    fn a_day_that_no_month_has_is_refused() {
        for never in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30,31 2 */2"] {
            let refused = never.parse::<Cron>().unwrap_err();
            assert_eq!(refused, BadCron::Never { text: never.to_owned() });
        }
        // A leap day comes, and so does a Monday in a month that has no such day.
        for comes in ["0 0 29 2 *", "0 0 31 2,4,5 *", "0 0 31 2 1", "0 0 */31 2 *"] {
            assert!(comes.parse::<Cron>().is_ok(), "{comes}");
        }
    }

    #[test]
    fn a_field_is_free_if_it_begins_with_a_star() {
        let cron: Cron = "*/5 0-23 *,1 1,* 1".parse().unwrap();
        assert_eq!(
            [MINUTE, HOUR, DAY, MONTH, WEEKDAY].map(|field| cron.is_free(field)),
            [true, false, true, false, false]
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9*/, -]{0,40}") {
            let _ = text.parse::<Cron>();
        }
    }
}
