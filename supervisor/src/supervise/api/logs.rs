//! A plugin's log as JSON lines.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::request::{Server, id};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::TimeSpan;
use crate::supervise::logs::{Book, Dropped, Found, Level, Record, Selection, Stream};
use crate::supervise::registry::Registry;

/// The header with the number of the newest record, where none is shown.
pub(crate) const SEQUENCE: &str = "bulkhead-log-sequence";

/// How many records a client gets that does not say which.
const LINES: usize = 100;
/// How many are read at once for a client that follows and fell behind.
const PAGE: usize = 4096;
/// How many records may wait for a client that reads slowly.
const WAITING: usize = 256;

/// Which records.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// How many of the newest that fit; 100 where neither this, `since` nor `after` is given, else all.
    lines: Option<usize>,
    /// Go on with what it writes next; not together with `until`.
    #[serde(default)]
    follow: bool,
    /// Only those after the record with this `sequence`: where a client goes on that has come so far.
    after: Option<u64>,
    /// From this time on (RFC 3339), or from so long ago: `90s`, `10m`, `1h30m`, `2d`.
    since: Option<String>,
    /// Until this time, or until so long ago.
    until: Option<String>,
    /// At least this severe: `trace`, `debug`, `info`, `warn` or `error`.
    level: Option<String>,
    /// `stdout` or `stderr`.
    stream: Option<String>,
}

impl LogsQuery {
    fn selection(&self) -> Result<Selection, Failure> {
        let all = self.since.is_some() || self.after.is_some();
        if let (true, Some(until)) = (self.follow, &self.until) {
            return Err(Failure::new(
                Code::InvalidRequest,
                format!("until={until}: what is followed has no end; leave out until or follow"),
            )
            .with("until", until));
        }
        let moment = |name: &'static str, text: &Option<String>| {
            text.as_deref().map(|text| time(name, text)).transpose()
        };
        Ok(Selection {
            newest: self.lines.or((!all).then_some(LINES)),
            oldest: None,
            after: self.after,
            since: moment("since", &self.since)?,
            until: moment("until", &self.until)?,
            level: one_of("level", self.level.as_deref(), Level::ALL, Level::name)?,
            stream: one_of(
                "stream",
                self.stream.as_deref(),
                [Stream::Stdout, Stream::Stderr],
                Stream::name,
            )?,
        })
    }
}

/// A point in time, or a span before now, as records have their time.
fn time(name: &'static str, text: &str) -> Result<String, Failure> {
    if let Ok(span) = text.parse::<TimeSpan>() {
        let moment = jiff::Timestamp::now().checked_sub(span.duration());
        return Ok(moment.map(as_recorded).unwrap_or_default());
    }
    text.parse().map(as_recorded).map_err(|_| {
        let message = format!(
            "{name}={text}: write a time as in RFC 3339, such as 2026-03-09T10:00:00Z, or how long ago, \
             such as 10m"
        );
        Failure::new(Code::InvalidRequest, message).with(name, text)
    })
}

fn as_recorded(time: jiff::Timestamp) -> String {
    format!("{time:.3}")
}

/// The one of `all` that has this name.
fn one_of<T: Copy, const N: usize>(
    name: &'static str,
    text: Option<&str>,
    all: [T; N],
    named: fn(T) -> &'static str,
) -> Result<Option<T>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let found = all.into_iter().find(|one| named(*one) == text);
    found.map(Some).ok_or_else(|| {
        let known = all.map(named).join(", ");
        Failure::new(Code::InvalidRequest, format!("{name}={text}: it is one of {known}"))
            .with(name, text)
    })
}

/// One line of the reply.
#[derive(ToSchema)]
#[schema(as = LogRecord)]
#[allow(dead_code, reason = "it describes what `Record` serializes to")]
pub(super) struct LogLine {
    /// Grows by one from record to record.
    sequence: u64,
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
    /// It stands for lines that were over the rate limit: `{"lines": N, "bytes": M}`.
    #[schema(value_type = Option<Object>)]
    dropped: Option<Dropped>,
    /// Which start of the plugin wrote it.
    generation: u64,
    /// The position in the stream after this record, in bytes.
    at: u64,
}

