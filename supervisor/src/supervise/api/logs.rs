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

use super::problem::Problem;
use crate::failure::{Code, Failure};
use crate::supervise::logs::{Book, Record};
use crate::supervise::registry::Registry;

/// How many records a client gets that does not say.
const LINES: usize = 100;
/// How many records may wait for a client that reads slowly.
const WAITING: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    lines: Option<usize>,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn read(
    State(registry): State<Arc<Registry>>,
    Path(text): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let id = text.parse().map_err(|error: crate::id::BadPluginId| {
        Failure::new(Code::InvalidRequest, error.to_string()).with("id", &text)
    })?;
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
