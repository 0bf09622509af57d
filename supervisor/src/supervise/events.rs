//! Lifecycle events: numbered, kept in the store, shown to those who listen.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::audit;
use super::store::{Kind, Recorded, Store};
use super::timestamp;
use crate::id::PluginId;

/// How far a listener may fall behind; then it reads on from the store by its number.
const LIVE_BUFFER: usize = 1024;

/// A handle for telling and hearing; cheap to clone.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::UnboundedSender<Item>,
    live: broadcast::Sender<Arc<Recorded>>,
    store: Store,
}

enum Item {
    Told(Told),
    /// Answered when all that was told before it is kept.
    Flush(oneshot::Sender<()>),
}

struct Told {
    time: String,
    name: String,
    plugin: Option<PluginId>,
    body: Value,
}

impl Events {
    /// Starts the task that writes them down, in the order in which they are told. Must run inside
    /// the runtime.
    pub(crate) fn new(store: Store) -> Self {
        let (queue, mut told) = mpsc::unbounded_channel::<Item>();
        let (live, _) = broadcast::channel(LIVE_BUFFER);
        let events = Self { queue, live: live.clone(), store: store.clone() };
        tokio::spawn(async move {
            while let Some(item) = told.recv().await {
                let Told { time, name, plugin, body } = match item {
                    Item::Told(told) => told,
                    Item::Flush(done) => {
                        let _ = done.send(());
                        continue;
                    }
                };
                let audited = plugin.as_ref().and_then(|id| audit::of_event(&name, id, &body));
                let audited = audited.map(|entry| entry.row(Kind::Single));
                let told = (time.clone(), name.clone(), plugin.clone(), body.clone());
                let appended = store.append_event(told.0, told.1, told.2, told.3, audited);
                let sequence = appended.await.unwrap_or_else(|failure| {
                    tracing::error!(event = name, %body, %failure, "event could not be kept");
                    // Who listens now hears of it all the same, as of one that is only shown.
                    0
                });
                // Nobody may be listening.
                let _ = live.send(Arc::new(Recorded { sequence, time, name, plugin, body }));
            }
        });
        events
    }

    /// Tells an event about a plugin. `body` must be an object.
    pub(crate) fn emit(&self, name: &str, plugin: &PluginId, body: Value) {
        tracing::info!(event = name, plugin = %plugin, %body);
        let told =
            Told { time: timestamp(), name: name.to_owned(), plugin: Some(plugin.clone()), body };
        // The task ends with the runtime only.
        let _ = self.queue.send(Item::Told(told));
    }

    /// Shows an event about a plugin to those who listen now; it is not kept and has no number.
    pub(crate) fn show(&self, name: &str, plugin: &PluginId, body: Value) {
        let (time, name, plugin) = (timestamp(), name.to_owned(), Some(plugin.clone()));
        // Nobody may be listening.
        let _ = self.live.send(Arc::new(Recorded { sequence: 0, time, name, plugin, body }));
    }

    /// Waits until all that was told so far is kept.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).is_ok() {
            let _ = flushed.await;
        }
    }

    /// What is told from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<Recorded>> {
        self.live.subscribe()
    }

    /// What was told after `sequence`, oldest first, at most `limit`.
    pub(crate) async fn since(
        &self,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, crate::failure::Failure> {
        self.store.events_since(sequence, limit).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn an_event_that_cannot_be_kept_is_shown_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let events = Events::new(Store::open(&path).unwrap());
        let outside = rusqlite::Connection::open(&path).unwrap();
        let refusing =
            "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'full'); END";
        outside.execute_batch(refusing).unwrap();
        let mut live = events.listen();
        let id: PluginId = "a".parse().unwrap();
        events.emit("plugin:warning", &id, json!({ "code": "UNKEPT" }));
        events.flush().await;
        let shown = live.try_recv().unwrap();
        assert_eq!((shown.sequence, shown.body["code"].as_str()), (0, Some("UNKEPT")));
        outside.execute_batch("DROP TRIGGER full").unwrap();
        events.emit("plugin:warning", &id, json!({ "code": "KEPT" }));
        events.flush().await;
        let shown = live.try_recv().unwrap();
        assert_eq!((shown.sequence, shown.body["code"].as_str()), (1, Some("KEPT")));
        assert_eq!(events.since(0, 10).await.unwrap(), [(*shown).clone()]);
    }
}
