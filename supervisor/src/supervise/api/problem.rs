//! Failures as problem documents (RFC 9457).

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, Collected, Limited};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::MAX_BODY;
use crate::failure::{Code, Failure};

/// What the framework says of a request that it refuses is not longer.
const MAX_REASON: usize = 4096;

/// The media type of a refusal.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// A failure on its way to a client.
#[derive(Debug)]
pub(super) struct Problem(Failure);

/// Why a request was refused, or failed (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    /// Always `about:blank`: the code says more.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    #[schema(example = "Not Found")]
    title: &'static str,
    status: u16,
    /// What happened, why, and what to do.
    detail: &'a str,
    code: Code,
    /// Its keys depend on the code.
    #[schema(value_type = Object)]
    details: &'a Value,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(failure) = self;
        respond(&failure, status(&failure))
    }
}

fn status(failure: &Failure) -> StatusCode {
    StatusCode::from_u16(failure.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The whole answer, for one who is not let in.
pub(super) fn turning_away(failure: &Failure) -> String {
    let status = status(failure);
    let body = document(failure, status).to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

fn respond(failure: &Failure, status: StatusCode) -> Response {
    let kind = HeaderValue::from_static(MEDIA_TYPE);
    (status, [(header::CONTENT_TYPE, kind)], document(failure, status).to_string()).into_response()
}

/// The problem document of a failure.
fn document(failure: &Failure, status: StatusCode) -> Value {
    json!(Document {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("error"),
        status: status.as_u16(),
        detail: &failure.message,
        code: failure.code,
        details: &failure.details,
    })
}

/// A refusal by the framework itself (a body too long, a query that does not parse), which is plain
/// text, as a problem like every other.
pub(super) async fn coded(request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let length = length(request.headers());
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let plain = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !status.is_client_error() || !plain {
        return response;
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return respond(&too_long(MAX_BODY, length), status);
    }
    let reason = Limited::new(response.into_body(), MAX_REASON).collect().await;
    let reason = reason.map(Collected::to_bytes).unwrap_or_default();
    let reason = String::from_utf8_lossy(&reason);
    let path = uri.path();
    let message = format!(
        "the request is not understood: {reason}; `GET /openapi.json` describes what {path} takes"
    );
    let failure = Failure::new(Code::InvalidRequest, message).with("path", path);
    respond(&failure.with("query", uri.query()), status)
}

/// Of a body, in bytes, as its sender says it.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body of which more than `limit` bytes came, or would come.
pub(super) fn too_long(limit: usize, used: Option<u64>) -> Failure {
    let is = used.map_or_else(String::new, |used| format!(" has {used} bytes and"));
    let message = format!("the request's body{is} may have {limit} bytes at most; send less");
    Failure::new(Code::ResourceExhausted, message)
        .with("resource", "request-body")
        .with("limit", limit)
        .with("used", used)
}
