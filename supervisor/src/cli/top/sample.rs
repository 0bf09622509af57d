//! The plugins at one moment, as the admin API tells of them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::counters::Counters;
use crate::cli::problem::printable;
use crate::cli::render::{Plugin, Tone, standing};

/// Milliseconds since `top` was started; negative before that.
pub(super) type Moment = i64;

/// What the service said when it was asked once.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) at: Moment,
    pub(super) rows: Vec<Row>,
    /// By the plugin.
    pub(super) counters: BTreeMap<String, Counters>,
}

/// A plugin at one moment. What cannot be measured is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) state: String,
    /// Whether the operator wants it to be enabled.
    pub(super) is_wanted: bool,
    pub(super) process: Option<Process>,
    pub(super) memory: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    /// As the manifest has it: `20%`.
    pub(super) cpu_limit: Option<String>,
    pub(super) pids: Option<u64>,
    pub(super) pids_limit: Option<u64>,
    pub(super) storage_limit: Option<u64>,
    /// Of the compartment that runs.
    pub(super) layers: Option<Layers>,
    /// How it last ended, in words.
    pub(super) last_exit: Option<String>,
}

/// The process of a plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    /// Names this start, for ever.
    pub(super) generation: u64,
    pub(super) pid: i64,
    pub(super) uptime_ms: u64,
    pub(super) cpu_usec: Option<u64>,
}

/// How much of the compartment is in force, as it was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layers {
    pub(super) enforced: usize,
    pub(super) missing: Vec<&'static str>,
}

impl Layers {
    pub(super) fn asked(&self) -> usize {
        self.enforced + self.missing.len()
    }
}

/// What a plugin keeps on disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) used: u64,
    /// Of the file system, where it sets one that may be lower than the manifest's.
    pub(super) hard_limit: Option<u64>,
}

impl Row {
    /// Its state as it is shown.
    pub(super) fn standing(&self) -> (String, Tone) {
        standing(&self.state, self.is_wanted)
    }

    pub(super) fn new(plugin: &Plugin) -> Self {
        let usage = plugin.usage.as_ref();
        let layers = plugin.enforcement.as_ref().map(|enforcement| {
            let layers = &enforcement.layers;
            let missing = layers.iter().filter(|measured| !measured.enforced);
            Layers {
                enforced: layers.iter().filter(|measured| measured.enforced).count(),
                missing: missing.map(|measured| measured.layer.name()).collect(),
            }
        });
        Self {
            id: printable(&plugin.id),
            version: printable(&plugin.version),
            state: printable(&plugin.state),
            is_wanted: plugin.is_wanted(),
            process: plugin.process.as_ref().map(|process| Process {
                generation: process.generation,
                pid: process.pid,
                uptime_ms: process.uptime_ms,
                cpu_usec: usage.and_then(|usage| usage.cpu_usec),
            }),
            memory: usage.and_then(|usage| usage.memory_bytes),
            memory_limit: plugin.limits.memory,
            cpu_limit: plugin.limits.cpu.as_deref().map(printable),
            pids: usage.and_then(|usage| usage.pids),
            pids_limit: plugin.limits.pids,
            storage_limit: plugin.limits.storage,
            layers,
            last_exit: plugin.last_exit.as_ref().map(|exit| printable(&exit.explanation)),
        }
    }

    /// What it used of one CPU between an earlier moment and this, in percent. By the service's own
    /// clock, so that a reply that comes late makes it neither more nor less.
    pub(super) fn cpu_since(&self, earlier: &Self) -> Option<f64> {
        let (before, now) = (earlier.process?, self.process?);
        let usec = now.cpu_usec?.checked_sub(before.cpu_usec?)?;
        let millis = now.uptime_ms.checked_sub(before.uptime_ms).filter(|millis| *millis > 0)?;
        (before.generation == now.generation).then(|| usec as f64 / millis as f64 / 10.0)
    }
}

impl Storage {
    /// Of a plugin that was asked for by itself.
    pub(super) fn of_plugin(plugin: &Plugin) -> Option<Self> {
        let storage = plugin.storage.as_ref()?;
        let used = storage.state_bytes.saturating_add(storage.data_bytes);
        Some(Self { used, hard_limit: Some(storage.limit_bytes) })
    }

