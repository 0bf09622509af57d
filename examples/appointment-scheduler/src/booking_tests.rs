use serde_json::json;

use super::*;

fn clinic() -> Clinic {
    let config =
        json!({"timezone": "America/New_York", "workingHours": {"start": "09:00", "end": "17:00"}});
    Clinic::new(&serde_json::from_value(config).unwrap()).unwrap()
}

#[test]
fn the_whole_appointment_must_be_within_the_hours() {
    let clinic = clinic();
    for (start, duration, good) in [
        ("2026-03-09T09:00", 60, true),
        ("2026-03-09T16:00", 60, true),
        ("2026-03-09T09:00", 480, true),
        ("2026-03-09T13:00:00Z", 60, true),
        ("2026-03-06T14:00:00Z", 60, true),
        ("2026-03-09T08:59", 60, false),
        ("2026-03-09T16:01", 60, false),
        ("2026-03-09T09:00", 481, false),
        // Before clocks went forward this was nine o'clock.
        ("2026-03-09T14:00:00Z", 480, false),
        ("2026-03-07T10:00", 60, false),
    ] {
        let result = time(&clinic, start, duration, false);
        assert_eq!(result.is_ok(), good, "{start} {duration}: {result:?}");
        time(&clinic, start, duration, true).unwrap();
    }
}

#[test]
fn the_refusal_names_the_hours_and_the_time() {
    let fault = time(&clinic(), "2026-03-07T15:00:00Z", 30, false).unwrap_err();
    assert_eq!(fault.code, code::OUTSIDE_WORKING_HOURS);
    assert_eq!(
        fault.to_string(),
        "start: \"2026-03-07T15:00:00Z\": is outside the working hours, Mon Tue Wed Thu Fri, 09:00 to 17:00 \
         (America/New_York): it would be Sat 2026-03-07 10:00 to 10:30; choose another time, or set outsideHours"
    );
}

#[test]
fn durations_have_bounds() {
    for minutes in [0, 1441] {
        let fault = time(&clinic(), "2026-03-09T09:00", minutes, true).unwrap_err();
        assert_eq!((fault.code.as_str(), fault.path.as_str()), (code::FIELD_INVALID, "duration"));
    }
    time(&clinic(), "2026-03-09T09:00", 1440, true).unwrap();
    let late = time(&clinic(), "9999-12-30T20:00:00Z", 1440, true).unwrap_err();
    assert_eq!(late.code, code::TIME_INVALID);
}

#[test]
fn the_appointment_has_the_clinics_offset_and_typed_participants() {
    let clinic = clinic();
    let request = BookRequest {
        patient: "p1".into(),
        practitioner: Some("urn:uuid:d1".into()),
        ..BookRequest::default()
    };
    let at = time(&clinic, "2026-03-09T14:00:00Z", 45, false).unwrap();
    let booked = appointment(&clinic, &request, at).unwrap();
    booked.check().unwrap();
    assert_eq!(
        serde_json::to_value(&booked).unwrap(),
        json!({
            "resourceType": "Appointment", "status": "booked", "minutesDuration": 45,
            "start": "2026-03-09T10:00:00-04:00", "end": "2026-03-09T10:45:00-04:00",
            "participant": [
                {"actor": {"reference": "Patient/p1", "type": "Patient"}, "status": "accepted"},
                {"actor": {"reference": "urn:uuid:d1", "type": "Practitioner"}, "status": "accepted"}
            ]
        })
    );
    let nobody = BookRequest { patient: " ".into(), ..BookRequest::default() };
    assert_eq!(appointment(&clinic, &nobody, at).unwrap_err().path, "patient");
}
