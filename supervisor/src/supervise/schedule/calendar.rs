//! When a schedule is due: a cron expression in a time zone.
//!
//! The day is crontab(5)'s: where both day fields are restricted either will do, else both must hold.
//! Around a change of the clocks what is meant depends on the hour field, as in Vixie cron. One that
//! names its hours keeps to them: each of its local times comes once, one that the clocks skip right
//! after the gap, one that they repeat the first time. One whose hour begins with `*` goes by real
//! hours: it is due whenever the clock shows such a time.

use jiff::civil::{self, Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::manifest::{Cron, DAY, HOUR, MINUTE, MONTH, Schedule, Timezone, WEEKDAY};

/// Longer than any expression leaves out: a leap day that must be a certain day of the week, with a
/// century between that has none.
const HORIZON: SignedDuration = SignedDuration::from_hours(50 * 366 * 24);

/// The start of the minute that a local time is in.
fn minute_of(local: DateTime) -> DateTime {
    local.date().at(local.hour(), local.minute(), 0, 0)
}

/// The start of the next minute.
fn minute_after(local: DateTime) -> Option<DateTime> {
    minute_of(local).checked_add(1.minute()).ok()
}

/// The same where a minute starts, else the start of the next.
fn rounded_up(local: DateTime) -> Option<DateTime> {
    if minute_of(local) == local { Some(local) } else { minute_after(local) }
}

/// A cron expression where it is read.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    pub(super) fn new(cron: &Cron, timezone: &Timezone) -> Self {
        Self { cron: cron.clone(), zone: timezone.zone().clone() }
    }

    pub(super) fn of(schedule: &Schedule) -> Self {
        Self::new(&schedule.cron, &schedule.timezone)
    }

    /// The first time that it is due after `instant`; none where the calendar ends.
    pub(super) fn after(&self, instant: Timestamp) -> Option<Timestamp> {
        if self.cron.is_free(HOUR) { self.real_after(instant) } else { self.local_after(instant) }
    }

    /// The last time that it was due, `instant` included, if that is after `start`.
    pub(super) fn last(&self, start: Timestamp, instant: Timestamp) -> Option<Timestamp> {
        let mut span = SignedDuration::from_mins(1);
        // Looks back twice as far each time, until it finds one.
        let mut found = loop {
            let from = instant.checked_sub(span).unwrap_or(start).max(start);
            match self.after(from).filter(|due| *due <= instant) {
                Some(found) => break found,
                None if from == start => return None,
                None => span = span.saturating_mul(2),
            }
        };
        while let Some(next) = self.after(found).filter(|next| *next <= instant) {
            found = next;
        }
        Some(found)
    }

    /// Local times in their order, each at the one instant that it means. That order is that of the
    /// instants too, so the first that is late enough is the one.
    fn local_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let mut local = minute_of(self.zone.to_datetime(instant));
        loop {
            local = self.matching(local)?;
            let due = self.meant(local)?;
            if due > instant {
                return Some(due);
            }
            local = minute_after(local)?;
        }
    }

    /// The instant of a local time.
    fn meant(&self, local: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        match ambiguous.offset() {
            // The offset of after the gap puts it before the gap.
            AmbiguousOffset::Gap { after, .. } => {
                let before = after.to_timestamp(local).ok()?;
                let mut changes = self.zone.following(before).map(|change| change.timestamp());
                changes.find(|change| self.zone.to_datetime(*change) > local)
            }
            _ => ambiguous.earlier().ok(),
        }
    }

    /// From one change of the clocks to the next the offset is the same.
    fn real_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let mut from = minute_after(self.zone.to_datetime(instant))?;
        let mut now = instant;
        loop {
            let offset = self.zone.to_offset(now);
            let change = self.zone.following(now).next().map(|change| change.timestamp());
            let due = self.matching(from).and_then(|local| offset.to_timestamp(local).ok());
            match (due, change) {
                (Some(due), Some(change)) if due >= change => {}
                (None, Some(_)) => {}
                (due, _) => return due,
            }
            now = change?;
            from = rounded_up(self.zone.to_datetime(now))?;
            if now.duration_since(instant) > HORIZON {
                return None;
            }
        }
    }

    /// The first minute from `local` on that the expression names.
    fn matching(&self, local: DateTime) -> Option<DateTime> {
        let mut date = local.date();
        let last = date.checked_add(HORIZON).unwrap_or(Date::MAX);
        if self.has_day(date)
            && let Some(time) = self.time_from(local.time())
        {
            return Some(date.to_datetime(time));
        }
        loop {
            date = self.next_date(date)?;
            if date > last {
                return None;
            }
            if self.has_day(date) {
                return Some(date.to_datetime(self.time_from(Time::midnight())?));
            }
        }
    }

    /// The day after, or the first of the next month where the expression has nothing in this one.
    fn next_date(&self, date: Date) -> Option<Date> {
        if self.has(MONTH, date.month()) {
            date.tomorrow().ok()
        } else {
            date.last_of_month().tomorrow().ok()
        }
    }

    fn has(&self, field: usize, value: i8) -> bool {
        self.cron.fields()[field] & 1 << value != 0
    }

    fn has_day(&self, date: Date) -> bool {
        let day = self.has(DAY, date.day());
        let weekday = self.has(WEEKDAY, date.weekday().to_sunday_zero_offset());
        let either = !self.cron.is_free(DAY) && !self.cron.is_free(WEEKDAY);
        self.has(MONTH, date.month()) && if either { day || weekday } else { day && weekday }
    }

    /// The first time of a day from `time` on.
    fn time_from(&self, time: Time) -> Option<Time> {
        let minutes = |from: i8| (from..60).find(|minute| self.has(MINUTE, *minute));
        let hours = |from: i8| (from..24).find(|hour| self.has(HOUR, *hour));
        if self.has(HOUR, time.hour())
            && let Some(minute) = minutes(time.minute())
        {
            return Some(civil::time(time.hour(), minute, 0, 0));
        }
        Some(civil::time(hours(time.hour() + 1)?, minutes(0)?, 0, 0))
    }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
