//! Both plugins, each on its own session, joined as the supervisor joins them.

use std::time::Duration;

use appointment_scheduler::Scheduler;
use appointment_scheduler::api::{
    Agenda, AgendaRequest, Book, BookRequest, Cancel, Conflicts, ConflictsRequest, Reschedule,
    RescheduleRequest, Slots, SlotsRequest,
};
use appointments::Appointments;
use appointments::api::{CancelRequest, Stats, StatsRequest};
use bulkhead_plugin_sdk::Payload;
use bulkhead_plugin_sdk::testing::{Harness, Running, pass, paused};
use serde_json::{Value, json};

const ENCOUNTERS: &str = include_str!("../../data/fhir/Encounter.ndjson");
const PATIENTS: &str = include_str!("../../data/fhir/Patient.ndjson");

/// Miguel Ángel Escalante.
fn patient() -> String {
    let line = PATIENTS.lines().find(|line| line.contains("Escalante")).expect("he is on record");
    let patient: Value = serde_json::from_str(line).expect("JSON");
    patient["id"].as_str().expect("an id").to_owned()
}

async fn pair() -> (Running<Appointments>, Running<Scheduler>) {
    let provider = Harness::<Appointments>::new().start().await.expect("the provider starts");
    for ndjson in [PATIENTS, ENCOUNTERS] {
        provider.call_payload("import", Payload::raw(ndjson)).await.expect("good records");
    }
    // The mission's own configuration.
    let config = json!({
        "defaultDuration": 60,
        "timezone": "America/New_York",
        "workingHours": { "start": "09:00", "end": "17:00" }
    });
    let scheduler = Harness::<Scheduler>::new()
        .config(config)
        .permission("read:appointments")
        .permission("write:appointments")
        .service("appointments", &provider)
        .start()
        .await
        .expect("the scheduler starts");
    (provider, scheduler)
}

fn book(start: &str) -> BookRequest {
    BookRequest {
        patient: patient(),
        practitioner: Some("dr-lee".into()),
        start: start.into(),
        ..BookRequest::default()
    }
}

#[test]
fn a_day_of_a_clinic() {
    paused(async {
        let (provider, scheduler) = pair().await;
        let monday = SlotsRequest {
            from: "2027-03-15".into(),
            to: Some("2027-03-15".into()),
            practitioner: Some("dr-lee".into()),
            ..SlotsRequest::default()
        };
        let free = scheduler.call::<Slots>(&monday).await.unwrap();
        assert_eq!((free.slots.len(), free.duration, free.truncated), (8, 60, false));

        let booked = scheduler.call::<Book>(&book("2027-03-15T10:00")).await.unwrap();
        assert_eq!(booked.start.as_str(), "2027-03-15T10:00:00-04:00");
        assert_eq!(booked.minutes_duration, Some(60), "the default duration");
        assert_eq!(booked.participant[0].actor.display.as_deref(), Some("Miguel Ángel Escalante"));
        scheduler.call::<Book>(&book("2027-03-15T11:00")).await.expect("back to back is free");

        let free = scheduler.call::<Slots>(&monday).await.unwrap();
        let starts: Vec<_> = free.slots.iter().map(|slot| &slot.start.as_str()[11..16]).collect();
        assert_eq!(starts, ["09:00", "12:00", "13:00", "14:00", "15:00", "16:00"]);

        let error = scheduler.call::<Book>(&book("2027-03-15T10:30")).await.unwrap_err();
        assert_eq!(error.code(), "CONFLICT");
        let details = error.details().unwrap();
        assert_eq!(details["conflicts"].as_array().unwrap().len(), 2);
        assert_eq!(details["proposals"][0]["start"], "2027-03-15T12:00:00-04:00");
        assert!(
            error.message().ends_with("the next free slot is at 2027-03-15T12:00:00-04:00"),
            "{error}"
        );

        let late = scheduler.call::<Book>(&book("2027-03-15T16:30")).await.unwrap_err();
        assert_eq!(late.code(), "OUTSIDE_WORKING_HOURS");
        assert!(late.message().contains("09:00 to 17:00"), "{late}");

        let moved = RescheduleRequest {
            id: booked.id.clone(),
            start: "2027-03-15T16:00".into(),
            ..RescheduleRequest::default()
        };
        let moved = scheduler.call::<Reschedule>(&moved).await.unwrap();
        assert_eq!(moved.end.as_str(), "2027-03-15T17:00:00-04:00");

        let agenda =
            AgendaRequest { date: "2027-03-15".into(), practitioner: Some("dr-lee".into()) };
        let day = scheduler.call::<Agenda>(&agenda).await.unwrap();
        assert_eq!((day.appointments.len(), day.free_minutes, day.conflicts), (2, 360, 0));
        assert_eq!(day.appointments[1].patient.as_deref(), Some("Miguel Ángel Escalante"));
        assert!(!day.appointments[1].outside_hours);

        let cancel = CancelRequest { id: booked.id, reason: Some("better".into()) };
        scheduler.call::<Cancel>(&cancel).await.unwrap();
        let day = scheduler.call::<Agenda>(&agenda).await.unwrap();
        assert_eq!(day.free_minutes, 420);
        let stats = provider.call::<Stats>(&StatsRequest {}).await.unwrap();
        assert_eq!((stats.by_status["booked"], stats.by_status["cancelled"]), (1, 1));
        scheduler.stop().await.unwrap();
        provider.stop().await.unwrap();
    });
}

