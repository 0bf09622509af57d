//! Follows what a plugin writes and what becomes of it, for as long as the run lasts.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::Sender;

use crate::cli::client::{Ask, Client, Lines, Query, SseEvents};
use crate::id::PluginId;

/// A supervisor that is being restarted is asked again after this time.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// What the plugin wrote between its start and the first request.
const FIRST_LINES: u32 = 1000;

/// What nobody asked for and a person wants to hear of.
const DEATHS: [&str; 4] =
    ["plugin:error", "plugin:restarting", "plugin:tripped", "plugin:recovered"];

pub(super) enum News {
    /// A record of a plugin's log.
    Record(PluginId, Value),
    /// An event, of [`DEATHS`].
    Death(Value),
}

/// Sends each record; ends when nobody listens any more.
pub(super) async fn follow(client: Client, id: PluginId, to: Sender<News>) {
    let mut shown: Option<u64> = None;
    while !to.is_closed() {
        let path = Query::of(format!("/v1/plugins/{id}/logs")).with("follow", true);
        let path = match shown {
            Some(shown) => path.with("after", shown),
            None => path.with("lines", FIRST_LINES),
        };
        if let Ok(response) = client.open(Ask::get(path)).await {
            let mut stream = Lines::new(response.into_body());
            while let Ok(Some(line)) = stream.next().await {
                let Ok(record) = serde_json::from_str::<Value>(&line) else { continue };
                shown = record["sequence"].as_u64().or(shown);
                if to.send(News::Record(id.clone(), record)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Sends each event of a death from `begun` on, an RFC 3339 time as events have it: a kept state can have
/// older ones. Ends when nobody listens any more.
pub(super) async fn deaths(client: Client, begun: String, to: Sender<News>) {
    let mut since: Option<u64> = None;
    while !to.is_closed() {
        let path = Query::of("/v1/events").with("follow", true).with_some("since", since);
        if let Ok(response) = client.open(Ask::get(path)).await {
            let mut stream = SseEvents::new(response.into_body());
            while let Ok(Some(event)) = stream.next().await {
                since = event.id.as_deref().and_then(|id| id.parse().ok()).or(since);
                let Ok(data) = serde_json::from_str::<Value>(&event.data) else { continue };
                let name = data["event"].as_str().unwrap_or_default();
                let is_news = data["time"].as_str().is_some_and(|time| time >= begun.as_str());
                if is_news && DEATHS.contains(&name) && to.send(News::Death(data)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
