//! What each plugin uses: told as `plugin:resource:usage` at a steady pace, kept as a history.
//!
//! These events are shown to whoever listens and not kept: kept ones would push what happened out of
//! the journal. What cannot be observed is null, never invented. A process is looked at with each sample,
//! and besides when the kernel tells that it was refused something ([`watches`]); what is worth a warning
//! is decided in [`alarms`], and what was used between two samples is added up in [`rollup`].

mod alarms;
mod look;
mod network;
mod rollup;
mod watches;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior};

use super::metrics;
use super::plugin::{Command, Kept, PluginHandle, ProcessView};
use super::registry::Registry;
use crate::clock::Monotonic;
use crate::id::PluginId;
use alarms::{Alarms, Warning};
use look::{Look, Metrics};
use rollup::Rollup;
use watches::Watches;

/// The name of the event.
const EVENT: &str = "plugin:resource:usage";
/// The events that tell of a process that is new, so that it is looked at before the next sample.
const STARTED: [&str; 2] = ["plugin:enabled", "plugin:recovered"];

/// What is remembered of a process from one sample to the next.
struct Known {
    generation: u64,
    /// The last one; None: it was taken over, and this is the first.
    look: Option<Look>,
    alarms: Alarms,
}

struct Sampler {
    registry: Arc<Registry>,
    life: Monotonic,
    known: BTreeMap<PluginId, Known>,
    watches: Watches,
    rollup: Rollup,
}

/// Tells what is used, for as long as the supervisor lives. What has started from `life` on was started
/// by it, and not taken over from one before.
pub(super) async fn run(registry: Arc<Registry>, life: Monotonic) {
    let mut interval = tokio::time::interval(registry.settings.usage_interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = registry.events.listen();
    let mut sampler = Sampler {
        registry,
        life,
        known: BTreeMap::new(),
        watches: Watches::new(),
        rollup: Rollup::default(),
    };
    loop {
        tokio::select! {
            _ = interval.tick() => sampler.sample_all().await,
            changed = sampler.watches.changed() => {
                for (id, generation) in changed {
                    sampler.look_at(&id, generation);
                }
            }
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
    fn process(&self, id: &PluginId) -> Option<ProcessView> {
        self.registry.find(id)?.view().process
    }

    /// A plugin has a new process.
    fn begin(&mut self, id: &PluginId) {
        let Some(process) = self.process(id) else { return };
        let generation = process.generation;
        if self.known.get(id).is_none_or(|known| known.generation != generation) {
            self.arm(id, &process);
            let before = self.known.get(id);
            let known = known_first(before, &process, self.life, || Look::new(&process));
            self.known.insert(id.clone(), known);
            self.look_at(id, generation);
        }
    }

    /// Before each look, so that what happens after it is heard.
    fn arm(&mut self, id: &PluginId, process: &ProcessView) {
        if let Some(cgroup) = &process.cgroup {
            self.watches.arm(id, process.generation, cgroup);
        }
    }

    /// Something has changed that a warning could be about.
    fn look_at(&mut self, id: &PluginId, generation: u64) {
        let process = self.process(id).filter(|process| process.generation == generation);
        let known = self.known.get_mut(id).filter(|known| known.generation == generation);
        if let (Some(process), Some(known)) = (process, known) {
            let interval = self.registry.settings.usage_interval;
            let warnings = known.alarms.look(&Look::new(&process), interval);
            self.tell(id, &warnings);
        }
    }

    fn tell(&self, id: &PluginId, warnings: &[Warning]) {
        for warning in warnings {
            self.registry.events.emit("plugin:warning", id, warning.body());
        }
    }

    async fn sample_all(&mut self) {
        let mut now = BTreeMap::new();
        for handle in self.registry.all() {
            let Some(process) = handle.view().process else { continue };
            let known = self.sample(&handle, &process).await;
            now.insert(handle.manifest.id.clone(), known);
        }
        self.known = now;
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

    async fn sample(&mut self, handle: &PluginHandle, process: &ProcessView) -> Known {
        let (id, generation) = (&handle.manifest.id, process.generation);
        self.arm(id, process);
        let mut look = Look::new(process);
        let time = jiff::Timestamp::now();
        look.network = network::network(&self.registry.launcher, &handle.manifest, process).await;
        let Known { look: before, mut alarms, .. } = match self.known.remove(id) {
            Some(known) if known.generation == generation => known,
            // The event of its start may not have been heard yet.
            before => known_first(before.as_ref(), process, self.life, || look),
        };
        self.tell(id, &alarms.sample(&look, self.registry.settings.usage_interval));
        let registry = &self.registry;
        let storage = kept(registry, handle, generation).await;
        let limit = handle.manifest.limits.storage.bytes();
        if let Some(kept) = storage
            && let Some(warning) = alarms.kept(&kept.fill(limit))
        {
            let mut body = warning.body();
            body["storage"] = json!(kept);
            registry.events.emit("plugin:warning", id, body);
        }
        let found = metrics::Sample { process: Some(look.sample(generation)), kept: storage };
        registry.metrics.sampled(id, found);
        let body = json!({
            "version": handle.manifest.version.to_string(),
            "metrics": Metrics::new(&look, before.as_ref(), storage, limit),
        });
        registry.events.show(EVENT, id, body);
        let used = look.used(before.as_ref(), storage.as_ref(), time.as_second());
        self.rollup.add(id, &used, time.as_millisecond());
        Known { generation, look: Some(look), alarms }
    }
}

/// What is known of a process at first: how it was at its start, or, if it was taken over, what `look`
/// finds. `before` is what was known of the plugin's one before.
fn known_first(
    before: Option<&Known>,
    process: &ProcessView,
    life: Monotonic,
    look: impl FnOnce() -> Look,
) -> Known {
    let start = at_start(process.started, life);
    let first = start.unwrap_or_else(look);
    let alarms = before.map_or_else(|| Alarms::new(&first), |known| known.alarms.next(&first));
    Known { generation: process.generation, look: start, alarms }
}

/// The look at a process when it started; None: it was taken over, so it is not known what it used since
/// the last sample that was kept.
fn at_start(started: Monotonic, life: Monotonic) -> Option<Look> {
    let now = Instant::now();
    let at = now.checked_sub(started.until(Monotonic::now())).unwrap_or(now);
    (started >= life).then(|| Look::at_start(at))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_this_supervisor_started_is_known_from_its_start_on() {
        let life = Monotonic::now();
        let second = Duration::from_secs(1);
        assert!(at_start(life, life).is_some());
        let started = at_start(life.plus(second), life).unwrap();
        assert_eq!((started.usage.cpu_usec, started.usage.memory_bytes), (Some(0), None));
        assert!(at_start(life, life.plus(second)).is_none(), "it was taken over");
    }
}
