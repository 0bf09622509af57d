//! Events as server-sent events, resumable by their number.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Sse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::{IntoParams, ToSchema};

use super::caller::{Caller, Role};
use super::problem::Problem;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::supervise::registry::Registry;
use crate::supervise::store::Recorded;
use crate::supervise::timestamp;

/// How many kept events are read from the store at a time.
const PAGE: usize = 500;

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// The last sequence number that the client has; 0, or none, for all that are kept.
    since: Option<u64>,
    /// Go on with what happens next; else the stream ends with what is kept.
    #[serde(default)]
    follow: bool,
}

/// The data of an event. What else it holds depends on the event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Event)]
pub(super) struct Told<'a> {
    /// Grows from event to event; the `id` of the server-sent event. Null for `plugin:resource:usage`,
    /// which is shown to those who follow and not kept.
    sequence: Option<u64>,
    /// RFC 3339, UTC.
    time: &'a str,
    /// The `event` of the server-sent event.
    #[schema(example = "plugin:enabled")]
    event: &'a str,
    /// The plugin that it is about.
    #[schema(value_type = Option<String>)]
    plugin_id: Option<&'a PluginId>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    more: Map<String, Value>,
}

/// What happened and what happens, as server-sent events
///
/// The data of each is an `Event` in JSON. A client that reconnects sends the last `id` that it has
/// as `Last-Event-ID`, as a browser's EventSource does by itself, or as `since`, and misses nothing
/// that is kept. Where some are kept no more, `events:gap` tells which: `from` and `to`, inclusive.
#[utoipa::path(get, path = "/v1/events", operation_id = "events", tag = "events",
    params(EventsQuery, ("last-event-id" = Option<u64>, Header,
        description = "Counts as `since` where that is not given")),
    responses((status = 200, description = "The events, in order.", body = String,
        content_type = "text/event-stream")),
    extensions(("x-codes" = json!(["INVALID_REQUEST"]))))]
pub(super) async fn stream(
    State(registry): State<Arc<Registry>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    let last = last.map(str::parse::<u64>).transpose().map_err(|_| {
        let value = last.unwrap_or_default();
        let message = format!(
            "the header last-event-id is {value:?} and no number; send the `id` of the last event"
        );
        Failure::new(Code::InvalidRequest, message)
            .with("header", "last-event-id")
            .with("value", value)
    })?;
    let since = query.since.or(last).unwrap_or(0);
    let (sender, receiver) = mpsc::channel(PAGE);
    tokio::spawn(send(registry, since, query.follow, caller.role, sender));
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()))
}

/// Sends what is kept, then what comes. A client that falls behind is served from the store again,
/// so it misses nothing that is kept.
async fn send(
    registry: Arc<Registry>,
    mut since: u64,
    follow: bool,
    role: Role,
    sender: mpsc::Sender<Result<Event, Infallible>>,
) {
    // A number that the journal has not reached is of another journal, before this store was made anew or
    // put back: all of this one is news.
    if since > 0 && registry.store.extent().await.is_ok_and(|extent| since > extent.events) {
        since = 0;
    }
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
            let Some((first, last)) = page.first().zip(page.last()) else { break };
            // Who goes on from a number must know that it cannot have all that came after it.
            if since > 0
                && first.sequence > since + 1
                && sender.send(Ok(gap(since + 1, first.sequence - 1))).await.is_err()
            {
                return;
            }
            since = last.sequence;
            for recorded in &page {
                if sender.send(Ok(event(recorded, role))).await.is_err() {
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
                Ok(shown) if shown.sequence == 0 => {
                    if sender.send(Ok(event(&shown, role))).await.is_err() {
                        return;
                    }
                }
                Ok(recorded) if recorded.sequence <= since => {}
                Ok(recorded) => {
                    since = recorded.sequence;
                    if sender.send(Ok(event(&recorded, role))).await.is_err() {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => break,
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

/// Events that are kept no more. Without an id: it is no place to go on from.
fn gap(from: u64, to: u64) -> Event {
    let more = [("from".to_owned(), from.into()), ("to".to_owned(), to.into())];
    let (time, name) = (timestamp(), "events:gap");
    let data = Told {
        sequence: None,
        time: &time,
        event: name,
        plugin_id: None,
        more: more.into_iter().collect(),
    };
    let data = serde_json::to_string(&data).expect("strings, numbers and a map with string keys");
    Event::default().event(name).data(data)
}

fn event(recorded: &Recorded, role: Role) -> Event {
    let sequence = Some(recorded.sequence).filter(|sequence| *sequence > 0);
    let told = Told {
        sequence,
        time: &recorded.time,
        event: &recorded.name,
        plugin_id: recorded.plugin.as_ref(),
        more: recorded.body.as_object().cloned().unwrap_or_default(),
    };
    let event = Event::default()
        .event(recorded.name.clone())
        .data(serde_json::json!(role.shown(told)).to_string());
    match sequence {
        Some(sequence) => event.id(sequence.to_string()),
        None => event,
    }
}
