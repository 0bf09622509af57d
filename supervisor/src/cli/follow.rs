//! The verbs that read a stream: `events` and `logs`.

use std::time::{Duration, Instant};

use hyper::HeaderMap;
use serde_json::Value;

use super::Ended;
use super::args::{Events, Logs};
use super::client::{Ask, Client, Lines, Query, SseEvents, StreamError};
use super::problem::Problem;
use super::render::{self, Screen};
use crate::failure::Code;
use crate::supervise::LOG_SEQUENCE;

/// How long a broken stream is tried again: long enough for a supervisor that restarts.
const RECONNECT_FOR: Duration = Duration::from_secs(15);
const RECONNECT_EVERY: Duration = Duration::from_millis(250);

/// Shows events; with `follow` until it is interrupted. A supervisor that restarts is waited for,
/// and the stream goes on after the last event that was shown, so that none is missed.
pub(super) async fn events(
    client: &Client,
    screen: &mut Screen,
    arguments: &Events,
) -> Result<(), Ended> {
    let mut since = arguments.since;
    let mut broken_at: Option<Instant> = None;
    loop {
        let path = Query::of("/v1/events")
            .with_some("since", since)
            .with_some("follow", arguments.follow.then_some(true));
        match client.open(Ask::get(path)).await {
            Ok(response) => {
                let mut stream = SseEvents::new(response.into_body());
                while let Ok(Some(event)) = stream.next().await {
                    broken_at = None;
                    since = event.id.as_deref().and_then(|id| id.parse().ok()).or(since);
                    show_event(screen, &event.data)?;
                }
                if !arguments.follow {
                    return Ok(());
                }
            }
            // The first attempt is not a reconnection.
            Err(problem) if broken_at.is_none() && since == arguments.since => {
                return Err(problem.into());
            }
            Err(problem) => {
                if broken_at.is_some_and(|at| at.elapsed() > RECONNECT_FOR) {
                    return Err(problem.into());
                }
            }
        }
        broken_at.get_or_insert_with(Instant::now);
        tokio::time::sleep(RECONNECT_EVERY).await;
    }
}

fn show_event(screen: &mut Screen, data: &str) -> Result<(), Ended> {
    if screen.json() {
        screen.line(data)?;
    } else {
        render::event(screen, &parse(data)?)?;
    }
    Ok(screen.flush()?)
}

/// Shows what a plugin wrote; with `follow` until it is interrupted or the plugin is uninstalled. A
/// supervisor that restarts is waited for, and the stream goes on after the last record that was shown.
pub(super) async fn logs(
    client: &Client,
    screen: &mut Screen,
    arguments: &Logs,
) -> Result<(), Ended> {
    let unreachable = Problem::new(Code::Unreachable, "").code;
    let mut shown: Option<u64> = None;
    let mut broken_at: Option<Instant> = None;
    loop {
        let path = Query::of(format!("/v1/plugins/{}/logs", arguments.id))
            .with_some("follow", arguments.follow.then_some(true))
            .with_some("until", arguments.until.as_ref())
            .with_some("level", arguments.level.as_ref())
            .with_some("stream", arguments.stream.as_ref());
        let path = match shown {
            Some(shown) => path.with("after", shown),
            None => path
                .with_some("lines", arguments.lines)
                .with_some("since", arguments.since.as_ref()),
        };
        match client.open(Ask::get(path)).await {
            Ok(response) => {
                broken_at = None;
                shown = shown.or_else(|| nothing_until(response.headers()));
                let mut lines = Lines::new(response.into_body());
                let end = loop {
                    let line = match lines.next().await {
                        Ok(Some(line)) => line,
                        end => break end,
                    };
                    let record = parse(&line)?;
                    shown = record["sequence"].as_u64().or(shown);
                    if screen.json() {
                        screen.line(&line)?;
                    } else {
                        render::log(screen, "", &record)?;
                    }
                    screen.flush()?;
                };
                if !arguments.follow {
                    let broken =
                        |error: StreamError| Problem::new(Code::Unreachable, error.to_string());
                    return Ok(end.map(drop).map_err(broken)?);
                }
            }
            // The service is there and says no.
            Err(problem) if problem.code != unreachable => return Err(problem.into()),
            Err(problem) => match broken_at {
                Some(at) if at.elapsed() <= RECONNECT_FOR => {}
                // The first attempt is not a reconnection.
                _ => return Err(problem.into()),
            },
        }
        broken_at.get_or_insert_with(Instant::now);
        tokio::time::sleep(RECONNECT_EVERY).await;
    }
}

/// The number of the newest record, where the reply begins with none: what is written later is to be shown
/// also if the stream breaks before that.
fn nothing_until(headers: &HeaderMap) -> Option<u64> {
    headers.get(LOG_SEQUENCE)?.to_str().ok()?.parse().ok()
}

fn parse(text: &str) -> Result<Value, Problem> {
    serde_json::from_str(text).map_err(|error| {
        Problem::new(Code::Unreachable, format!("the service sent what is not JSON: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_begins_with_nothing_is_gone_on_with_from_its_newest() {
        let mut headers = HeaderMap::new();
        assert_eq!(nothing_until(&headers), None);
        headers.insert(LOG_SEQUENCE, 7_u64.into());
        assert_eq!(nothing_until(&headers), Some(7));
    }
}
