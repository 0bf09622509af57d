//! A client of the admin API: HTTP/1.1 over the service's Unix socket, one connection per request.

mod form;
mod lines;
mod query;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::unistd::geteuid;
use serde_json::{Map, Value};
use tokio::net::UnixStream;

use super::problem::Problem;
use crate::failure::{Code, Failure};

pub(super) use form::Form;
pub(super) use lines::{Lines, SseEvents, StreamError};
pub(super) use query::{Query, encode_segments};

/// A reply is read into memory up to this size; streams are not.
const MAX_REPLY: usize = 64 * 1024 * 1024;

/// The service behind a socket.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

/// A request without its connection.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// With the query; both percent-encoded.
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<String>,
}

impl Ask {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: None }
    }

    pub(super) fn body(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string());
        self
    }
}

fn request(method: Method, path: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "bulkhead")
        .header("user-agent", concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
}

/// `--socket` or `BULKHEAD_SOCKET`, else where the service of this user has it.
pub(super) fn socket_path(asked: Option<&Path>) -> PathBuf {
    if let Some(asked) = asked {
        return asked.to_owned();
    }
    if geteuid().is_root() {
        return PathBuf::from("/run/bulkhead/admin.sock");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_absolute() => runtime.join("bulkhead/admin.sock"),
        _ => PathBuf::from(format!("/tmp/bulkhead-{}/admin.sock", geteuid())),
    }
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The reply's JSON.
    pub(super) async fn json(&self, ask: Ask) -> Result<Value, Problem> {
        let bytes = self.bytes(ask).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.not_ours(&error.to_string()))
    }

    /// The reply's bytes.
    pub(super) async fn bytes(&self, ask: Ask) -> Result<Bytes, Problem> {
        let response = self.open(ask).await?;
        self.collect(response).await
    }

    /// Posts a form; `sent` hears of each piece of a file. The reply's JSON.
    pub(super) async fn upload(
        &self,
        path: &str,
        form: Form,
        sent: impl FnMut(usize) + Send + 'static,
    ) -> Result<Value, Problem> {
        let request = request(Method::POST, path)
            .header("content-type", form.content_type())
            .body(form.body(sent))
            .map_err(|error| Problem::usage(format!("the request cannot be written: {error}")))?;
        let response = self.exchange(request).await?;
        let bytes = self.collect(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.not_ours(&error.to_string()))
    }

    /// The response, whose body is still to be read. An answer that is a failure is an error.
    pub(super) async fn open(&self, ask: Ask) -> Result<Response<Incoming>, Problem> {
        let mut request = request(ask.method, &ask.path);
        if ask.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(Bytes::from(ask.body.unwrap_or_default())))
            .map_err(|error| Problem::usage(format!("the request cannot be written: {error}")))?;
        self.exchange(request).await
    }

    async fn exchange<B>(&self, request: Request<B>) -> Result<Response<Incoming>, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error.to_string()))?;
        // Its errors come back through the request.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let response =
            sender.send_request(request).await.map_err(|error| self.broken(&error.to_string()))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.collect(response).await?;
        Err(problem_document(status, &body))
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, Problem> {
        match Limited::new(response.into_body(), MAX_REPLY).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.broken(&error.to_string())),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Problem {
        let socket = self.socket.display();
        let (code, what_to_do) = match error.kind() {
            ErrorKind::PermissionDenied => {
                (Code::PermissionDenied, "become root or a member of the service's admin group")
            }
            _ => (
                Code::Unreachable,
                "start it with `systemctl start bulkhead` or `bulkhead serve`, or name the socket that `bulkhead run` or `bulkhead dev` has told, with --socket",
            ),
        };
        let message = format!("no service answers on {socket}: {error}; {what_to_do}");
        Failure::new(code, message).with("socket", &self.socket).into()
    }

    fn broken(&self, why: &str) -> Problem {
        let message = format!(
            "the service on {} broke the connection off: {why}; see its log, and try again",
            self.socket.display()
        );
        Failure::new(Code::Unreachable, message).with("socket", &self.socket).into()
    }

    fn not_ours(&self, why: &str) -> Problem {
        let message = format!(
            "what answers on {} is not this service: {why}; name another socket with --socket",
            self.socket.display()
        );
        Failure::new(Code::Unreachable, message).with("socket", &self.socket).into()
    }
}

/// A problem (RFC 9457) with `code` and `details`. The exit code follows from the code, or where the
/// service is newer than this program and the code unknown, from the status.
fn problem_document(status: StatusCode, body: &[u8]) -> Problem {
    let document: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
    let known = document
        .get("code")
        .and_then(|code| serde_json::from_value::<Code>(code.clone()).ok())
        .map(Code::exit_code);
    let exit_code = known.unwrap_or(match status.as_u16() {
        404 => Code::NotFound.exit_code(),
        403 => Code::PermissionDenied.exit_code(),
        504 => Code::Timeout.exit_code(),
        _ => Code::Internal.exit_code(),
    });
    Problem {
        code: text("code").unwrap_or_else(|| format!("HTTP_{}", status.as_u16())),
        message: text("detail").unwrap_or_else(|| match body {
            [] => format!("the service answered {status}"),
            body => format!("the service answered {status}: {}", String::from_utf8_lossy(body)),
        }),
        details: match document.get("details") {
            Some(Value::Object(details)) => details.clone(),
            _ => Map::new(),
        },
        exit_code,
    }
}

#[cfg(test)]
mod tests;
