use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn calendar(cron: &str, zone: &str) -> Calendar {
    Calendar::new(&cron.parse().unwrap(), &zone.to_owned().try_into().unwrap())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What is due after `from` and not after `to`.
fn due(calendar: &Calendar, from: &str, to: &str) -> Vec<Timestamp> {
    let next = |instant: &Timestamp| calendar.after(*instant).filter(|due| *due <= at(to));
    std::iter::successors(next(&at(from)), next).collect()
}

fn shown(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let calendar = calendar(cron, zone);
    let local =
        |due: Timestamp| due.to_zoned(calendar.zone.clone()).strftime("%d %H:%M %z").to_string();
    due(&calendar, from, to).into_iter().map(local).collect()
}

const NEW_YORK: &str = "America/New_York";
/// The clocks go from 02:00 to 03:00.
const SPRING: (&str, &str) = ("2026-03-07T12:00-05:00", "2026-03-09T12:00-04:00");
/// The clocks go from 02:00 back to 01:00.
const AUTUMN: (&str, &str) = ("2026-10-31T12:00-04:00", "2026-11-02T12:00-05:00");

#[test]
fn a_local_time_that_the_clocks_skip_comes_right_after_the_gap() {
    let nightly = shown("30 2 * * *", NEW_YORK, SPRING.0, SPRING.1);
    assert_eq!(nightly, ["08 03:00 -0400", "09 02:30 -0400"]);
    // Several of them come once, and together with the one that is there.
    let often = shown("*/20 2-3 8 * *", NEW_YORK, SPRING.0, SPRING.1);
    assert_eq!(often, ["08 03:00 -0400", "08 03:20 -0400", "08 03:40 -0400"]);
}

#[test]
fn a_local_time_that_the_clocks_repeat_comes_once() {
    let nightly = shown("30 1 * * *", NEW_YORK, AUTUMN.0, AUTUMN.1);
    assert_eq!(nightly, ["01 01:30 -0400", "02 01:30 -0500"]);
}

#[test]
fn every_hour_is_every_real_hour() {
    let hourly = |(from, to)| due(&calendar("0 * * * *", NEW_YORK), from, to);
    for hours in [hourly(SPRING), hourly(AUTUMN)] {
        let apart = hours.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        assert!(apart.into_iter().all(|span| span == SignedDuration::from_hours(1)), "{hours:?}");
    }
    assert_eq!(hourly(SPRING).len(), 47);
    assert_eq!(hourly(AUTUMN).len(), 49);
    // Of these the clock shows none on one day, and two on the other.
    assert_eq!(shown("30 */2 8 3 *", NEW_YORK, SPRING.0, SPRING.1).len(), 11);
}

#[test]
fn a_day_can_begin_late_and_can_be_missing() {
    let havana = shown("0 0 8 3 *", "America/Havana", "2026-03-07T12:00Z", "2026-03-09T12:00Z");
    assert_eq!(havana, ["08 01:00 -0400"]);
    // Samoa had no 30 December 2011.
    let apia = shown("0 9 30 12 *", "Pacific/Apia", "2011-12-29T00:00Z", "2012-01-02T00:00Z");
    assert_eq!(apia, ["31 00:00 +1400"]);
    // Half an hour.
    let lord_howe = "Australia/Lord_Howe";
    let half = shown("15 2 4 10 *", lord_howe, "2026-10-03T00:00Z", "2026-10-05T00:00Z");
    assert_eq!(half, ["04 02:30 +1100"]);
}

#[test]
fn days_are_those_of_crontab() {
    // Both are restricted: either will do. 1 June 2026 is a Monday.
    let either = shown("0 0 10 6 1", "UTC", "2026-05-31T12:00Z", "2026-06-16T12:00Z");
    assert_eq!(either, ["01 00:00 +0000", "08 00:00 +0000", "10 00:00 +0000", "15 00:00 +0000"]);
    // One begins with a star: both must hold.
    let both = shown("0 0 */2 6 1", "UTC", "2026-05-31T12:00Z", "2026-06-16T12:00Z");
    assert_eq!(both, ["01 00:00 +0000", "15 00:00 +0000"]);
}

#[test]
fn what_is_rare_is_found() {
    let leap = calendar("0 0 29 2 *", "UTC");
    assert_eq!(leap.after(at("2096-03-01T00:00Z")), Some(at("2104-02-29T00:00Z")));
    // A leap day at a week's end, with a century between that has none.
    let rarer = calendar("0 0 29 2 */6", "UTC");
    let found = rarer.after(at("2092-03-01T00:00Z")).unwrap();
    let weekday = found.to_zoned(TimeZone::UTC).weekday();
    assert_eq!((found, weekday), (at("2116-02-29T00:00Z"), civil::Weekday::Saturday));
    let hourly = calendar("0 * 29 2 *", NEW_YORK);
    assert_eq!(hourly.after(at("2096-03-02T00:00Z")), Some(at("2104-02-29T05:00Z")));
    assert_eq!(leap.after(Timestamp::MAX), None);
    assert_eq!(hourly.after(Timestamp::MAX), None);
}

#[test]
fn the_last_one_is_found_however_long_ago() {
    let nightly = calendar("30 2 * * *", "UTC");
    let (start, now) = (at("2026-01-01T02:30Z"), at("2026-11-28T12:00Z"));
    assert_eq!(nightly.last(start, now), Some(at("2026-11-28T02:30Z")));
    assert_eq!(nightly.last(start, at("2026-01-02T02:30Z")), Some(at("2026-01-02T02:30Z")));
    assert_eq!(nightly.last(start, at("2026-01-02T02:29Z")), None);
    assert_eq!(nightly.last(start, start), None);
    let yearly = calendar("0 0 1 1 *", "UTC");
    assert_eq!(yearly.last(start, now), None);
    assert_eq!(yearly.last(at("2025-06-01T00:00Z"), now), Some(at("2026-01-01T00:00Z")));
}

/// The same from the text of the fields, minute by minute, as a daemon that looks at the clock each
/// minute would do it.
mod model {
    use super::*;

    fn has(field: &str, value: i8, largest: i8) -> bool {
        field.split(',').any(|item| {
            let (span, step) = item.split_once('/').unwrap_or((item, "1"));
            let (first, last) = match span.split_once('-') {
                Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
                None if span == "*" => (i8::from(largest == 31 || largest == 12), largest),
                None => (span.parse().unwrap(), span.parse().unwrap()),
            };
            (first..=last).contains(&value) && (value - first) % step.parse::<i8>().unwrap() == 0
        })
    }

    fn names(cron: &[&str], local: DateTime) -> bool {
        let weekday = local.weekday().to_sunday_zero_offset();
        let day = has(cron[2], local.day(), 31);
        let of_week = has(cron[4], weekday, 6) || (weekday == 0 && has(cron[4], 7, 7));
        let starred = cron[2].starts_with('*') || cron[4].starts_with('*');
        has(cron[0], local.minute(), 59)
            && has(cron[1], local.hour(), 23)
            && has(cron[3], local.month(), 12)
            && if starred { day && of_week } else { day || of_week }
    }

    pub(super) fn due(cron: &str, zone: &str, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
        let fields: Vec<&str> = cron.split(' ').collect();
        let zone = TimeZone::get(zone).unwrap();
        let (mut found, mut reached) = (Vec::new(), zone.to_datetime(from));
        for minute in 1..=minutes {
            let now = from + SignedDuration::from_mins(minute);
            let local = zone.to_datetime(now);
            if fields[1].starts_with('*') {
                if names(&fields, local) {
                    found.push(now);
                }
                continue;
            }
            // All local minutes since the latest that was seen, if this is later.
            let mut due = false;
            while reached < local {
                reached += 1.minute();
                due |= names(&fields, reached);
            }
            if due {
                found.push(now);
            }
        }
        found
    }
}

/// A week around changes of the clocks, of many kinds.
const WEEKS: [(&str, &str); 12] = [
    (NEW_YORK, "2026-03-05T00:00Z"),
    (NEW_YORK, "2026-10-29T00:00Z"),
    ("Europe/Berlin", "2026-03-27T00:00Z"),
    ("Europe/Berlin", "2026-10-22T00:00Z"),
    ("Australia/Lord_Howe", "2026-04-02T00:00Z"),
    ("Australia/Lord_Howe", "2026-10-01T00:00Z"),
    ("America/Havana", "2026-03-06T00:00Z"),
    ("America/Havana", "2026-10-30T00:00Z"),
    ("Pacific/Apia", "2011-12-28T00:00Z"),
    ("Pacific/Kwajalein", "1993-08-19T00:00Z"),
    ("Africa/Casablanca", "2026-02-12T00:00Z"),
    ("Asia/Kolkata", "2026-02-26T00:00Z"),
];

/// In minutes.
const WEEK: i64 = 7 * 24 * 60;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn it_is_due_when_the_model_says(
        minute in select(vec!["*", "*/15", "0", "30", "59", "5,35", "0-59/20", "17-19"]),
        hour in select(vec!["*", "*/2", "*/5", "0", "1", "2", "3", "0-23", "1-3", "2,23", "0-6/2"]),
        day in select(vec!["*", "*", "*/2", "8", "1,29-31", "25-29/2"]),
        month in select(vec!["*", "*", "3,4,10,11", "*/4", "12"]),
        weekday in select(vec!["*", "*", "0", "7", "1-5", "*/3", "5-7"]),
        (zone, from) in select(WEEKS.to_vec()),
    ) {
        let cron = format!("{minute} {hour} {day} {month} {weekday}");
        let to = at(from) + SignedDuration::from_mins(WEEK);
        let found = due(&calendar(&cron, zone), from, &to.to_string());
        prop_assert_eq!(&found, &model::due(&cron, zone, at(from), WEEK), "{} in {}", cron, zone);
        let last = calendar(&cron, zone).last(at(from), to);
        prop_assert_eq!(last, found.last().copied(), "the last of {} in {}", cron, zone);
    }
}
