//! A batch of spans as OTLP has it in JSON
//! (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).

use serde_json::{Value, json};

use super::Span;

/// SPAN_KIND_SERVER and SPAN_KIND_INTERNAL.
const SERVER: u8 = 2;
const INTERNAL: u8 = 1;
/// STATUS_CODE_OK and STATUS_CODE_ERROR.
const OK: u8 = 1;
const ERROR: u8 = 2;

/// The body of `POST /v1/traces`.
pub(super) fn request(spans: &[Span]) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({ "resourceSpans": [{
        "resource": { "attributes": [
            attribute("service.name", "bulkhead"),
            attribute("service.version", version),
        ] },
        "scopeSpans": [{
            "scope": { "name": "bulkhead", "version": version },
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }] })
}

fn span(span: &Span) -> Value {
    let mut attributes = vec![
        attribute("bulkhead.plugin", span.plugin.as_str()),
        attribute("bulkhead.version", &span.version),
        attribute("rpc.method", &span.method),
    ];
    if let Some(caller) = &span.caller {
        attributes.push(attribute("bulkhead.caller", caller.as_str()));
    }
    let mut status = json!({ "code": OK });
    if let Some(code) = &span.failure {
        attributes.push(attribute("error.type", code));
        status = json!({ "code": ERROR, "message": code });
    }
    let mut value = json!({
        "traceId": hex(&span.trace.trace_id),
        "spanId": hex(&span.trace.span_id),
        "name": format!("{} {}", span.plugin, span.method),
        "kind": if span.caller.is_none() { SERVER } else { INTERNAL },
        // 64 bits are text in this JSON.
        "startTimeUnixNano": span.began.to_string(),
        "endTimeUnixNano": span.ended.to_string(),
        "attributes": attributes,
        "status": status,
    });
    if let Some(parent) = &span.parent {
        value["parentSpanId"] = json!(hex(parent));
    }
    value
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use bulkhead_ipc_protocol::TraceContext;

    use super::*;

    #[test]
    fn a_span_is_written_as_the_specification_has_it() {
        let written = span(&Span {
            trace: TraceContext { trace_id: [10; 16], span_id: [1; 8], flags: 1 },
            parent: Some([255; 8]),
            plugin: "clinic".parse().unwrap(),
            version: "1.2.3".into(),
            method: "appointments/book".into(),
            caller: Some("scheduler".parse().unwrap()),
            began: 1_795_000_000_000_000_001,
            ended: 1_795_000_000_000_000_002,
            failure: Some("TIMEOUT".into()),
        });
        assert_eq!(
            written,
            json!({
                "traceId": "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
                "spanId": "0101010101010101",
                "parentSpanId": "ffffffffffffffff",
                "name": "clinic appointments/book",
                "kind": 1,
                "startTimeUnixNano": "1795000000000000001",
                "endTimeUnixNano": "1795000000000000002",
                "attributes": [
                    { "key": "bulkhead.plugin", "value": { "stringValue": "clinic" } },
                    { "key": "bulkhead.version", "value": { "stringValue": "1.2.3" } },
                    { "key": "rpc.method", "value": { "stringValue": "appointments/book" } },
                    { "key": "bulkhead.caller", "value": { "stringValue": "scheduler" } },
                    { "key": "error.type", "value": { "stringValue": "TIMEOUT" } },
                ],
                "status": { "code": 2, "message": "TIMEOUT" },
            })
        );
    }
}
