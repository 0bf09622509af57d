//! Spans of calls, told to a collector by OTLP: what was called beneath what, as a trace goes from the host
//! application through one plugin to another.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread::spawn;

use bulkhead_tests::plugin;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;
use serde_json::{Value, json};

/// A collector, and the spans that it was told of. The first few requests it hangs up on.
fn collector(listener: TcpListener, away: usize) -> Receiver<Value> {
    let (told, spans) = channel();
    spawn(move || {
        for stream in listener.incoming().skip(away) {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            stream.read_line(&mut line).unwrap();
            assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).unwrap();
                if let Some(given) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = given.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
            let request: Value = serde_json::from_slice(&body).unwrap();
            let of = &request["resourceSpans"][0];
            assert_eq!(of["resource"]["attributes"][0]["value"]["stringValue"], "bulkhead");
            for span in of["scopeSpans"][0]["spans"].as_array().unwrap() {
                if told.send(span.clone()).is_err() {
                    return;
                }
            }
        }
    });
    spans
}

/// Both examples, and a service that tells its spans to that port.
fn clinic(port: u16) -> Service {
    let service = Service::with(&format!(
        "[tracing]\notlp_endpoint = \"http://127.0.0.1:{port}\"\notlp_interval = \"100ms\""
    ));
    for id in ["appointments", "appointment-scheduler"] {
        let directory = plugin::example(service.directory(), id);
        service.json(["install".as_ref(), directory.as_os_str(), "--yes".as_ref()]);
    }
    service.json(["enable", "appointment-scheduler"]);
    service
}

fn traced(service: &Service, traceparent: &str) {
    let header = format!("content-type: application/json\r\ntraceparent: {traceparent}\r\n");
    let path = "/v1/plugins/appointment-scheduler/call/conflicts";
    let reply = service.admin().ask_with("POST", path, &header, "{}").unwrap();
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
fn a_call_and_what_it_calls_are_spans_of_the_callers_trace() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = clinic(listener.local_addr().unwrap().port());
    let spans = collector(listener, 0);
    // Nobody keeps this one, so nothing is told of it: what comes is of the next.
    traced(&service, &format!("00-{TRACE}-b7ad6b7169203331-00"));
    traced(&service, &format!("00-{TRACE}-b7ad6b7169203332-01"));
    let mut found: Vec<Value> = Vec::new();
    let is_outer = |span: &Value| span["parentSpanId"] == "b7ad6b7169203332";
    while !found.iter().any(is_outer) || found.len() < 2 {
        found.push(spans.recv_timeout(DEADLINE).unwrap());
    }
    let outer = found.iter().find(|span| is_outer(span)).unwrap();
    assert_eq!(outer["name"], "appointment-scheduler conflicts");
    assert_eq!((&outer["kind"], &outer["status"]["code"]), (&json!(2), &json!(1)));
    for span in &found {
        assert_eq!(span["traceId"], TRACE, "{span}");
        if is_outer(span) {
            continue;
        }
        // The plugin's own calls are beneath the call that it serves.
        assert_eq!(span["parentSpanId"], outer["spanId"], "{span}");
        assert!(span["name"].as_str().unwrap().starts_with("appointments appointments/"), "{span}");
        let attributes = span["attributes"].to_string();
        assert!(attributes.contains("appointment-scheduler"), "{span}");
        let time = |span: &Value, key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time(span, "startTimeUnixNano") >= time(outer, "startTimeUnixNano"), "{span}");
        assert!(time(span, "endTimeUnixNano") <= time(outer, "endTimeUnixNano"), "{span}");
    }
}

#[test]
fn a_collector_that_is_away_costs_no_call_and_is_told_later() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = clinic(listener.local_addr().unwrap().port());
    let spans = collector(listener, 2);
    traced(&service, &format!("00-{TRACE}-b7ad6b7169203333-01"));
    let first = spans.recv_timeout(DEADLINE).unwrap();
    assert_eq!(first["traceId"], TRACE);
    let text = service.command(["metrics"]).run().expect(0).stdout;
    assert!(text.contains("bulkhead_spans_dropped_total 0"), "{text}");
}
