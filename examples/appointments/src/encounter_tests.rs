use serde_json::{Value, json};

use super::*;

fn encounter() -> Value {
    json!({
        "resourceType": "Encounter", "id": "e-1", "status": "finished",
        "class": {"code": "AMB", "display": "ambulatory"},
        "subject": {"reference": "urn:uuid:p1", "display": "María Elena Guillen"},
        "period": {"start": "2018-01-03T14:49:42.994340+00:00", "end": "2018-01-03T14:49:42.994340+00:00"},
        "reasonCode": [{"text": "Medication_Review_Due"}],
        "location": [{"location": {"reference": "urn:uuid:l1"}}],
        "participant": [{"type": [{"coding": [{"code": "PPRF"}]}], "individual": {"reference": "urn:uuid:d1"}}]
    })
}

fn convert(change: impl Fn(&mut Value)) -> Result<Converted, Fault> {
    let mut value = encounter();
    change(&mut value);
    serde_json::from_value::<Encounter>(value).unwrap().into_appointment(60)
}

#[test]
fn zero_length_gets_the_default_duration() {
    let converted = convert(|_| ()).unwrap();
    assert!(converted.defaulted);
    assert_eq!(
        serde_json::to_value(&converted.appointment).unwrap(),
        json!({
            "resourceType": "Appointment", "id": "e-1", "status": "fulfilled",
            "start": "2018-01-03T14:49:42.994340+00:00", "end": "2018-01-03T15:49:42.994340+00:00",
            "minutesDuration": 60, "description": "ambulatory",
            "reasonCode": [{"text": "Medication_Review_Due"}],
            "supportingInformation": [{"reference": "Encounter/e-1", "type": "Encounter"}],
            "participant": [
                {"actor": {"reference": "urn:uuid:p1", "type": "Patient", "display": "María Elena Guillen"}, "status": "accepted"},
                {"actor": {"reference": "urn:uuid:d1", "type": "Practitioner"}, "status": "accepted", "type": [{"coding": [{"code": "PPRF"}]}]},
                {"actor": {"reference": "urn:uuid:l1", "type": "Location"}, "status": "accepted"}
            ]
        })
    );
}

#[test]
fn a_length_of_its_own_is_kept() {
    let converted =
        convert(|value| value["period"]["end"] = json!("2018-01-03T15:00:00.000000+00:00"))
            .unwrap();
    assert!(!converted.defaulted);
    assert_eq!(converted.appointment.end.as_str(), "2018-01-03T15:00:00.000000+00:00");
    assert_eq!(
        converted.appointment.minutes_duration, None,
        "617.00566 s is no whole number of minutes"
    );
}

#[test]
fn no_end_is_the_default_duration_too() {
    let converted = convert(|value| {
        value["period"].as_object_mut().unwrap().remove("end");
        value["status"] = json!("planned");
    })
    .unwrap();
    assert!(converted.defaulted);
    assert_eq!(converted.appointment.status, Status::Booked);
}

#[test]
fn faults_name_path_and_value() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str, &str, &str); 6] = [
        (
            |v| v["period"]["end"] = json!("2018-01-03T14:49:42Z"),
            code::PERIOD_INVALID,
            "period.end",
            "2018-01-03T14:49:42Z",
        ),
        (
            |v| v["period"]["start"] = json!("2018-01-03"),
            code::TIME_INVALID,
            "period.start",
            "2018-01-03",
        ),
        (|v| v["period"] = json!({}), code::FIELD_INVALID, "period.start", ""),
        (|v| v["period"] = json!(null), code::FIELD_INVALID, "period", ""),
        (|v| v["subject"] = json!(null), code::FIELD_INVALID, "subject", ""),
        (|v| v["id"] = json!("a b"), code::FIELD_INVALID, "id", "a b"),
    ];
    for (change, code, path, value) in cases {
        let fault = convert(change).unwrap_err();
        assert_eq!(
            (fault.code.as_str(), fault.path.as_str(), fault.value.as_str()),
            (code, path, value)
        );
    }
}
