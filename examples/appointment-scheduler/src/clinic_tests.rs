use jiff::civil::date;
use serde_json::{Value, json};

use super::*;

/// The mission's own configuration.
fn mission() -> Value {
    json!({
        "defaultDuration": 60,
        "timezone": "America/New_York",
        "workingHours": { "start": "09:00", "end": "17:00" }
    })
}

fn clinic(change: impl Fn(&mut Value)) -> Result<Clinic, Fault> {
    let mut config = mission();
    change(&mut config);
    Clinic::new(&serde_json::from_value(config).unwrap())
}

fn hours(clinic: &Clinic, date: Date) -> Option<(String, String, i64)> {
    let window = clinic.window(date)?;
    let minutes = window.end.duration_since(window.start).as_mins();
    Some((clinic.local(window.start).to_string(), clinic.local(window.end).to_string(), minutes))
}

#[test]
fn the_missions_configuration_is_understood() {
    let clinic = clinic(|_| ()).unwrap();
    assert_eq!(clinic.default_duration(), 60);
    assert_eq!(clinic.hours(), "Mon Tue Wed Thu Fri, 09:00 to 17:00 (America/New_York)");
}

#[test]
fn hours_follow_the_clocks_over_a_change() {
    let clinic = clinic(|_| ()).unwrap();
    // The Friday before clocks go forward, and the Monday after.
    let before = ("2026-03-06T09:00:00-05:00".into(), "2026-03-06T17:00:00-05:00".into(), 480);
    let after = ("2026-03-09T09:00:00-04:00".into(), "2026-03-09T17:00:00-04:00".into(), 480);
    assert_eq!(hours(&clinic, date(2026, 3, 6)), Some(before));
    assert_eq!(hours(&clinic, date(2026, 3, 9)), Some(after));
    assert_eq!(hours(&clinic, date(2026, 3, 8)), None, "a Sunday");
}

#[test]
fn a_night_in_which_clocks_change_is_an_hour_shorter_or_longer() {
    let clinic = clinic(|config| {
        config["workingHours"] = json!({"start": "00:00", "end": "06:00"});
        config["workingDays"] = json!(["sun"]);
    })
    .unwrap();
    let minutes = |date| hours(&clinic, date).unwrap().2;
    assert_eq!(minutes(date(2026, 3, 1)), 360);
    assert_eq!(minutes(date(2026, 3, 8)), 300, "forward");
    assert_eq!(minutes(date(2026, 11, 1)), 420, "back");
}

#[test]
fn midnight_can_be_the_end_even_where_clocks_skip_it() {
    // In Beirut clocks went from 00:00 to 01:00 on 2021-03-28: the Saturday before ends when that Sunday begins.
    let clinic = clinic(|config| {
        config["timezone"] = json!("Asia/Beirut");
        config["workingHours"] = json!({"start": "12:00", "end": "24:00"});
        config["workingDays"] = json!(["sat"]);
    })
    .unwrap();
    let (_, end, minutes) = hours(&clinic, date(2021, 3, 27)).unwrap();
    assert_eq!((end.as_str(), minutes), ("2021-03-28T01:00:00+03:00", 720));
    assert_eq!(clinic.hours(), "Sat, 12:00 to 24:00 (Asia/Beirut)");
}

#[test]
fn what_cannot_be_is_refused_with_path_and_value() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str, &str); 9] = [
        (|c| c["defaultDuration"] = json!(0), "defaultDuration", "0"),
        (|c| c["defaultDuration"] = json!(1441), "defaultDuration", "1441"),
        (|c| c["timezone"] = json!("New York"), "timezone", "New York"),
        (|c| c["workingHours"]["start"] = json!("9:00"), "workingHours.start", "9:00"),
        (|c| c["workingHours"]["start"] = json!("09:60"), "workingHours.start", "09:60"),
        (|c| c["workingHours"]["end"] = json!("5pm"), "workingHours.end", "5pm"),
        (|c| c["workingHours"]["end"] = json!("09:00"), "workingHours.end", "09:00"),
        (|c| c["workingHours"]["end"] = json!("08:00"), "workingHours.end", "08:00"),
        (|c| c["workingDays"] = json!([]), "workingDays", ""),
    ];
    for (change, path, value) in cases {
        let fault = clinic(change).unwrap_err();
        assert_eq!(
            (fault.code.as_str(), fault.path.as_str(), fault.value.as_str()),
            (code::CONFIG_INVALID, path, value)
        );
    }
}
