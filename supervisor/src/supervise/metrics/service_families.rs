//! The families of the service itself.

use std::collections::BTreeMap;

use super::Known;
use super::exposition::{Exposition, Kind};
use crate::supervise::plugin::{PluginHandle, STATES};
use crate::supervise::registry::{Broken, Registry};

pub(super) fn write(
    out: &mut Exposition,
    known: &Known,
    registry: &Registry,
    plugins: &[PluginHandle],
    broken: &[Broken],
) {
    let version = env!("CARGO_PKG_VERSION");
    out.family(
        "bulkhead_build_info",
        Kind::Gauge,
        "The version of the supervisor that answers; always 1.",
    )
    .series(&[("version", version)], 1_u64);
    let settings = &registry.settings;
    if let Some(started) = settings.started_ms {
        out.single(
            "bulkhead_start_time_seconds",
            Kind::Gauge,
            "When the service (its launcher) started, in seconds since the epoch.",
            started as f64 / 1e3,
        );
    }
    if settings.supervisor_starts > 0 {
        out.single(
            "bulkhead_supervisor_starts_total",
            Kind::Counter,
            "How often the launcher started a supervisor; more than 1: one has died.",
            settings.supervisor_starts,
        );
    }
    states(out, plugins, broken);
    if known.service.time > 0.0 {
        out.single(
            "bulkhead_last_sample_time_seconds",
            Kind::Gauge,
            "When what plugins use was last sampled, in seconds since the epoch.",
            known.service.time,
        );
    }
    if let Some(store) = known.service.store {
        out.single(
            "bulkhead_events_total",
            Kind::Counter,
            "Events in the journal, those that are pruned included.",
            store.events,
        );
        out.single(
            "bulkhead_audit_rows_total",
            Kind::Counter,
            "Rows of the audit, those that are pruned included.",
            store.audit_rows,
        );
        out.single(
            "bulkhead_store_bytes",
            Kind::Gauge,
            "The size of the store's files.",
            store.bytes,
        );
    }
    let mut requests = out.family(
        "bulkhead_admin_requests_total",
        Kind::Counter,
        "Requests of the admin API that were answered, by their route and status.",
    );
    for ((method, route, status), count) in &known.requests {
        let status = status.to_string();
        requests.series(&[("method", method), ("route", route), ("status", &status)], *count);
    }
}

fn states(out: &mut Exposition, plugins: &[PluginHandle], broken: &[Broken]) {
    let mut states: BTreeMap<&str, u64> = STATES.iter().map(|state| (*state, 0)).collect();
    states.insert("broken", 0);
    for handle in plugins {
        *states.entry(handle.state()).or_default() += 1;
    }
    for broken in broken {
        *states.entry(broken.state()).or_default() += 1;
    }
    let mut family =
        out.family("bulkhead_plugins", Kind::Gauge, "How many plugins are in each state.");
    for (state, count) in states {
        family.series(&[("state", state)], count);
    }
}
