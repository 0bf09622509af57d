//! What the caches of a plugin show as its metrics, all of them together.

use std::sync::Arc;

use super::CacheStats;
use crate::host::{Counter, Gauge, Metrics};

/// The series, made with the first cache. What is counted stays counted when a cache is gone.
pub(super) struct Totals {
    hits: Counter,
    misses: Counter,
    evictions: Counter,
    expired: Counter,
    refused: Counter,
    entries: Gauge,
    bytes: Gauge,
}

impl Totals {
    pub(super) fn new(own: &Metrics) -> Self {
        let counter = |name, help| own.counter(name, help, &[]);
        let gauge = |name, help| own.gauge(name, help, &[]);
        Self {
            hits: counter("sdk_cache_hits_total", "Look-ups of a cache that found an entry"),
            misses: counter("sdk_cache_misses_total", "Look-ups of a cache that found none"),
            evictions: counter(
                "sdk_cache_evictions_total",
                "Entries of a cache that made room for others",
            ),
            expired: counter(
                "sdk_cache_expired_total",
                "Entries of a cache that had lived their time",
            ),
            refused: counter("sdk_cache_refused_total", "Values that were too large for a cache"),
            entries: gauge("sdk_cache_entries", "Entries in the caches"),
            bytes: gauge("sdk_cache_bytes", "Bytes of the entries in the caches, as JSON"),
        }
    }
}

/// The share of one cache in them, which ends with it.
pub(super) struct Meter {
    totals: Arc<Totals>,
    told: CacheStats,
}

impl Meter {
    pub(super) fn new(totals: Arc<Totals>) -> Self {
        Self { totals, told: CacheStats::default() }
    }

    /// How the cache fares now. Nobody is woken where nothing has changed.
    pub(super) fn tell(&mut self, now: CacheStats) {
        let (totals, told) = (&self.totals, &self.told);
        for (counter, now, told) in [
            (&totals.hits, now.hits, told.hits),
            (&totals.misses, now.misses, told.misses),
            (&totals.evictions, now.evictions, told.evictions),
            (&totals.expired, now.expired, told.expired),
            (&totals.refused, now.refused, told.refused),
        ] {
            if now != told {
                counter.add(now - told);
            }
        }
        for (gauge, now, told) in
            [(&totals.entries, now.entries, told.entries), (&totals.bytes, now.bytes, told.bytes)]
        {
            if now != told {
                gauge.add(now as f64 - told as f64);
            }
        }
        self.told = now;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.tell(CacheStats { entries: 0, bytes: 0, ..self.told });
    }
}
