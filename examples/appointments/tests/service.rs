//! The plugin over the real protocol, with the real records.

use std::time::Duration;

use appointments::Appointments;
use appointments::api::{
    Cancel, CancelRequest, Create, CreateRequest, Expire, ExpireReply, Get, GetRequest, Import,
    ImportRequest, List, ListRequest, Reschedule, RescheduleRequest, Stats, StatsRequest,
};
use appointments::fhir::{Appointment, Status};
use appointments::instant::Instant;
use bulkhead_plugin_sdk::testing::{Harness, Running, paused};
use bulkhead_plugin_sdk::{Error, Payload};
use bytes::Bytes;
use serde_json::{Value, json};

const ENCOUNTERS: &str = include_str!("../../data/fhir/Encounter.ndjson");
const PATIENTS: &str = include_str!("../../data/fhir/Patient.ndjson");

fn harness() -> Harness<Appointments> {
    Harness::new().config(json!({ "defaultDuration": 60 }))
}

async fn loaded() -> Running<Appointments> {
    let plugin = harness().start().await.expect("it starts");
    for ndjson in [PATIENTS, ENCOUNTERS] {
        plugin.call_payload("import", Payload::raw(ndjson)).await.expect("good records");
    }
    plugin
}

fn at(text: &str) -> Instant {
    Instant::parse("test", text).expect("a time")
}

fn wanted(id: &str, start: &str, end: &str) -> CreateRequest {
    let appointment = json!({
        "resourceType": "Appointment", "id": id, "status": "booked", "start": start, "end": end,
        "participant": [
            {"actor": {"reference": "Patient/79d1616a-fd49-4249-8dab-931aa64d5aca"}, "status": "accepted"},
            {"actor": {"reference": "Practitioner/d1"}, "status": "accepted"}
        ]
    });
    let appointment = serde_json::from_value(appointment).expect("an appointment");
    CreateRequest { appointment, allow_conflicts: false }
}

#[test]
fn the_records_come_in_and_survive_a_crash() {
    paused(async {
        let plugin = loaded().await;
        let stats = plugin.call::<Stats>(&StatsRequest {}).await.unwrap();
        assert_eq!(
            (stats.appointments, stats.patients, stats.by_status["fulfilled"]),
            (697, 40, 697)
        );
        assert!(stats.overlaps > 0, "the records have overlaps, and they are reported");
        assert_eq!(
            stats.first_start.as_ref().unwrap().as_str(),
            "2018-01-01T06:38:25.807500+00:00"
        );
        assert_eq!(plugin.state().len(), 737, "one key each, and nothing else");

        let plugin = plugin.crash_and_restart().await.unwrap();
        assert_eq!(plugin.call::<Stats>(&StatsRequest {}).await.unwrap(), stats);
        let again = plugin.call_payload("import", Payload::raw(ENCOUNTERS)).await.unwrap();
        assert_eq!((&again["created"], &again["unchanged"]), (&json!(0), &json!(697)));
    });
}

#[test]
fn an_import_that_broke_off_is_completed_by_another() {
    paused(async {
        let plugin = harness().start().await.unwrap();
        let half: String = ENCOUNTERS.split_inclusive('\n').take(300).collect();
        plugin.call_payload("import", Payload::raw(half)).await.unwrap();
        let full = Error::new("RESOURCE_EXHAUSTED", "the disk is full");
        plugin.fail("bulkhead.host/state.set", full);
        let error = plugin.call_payload("import", Payload::raw(ENCOUNTERS)).await.unwrap_err();
        assert_eq!(error.code(), "RESOURCE_EXHAUSTED");
        let stats = plugin.call::<Stats>(&StatsRequest {}).await.unwrap();
        assert_eq!(stats.appointments, 300, "what is not saved is not claimed");
        plugin.recover("bulkhead.host/state.set");
        let report = plugin.call_payload("import", Payload::raw(ENCOUNTERS)).await.unwrap();
        assert_eq!((&report["created"], &report["unchanged"]), (&json!(397), &json!(300)));
    });
}

#[test]
fn bad_lines_refuse_the_batch_or_are_left_out() {
    paused(async {
        let plugin = harness().start().await.unwrap();
        let bad = ENCOUNTERS.replacen("2018-01-03T14:49:42.994340+00:00", "2018-01-03", 1);
        let mut request =
            ImportRequest { ndjson: bad, first_line: 1001, ..ImportRequest::default() };
        let error = plugin.call::<Import>(&request).await.unwrap_err();
        assert_eq!(error.code(), "IMPORT_INVALID");
        let fault = &error.details().unwrap()["faults"][0];
        assert_eq!((&fault["line"], &fault["path"]), (&json!(1002), &json!("period.start")));
        assert_eq!(fault["value"], "2018-01-03");
        assert!(plugin.state().is_empty(), "nothing was imported");
        request.skip_invalid = true;
        let report = plugin.call::<Import>(&request).await.unwrap();
        assert_eq!((report.created, report.refused), (696, 1));
        assert_eq!(plugin.state().len(), 696);
    });
}

