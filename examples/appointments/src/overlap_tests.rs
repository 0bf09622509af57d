use serde_json::json;

use super::*;

fn appointment(id: &str, start: &str, end: &str, patient: &str, doctor: &str) -> Appointment {
    serde_json::from_value(json!({
        "resourceType": "Appointment", "id": id, "status": "booked",
        "start": format!("2026-03-09T{start}:00Z"), "end": format!("2026-03-09T{end}:00Z"),
        "participant": [
            {"actor": {"reference": format!("Patient/{patient}")}, "status": "accepted"},
            {"actor": {"reference": format!("Practitioner/{doctor}")}, "status": "accepted"},
            {"actor": {"reference": "Location/one"}, "status": "accepted"}
        ]
    }))
    .unwrap()
}

fn pairs(appointments: &[Appointment]) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    sweep(appointments, |one| found.push((one.first.id, one.second.id, one.shared.len())));
    found
}

#[test]
fn back_to_back_is_no_conflict() {
    let day = [
        appointment("a", "09:00", "10:00", "p", "d"),
        appointment("b", "10:00", "11:00", "p", "d"),
    ];
    assert_eq!(pairs(&day), []);
    assert_eq!(between(&day[0], &day[1]), None);
}

#[test]
fn one_minute_is_a_conflict_and_says_who_and_when() {
    let day = [
        appointment("a", "09:00", "10:01", "p", "d"),
        appointment("b", "10:00", "11:00", "q", "d"),
    ];
    assert_eq!(pairs(&day), [("a".into(), "b".into(), 1)]);
    let overlap = between(&day[1], &day[0]).unwrap();
    assert_eq!((overlap.first.id.as_str(), overlap.second.id.as_str()), ("a", "b"));
    assert_eq!(
        (overlap.start.as_str(), overlap.end.as_str()),
        ("2026-03-09T10:00:00Z", "2026-03-09T10:01:00Z")
    );
    assert_eq!(overlap.shared, [Shared { kind: "Practitioner".into(), id: "d".into() }]);
}

#[test]
fn a_long_one_conflicts_with_each_within_it_and_a_shared_room_with_none() {
    let mut day = vec![
        appointment("stay", "00:00", "23:00", "p", "ward"),
        appointment("a", "09:00", "10:00", "p", "d"),
        appointment("b", "09:30", "10:00", "q", "e"),
        appointment("c", "22:59", "23:30", "p", "d"),
    ];
    assert_eq!(pairs(&day), [("stay".into(), "a".into(), 1), ("stay".into(), "c".into(), 1)]);
    day[0].status = crate::fhir::Status::Cancelled;
    assert_eq!(pairs(&day), [], "what is cancelled claims nobody");
}

#[test]
fn the_sweep_finds_what_comparing_all_pairs_finds() {
    // A small linear congruence instead of a random generator: the same days each time.
    let mut seed = 7_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut total = 0;
    for _ in 0..50 {
        let mut day: Vec<_> = (0..20)
            .map(|nth| {
                let (start, minutes) = (next(20 * 60), 1 + next(180));
                let clock = |at: u64| format!("{:02}:{:02}", at / 60, at % 60);
                let (patient, doctor) = (next(4).to_string(), next(3).to_string());
                appointment(
                    &format!("a{nth}"),
                    &clock(start),
                    &clock(start + minutes),
                    &patient,
                    &doctor,
                )
            })
            .collect();
        day.sort_by(|a, b| a.start.cmp(&b.start));
        let mut all = Vec::new();
        for (nth, second) in day.iter().enumerate() {
            all.extend(day[..nth].iter().filter_map(|first| between(first, second)));
        }
        let mut swept = Vec::new();
        sweep(&day, |one| swept.push(one));
        assert_eq!(swept, all);
        total += all.len();
    }
    assert!(total > 500, "the days are busy enough to show something: {total}");
}