/// The provider's news reach the scheduler by way of the host, which the test is here.
#[test]
fn an_agenda_is_remembered_until_the_provider_tells_of_a_change() {
    paused(async {
        let (provider, scheduler) = pair().await;
        let asked = AgendaRequest { date: "2027-03-15".into(), practitioner: None };
        let agenda = async || scheduler.call::<Agenda>(&asked).await.unwrap().appointments.len();
        assert_eq!(agenda().await, 0);
        let booked = scheduler.call::<Book>(&book("2027-03-15T10:00")).await.unwrap();
        assert_eq!(agenda().await, 1, "who books sees it at once");
        // Another plugin cancels it, and the news is on its way.
        let cancel = CancelRequest { id: booked.id, reason: None };
        provider.call::<appointments::api::Cancel>(&cancel).await.unwrap();
        let status = async || {
            let day = scheduler.call::<Agenda>(&asked).await.unwrap();
            serde_json::to_value(day.appointments[0].status).unwrap()
        };
        assert_eq!(status().await, "booked");
        let news = provider.published();
        let news = news.last().unwrap();
        assert_eq!(news.data["change"], "cancelled");
        scheduler.publish(&news.topic, &news.data).unwrap();
        pass(Duration::from_millis(1)).await;
        assert_eq!(status().await, "cancelled");
        // News that was lost costs half a minute.
        scheduler.call::<Book>(&book("2027-03-15T11:00")).await.unwrap();
        assert_eq!(agenda().await, 2);
        provider.call::<appointments::api::Create>(&other()).await.unwrap();
        assert_eq!(agenda().await, 2);
        pass(Duration::from_secs(30)).await;
        assert_eq!(agenda().await, 3);
    });
}

/// An appointment of somebody else, made without the scheduler.
fn other() -> appointments::api::CreateRequest {
    let appointment = json!({
        "resourceType": "Appointment",
        "status": "booked",
        "start": "2027-03-15T14:00:00-04:00",
        "end": "2027-03-15T15:00:00-04:00",
        "participant": [{
            "actor": { "reference": format!("Patient/{}", patient()) },
            "status": "accepted",
        }],
    });
    serde_json::from_value(json!({ "appointment": appointment })).expect("a request")
}

