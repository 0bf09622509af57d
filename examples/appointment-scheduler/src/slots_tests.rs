use serde_json::{Value, json};

use super::*;

fn clinic(hours: Value, days: Value) -> Clinic {
    let config =
        json!({"timezone": "America/New_York", "workingHours": hours, "workingDays": days});
    Clinic::new(&serde_json::from_value(config).unwrap()).unwrap()
}

fn weekdays() -> Clinic {
    clinic(json!({"start": "09:00", "end": "17:00"}), json!(["mon", "tue", "wed", "thu", "fri"]))
}

fn window(start: &str, end: &str) -> Window {
    Window { start: start.parse().unwrap(), end: end.parse().unwrap() }
}

fn starts(clinic: &Clinic, found: &[Window]) -> Vec<String> {
    found.iter().map(|slot| clinic.local(slot.start).to_string()[5..16].to_owned()).collect()
}

#[test]
fn a_free_day_is_divided_from_opening_time() {
    let clinic = weekdays();
    let monday = window("2026-03-09T00:00:00-04:00", "2026-03-10T00:00:00-04:00");
    let (found, more) = free(&clinic, monday, 60, 60, &[], 100);
    assert_eq!((found.len(), more), (8, false));
    assert_eq!(starts(&clinic, &found)[..2], ["03-09T09:00", "03-09T10:00"]);
    let (found, _) = free(&clinic, monday, 90, 90, &[], 100);
    assert_eq!(
        starts(&clinic, &found),
        ["03-09T09:00", "03-09T10:30", "03-09T12:00", "03-09T13:30", "03-09T15:00"]
    );
    let (found, _) = free(&clinic, monday, 480, 15, &[], 100);
    assert_eq!(starts(&clinic, &found), ["03-09T09:00"], "only the whole day is as long");
    assert_eq!(free(&clinic, monday, 481, 15, &[], 100), (vec![], false));
}

#[test]
fn what_is_busy_is_left_out_and_its_edges_are_free() {
    let clinic = weekdays();
    let monday = window("2026-03-09T00:00:00-04:00", "2026-03-10T00:00:00-04:00");
    let busy = [
        // An odd minute takes the slot on either side of the hour.
        window("2026-03-09T14:30:00-04:00", "2026-03-09T15:30:00.000001-04:00"),
        window("2026-03-09T10:00:00-04:00", "2026-03-09T11:00:00-04:00"),
        window("2026-03-09T10:15:00-04:00", "2026-03-09T10:20:00-04:00"),
        // From long before, into the morning.
        window("2026-02-01T00:00:00-05:00", "2026-03-09T09:00:00-04:00"),
    ];
    let (found, _) = free(&clinic, monday, 60, 60, &busy, 100);
    assert_eq!(
        starts(&clinic, &found),
        ["03-09T09:00", "03-09T11:00", "03-09T12:00", "03-09T13:00", "03-09T16:00"]
    );
    let hours = clinic.window(clinic.date(monday.start)).unwrap();
    assert_eq!(free_minutes(hours, &busy), 480 - 60 - 60 - 1, "a begun minute is not free");
}

#[test]
fn slots_lie_within_the_range_and_the_limit() {
    let clinic = weekdays();
    let week = window("2026-03-06T15:30:00-05:00", "2026-03-10T10:30:00-04:00");
    let (found, more) = free(&clinic, week, 60, 60, &[], 100);
    assert_eq!((found.len(), more), (1 + 8 + 1, false));
    let texts = starts(&clinic, &found);
    assert_eq!(
        (texts[0].as_str(), texts[1].as_str()),
        ("03-06T16:00", "03-09T09:00"),
        "over the weekend"
    );
    let (found, more) = free(&clinic, week, 60, 60, &[], 4);
    assert_eq!((found.len(), more), (4, true));
    assert!(!free(&clinic, week, 60, 60, &[], 10).1, "ten is all there is");
}

#[test]
fn a_night_in_which_clocks_change_has_its_true_number_of_slots() {
    let night = clinic(json!({"start": "00:00", "end": "06:00"}), json!(["sun"]));
    let forward = window("2026-03-08T00:00:00-05:00", "2026-03-09T00:00:00-04:00");
    let (found, _) = free(&night, forward, 60, 60, &[], 100);
    assert_eq!(
        starts(&night, &found),
        ["03-08T00:00", "03-08T01:00", "03-08T03:00", "03-08T04:00", "03-08T05:00"]
    );
    let back = window("2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00");
    let (found, _) = free(&night, back, 60, 60, &[], 100);
    let local: Vec<_> = found.iter().map(|slot| night.local(slot.start).to_string()).collect();
    assert_eq!(local[1..3], ["2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00"]);
    assert_eq!(found.len(), 7);
}
