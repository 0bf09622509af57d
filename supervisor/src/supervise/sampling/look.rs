//! What one look at a process found, and what was used between two.

use serde::Serialize;
use tokio::time::Instant;

use super::network::Network;
use crate::supervise::metrics;
use crate::supervise::plugin::{Kept, ProcessView};
use crate::supervise::store::Used;
use crate::supervise::usage::{self, Bounds, LimitEvents, Stalls, Usage};

/// What is there at one moment. Its amounts count from the start of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) usage: Usage,
    pub(super) bounds: Bounds,
    pub(super) limit_events: LimitEvents,
    pub(super) stalls: Stalls,
    pub(super) network: Option<Network>,
}

impl Look {
    /// Without the network, which the launcher is asked for.
    pub(super) fn new(process: &ProcessView) -> Self {
        let cgroup = process.cgroup.as_deref();
        Self {
            at: Instant::now(),
            usage: cgroup.map(usage::read).unwrap_or_default(),
            bounds: cgroup.map(Bounds::read).unwrap_or_default(),
            limit_events: cgroup.map(LimitEvents::read).unwrap_or_default(),
            stalls: cgroup.map(Stalls::read).unwrap_or_default(),
            network: None,
        }
    }

    /// That at a process when it started.
    pub(super) fn at_start(at: Instant) -> Self {
        let none = Some(0);
        Self {
            at,
            usage: Usage {
                memory_peak_bytes: none,
                cpu_usec: none,
                io_read_bytes: none,
                io_written_bytes: none,
                ..Usage::default()
            },
            bounds: Bounds::default(),
            limit_events: LimitEvents {
                periods: none,
                throttled_periods: none,
                throttled_usec: none,
                oom: none,
                pids_refused: none,
                ..LimitEvents::default()
            },
            stalls: Stalls::default(),
            network: Some(Network { received_bytes: 0, sent_bytes: 0 }),
        }
    }

    /// The CPU time since the look before, in percent of one CPU.
    pub(super) fn cpu_percent(&self, before: &Self) -> Option<f64> {
        let usec = since(before.usage.cpu_usec, self.usage.cpu_usec)?;
        let wall = (self.at - before.at).as_micros().max(1) as f64;
        Some((usec as f64 / wall * 1e4).round() / 100.0)
    }

    /// What was used since the look before, at `time` (seconds since the epoch). Without one before,
    /// what is there is known, and no amount.
    pub(super) fn used(&self, before: Option<&Self>, kept: Option<&Kept>, time: i64) -> Used {
        let amount = |of: fn(&Self) -> Option<u64>| since(before.and_then(of), of(self));
        // A peak that has grown is one of this time.
        let peak = before
            .filter(|before| before.usage.memory_peak_bytes < self.usage.memory_peak_bytes)
            .and(self.usage.memory_peak_bytes);
        Used {
            time,
            covered_ms: before.map_or(0, |before| (self.at - before.at).as_millis() as u64),
            memory_bytes: self.usage.memory_bytes,
            memory_peak_bytes: peak.max(self.usage.memory_bytes),
            cpu_usec: amount(|look| look.usage.cpu_usec),
            throttled_usec: amount(|look| look.limit_events.throttled_usec),
            pids: self.usage.pids,
            io_read_bytes: amount(|look| look.usage.io_read_bytes),
            io_written_bytes: amount(|look| look.usage.io_written_bytes),
            storage_bytes: kept.map(Kept::bytes),
            network_received_bytes: amount(|look| Some(look.network?.received_bytes)),
            network_sent_bytes: amount(|look| Some(look.network?.sent_bytes)),
        }
    }

    /// As Prometheus is shown it.
    pub(super) fn sample(&self, generation: u64) -> metrics::ProcessSample {
        metrics::ProcessSample {
            generation,
            usage: self.usage,
            limit_events: self.limit_events,
            stalls: self.stalls,
            network: self.network.map(|network| (network.received_bytes, network.sent_bytes)),
        }
    }
}

/// What was added to a counter; it does not go back.
pub(super) fn since(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    Some(now?.saturating_sub(before?))
}

/// What a plugin uses, as the event has it under `metrics`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metrics {
    memory: Option<Memory>,
    cpu: Option<Cpu>,
    storage: Option<Kept>,
    network: Option<Network>,
    pids: Option<u64>,
    pids_peak: Option<u64>,
    io: Option<Io>,
    /// What it may use.
    limits: Limits,
    limit_events: LimitEvents,
    pressure: Stalls,
}

/// All its processes, page cache and tmpfs included.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    bytes: u64,
    peak_bytes: Option<u64>,
    working_set_bytes: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    /// Since its cgroup was made.
    usec: u64,
    /// Of one CPU, since the last of these events, or since its start; null in the first of a process
    /// that was taken over.
    percent: Option<f64>,
}

/// Since its cgroup was made.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Io {
    read_bytes: u64,
    written_bytes: u64,
    read_operations: Option<u64>,
    write_operations: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    #[serde(flatten)]
    bounds: Bounds,
    storage_bytes: u64,
}

impl Metrics {
    /// `storage_limit` is that of the manifest.
    pub(super) fn new(
        look: &Look,
        before: Option<&Look>,
        kept: Option<Kept>,
        storage_limit: u64,
    ) -> Self {
        let usage = look.usage;
        Self {
            memory: usage.memory_bytes.map(|bytes| Memory {
                bytes,
                peak_bytes: usage.memory_peak_bytes,
                working_set_bytes: usage.memory_working_set_bytes,
            }),
            cpu: usage.cpu_usec.map(|usec| Cpu {
                usec,
                percent: before.and_then(|before| look.cpu_percent(before)),
            }),
            storage: kept,
            network: look.network,
            pids: usage.pids,
            pids_peak: usage.pids_peak,
            io: usage.io_read_bytes.zip(usage.io_written_bytes).map(|(read, written)| Io {
                read_bytes: read,
                written_bytes: written,
                read_operations: usage.io_read_operations,
                write_operations: usage.io_write_operations,
            }),
            limits: Limits {
                bounds: look.bounds,
                storage_bytes: kept.map_or(storage_limit, |kept| kept.bound(storage_limit).1),
            },
            limit_events: look.limit_events,
            pressure: look.stalls,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn amounts_are_those_since_the_look_before() {
        let start = Look::at_start(Instant::now());
        let later = |secs: u64, peak: u64, cpu: u64| Look {
            at: start.at + Duration::from_secs(secs),
            usage: Usage {
                memory_bytes: Some(50),
                memory_peak_bytes: Some(peak),
                cpu_usec: Some(cpu),
                pids: Some(4),
                ..Usage::default()
            },
            network: None,
            ..start
        };
        let (one, two) = (later(2, 70, 300_000), later(12, 70, 5_300_000));
        let expected = Used {
            time: 9,
            covered_ms: 2000,
            memory_bytes: Some(50),
            memory_peak_bytes: Some(70),
            cpu_usec: Some(300_000),
            throttled_usec: Some(0),
            pids: Some(4),
            ..Used::default()
        };
        assert_eq!(one.used(Some(&start), None, 9), expected);
        let used = two.used(Some(&one), None, 9);
        assert_eq!((used.covered_ms, used.cpu_usec), (10_000, Some(5_000_000)));
        assert_eq!(used.memory_peak_bytes, Some(50), "that it had before is not of this time");
        assert_eq!(two.cpu_percent(&one), Some(50.0));
        // Of a process that ran before we did.
        let used = two.used(None, None, 9);
        assert_eq!((used.covered_ms, used.cpu_usec, used.memory_bytes), (0, None, Some(50)));
    }
}
