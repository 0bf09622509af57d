//! Calls to a plugin: encodings, errors, panics, what a handler knows and passes on.

mod probe;

use std::time::Duration;

use bulkhead_ipc_protocol::Call;
use bulkhead_plugin_sdk::testing::{Harness, paused};
use bulkhead_plugin_sdk::{Error, Payload, TraceContext, code};
use probe::{Add, AskWho, Count, Fail, Panic, Probe, Seen, Sum, Wait, WaitShielded};
use serde_json::json;

fn probe() -> Harness<Probe> {
    Harness::new()
}

#[test]
fn one_method_answers_bincode_and_json_each_in_kind() {
    paused(async {
        let plugin = probe().start().await.unwrap();
        assert_eq!(plugin.call::<Add>(&Sum { left: 2, right: 3 }).await.unwrap(), 5);
        let json = plugin.call_json("add", json!({"left": 2, "right": 3})).await.unwrap();
        assert_eq!(json, json!(5));
        let with_service = plugin.call_json("arithmetic/add", json!({"left": 1, "right": 1})).await;
        assert_eq!(with_service.unwrap(), json!(2));
        assert_eq!(plugin.call_payload("count", Payload::empty()).await.unwrap(), json!(1));
    });
}

#[test]
fn a_request_that_does_not_fit_is_told_with_its_path() {
    paused(async {
        let plugin = probe().start().await.unwrap();
        let error = plugin.call_json("add", json!({"left": 2, "right": "3"})).await.unwrap_err();
        assert_eq!(error.code(), code::REQUEST_INVALID);
        assert_eq!(error.details().unwrap()["path"], "right");
        let error = plugin.call_json("add", json!({"left": 2, "rihgt": 3})).await.unwrap_err();
        assert!(error.message().contains("unknown field `rihgt`"), "{error}");
        let garbage = Payload::bincode("short").unwrap();
        let error = plugin.call_payload("add", garbage).await.unwrap_err();
        assert_eq!(error.code(), code::REQUEST_INVALID);
        assert_eq!(plugin.call::<Count>(&()).await.unwrap(), 1, "it serves on");
    });
}

#[test]
fn an_unknown_method_is_told_with_those_there_are() {
    paused(async {
        let plugin = probe().start().await.unwrap();
        let error = plugin.call_json("cuont", json!(null)).await.unwrap_err();
        assert_eq!(error.code(), code::METHOD_UNKNOWN);
        let methods = error.details().unwrap()["methods"].as_array().unwrap().clone();
        assert!(methods.contains(&json!("count")), "{methods:?}");
    });
}

#[test]
fn errors_cross_with_code_and_details() {
    paused(async {
        let plugin = probe().start().await.unwrap();
        let error = plugin.call::<Fail>(&"OWN_CODE".into()).await.unwrap_err();
        let expected = Error::new("OWN_CODE", "as asked").with_details(&Sum { left: 1, right: 2 });
        assert_eq!(error, expected);
    });
}

#[test]
fn a_panic_is_an_error_and_the_plugin_lives_on() {
    paused(async {
        let plugin = probe().start().await.unwrap();
        plugin.call::<Count>(&()).await.unwrap();
        let meanwhile = plugin.call::<Wait>(&5);
        let (error, waited) = tokio::join!(
            async { plugin.call::<Panic>(&"out of tea".into()).await.unwrap_err() },
            meanwhile
        );
        assert_eq!(error.code(), code::PANIC);
        assert!(error.message().contains("out of tea"), "{error}");
        assert_eq!(waited.unwrap(), 5, "a call in flight is not touched");
        assert_eq!(plugin.call::<Count>(&()).await.unwrap(), 2, "it is the same instance");
        let logged = plugin.logs();
        assert!(logged.iter().any(|record| record.message.contains("out of tea")), "{logged:?}");
        plugin.stop().await.unwrap();
    });
}

#[test]
fn a_call_inherits_deadline_trace_and_acting_person() {
    paused(async {
        let inner = probe().start().await.unwrap();
        let outer = probe().service("probe", &inner).start().await.unwrap();
        let trace = TraceContext { trace_id: [7; 16], span_id: [1; 8], flags: 1 };
        let mut call = Call::new("ask-who", Payload::json_bytes("null"));
        call.timeout = Some(Duration::from_secs(12));
        call.trace = Some(trace);
        call.on_behalf_of = Some("Dr. Ōta".into());
        let reply = outer.send(call).await.unwrap();
        let seen: Seen = serde_json::from_slice(&reply.body).unwrap();
        let expected = Seen {
            method: "probe/who".into(),
            seconds_left: Some(12),
            trace: Some([7; 16]),
            on_behalf_of: Some("Dr. Ōta".into()),
        };
        assert_eq!(seen, expected);
        // By itself a call waits for 30 s, on nobody's behalf.
        let seen = outer.call::<AskWho>(&()).await.unwrap();
        assert_eq!((seen.seconds_left, seen.on_behalf_of), (Some(30), None));
    });
}

#[test]
fn a_handler_ends_with_its_caller_unless_it_is_shielded() {
    paused(async {
        let plugin = probe().start().await.unwrap();
        for method in ["wait", "wait-shielded"] {
            let call = Call::new(method, Payload::json_bytes("60"));
            let error = plugin.send(call.with_timeout(Duration::from_secs(1))).await.unwrap_err();
            assert_eq!(error.code(), code::TIMEOUT, "{method}");
        }
        let waited = plugin.call::<WaitShielded>(&100).await.unwrap();
        assert_eq!(waited, 100);
        plugin.stop().await.unwrap();
        let logs = plugin.logs();
        let last = logs.last().unwrap();
        assert_eq!(
            last.fields[0],
            ("finished".into(), "2".into()),
            "both shielded ones, not the other"
        );
    });
}

#[test]
fn a_service_that_nobody_provides_is_missing() {
    paused(async {
        let plugin = probe().start().await.unwrap();
        let error = plugin.call::<AskWho>(&()).await.unwrap_err();
        assert_eq!(error.code(), "DEPENDENCY_MISSING");
    });
}
