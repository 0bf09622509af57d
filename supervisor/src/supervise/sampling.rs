//! What each plugin uses, told as `plugin:resource:usage` at a steady pace.
//!
//! These events are shown to whoever listens and not kept: kept ones would push what happened out of
//! the journal. What cannot be observed is null, never invented.

use std::collections::BTreeMap;
use std::sync::Arc;

use bulkhead_sandbox::Layer;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::metrics;
use super::plugin::{Command, Kept, PluginHandle, Pressure, ProcessView};
use super::registry::Registry;
use super::usage;
use crate::id::PluginId;
use crate::link::{Reply, Request};
use crate::manifest::ByteSize;

/// The name of the event.
const EVENT: &str = "plugin:resource:usage";

/// What a plugin uses, as the event has it under `metrics`.
#[derive(Clone, Debug, Serialize)]
struct Metrics {
    memory: Option<Memory>,
    cpu: Option<Cpu>,
    storage: Option<Kept>,
    network: Option<Network>,
    pids: Option<u64>,
}

/// All its processes, page cache and tmpfs included.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    bytes: u64,
    peak_bytes: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    /// Since its cgroup was made.
    usec: u64,
    /// Of one CPU, since the last of these events; null in a process's first.
    percent: Option<f64>,
}

/// Through its own network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    received_bytes: u64,
    sent_bytes: u64,
}

/// What is remembered of a plugin from one sample to the next.
struct Last {
    generation: u64,
    at: Instant,
    cpu_usec: Option<u64>,
    /// How full its storage was.
    pressure: Pressure,
}

/// Tells what is used, for as long as the supervisor lives.
pub(super) async fn run(registry: Arc<Registry>) {
    let mut interval = tokio::time::interval(registry.settings.usage_interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut earlier = BTreeMap::new();
    loop {
        interval.tick().await;
        let mut now = BTreeMap::new();
        for handle in registry.all() {
            let Some(process) = handle.view().process else { continue };
            let id = handle.manifest.id.clone();
            let (metrics, last) = sample(&registry, &handle, &process, earlier.get(&id)).await;
            let version = handle.manifest.version.to_string();
            let body = serde_json::json!({ "version": version, "metrics": metrics });
            registry.events.show(EVENT, &id, body);
            now.insert(id, last);
        }
        earlier = now;
        if let Ok(installed) = registry.store.plugin_ids().await {
            registry.metrics.keep_only(&installed);
        }
        registry.metrics.sampled_service(metrics::ServiceSample {
            time: jiff::Timestamp::now().as_millisecond() as f64 / 1e3,
            store: registry.store.extent().await.ok(),
        });
    }
}

async fn sample(
    registry: &Registry,
    handle: &PluginHandle,
    process: &ProcessView,
    last: Option<&Last>,
) -> (Metrics, Last) {
    let used = process.cgroup.as_deref().map(usage::read).unwrap_or_default();
    let at = Instant::now();
    let since = last.filter(|last| last.generation == process.generation);
    let cpu = used.cpu_usec.map(|usec| Cpu {
        usec,
        percent: since.and_then(|last| Some((last, last.cpu_usec?))).map(|(last, before)| {
            let wall = (at - last.at).as_micros().max(1) as f64;
            (usec.saturating_sub(before) as f64 / wall * 1e4).round() / 100.0
        }),
    });
    let storage = kept(registry, handle, process.generation).await;
    let limit = handle.manifest.limits.storage.bytes();
    let pressure = storage.map_or(Pressure::Low, |kept| kept.pressure(limit));
    if let Some(kept) = storage
        && pressure > last.map_or(Pressure::Low, |last| last.pressure)
    {
        let body =
            serde_json::json!({ "message": warning(&kept, limit, pressure), "storage": kept });
        registry.events.emit("plugin:warning", &handle.manifest.id, body);
    }
    let network = network(registry, &handle.manifest.id, process).await;
    let found = metrics::Sample {
        process: Some(metrics::ProcessSample {
            generation: process.generation,
            usage: used,
            strain: process.cgroup.as_deref().map(usage::Strain::read).unwrap_or_default(),
            network: network.map(|network| (network.received_bytes, network.sent_bytes)),
        }),
        kept: storage,
    };
    registry.metrics.sampled(&handle.manifest.id, found);
    let metrics = Metrics {
        memory: used.memory_bytes.map(|bytes| Memory { bytes, peak_bytes: used.memory_peak_bytes }),
        cpu,
        storage,
        network,
        pids: used.pids,
    };
    (metrics, Last { generation: process.generation, at, cpu_usec: used.cpu_usec, pressure })
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

/// The counters of a namespace that is the plugin's alone; in the machine's own they would be
/// everybody's.
async fn network(registry: &Registry, id: &PluginId, process: &ProcessView) -> Option<Network> {
    let own = process.enforcement.layer(Layer::NetNamespace)?;
    if !own.enforced {
        return None;
    }
    match registry.launcher.ask(Request::NetworkDevices { id: id.clone() }).await {
        Ok((Reply::NetworkDevices(text), _)) => counters(&text?),
        Ok(_) | Err(_) => None,
    }
}

/// The sums of `/proc/PID/net/dev`, proc_pid_net(5): two lines of heading, then a line a device with
/// eight numbers received and eight sent, bytes first.
fn counters(text: &str) -> Option<Network> {
    let mut sums = Network { received_bytes: 0, sent_bytes: 0 };
    for line in text.lines().skip(2) {
        let (_, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_whitespace();
        sums.received_bytes += numbers.next()?.parse::<u64>().ok()?;
        sums.sent_bytes += numbers.nth(7)?.parse::<u64>().ok()?;
    }
    Some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_all_devices_are_added() {
        let text = "Inter-|   Receive                  |  Transmit\n \
            face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop\n \
               lo:   100  2 0 0 0 0 0 0   100  2 0 0 0 0 0 0\n \
             eth0: 12345 67 0 0 0 0 0 0  6789 10 0 0 0 0 0 0\n";
        let sums = Network { received_bytes: 12_445, sent_bytes: 6_889 };
        assert_eq!(counters(text), Some(sums));
        assert_eq!(counters("a\nb\n"), Some(Network { received_bytes: 0, sent_bytes: 0 }));
        assert_eq!(counters("a\nb\nlo: 1 2 3\n"), None, "a line that is cut short");
    }

    #[test]
    fn our_own_counters_can_be_read() {
        let text = std::fs::read_to_string("/proc/self/net/dev").unwrap();
        assert!(counters(&text).is_some(), "{text}");
    }
}