#[test]
fn a_stream_of_any_length_is_imported_batch_by_batch() {
    paused(async {
        let plugin = harness().start().await.unwrap();
        let whole = format!("{PATIENTS}{ENCOUNTERS}");
        let pieces = || whole.as_bytes().chunks(50_001).map(Bytes::copy_from_slice);
        let request = ImportRequest { first_line: 1, ..ImportRequest::default() };
        let report = plugin.upload::<Import>(&request, pieces()).await.unwrap();
        assert_eq!(
            (report.lines, report.created, report.patients, report.defaulted),
            (737, 697, 40, 672)
        );
        assert_eq!(plugin.state().len(), 737);
        let again = plugin.upload::<Import>(&request, pieces()).await.unwrap();
        assert_eq!((again.unchanged, again.patients_unchanged), (697, 40));

        // A bad line late in the stream is told with its number; the batches before it are in.
        let plugin = harness().start().await.unwrap();
        let broken = whole.trim_end().to_owned() + "}\n";
        let pieces = broken.as_bytes().chunks(50_001).map(Bytes::copy_from_slice);
        let error = plugin.upload::<Import>(&request, pieces).await.unwrap_err();
        assert_eq!(error.details().unwrap()["faults"][0]["line"], 737);
        let stats = plugin.call::<Stats>(&StatsRequest {}).await.unwrap();
        assert!(stats.appointments > 300 && stats.appointments < 697, "{}", stats.appointments);
    });
}

#[test]
fn lists_go_page_by_page_and_by_person() {
    paused(async {
        let plugin = loaded().await;
        let (mut ids, mut pages) = (std::collections::BTreeSet::new(), 0);
        let mut request = ListRequest { limit: Some(100), ..ListRequest::default() };
        loop {
            let page = plugin.call::<List>(&request).await.unwrap();
            ids.extend(page.appointments.into_iter().map(|one| one.id));
            pages += 1;
            request.after = page.next;
            if request.after.is_none() {
                break;
            }
        }
        assert_eq!((ids.len(), pages), (697, 7));
        let by_patient = ListRequest {
            patient: Some("Patient/53aaaa8c-a62f-4acb-91aa-47287b8a70c0".into()),
            ..ListRequest::default()
        };
        assert_eq!(plugin.call::<List>(&by_patient).await.unwrap().appointments.len(), 60);
        let backwards = ListRequest {
            from: Some(at("2020-01-02T00:00:00Z")),
            to: Some(at("2020-01-01T00:00:00Z")),
            ..ListRequest::default()
        };
        let error = plugin.call::<List>(&backwards).await.unwrap_err();
        assert_eq!(
            (error.code(), &error.details().unwrap()["path"]),
            ("FIELD_INVALID", &json!("to"))
        );
    });
}

