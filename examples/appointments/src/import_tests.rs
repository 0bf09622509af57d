use serde_json::json;

use super::*;
use crate::fhir::Status;

const ENCOUNTERS: &str = include_str!("../../data/fhir/Encounter.ndjson");
const PATIENTS: &str = include_str!("../../data/fhir/Patient.ndjson");

fn import(
    ndjson: &str,
    calendar: &mut Calendar,
    known: &mut BTreeMap<String, Rc<Patient>>,
) -> ImportReport {
    let request =
        ImportRequest { ndjson: ndjson.to_owned(), first_line: 1, ..ImportRequest::default() };
    apply(plan(&request, 60, calendar, known), calendar, known)
}

fn apply(
    plan: Plan,
    calendar: &mut Calendar,
    known: &mut BTreeMap<String, Rc<Patient>>,
) -> ImportReport {
    for appointment in plan.appointments {
        calendar.insert(appointment);
    }
    known.extend(plan.patients.into_iter().map(|patient| (patient.id.clone(), patient)));
    plan.report
}

#[test]
fn the_whole_record_comes_in_once() {
    let (mut calendar, mut known) = (Calendar::default(), BTreeMap::new());
    let patients = import(PATIENTS, &mut calendar, &mut known);
    assert_eq!(patients, ImportReport { lines: 40, patients: 40, ..ImportReport::default() });
    let first = import(ENCOUNTERS, &mut calendar, &mut known);
    assert_eq!(
        (first.lines, first.created, first.refused, first.patients_unknown),
        (697, 697, 0, 0)
    );
    assert_eq!(first.defaulted, 672);
    let again = import(ENCOUNTERS, &mut calendar, &mut known);
    assert_eq!((again.created, again.unchanged, calendar.len()), (0, 697, 697));
    assert_eq!(import(PATIENTS, &mut calendar, &mut known).patients_unchanged, 40);
}

#[test]
fn names_come_through_byte_for_byte() {
    let (mut calendar, mut known) = (Calendar::default(), BTreeMap::new());
    import(PATIENTS, &mut calendar, &mut known);
    import(ENCOUNTERS, &mut calendar, &mut known);
    let mut accented = 0;
    for (line, appointment) in ENCOUNTERS.lines().map(|line| {
        let encounter: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = encounter["id"].as_str().unwrap().to_owned();
        (encounter, calendar.get(&id).unwrap().clone())
    }) {
        let patient = appointment.actors("Patient").next().unwrap();
        assert_eq!(patient.display.as_deref(), line["subject"]["display"].as_str());
        assert_eq!(appointment.start.as_str(), line["period"]["start"]);
        let name = known[patient.id().unwrap()].display();
        assert_eq!(name.as_deref(), line["subject"]["display"].as_str());
        accented += usize::from(!name.unwrap().is_ascii());
    }
    assert!(accented > 0, "the input has names beyond ASCII");
}

#[test]
fn what_was_changed_here_is_kept_unless_asked() {
    let (mut calendar, mut known) = (Calendar::default(), BTreeMap::new());
    import(ENCOUNTERS, &mut calendar, &mut known);
    let first = calendar.iter().next().unwrap().clone();
    calendar.insert(Rc::new(Appointment { status: Status::Cancelled, ..(*first).clone() }));
    let again = import(ENCOUNTERS, &mut calendar, &mut known);
    assert_eq!((again.unchanged, again.kept, again.replaced), (696, 1, 0));
    assert_eq!(calendar.get(&first.id).unwrap().status, Status::Cancelled);

    let request = ImportRequest {
        ndjson: ENCOUNTERS.to_owned(),
        first_line: 1,
        replace: true,
        ..ImportRequest::default()
    };
    let replaced = apply(plan(&request, 60, &calendar, &known), &mut calendar, &mut known);
    assert_eq!((replaced.unchanged, replaced.replaced), (696, 1));
    assert_eq!(calendar.get(&first.id).unwrap().status, Status::Fulfilled);
}

#[test]
fn bad_lines_are_counted_listed_and_numbered() {
    let mut text = PATIENTS.to_owned();
    for nth in 0..150 {
        text.push_str(
            &json!({"resourceType": "Encounter", "id": format!("e{nth}"), "status": "finished",
            "subject": {"reference": "Patient/p"}, "period": {"start": "yesterday"}})
            .to_string(),
        );
        text.push('\n');
    }
    let report = import(&text, &mut Calendar::default(), &mut BTreeMap::new());
    assert_eq!((report.lines, report.patients, report.refused), (190, 40, 150));
    assert_eq!(report.faults.len(), FAULTS_LISTED);
    assert_eq!(
        report.faults[0].to_string(),
        "line 41: period.start: \"yesterday\": has no time of day; write it as 2026-03-09T10:00:00-04:00"
    );
}

#[test]
fn one_id_twice_in_a_batch_is_one_appointment() {
    let line = ENCOUNTERS.lines().next().unwrap();
    let other = line.replace("finished", "cancelled");
    let (mut calendar, mut known) = (Calendar::default(), BTreeMap::new());
    let report = import(&format!("{line}\n{line}\n{other}"), &mut calendar, &mut known);
    assert_eq!(
        (report.created, report.unchanged, report.kept, report.patients_unknown),
        (1, 1, 1, 1)
    );
    assert_eq!(calendar.iter().next().unwrap().status, Status::Fulfilled);
}

#[test]
fn a_request_is_an_object_or_raw_bytes() {
    let object: ImportRequest =
        serde_json::from_str(r#"{"ndjson": "{}", "skipInvalid": true}"#).unwrap();
    let expected = ImportRequest {
        ndjson: "{}".into(),
        first_line: 1,
        skip_invalid: true,
        ..ImportRequest::default()
    };
    assert_eq!(object, expected);
    let bytes = serde::de::value::BytesDeserializer::<serde::de::value::Error>::new(b"{}\n");
    let raw = ImportRequest::deserialize(bytes).unwrap();
    assert_eq!((raw.ndjson.as_str(), raw.first_line), ("{}\n", 1));
    let unknown =
        serde_json::from_str::<ImportRequest>(r#"{"ndjson": "", "skip": true}"#).unwrap_err();
    assert!(unknown.to_string().contains("unknown field `skip`"), "{unknown}");
}
