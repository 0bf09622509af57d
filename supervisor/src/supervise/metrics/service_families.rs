//! The families of the service itself.

use std::collections::BTreeMap;

use super::Known;
use super::exposition::{Exposition, Kind};
use crate::link::Settings;
use crate::supervise::plugin::STATES;
use crate::supervise::spans::SpanCounts;

/// What the launcher says of itself.
pub(super) struct Launched {
    started_ms: Option<u64>,
    supervisor_starts: u64,
}

impl From<&Settings> for Launched {
    fn from(settings: &Settings) -> Self {
        let Settings { started_ms, supervisor_starts, .. } = *settings;
        Self { started_ms, supervisor_starts }
    }
}

/// `states` has the name of each plugin's state.
pub(super) fn write<'a>(
    out: &mut Exposition,
    known: &Known,
    launched: &Launched,
    states: impl Iterator<Item = &'a str>,
) {
    let version = env!("CARGO_PKG_VERSION");
    out.family(
        "bulkhead_build_info",
        Kind::Gauge,
        "The version of the supervisor that answers; always 1.",
    )
    .series(&[("version", version)], 1_u64);
    if let Some(started) = launched.started_ms {
        out.single(
            "bulkhead_start_time_seconds",
            Kind::Gauge,
            "When the service (its launcher) started, in seconds since the epoch.",
            started as f64 / 1e3,
        );
    }
    if launched.supervisor_starts > 0 {
        out.single(
            "bulkhead_supervisor_starts_total",
            Kind::Counter,
            "How often the launcher started a supervisor; more than 1: one has died.",
            launched.supervisor_starts,
        );
    }
    count(out, states);
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

/// Only where spans are told to somebody.
pub(super) fn spans(out: &mut Exposition, counts: Option<SpanCounts>) {
    let Some(SpanCounts { exported, dropped }) = counts else { return };
    out.single(
        "bulkhead_spans_exported_total",
        Kind::Counter,
        "Spans that the collector took.",
        exported,
    );
    out.single(
        "bulkhead_spans_dropped_total",
        Kind::Counter,
        "Spans that were not told, as the collector was away or too slow.",
        dropped,
    );
}

fn count<'a>(out: &mut Exposition, states: impl Iterator<Item = &'a str>) {
    let mut counts: BTreeMap<&str, u64> = STATES.iter().map(|state| (*state, 0)).collect();
    counts.insert("broken", 0);
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    let mut family =
        out.family("bulkhead_plugins", Kind::Gauge, "How many plugins are in each state.");
    for (state, count) in counts {
        family.series(&[("state", state)], count);
    }
}

#[cfg(test)]
impl Launched {
    pub(super) fn of_test() -> Self {
        Self { started_ms: Some(1), supervisor_starts: 1 }
    }
}