/// What a plugin wrote, as JSON lines
///
/// Each is a `LogRecord`. Who goes on from a record, by `after`, misses nothing that is kept; where some
/// of what came after it is kept no more, `{"missed": N, "message": …}` stands in its place, where N counts
/// all records, also those that were not asked for. Where nothing fits, the header `bulkhead-log-sequence`
/// has the number of the newest record: who has got none goes on from there. Who follows
/// is served through restarts and upgrades of the plugin; the stream ends when it is uninstalled.
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
    let selection = query.selection()?;
    let book = registry.get(&id)?.book;
    // Listening begins before the book is read, so nothing falls in between; what is in both is told
    // apart by its number.
    let live = book.follow();
    let found = select(book, selection.clone()).await.map_err(|error| {
        Failure::new(Code::StorageFailed, format!("the log of {id} cannot be read: {error}"))
    })?;
    let nothing_until = found.records.is_empty().then_some(found.up_to);
    let (sender, receiver) = mpsc::channel(WAITING);
    let client = Client { sender, selection, shown: 0 };
    tokio::spawn(client.serve(registry, id, found, query.follow.then_some(live)));
    let kind = HeaderValue::from_static("application/x-ndjson");
    let body = Body::from_stream(ReceiverStream::new(receiver));
    let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    if let Some(sequence) = nothing_until {
        response.headers_mut().insert(SEQUENCE, sequence.into());
    }
    Ok(response)
}

/// Reading all of a log takes a while, in which others are served.
async fn select(book: Book, selection: Selection) -> io::Result<Found> {
    let reading = tokio::task::spawn_blocking(move || book.select(&selection));
    reading.await.map_err(io::Error::other)?
}

struct Client {
    sender: mpsc::Sender<io::Result<Bytes>>,
    selection: Selection,
    /// The number of the last record that was shown, or passed over.
    shown: u64,
}

/// It has gone.
struct Gone;

impl Client {
    /// Sends what was found, then what comes. A client that falls behind is served from the book
    /// again, so it misses nothing that is kept.
    async fn serve(
        mut self,
        registry: Arc<Registry>,
        id: PluginId,
        mut found: Found,
        mut live: Option<broadcast::Receiver<Arc<Record>>>,
    ) {
        loop {
            let more = found.more;
            if self.send_found(found).await.is_err() {
                return;
            }
            let Some(news) = live.take() else { return };
            if !more && self.send_news(news).await.is_err() {
                return;
            }
            // It fell behind, or the log is another by now, or none.
            let Some(plugin) = registry.find(&id) else { return };
            live = Some(plugin.book.follow());
            let after = Some(self.shown).filter(|shown| *shown > 0);
            let missing =
                Selection { newest: None, oldest: Some(PAGE), after, ..self.selection.clone() };
            found = match select(plugin.book, missing).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(plugin = %id, %error, "a log cannot be read");
                    return;
                }
            };
        }
    }

    async fn send_found(&mut self, found: Found) -> Result<(), Gone> {
        if found.missed > 0 {
            let line = missing(found.missed, self.selection.is_of_some());
            self.send(Ok(Bytes::from(format!("{line}\n")))).await?;
        }
        // Less than before where it is another log; more came while it was read, perhaps.
        let last = found.records.last().map_or(0, |record| record.sequence);
        self.shown = found.up_to.max(last);
        for record in found.records {
            self.send(line(&record)).await?;
        }
        Ok(())
    }

    /// What is told from now on; returns where something of it would be left out.
    async fn send_news(&mut self, mut live: broadcast::Receiver<Arc<Record>>) -> Result<(), Gone> {
        loop {
            let record = tokio::select! {
                record = live.recv() => record,
                () = self.sender.closed() => return Err(Gone),
            };
            let Ok(record) = record else { return Ok(()) };
            if record.sequence > self.shown {
                self.shown = record.sequence;
                if self.selection.takes(&record) {
                    self.send(line(&record)).await?;
                }
            }
        }
    }

    async fn send(&self, line: io::Result<Bytes>) -> Result<(), Gone> {
        self.sender.send(line).await.map_err(|_| Gone)
    }
}

/// What stands in the place of records that are kept no more. Whether they were `of_some`, of a level for
/// example, cannot be told of each any more.
fn missing(count: u64, of_some: bool) -> Value {
    let up_to = if of_some { "up to " } else { "" };
    let message = format!("{up_to}{count} records are left out: they are kept no more");
    json!({ "missed": count, "message": message })
}

fn line(record: &Record) -> io::Result<Bytes> {
    let mut text = serde_json::to_vec(record)?;
    text.push(b'\n');
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_are_missing_of_those_that_were_asked_for_is_not_claimed() {
        let of = |of_some| missing(3, of_some)["message"].as_str().unwrap().to_owned();
        assert!(of(false).starts_with("3 records are left out"), "{}", of(false));
        assert!(of(true).starts_with("up to 3 records are left out"), "{}", of(true));
        let errors = Selection { level: Some(Level::Error), ..Selection::default() };
        assert!(errors.is_of_some());
        let newest = Selection { newest: Some(1), after: Some(7), ..Selection::default() };
        assert!(!newest.is_of_some());
    }
}
