//! Calling a plugin's methods.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bulkhead_ipc_protocol::{Call, Encoding, Payload, TraceContext};
use serde::Deserialize;
use utoipa::IntoParams;

use super::acting::Acting;
use super::problem::Problem;
use super::request::{Server, id, json, text_header};
use crate::failure::{Code, Failure};
use crate::supervise::audit::{Action, Operation};

/// How to call.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CallQuery {
    /// Milliseconds that the caller waits, those for a plugin that is still coming up included; the
    /// manifest's `call_timeout` if not given.
    timeout: Option<u64>,
}

/// Call a method of a plugin
///
/// The body is the argument, any JSON; an empty one is `null`. The reply's body is the plugin's, as
/// it gave it.
#[utoipa::path(post, path = "/v1/plugins/{id}/call/{method}", operation_id = "callPlugin",
    tag = "calls",
    params(
        ("id" = String, Path, description = "The plugin"),
        ("method" = String, Path, description = "The method: `book`, or `service/method`"),
        CallQuery,
        ("bulkhead-on-behalf-of" = Option<String>, Header,
            description = "The acting person, whom the plugin and the audit are told"),
        ("traceparent" = Option<String>, Header,
            description = "The trace that the call belongs to (W3C Trace Context)"),
    ),
    request_body(content = Value, description = "The argument.", content_type = "application/json"),
    responses(
        (status = 200, description = "What the plugin answered.", content(
            (Value = "application/json"), (Vec<u8> = "application/octet-stream")))),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "CONFLICT",
        "RESOURCE_EXHAUSTED", "CALL_FAILED", "PLUGIN_DIED", "TIMEOUT"]))))]
pub(super) async fn call(
    State(registry): Server,
    Path((text, method)): Path<(String, String)>,
    Query(query): Query<CallQuery>,
    Acting(principal): Acting,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let id = id(&text)?;
    let argument = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
    json::<serde::de::IgnoredAny>(&argument, "the call's argument is not JSON")?;
    let audited = registry.settings.audited_calls.include(principal.on_behalf_of.as_deref());
    let call = Call {
        timeout: query.timeout.map(Duration::from_millis),
        trace: trace(&headers)?,
        on_behalf_of: principal.on_behalf_of.clone(),
        ..Call::new(method, Payload::json_bytes(argument))
    };
    let reply = if audited {
        Operation::new(principal, Action::Call)
            .about(&id)
            .with("method", &call.method)
            .run_while_wanted(
                &registry,
                |registry, _| async move { registry.call(&id, call).await },
            )
            .await?
    } else {
        registry.call(&id, call).await?
    };
    let kind = match reply.encoding {
        Encoding::Json => "application/json",
        Encoding::Raw | Encoding::Bincode => "application/octet-stream",
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], reply.body).into_response())
}

/// `traceparent` of W3C Trace Context: `00-<32 hex>-<16 hex>-<2 hex>`.
pub(super) fn trace(headers: &HeaderMap) -> Result<Option<TraceContext>, Failure> {
    let Some(text) = text_header(headers, "traceparent")? else { return Ok(None) };
    parse_trace(text).map(Some).ok_or_else(|| {
        Failure::new(
            Code::InvalidRequest,
            format!("traceparent {text:?} is not 00-<32 hex>-<16 hex>-<2 hex>"),
        )
        .with("header", "traceparent")
    })
}

fn parse_trace(text: &str) -> Option<TraceContext> {
    fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
        let digits = text.len() == 2 * N && text.bytes().all(|b| b.is_ascii_hexdigit());
        let mut bytes = [0; N];
        for (i, byte) in bytes.iter_mut().enumerate().filter(|_| digits) {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        digits.then_some(bytes)
    }
    let mut parts = text.split('-');
    let version: [u8; 1] = hex(parts.next()?)?;
    let trace = TraceContext {
        trace_id: hex(parts.next()?)?,
        span_id: hex(parts.next()?)?,
        flags: hex::<1>(parts.next()?)?[0],
    };
    (version == [0] && parts.next().is_none() && trace.trace_id != [0; 16]).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_w3c_has_it() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = parse_trace(text).unwrap();
        assert_eq!(trace.trace_id[0], 0x0a);
        assert_eq!(trace.span_id[7], 0x31);
        assert_eq!(trace.flags, 1);
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319ü-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(parse_trace(bad), None, "{bad:?}");
        }
    }
}
