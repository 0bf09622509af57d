use serde_json::json;

use super::*;

fn appointment(id: &str, start: &str, end: &str, patient: &str) -> Rc<Appointment> {
    let value = json!({
        "resourceType": "Appointment", "id": id, "status": "booked", "start": start, "end": end,
        "participant": [{"actor": {"reference": format!("Patient/{patient}")}, "status": "accepted"}]
    });
    Rc::new(serde_json::from_value(value).unwrap())
}

fn ids<'a>(found: impl Iterator<Item = &'a Rc<Appointment>>) -> Vec<&'a str> {
    found.map(|one| one.id.as_str()).collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn calendar() -> Calendar {
    let mut calendar = Calendar::default();
    for one in [
        appointment("noon", "2026-03-09T12:00:00Z", "2026-03-09T13:00:00Z", "p"),
        appointment("stay", "2026-02-01T00:00:00Z", "2026-03-10T00:00:00Z", "q"),
        appointment("same", "2026-03-09T08:00:00-04:00", "2026-03-09T12:30:00Z", "q"),
        appointment("next", "2026-03-10T12:00:00Z", "2026-03-10T13:00:00Z", "p"),
    ] {
        assert!(calendar.insert(one).is_none());
    }
    calendar
}

#[test]
fn a_range_finds_what_overlaps_it_even_from_long_before() {
    let calendar = calendar();
    let filter = Filter {
        from: Some(at("2026-03-09T12:30:00Z")),
        to: Some(at("2026-03-10T12:00:00Z")),
        ..Filter::default()
    };
    assert_eq!(
        ids(calendar.find(&filter, None)),
        ["stay", "noon"],
        "an end or start at the edge is outside"
    );
    let patient = Filter { patient: Some("urn:uuid:q".into()), ..Filter::default() };
    assert_eq!(ids(calendar.find(&patient, None)), ["stay", "same"]);
    let nobody = Filter { practitioner: Some("p".into()), ..Filter::default() };
    assert_eq!(ids(calendar.find(&nobody, None)), [""; 0]);
    let cancelled = Filter { status: vec![Status::Cancelled], ..Filter::default() };
    assert_eq!(calendar.find(&cancelled, None).count(), 0);
}

#[test]
fn pages_continue_after_the_last_of_the_one_before() {
    let calendar = calendar();
    let all = ids(calendar.iter());
    assert_eq!(all, ["stay", "noon", "same", "next"]);
    let filter = Filter::default();
    for (nth, one) in calendar.iter().enumerate() {
        assert_eq!(ids(calendar.find(&filter, Some((one.start.at(), &one.id)))), all[nth + 1..]);
    }
}

#[test]
fn replacing_moves_it() {
    let mut calendar = calendar();
    let before =
        calendar.insert(appointment("noon", "2026-04-01T12:00:00Z", "2026-04-01T13:00:00Z", "p"));
    assert_eq!(before.unwrap().start.as_str(), "2026-03-09T12:00:00Z");
    assert_eq!(ids(calendar.iter()), ["stay", "same", "next", "noon"]);
    assert!(calendar.remove("noon").is_some() && calendar.remove("noon").is_none());
    assert_eq!((calendar.len(), calendar.iter().count()), (3, 3));
}

#[test]
fn conflicts_leave_out_itself() {
    let calendar = calendar();
    let wanted = appointment("noon", "2026-03-09T12:15:00Z", "2026-03-09T14:00:00Z", "q");
    let found: Vec<_> = calendar.conflicts(&wanted).into_iter().map(|one| one.first.id).collect();
    assert_eq!(found, ["stay", "same"]);
}
