//! Events as server-sent events, resumable by their number.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Sse};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::problem::Problem;
use crate::failure::{Code, Failure};
use crate::supervise::registry::Registry;
use crate::supervise::store::Recorded;

/// How many kept events are read from the store at a time.
const PAGE: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// The last sequence number that the client has; 0 for all that are kept.
    since: Option<u64>,
    #[serde(default)]
    follow: bool,
}

/// `Last-Event-ID`, which a browser's EventSource sends when it reconnects, counts as `since`.
pub(super) async fn stream(
    State(registry): State<Arc<Registry>>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    let last = last.map(str::parse::<u64>).transpose().map_err(|_| {
        Failure::new(Code::InvalidRequest, "the header last-event-id is not a number")
            .with("header", "last-event-id")
    })?;
    let since = query.since.or(last).unwrap_or(0);
    let (sender, receiver) = mpsc::channel(PAGE);
    tokio::spawn(send(registry, since, query.follow, sender));
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()))
}

/// Sends what is kept, then what comes. A client that falls behind is served from the store again,
/// so it misses nothing that is kept.
async fn send(
    registry: Arc<Registry>,
    mut since: u64,
    follow: bool,
    sender: mpsc::Sender<Result<Event, Infallible>>,
) {
    loop {
        let mut live = registry.events.listen();
        loop {
            let page = match registry.events.since(since, PAGE).await {
                Ok(page) => page,
                Err(failure) => {
                    tracing::error!(%failure, "events cannot be read");
                    return;
                }
            };
            let Some(last) = page.last() else { break };
            since = last.sequence;
            for recorded in &page {
                if sender.send(Ok(event(recorded))).await.is_err() {
                    return;
                }
            }
        }
        if !follow {
            return;
        }
        loop {
            let recorded = tokio::select! {
                recorded = live.recv() => recorded,
                () = sender.closed() => return,
            };
            match recorded {
                Ok(recorded) if recorded.sequence <= since => {}
                Ok(recorded) => {
                    since = recorded.sequence;
                    if sender.send(Ok(event(&recorded))).await.is_err() {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => break,
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

fn event(recorded: &Recorded) -> Event {
    let mut data = json!({
        "sequence": recorded.sequence,
        "time": recorded.time,
        "event": recorded.name,
        "pluginId": recorded.plugin,
    });
    if let (Value::Object(data), Value::Object(body)) = (&mut data, &recorded.body) {
        for (key, value) in body {
            data.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Event::default()
        .id(recorded.sequence.to_string())
        .event(recorded.name.clone())
        .data(data.to_string())
}
