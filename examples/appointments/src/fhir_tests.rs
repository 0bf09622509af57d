use serde_json::json;

use super::*;

fn booked() -> Value {
    json!({
        "resourceType": "Appointment", "id": "a-1", "status": "booked",
        "start": "2026-03-09T10:00:00.120-04:00", "end": "2026-03-09T11:00:00.120-04:00",
        "priority": 3,
        "participant": [
            {"actor": {"reference": "Patient/p1", "display": "Miguel Ángel Escalante"}, "status": "accepted", "required": "required"},
            {"actor": {"reference": "urn:uuid:d1", "type": "Practitioner"}, "status": "accepted"}
        ]
    })
}

#[test]
fn round_trip_keeps_times_names_and_unknown_fields() {
    let appointment: Appointment = serde_json::from_value(booked()).unwrap();
    assert_eq!(serde_json::to_value(&appointment).unwrap(), booked());
    appointment.check().unwrap();
}

#[test]
fn references_compare_by_id_and_know_their_type() {
    for text in ["p1", "Patient/p1", "urn:uuid:p1", "https://ehr.example/fhir/Patient/p1"] {
        assert_eq!(id_of(text), "p1", "{text}");
    }
    let appointment: Appointment = serde_json::from_value(booked()).unwrap();
    assert_eq!(appointment.participant_id("Patient"), Some("p1"));
    assert_eq!(appointment.participant_id("Practitioner"), Some("d1"));
    assert_eq!(appointment.participant_id("Location"), None);
}

#[test]
fn every_status_has_fhirs_spelling() {
    for status in [
        Status::Proposed,
        Status::Pending,
        Status::Booked,
        Status::Arrived,
        Status::Fulfilled,
        Status::Cancelled,
        Status::Noshow,
        Status::EnteredInError,
        Status::CheckedIn,
        Status::Waitlist,
    ] {
        assert_eq!(serde_json::to_value(status).unwrap(), json!(status.as_str()));
        assert!(!status.is_open() || !matches!(status, Status::Fulfilled));
    }
    assert!(Status::Fulfilled.is_busy() && !Status::Cancelled.is_busy());
}

#[test]
fn check_names_the_field() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = booked();
        change(&mut value);
        serde_json::from_value::<Appointment>(value).unwrap().check().unwrap_err()
    };
    let end = with(&|value| value["end"] = json!("2026-03-09T14:00:00.120Z"));
    assert_eq!((end.code.as_str(), end.path.as_str()), (code::PERIOD_INVALID, "end"));
    let long = with(&|value| value["end"] = json!("2037-04-09T14:00:00Z"));
    assert_eq!(long.code, code::PERIOD_INVALID);
    let id = with(&|value| value["id"] = json!("../etc/passwd"));
    assert_eq!((id.path.as_str(), id.value.as_str()), ("id", "../etc/passwd"));
    let nobody = with(&|value| value["participant"] = json!([]));
    assert_eq!(nobody.path, "participant");
    let unnamed = with(&|value| value["participant"][1]["actor"] = json!({"type": "Practitioner"}));
    assert_eq!(unnamed.path, "participant[1].actor");
}
