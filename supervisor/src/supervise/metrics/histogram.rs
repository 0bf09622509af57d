//! How long calls take, in buckets that are the same for all.

use std::time::Duration;

/// The upper bounds of the buckets, in seconds.
pub(super) const BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// How many are within each bound and beyond the one before; the last are beyond all.
    pub(super) counts: [u64; BOUNDS.len() + 1],
    /// In seconds.
    pub(super) sum: f64,
}

impl Histogram {
    pub(super) fn observe(&mut self, span: Duration) {
        let seconds = span.as_secs_f64();
        self.counts[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}
