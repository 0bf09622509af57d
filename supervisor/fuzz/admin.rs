//! Requests to the admin API.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, header};
use serde_json::Value;

use crate::failure::Code;
use crate::supervise::in_process::{Answer, InProcess};

/// The media type of a refusal.
const PROBLEM: &str = "application/problem+json";

thread_local! {
    static SERVICE: InProcess = InProcess::start();
}

/// A request as it is on the wire, but for the length of its body, is answered as the API promises:
/// with what was asked for, or with a problem that has a code, and never with a defect.
pub(crate) fn admin(bytes: &[u8]) {
    let Some(request) = request(bytes) else { return };
    let head = request.method() == Method::HEAD;
    let answer = SERVICE.with(|service| service.ask(request));
    let Answer { status, headers, body, whole } = &answer;
    let shown = || format!("{status}\n{}", String::from_utf8_lossy(body));
    assert!((200..505).contains(&status.as_u16()), "{}", shown());
    let kind = headers.get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().expect("ours"));
    if head || !whole {
        return;
    }
    if status.is_client_error() || status.is_server_error() {
        assert_eq!(kind, PROBLEM, "{}", shown());
    }
    match kind {
        PROBLEM => {
            let problem: Value = serde_json::from_slice(body).expect("a problem is JSON");
            let code = serde_json::from_value::<Code>(problem["code"].clone());
            let code = code.unwrap_or_else(|error| panic!("{error}: {}", shown()));
            assert!(code != Code::Internal && problem["status"] == status.as_u16(), "{}", shown());
            assert!(problem["detail"].as_str().is_some_and(|it| !it.is_empty()), "{}", shown());
            assert!(problem["title"].is_string() && problem["details"].is_object(), "{}", shown());
        }
        "application/json" => {
            let read = serde_json::from_slice::<Value>(body);
            assert!(read.is_ok(), "{}", shown());
        }
        _ => {}
    }
}

/// `METHOD path?query HTTP/1.1`, headers, an empty line, the body; None where HTTP itself refuses it.
fn request(bytes: &[u8]) -> Option<Request<Body>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = match end {
        Some(at) => (&bytes[..at], &bytes[at + 4..]),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        request =
            request.header(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    request.body(Body::from(body.to_vec())).ok()
}
