//! When the clinic works: its time zone, its hours and its days.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, code};

/// The configuration, as an operator writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Minutes that an appointment takes if nothing else is said.
    #[serde(default = "an_hour")]
    pub default_duration: u32,
    /// The clinic's time zone, an IANA name such as `America/New_York`.
    pub timezone: String,
    /// From when to when it is open, on each working day.
    pub working_hours: WorkingHours,
    /// Its working days, `mon` to `sun`; Monday to Friday if not given.
    #[serde(default = "weekdays")]
    pub working_days: Vec<Day>,
}

/// Times of day in the clinic's time zone, as `HH:MM`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkingHours {
    /// It opens.
    pub start: String,
    /// It closes; `24:00` is midnight.
    pub end: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

fn an_hour() -> u32 {
    60
}

fn weekdays() -> Vec<Day> {
    vec![Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri]
}

impl Day {
    fn weekday(self) -> Weekday {
        match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mon => "Mon",
            Self::Tue => "Tue",
            Self::Wed => "Wed",
            Self::Thu => "Thu",
            Self::Fri => "Fri",
            Self::Sat => "Sat",
            Self::Sun => "Sun",
        }
    }
}

/// The longest appointment that can be booked, in minutes: a day.
pub(crate) const LONGEST: u32 = 24 * 60;

/// A configuration that was found good.
#[derive(Clone, Debug)]
pub(crate) struct Clinic {
    timezone: TimeZone,
    name: String,
    opens: Time,
    /// None: at midnight.
    closes: Option<Time>,
    days: Vec<Day>,
    default_duration: u32,
}

/// An interval of time, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Its first moment.
    pub(crate) start: Timestamp,
    /// The first moment after it.
    pub(crate) end: Timestamp,
}

impl Window {
    /// Whether they have a moment in common.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether all of `other` is inside.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl Clinic {
    /// Checks a configuration.
    ///
    /// # Errors
    /// [`code::CONFIG_INVALID`] with the path of the field and its value.
    pub(crate) fn new(config: &Config) -> Result<Self, Fault> {
        let fault = |path: &str, value: &dyn std::fmt::Display, message: &str| {
            Fault::new(code::CONFIG_INVALID, path, value, message)
        };
        let minutes = config.default_duration;
        if !(1..=LONGEST).contains(&minutes) {
            let message = format!("is not 1 to {LONGEST} minutes");
            return Err(fault("defaultDuration", &minutes, &message));
        }
        let timezone = TimeZone::get(&config.timezone).map_err(|_| {
            let message = "is not an IANA time zone; write, for example, America/New_York";
            fault("timezone", &config.timezone, message)
        })?;
        let hours = &config.working_hours;
        let opens = time_of_day(&hours.start).ok_or_else(|| {
            fault("workingHours.start", &hours.start, "is not a time of day; write it as 09:00")
        })?;
        let closes = match hours.end.as_str() {
            "24:00" => None,
            end => Some(time_of_day(end).ok_or_else(|| {
                fault("workingHours.end", &hours.end, "is not a time of day; write it as 17:00")
            })?),
        };
        if closes.is_some_and(|closes| closes <= opens) {
            let message = format!(
                "is not after the start, {}; a clinic that works past midnight ends at 24:00",
                hours.start
            );
            return Err(fault("workingHours.end", &hours.end, &message));
        }
        if config.working_days.is_empty() {
            return Err(fault("workingDays", &"", "is empty; leave it out for Monday to Friday"));
        }
        let name = config.timezone.clone();
        let days = config.working_days.clone();
        Ok(Self { timezone, name, opens, closes, days, default_duration: minutes })
    }

    /// The time zone's name, as configured.
    pub(crate) fn timezone(&self) -> &str {
        &self.name
    }