#[test]
fn booking_moving_and_cancelling() {
    paused(async {
        let plugin = loaded().await;
        let first = wanted("a", "2027-03-09T10:00:00-05:00", "2027-03-09T11:00:00-05:00");
        let booked = plugin.call::<Create>(&first).await.unwrap();
        assert_eq!(booked.participant[0].actor.display.as_deref(), Some("Augustine Zulauf"));
        assert_eq!(
            plugin.call::<Create>(&first).await.unwrap(),
            booked,
            "saying it twice books once"
        );

        // Back to back is free; a minute of overlap is not.
        let next = wanted("b", "2027-03-09T16:00:00Z", "2027-03-09T17:00:00Z");
        plugin.call::<Create>(&next).await.unwrap();
        let mut clash = wanted("c", "2027-03-09T15:59:00Z", "2027-03-09T16:00:00Z");
        let error = plugin.call::<Create>(&clash).await.unwrap_err();
        assert_eq!(error.code(), "CONFLICT");
        assert_eq!(error.details().unwrap()["conflicts"][0]["first"]["id"], "a");
        clash.allow_conflicts = true;
        plugin.call::<Create>(&clash).await.unwrap();

        let differs = wanted("a", "2027-03-09T18:00:00Z", "2027-03-09T19:00:00Z");
        assert_eq!(plugin.call::<Create>(&differs).await.unwrap_err().code(), "ALREADY_EXISTS");

        let move_on = |start: &str| RescheduleRequest {
            id: "a".into(),
            start: at(start),
            end: None,
            allow_conflicts: false,
        };
        let error = plugin.call::<Reschedule>(&move_on("2027-03-09T16:30:00Z")).await.unwrap_err();
        assert_eq!(error.code(), "CONFLICT");
        let moved = plugin.call::<Reschedule>(&move_on("2027-03-10T10:30:00-05:00")).await.unwrap();
        assert_eq!(moved.end.as_str(), "2027-03-10T11:30:00-05:00", "the length stays");

        let cancel = CancelRequest { id: "a".into(), reason: Some("snow".into()) };
        let cancelled = plugin.call::<Cancel>(&cancel).await.unwrap();
        assert_eq!(cancelled.status, Status::Cancelled);
        assert_eq!(plugin.call::<Cancel>(&cancel).await.unwrap(), cancelled);
        let error =
            plugin.call::<Reschedule>(&move_on("2027-03-11T10:30:00-05:00")).await.unwrap_err();
        assert_eq!(error.code(), "STATUS_INVALID");
        let again = wanted("d", "2027-03-10T10:30:00-05:00", "2027-03-10T11:30:00-05:00");
        plugin.call::<Create>(&again).await.expect("a cancelled appointment takes no time");

        let plugin = plugin.crash_and_restart().await.unwrap();
        let found = plugin.call::<Get>(&GetRequest { id: "a".into() }).await.unwrap();
        assert_eq!(found, cancelled);
        let error = plugin.call::<Get>(&GetRequest { id: "z".into() }).await.unwrap_err();
        assert_eq!(error.code(), "NOT_FOUND");
    });
}

#[test]
fn what_is_booked_and_refused_is_measured() {
    paused(async {
        let plugin = loaded().await;
        assert_eq!(plugin.metric("appointments_kept", &[]), Some(697.0));
        let imported = [("change", "imported")];
        assert_eq!(plugin.metric("appointments_changes_total", &imported), Some(697.0));
        assert_eq!(plugin.metric("appointments_conflicts_total", &[]), Some(0.0));

        let request = wanted("a", "2027-03-09T10:00:00Z", "2027-03-09T11:00:00Z");
        plugin.call::<Create>(&request).await.unwrap();
        let clash = wanted("b", "2027-03-09T10:30:00Z", "2027-03-09T11:00:00Z");
        plugin.call::<Create>(&clash).await.unwrap_err();
        plugin.call::<Cancel>(&CancelRequest { id: "a".into(), reason: None }).await.unwrap();
        assert_eq!(plugin.metric("appointments_kept", &[]), Some(698.0));
        for change in ["created", "cancelled"] {
            let labels = [("change", change)];
            let changes = plugin.metric("appointments_changes_total", &labels);
            assert_eq!(changes, Some(1.0), "{change}");
        }
        assert_eq!(plugin.metric("appointments_conflicts_total", &[]), Some(1.0));
        assert_eq!(plugin.metric("appointments_length_minutes", &[]), Some(1.0));

        let plugin = plugin.crash_and_restart().await.unwrap();
        assert_eq!(plugin.metric("appointments_kept", &[]), Some(698.0), "they are counted anew");
    });
}

#[test]
fn what_took_place_can_not_be_cancelled() {
    paused(async {
        let plugin = loaded().await;
        let id = "8e5ff286-5f74-4279-940d-c5cb9a68e4b9".to_owned();
        let error = plugin.call::<Cancel>(&CancelRequest { id, reason: None }).await.unwrap_err();
        assert_eq!(
            (error.code(), &error.details().unwrap()["value"]),
            ("STATUS_INVALID", &json!("fulfilled"))
        );
    });
}

#[test]
fn two_that_want_the_same_hour_do_not_both_get_it() {
    paused(async {
        let plugin = harness().start().await.unwrap();
        let one = wanted("", "2027-03-09T10:00:00Z", "2027-03-09T11:00:00Z");
        let mut other = one.clone();
        other.appointment.participant.remove(0);
        let (one, other) = tokio::join!(plugin.call::<Create>(&one), plugin.call::<Create>(&other));
        assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
        let error = one.err().or(other.err()).unwrap();
        assert_eq!(error.code(), "CONFLICT");
        assert_eq!(plugin.state().len(), 1);
    });
}

