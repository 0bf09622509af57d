use serde_json::json;

use super::*;

fn clinic() -> Clinic {
    let config =
        json!({"timezone": "America/New_York", "workingHours": {"start": "09:00", "end": "17:00"}});
    Clinic::new(&serde_json::from_value(config).unwrap()).unwrap()
}

#[test]
fn local_times_and_moments_mean_the_same() {
    let clinic = clinic();
    for text in [
        "2026-03-09T10:00",
        "2026-03-09 10:00",
        "2026-03-09T10:00:00",
        "2026-03-09T10:00:00-04:00",
        "2026-03-09T14:00:00Z",
        "2026-03-09T23:00:00+09:00",
    ] {
        let found = moment(&clinic, "start", text).unwrap();
        assert_eq!(clinic.local(found).as_str(), "2026-03-09T10:00:00-04:00", "{text}");
    }
}

#[test]
fn a_local_time_that_is_skipped_or_doubled_is_told_so() {
    let clinic = clinic();
    let fault = |text| moment(&clinic, "start", text).unwrap_err();
    let skipped = fault("2026-03-08T02:30");
    assert_eq!((skipped.code.as_str(), skipped.path.as_str()), (code::TIME_SKIPPED, "start"));
    let doubled = fault("2026-11-01T01:30");
    assert_eq!(doubled.code, code::TIME_AMBIGUOUS);
    assert!(doubled.message.contains("offset"), "{doubled}");
    // With the offset there is no doubt.
    let first = moment(&clinic, "start", "2026-11-01T01:30:00-04:00").unwrap();
    let second = moment(&clinic, "start", "2026-11-01T01:30:00-05:00").unwrap();
    assert_eq!(second.duration_since(first).as_mins(), 60);
    for text in ["tomorrow", "2026-03-09", "2026-02-30T10:00", "10:00", ""] {
        assert_eq!(fault(text).code, code::TIME_INVALID, "{text}");
    }
}

#[test]
fn days_in_a_range_are_whole() {
    let clinic = clinic();
    let texts = |from, to, days| {
        let window = range(&clinic, from, to, days).unwrap();
        (clinic.local(window.start).to_string(), clinic.local(window.end).to_string())
    };
    let week = ("2026-03-06T00:00:00-05:00".to_owned(), "2026-03-13T00:00:00-04:00".to_owned());
    assert_eq!(texts("2026-03-06", None, 7), week);
    assert_eq!(texts("2026-03-06", Some("2026-03-12"), 1), week);
    let part = ("2026-03-06T12:00:00-05:00".to_owned(), "2026-03-06T13:00:00-05:00".to_owned());
    assert_eq!(texts("2026-03-06T12:00", Some("2026-03-06T13:00"), 1), part);
}

#[test]
fn a_range_has_an_order_and_a_bound() {
    let clinic = clinic();
    let fault = |from, to| range(&clinic, from, Some(to), 1).unwrap_err();
    let backwards = fault("2026-03-06", "2026-03-05");
    assert_eq!((backwards.code.as_str(), backwards.path.as_str()), (code::RANGE_INVALID, "to"));
    assert_eq!(fault("2026-03-06T12:00", "2026-03-06T12:00").code, code::RANGE_INVALID);
    assert_eq!(fault("2026-03-06", "2027-03-08").code, code::RANGE_INVALID);
    assert_eq!(fault("2026-03-06", "later").path, "to");
    assert_eq!(range(&clinic, "9999-12-31", None, 1).unwrap_err().path, "from");
    range(&clinic, "2026-03-06", Some("2027-03-05"), 1).unwrap();
}