    /// Of the event `plugin:resource:usage`.
    pub(super) fn of_event(event: &Value) -> Option<Self> {
        let kept = &event["metrics"]["storage"];
        let used = kept["stateBytes"].as_u64()?.saturating_add(kept["dataBytes"].as_u64()?);
        Some(Self { used, hard_limit: kept["hardLimitBytes"].as_u64() })
    }

    /// What it may keep: the lower of the manifest's limit and the hard one.
    pub(super) fn limit(&self, manifest: Option<u64>) -> Option<u64> {
        self.hard_limit.into_iter().chain(manifest).min()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(reply: Value) -> Row {
        Row::new(&serde_json::from_value(reply).unwrap())
    }

    #[test]
    fn what_the_service_tells_is_taken_and_what_it_does_not_is_absent() {
        let found = row(json!({
            "id": "a", "version": "1.0.0", "state": "enabled", "limits": {"memory": 64, "cpu": "20%"},
            "process": {"generation": 7, "pid": 42, "uptimeMs": 1000},
            "usage": {"memoryBytes": null, "cpuUsec": 5, "pids": 3},
            "enforcement": {"layers": [
                {"layer": "seccomp", "asked": "", "measured": "", "enforced": true},
                {"layer": "memory", "asked": "", "measured": "", "enforced": false},
            ]},
        }));
        assert_eq!((found.memory, found.memory_limit, found.pids), (None, Some(64), Some(3)));
        assert_eq!(found.process.unwrap().pid, 42);
        let layers = found.layers.unwrap();
        assert_eq!((layers.enforced, layers.asked()), (1, 2));
        assert_eq!(layers.missing, ["memory"]);
        // Only what is down against the operator's will is shown otherwise than it is called.
        let shown = |state: &str, desired: &str| {
            let row = row(json!({"id": "c", "state": state, "desired": desired}));
            (row.state.clone(), row.standing().0)
        };
        let as_it_is = |state: &str| (state.to_owned(), state.to_owned());
        assert_eq!(shown("enabled", "enabled"), as_it_is("enabled"));
        assert_eq!(shown("disabled", "disabled"), as_it_is("disabled"));
        assert_eq!(
            shown("disabled", "enabled"),
            ("disabled".to_owned(), "disabled, wanted".to_owned())
        );
        let broken = row(json!({"id": "b", "state": "broken", "process": null}));
        assert_eq!((broken.process, broken.layers), (None, None));
    }

    #[test]
    fn cpu_is_of_one_start_and_by_the_services_clock() {
        let of = |generation, uptime, usec: Option<u64>| {
            row(json!({
                "process": {"generation": generation, "pid": 1, "uptimeMs": uptime},
                "usage": {"cpuUsec": usec},
            }))
        };
        let first = of(1, 1000, Some(10_000));
        assert_eq!(of(1, 3000, Some(510_000)).cpu_since(&first), Some(25.0));
        assert_eq!(of(2, 3000, Some(510_000)).cpu_since(&first), None, "another start");
        assert_eq!(of(1, 1000, Some(10_000)).cpu_since(&first), None, "no time has passed");
        assert_eq!(of(1, 500, Some(20_000)).cpu_since(&first), None, "taken over meanwhile");
        assert_eq!(of(1, 3000, None).cpu_since(&first), None);
    }

    #[test]
    fn the_lower_limit_of_storage_counts() {
        let event = json!({"metrics": {"storage": {"stateBytes": 1, "dataBytes": 2, "dataFiles": 1,
            "hardLimitBytes": 50, "hardLimitFiles": null}}});
        let storage = Storage::of_event(&event).unwrap();
        assert_eq!((storage.used, storage.limit(Some(100))), (3, Some(50)));
        assert_eq!(storage.limit(Some(10)), Some(10));
        assert_eq!(Storage { used: 3, hard_limit: None }.limit(None), None);
        assert_eq!(Storage::of_event(&json!({"metrics": {"storage": null}})), None);
    }
}
