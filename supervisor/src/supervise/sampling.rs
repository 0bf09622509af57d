//! What each plugin uses: told as `plugin:resource:usage` at a steady pace, kept as a history.
//!
//! These events are shown to whoever listens and not kept: kept ones would push what happened out of
//! the journal. What cannot be observed is null, never invented.

mod look;
mod network;
mod rollup;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior};

use super::metrics;
use super::plugin::{Command, Kept, PluginHandle, Pressure, ProcessView};
use super::registry::Registry;
use crate::clock::Monotonic;
use crate::id::PluginId;
use crate::manifest::ByteSize;
use look::{Look, Metrics};
use rollup::Rollup;

/// The name of the event.
const EVENT: &str = "plugin:resource:usage";
/// The events that tell of a process that is new: it was not taken over from a supervisor before.
const STARTED: [&str; 2] = ["plugin:enabled", "plugin:recovered"];

/// What is remembered of a plugin from one sample to the next.
struct Last {
    generation: u64,
    look: Look,
    /// How full its storage was.
    pressure: Pressure,
}

struct Sampler {
    registry: Arc<Registry>,
    last: BTreeMap<PluginId, Last>,
    /// The processes that began since the last sample, and of which there is none.
    fresh: BTreeMap<PluginId, u64>,
    rollup: Rollup,
}

/// Tells what is used, for as long as the supervisor lives.
pub(super) async fn run(registry: Arc<Registry>) {
    let mut interval = tokio::time::interval(registry.settings.usage_interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = registry.events.listen();
    let mut sampler = Sampler {
        registry,
        last: BTreeMap::new(),
        fresh: BTreeMap::new(),
        rollup: Rollup::default(),
    };
    loop {
        tokio::select! {
            _ = interval.tick() => sampler.sample_all().await,
            event = heard.recv() => match event {
                Ok(event) if STARTED.contains(&event.name.as_str()) => {
                    if let Some(id) = &event.plugin {
                        sampler.begin(id);
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}

impl Sampler {
    /// A plugin has a new process.
    fn begin(&mut self, id: &PluginId) {
        let process = self.registry.find(id).and_then(|handle| handle.view().process);
        if let Some(process) = process {
            self.fresh.insert(id.clone(), process.generation);
        }
    }

    async fn sample_all(&mut self) {
        let mut now = BTreeMap::new();
        for handle in self.registry.all() {
            let Some(process) = handle.view().process else { continue };
            let last = self.sample(&handle, &process).await;
            now.insert(handle.manifest.id.clone(), last);
        }
        self.last = now;
        self.fresh.clear();
        let registry = &self.registry;
        let over = self.rollup.take_over(jiff::Timestamp::now().as_second());
        if !over.is_empty()
            && let Err(failure) = registry.store.add_usage(over).await
        {
            tracing::warn!(%failure, "what plugins used in a minute is not kept");
        }
        if let Ok(installed) = registry.store.plugin_ids().await {
            registry.metrics.keep_only(&installed);
        }
        registry.metrics.sampled_service(metrics::ServiceSample {
            time: jiff::Timestamp::now().as_millisecond() as f64 / 1e3,
            store: registry.store.extent().await.ok(),
        });
    }

    async fn sample(&mut self, handle: &PluginHandle, process: &ProcessView) -> Last {
        let (registry, id, generation) = (&self.registry, &handle.manifest.id, process.generation);
        let look = Look::new(process);
        let last = self.last.get(id);
        let before = last.filter(|last| last.generation == generation).map(|last| &last.look);
        let storage = kept(registry, handle, generation).await;
        let limit = handle.manifest.limits.storage.bytes();
        let pressure = storage.map_or(Pressure::Low, |kept| kept.pressure(limit));
        if let Some(kept) = storage
            && pressure > last.map_or(Pressure::Low, |last| last.pressure)
        {
            let body =
                serde_json::json!({ "message": warning(&kept, limit, pressure), "storage": kept });
            registry.events.emit("plugin:warning", id, body);
        }
        let found = metrics::Sample { process: Some(look.sample(generation)), kept: storage };
        registry.metrics.sampled(id, found);
        let body = serde_json::json!({
            "version": handle.manifest.version.to_string(),
            "metrics": Metrics::new(&look, before, storage, limit),
        });
        registry.events.show(EVENT, id, body);
        let fresh = self.fresh.get(id) == Some(&generation);
        let start = fresh.then(|| Look::at_start(began(process)));
        let time = jiff::Timestamp::now().as_second();
        let used = look.used(before.or(start.as_ref()), storage.as_ref(), time);
        self.rollup.add(id, used);
        Last { generation, look, pressure }
    }
}

/// When it started.
fn began(process: &ProcessView) -> Instant {
    let now = Instant::now();
    now.checked_sub(process.started.until(Monotonic::now())).unwrap_or(now)
}

fn warning(kept: &Kept, limit: u64, pressure: Pressure) -> String {
    let (_, bytes) = kept.bound(limit);
    let bytes = ByteSize::new(bytes);
    if pressure == Pressure::Full {
        return format!(
            "its storage of {bytes} is full: the file system refuses what it writes beyond (EDQUOT)"
        );
    }
    format!("more than nine tenths of its storage of {bytes} are used")
}

/// What it keeps on disk. A plugin that keeps too much is stopped.
async fn kept(registry: &Registry, handle: &PluginHandle, generation: u64) -> Option<Kept> {
    let id = &handle.manifest.id;
    let kept = match Kept::measure(&registry.launcher, &registry.store, id).await {
        Ok(kept) => kept,
        Err(failure) => {
            tracing::warn!(plugin = %id, %failure, "what it keeps on disk cannot be told");
            return None;
        }
    };
    if let Err(failure) = kept.check(id, handle.manifest.limits.storage.bytes()) {
        let _ = handle.commands.send(Command::Overrun { generation, failure });
    }
    Some(kept)
}