#[test]
fn conflicts_in_the_records_are_reported() {
    paused(async {
        let (provider, scheduler) = pair().await;
        let all = scheduler.call::<Conflicts>(&ConflictsRequest::default()).await.unwrap();
        let stats = provider.call::<Stats>(&StatsRequest {}).await.unwrap();
        assert_eq!((all.total, all.appointments), (stats.overlaps, 697));
        // Comparing every two encounters by hand, zero-length ones taken as an hour, gives the same.
        assert_eq!((all.total, all.conflicts.len()), (17, 17));
        let three = ConflictsRequest { limit: Some(3), ..ConflictsRequest::default() };
        let three = scheduler.call::<Conflicts>(&three).await.unwrap();
        assert_eq!((three.total, &three.conflicts[..]), (17, &all.conflicts[..3]));
        for overlap in &all.conflicts {
            assert!(overlap.start < overlap.end && !overlap.shared.is_empty(), "{overlap:?}");
        }
        let whose =
            all.conflicts.iter().flat_map(|one| &one.shared).find(|who| who.kind == "Patient");
        let patient = whose.map(|who| who.id.clone());
        let of_one = ConflictsRequest { patient: patient.clone(), ..ConflictsRequest::default() };
        let of_one = scheduler.call::<Conflicts>(&of_one).await.unwrap();
        assert!(of_one.total > 0 && of_one.total < all.total);
        let year = |year: u32| ConflictsRequest {
            from: Some(format!("{year}-01-01")),
            to: Some(format!("{year}-12-31")),
            patient: patient.clone(),
            ..ConflictsRequest::default()
        };
        let mut total = 0;
        for one in 2018..=2026 {
            total += scheduler.call::<Conflicts>(&year(one)).await.unwrap().total;
        }
        // One that spans New Year counts in both years.
        assert!(total >= of_one.total, "{total} < {}", of_one.total);
        assert_eq!(scheduler.call::<Conflicts>(&year(2017)).await.unwrap().total, 0);
    });
}

#[test]
fn the_week_in_which_clocks_change() {
    paused(async {
        let (_provider, scheduler) = pair().await;
        let week = SlotsRequest {
            from: "2027-03-12".into(),
            to: Some("2027-03-15".into()),
            practitioner: Some("dr-lee".into()),
            ..SlotsRequest::default()
        };
        let found = scheduler.call::<Slots>(&week).await.unwrap();
        let starts: Vec<_> = found.slots.iter().map(|slot| slot.start.as_str()).collect();
        assert_eq!(starts.len(), 16, "Friday and Monday");
        assert_eq!(
            (starts[0], starts[8]),
            ("2027-03-12T09:00:00-05:00", "2027-03-15T09:00:00-04:00")
        );
        let skipped = BookRequest { outside_hours: true, ..book("2027-03-14T02:30") };
        assert_eq!(scheduler.call::<Book>(&skipped).await.unwrap_err().code(), "TIME_SKIPPED");
    });
}

#[test]
fn a_booking_with_an_id_can_be_repeated() {
    paused(async {
        let (provider, scheduler) = pair().await;
        let request = BookRequest { id: Some("visit-1".into()), ..book("2027-03-15T10:00") };
        let first = scheduler.call::<Book>(&request).await.unwrap();
        assert_eq!(scheduler.call::<Book>(&request).await.unwrap(), first);
        let stats = provider.call::<Stats>(&StatsRequest {}).await.unwrap();
        assert_eq!(stats.by_status["booked"], 1);
    });
}

#[test]
fn without_the_provider_the_caller_is_told() {
    paused(async {
        let config = json!({"timezone": "Europe/Berlin", "workingHours": {"start": "08:00", "end": "12:00"}});
        let scheduler = Harness::<Scheduler>::new().config(config).start().await.unwrap();
        let error = scheduler.call::<Book>(&book("2027-03-15T10:00")).await.unwrap_err();
        assert_eq!(error.code(), "DEPENDENCY_MISSING");
    });
}

#[test]
fn a_bad_configuration_fails_the_start_with_its_path() {
    paused(async {
        for (config, path) in [
            (
                json!({"timezone": "Mars/Olympus", "workingHours": {"start": "09:00", "end": "17:00"}}),
                "timezone",
            ),
            (json!({"timezone": "UTC", "workingHours": {"start": "09:00"}}), "workingHours"),
            (
                json!({"timezone": "UTC", "workingHours": {"start": "09:00", "end": "9"}}),
                "workingHours.end",
            ),
            (
                json!({"timezone": "UTC", "workingHours": {"start": "09:00", "end": "17:00"}, "workingDays": ["monday"]}),
                "workingDays[0]",
            ),
        ] {
            let error =
                Harness::<Scheduler>::new().config(config).start().await.map(|_| ()).unwrap_err();
            assert_eq!(
                (error.code(), &error.details().unwrap()["path"]),
                ("CONFIG_INVALID", &json!(path))
            );
        }
    });
}
