//! Events that did not arrive, told by number and not one by one.
//!
//! Whoever misses one misses many, so the first is counted and the count told a moment later as one
//! `plugin:warning`: every loss is in a count, and no plugin can flood the journal with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::id::PluginId;
use crate::refusal::Barrier;
use crate::supervise::events::Events;
use crate::supervise::metrics::Metrics;

/// How long losses are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// Why an event did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    /// The subscriber did not keep up.
    Missed,
    /// The publisher may not publish this topic.
    Refused,
    /// The subscriber has not been granted what it needs for this topic.
    Withheld,
}

impl Loss {
    fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Refused => "refused",
            Self::Withheld => "withheld",
        }
    }
}

#[derive(Default)]
struct Gathered {
    count: u64,
    /// The last of the topics.
    topic: String,
    /// What would allow it.
    remedy: Option<String>,
}

/// The losses of the moment; cheap to clone.
#[derive(Clone)]
pub(super) struct Losses {
    metrics: Metrics,
    gathered: Arc<Mutex<BTreeMap<(PluginId, Loss), Gathered>>>,
}

impl Losses {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, gathered: Arc::default() }
    }

    /// Counts losses, and tells of them a moment later, with what would allow the last of them. Must
    /// run inside the runtime.
    pub(super) fn count(
        &self,
        events: &Events,
        plugin: &PluginId,
        loss: Loss,
        topic: &str,
        by: u64,
        remedy: Option<String>,
    ) {
        self.metrics.lost(plugin, loss.name(), by);
        match loss {
            Loss::Missed => {}
            Loss::Refused => self.metrics.refused(plugin, "publish"),
            Loss::Withheld => self.metrics.refused(plugin, "hear"),
        }
        let key = (plugin.clone(), loss);
        let first = {
            let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = gathered.entry(key.clone()).or_default();
            let first = entry.count == 0;
            entry.count += by;
            topic.clone_into(&mut entry.topic);
            entry.remedy = remedy;
            first
        };
        if !first {
            return;
        }
        let (losses, events) = (self.clone(), events.clone());
        tokio::spawn(async move {
            tokio::time::sleep(GATHER).await;
            let mut gathered = losses.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            let told = gathered.remove(&key);
            drop(gathered);
            if let Some(gathered) = told {
                tell(&events, &key.0, key.1, gathered);
            }
        });
    }
}

fn tell(events: &Events, plugin: &PluginId, loss: Loss, gathered: Gathered) {
    let Gathered { count, topic, remedy } = gathered;
    let (code, message) = match loss {
        Loss::Missed => (
            "EVENTS_MISSED",
            format!("{plugin} does not keep up: it missed {count} events, the last on {topic}"),
        ),
        Loss::Refused => (
            "EVENTS_REFUSED",
            format!(
                "{plugin} may not publish this: {count} events were dropped, the last on {topic}; \
                 see [events], `publishes`, in its manifest"
            ),
        ),
        Loss::Withheld => (
            "EVENTS_WITHHELD",
            format!(
                "{plugin} lacks the permission to hear this: {count} events were withheld, the last on \
                 {topic}; `bulkhead permissions {plugin}` shows what it is granted"
            ),
        ),
    };
    let mut body = json!({ "code": code, "message": message, "count": count, "topic": topic });
    if loss != Loss::Missed {
        Barrier { layer: Barrier::GRANT, remedy }.tell(&mut body);
    }
    events.emit("plugin:warning", plugin, body);
}