    /// The time zone.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.timezone
    }

    /// Minutes that an appointment takes if nothing else is said.
    pub(crate) fn default_duration(&self) -> u32 {
        self.default_duration
    }

    /// The working hours of a day; none on a day off. The length is that of the clock on the wall: on a day on which
    /// clocks change within them, the hours are one shorter or longer.
    pub(crate) fn window(&self, date: Date) -> Option<Window> {
        if !self.days.iter().any(|day| day.weekday() == date.weekday()) {
            return None;
        }
        let start = self.moment(date.to_datetime(self.opens))?;
        let end = match self.closes {
            Some(closes) => self.moment(date.to_datetime(closes))?,
            None => self.midnight(date.tomorrow().ok()?)?,
        };
        Some(Window { start, end })
    }

    /// The whole of a day, from midnight to midnight.
    pub(crate) fn day(&self, date: Date) -> Option<Window> {
        Some(Window { start: self.midnight(date)?, end: self.midnight(date.tomorrow().ok()?)? })
    }

    /// The day on which a moment falls here.
    pub(crate) fn date(&self, moment: Timestamp) -> Date {
        self.timezone.to_datetime(moment).date()
    }

    /// The hours in words: `Mon Tue Wed Thu Fri, 09:00 to 17:00 (America/New_York)`.
    pub(crate) fn hours(&self) -> String {
        let days: Vec<_> = self.days.iter().map(|day| day.name()).collect();
        let closes = match self.closes {
            Some(closes) => closes.strftime("%H:%M").to_string(),
            None => "24:00".to_owned(),
        };
        format!("{}, {} to {closes} ({})", days.join(" "), self.opens.strftime("%H:%M"), self.name)
    }

    /// A moment with this time zone's offset at the time.
    pub(crate) fn local(&self, moment: Timestamp) -> appointments::instant::Instant {
        appointments::instant::Instant::at_offset(moment, self.timezone.to_offset(moment))
    }

    /// The moment at which clocks here show `local`, if there is exactly one.
    ///
    /// # Errors
    /// [`code::TIME_SKIPPED`] when clocks are put forward past it, [`code::TIME_AMBIGUOUS`] when they show it twice.
    pub(crate) fn exact(&self, path: &str, local: DateTime) -> Result<Timestamp, Fault> {
        let ambiguous = self.timezone.to_ambiguous_timestamp(local);
        let fault = |code: &str, message: String| Err(Fault::new(code, path, local, &message));
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => {}
            AmbiguousOffset::Gap { before, after } => {
                let message = format!(
                    "does not exist in {}: clocks go from offset {before} to {after} then; choose another time",
                    self.name
                );
                return fault(code::TIME_SKIPPED, message);
            }
            AmbiguousOffset::Fold { before, after } => {
                let message = format!(
                    "happens twice in {}: clocks go from offset {before} to {after} then; add the offset that is meant",
                    self.name
                );
                return fault(code::TIME_AMBIGUOUS, message);
            }
        }
        ambiguous.unambiguous().or_else(|err| fault(code::TIME_INVALID, err.to_string()))
    }

    /// The moment at which clocks here show `local`: when skipped, as much later; when twice, the first.
    fn moment(&self, local: DateTime) -> Option<Timestamp> {
        self.timezone.to_ambiguous_timestamp(local).compatible().ok()
    }

    fn midnight(&self, date: Date) -> Option<Timestamp> {
        self.moment(date.to_datetime(Time::midnight()))
    }

    /// The days that a window touches.
    pub(crate) fn dates(&self, window: Window) -> impl Iterator<Item = Date> {
        let last = self.date(window.end);
        std::iter::successors(Some(self.date(window.start)), |date| date.checked_add(1.day()).ok())
            .take_while(move |date| *date <= last)
    }
}

/// `HH:MM`, and nothing else.
fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |part: &str| {
        let good = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        good.then(|| part.parse::<i8>().ok()).flatten()
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

#[cfg(test)]
#[path = "clinic_tests.rs"]
mod tests;