#[test]
fn a_booking_that_could_not_be_saved_did_not_happen() {
    paused(async {
        let plugin = harness().start().await.unwrap();
        let request = wanted("a", "2027-03-09T10:00:00Z", "2027-03-09T11:00:00Z");
        plugin
            .fail("bulkhead.host/state.set", Error::new("RESOURCE_EXHAUSTED", "the disk is full"));
        let error = plugin.call::<Create>(&request).await.unwrap_err();
        assert!(error.message().starts_with("the appointment was not created"), "{error}");
        assert_eq!(plugin.call::<Stats>(&StatsRequest {}).await.unwrap().appointments, 0);
        plugin.recover("bulkhead.host/state.set");
        plugin.call::<Create>(&request).await.unwrap();
        let kept: Appointment = plugin.call::<Get>(&GetRequest { id: "a".into() }).await.unwrap();
        assert_eq!(plugin.saved::<Appointment>("appointment/a").unwrap(), Some((1, kept)));
        let events = plugin.published();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].data, json!({"change": "created", "id": "a", "count": 1}));
    });
}

#[test]
fn a_supervisor_that_restarts_in_the_midst_of_a_booking_loses_nothing() {
    paused(async {
        let plugin = loaded().await;
        let request = wanted("a", "2027-03-09T10:00:00Z", "2027-03-09T11:00:00Z");
        let booking = async {
            // The reply is lost with the session; whether the booking counted is for the caller to ask.
            let _ = plugin.call::<Create>(&request).await;
        };
        let restart = async {
            tokio::task::yield_now().await;
            plugin.lose_session();
            plugin.resume().await.unwrap();
        };
        tokio::join!(booking, restart);
        plugin.stop_cleanly().await;
    });
}

/// Stops, and compares what the plugin says with what it saved.
trait StopCleanly {
    async fn stop_cleanly(&self);
}

impl StopCleanly for Running<Appointments> {
    async fn stop_cleanly(&self) {
        let listed = self.call::<Stats>(&StatsRequest {}).await.expect("it answers").appointments;
        let saved = self.state().keys().filter(|key| key.starts_with("appointment/")).count();
        assert_eq!(listed, saved);
        self.drain("disable", Duration::from_secs(5), true).await.expect("an orderly end");
    }
}

#[test]
fn a_configuration_that_cannot_be_is_refused() {
    paused(async {
        for (config, path) in [
            (json!({"defaultDuration": 0}), "defaultDuration"),
            (json!({"defaultDuration": "an hour"}), "defaultDuration"),
        ] {
            let error = Harness::<Appointments>::new()
                .config(config)
                .start()
                .await
                .map(|_| ())
                .unwrap_err();
            assert_eq!(error.code(), "CONFIG_INVALID");
            assert_eq!(error.details().unwrap()["path"], path);
        }
        Harness::<Appointments>::new().start().await.expect("without one, an hour");
        let plugin = harness().start().await.unwrap();
        let none: Value = plugin.call_payload("stats", Payload::empty()).await.unwrap();
        assert_eq!(none["appointments"], 0);
    });
}

/// As the service calls it: with nothing.
#[test]
fn what_was_never_agreed_upon_is_cancelled_when_its_time_is_over() {
    paused(async {
        let plugin = harness().start().await.unwrap();
        let (past, future) = ("2018-01-01T09:00:00-05:00", "2999-01-01T09:00:00-05:00");
        for (id, status, start) in [
            ("asked-for", "proposed", past),
            ("half-agreed", "pending", past),
            ("agreed", "booked", past),
            ("to-come", "proposed", future),
        ] {
            let end = start.replace("T09", "T10");
            let mut request = wanted(id, start, &end);
            request.appointment.status = serde_json::from_value(json!(status)).unwrap();
            request.allow_conflicts = true;
            plugin.call::<Create>(&request).await.unwrap();
        }
        let reply = plugin.call_payload("expire", Payload::json_bytes("null")).await.unwrap();
        assert_eq!(reply, json!({ "expired": 2 }));
        let mut after = Vec::new();
        for id in ["asked-for", "half-agreed", "agreed", "to-come"] {
            let one = plugin.call::<Get>(&GetRequest { id: id.to_owned() }).await.unwrap();
            after.push((one.status, one.cancelation_reason.is_some()));
        }
        let cancelled = (Status::Cancelled, true);
        assert_eq!(
            after,
            [cancelled, cancelled, (Status::Booked, false), (Status::Proposed, false)]
        );
        let again = plugin.call::<Expire>(&()).await.unwrap();
        assert_eq!(again, ExpireReply { expired: 0 });
    });
}
