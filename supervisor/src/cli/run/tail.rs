//! Follows what a plugin writes, for as long as the run lasts.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::Sender;

use crate::cli::client::{Ask, Client, Lines, Query};
use crate::id::PluginId;

/// A supervisor that is being restarted is asked again after this time.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// What the plugin wrote between its start and the first request.
const FIRST_LINES: u32 = 1000;

/// Sends each record; ends when nobody listens any more.
pub(super) async fn follow(client: Client, id: PluginId, to: Sender<(PluginId, Value)>) {
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
                if to.send((id.clone(), record)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
