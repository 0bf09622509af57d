//! A plugin's log as JSON lines.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{Server, id};
use crate::failure::{Code, Failure};
use crate::supervise::logs::{Book, Record};

/// How many records a client gets that does not say.
const LINES: usize = 100;
/// How many records may wait for a client that reads slowly.
const WAITING: usize = 256;

/// Which records.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// How many of the newest that are kept; 100 if not given.
    lines: Option<usize>,
    /// Go on with what it writes next.
    #[serde(default)]
    follow: bool,
}

/// One line of the reply.
#[derive(ToSchema)]
#[schema(as = LogRecord)]
#[allow(dead_code, reason = "it describes what `Record` serializes to")]
pub(super) struct LogLine {
    /// RFC 3339, UTC: when it was read.
    time: String,
    /// `stdout` or `stderr`
    stream: String,
    /// `trace`, `debug`, `info`, `warn` or `error`
    level: String,
    /// Where in the plugin it comes from; only the SDK's records say.
    target: Option<String>,
    message: String,
    /// Pairs of name and value; only the SDK's records have them.
    fields: Option<Vec<Vec<String>>>,
    /// The line was too long and is cut here; the rest follows as the next record.
    cut: Option<bool>,
    /// Which start of the plugin wrote it.
    generation: u64,
    /// The position in the stream after this record, in bytes.
    at: u64,
}

/// What a plugin wrote, as JSON lines
///
/// Each is a `LogRecord`; to a client that reads too slowly, `{"missed": N, "message": …}` instead
/// of what was left out.
#[utoipa::path(get, path = "/v1/plugins/{id}/logs", operation_id = "logs", tag = "plugins",
    params(("id" = String, Path, description = "The plugin"), LogsQuery),
    responses((status = 200, description = "The records, oldest first.", body = String,
        content_type = "application/x-ndjson")),
    extensions(("x-codes" = json!(["INVALID_REQUEST", "NOT_FOUND", "STORAGE_FAILED"]))))]
pub(super) async fn read(
    State(registry): Server,
    Path(text): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let id = id(&text)?;
    let book = registry.get(&id)?.book;
    // Listening begins before the tail is read, so nothing falls in between; what is in both is
    // told apart by its position.
    let live = book.follow();
    let tail = book.tail(query.lines.unwrap_or(LINES)).map_err(|error| {
        Failure::new(Code::StorageFailed, format!("the log of {id} cannot be read: {error}"))
    })?;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(send(book, tail, query.follow.then_some(live), sender));
    let kind = HeaderValue::from_static("application/x-ndjson");
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

async fn send(
    book: Book,
    tail: Vec<Record>,
    live: Option<broadcast::Receiver<Arc<Record>>>,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut shown = std::collections::HashMap::new();
    for record in tail {
        shown.insert((record.stream, record.generation), record.at);
        if sender.send(line(&record)).await.is_err() {
            return;
        }
    }
    let Some(mut live) = live else { return };
    // The book must outlive the listening: its sender closes the channel.
    let _book = book;
    loop {
        let record = tokio::select! {
            record = live.recv() => record,
            () = sender.closed() => return,
        };
        let next = match record {
            Ok(record) => {
                let known = shown.get(&(record.stream, record.generation)).copied().unwrap_or(0);
                if record.at <= known {
                    continue;
                }
                line(&record)
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => Ok(Bytes::from(format!(
                "{}\n",
                json!({ "missed": missed, "message": "you read too slowly: records are left out" })
            ))),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if sender.send(next).await.is_err() {
            return;
        }
    }
}

fn line(record: &Record) -> io::Result<Bytes> {
    let mut text = serde_json::to_vec(record)?;
    text.push(b'\n');
    Ok(text.into())
}
