//! Where a series is kept, and changed by any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_ipc_protocol::metrics::{MetricKind, SeriesValue};
use tokio::sync::Notify;

/// Says that something changed since the last push.
#[derive(Debug, Default)]
pub(crate) struct Change {
    made: AtomicBool,
    news: Notify,
}

impl Change {
    pub(crate) fn make(&self) {
        if !self.made.swap(true, Ordering::AcqRel) {
            self.news.notify_one();
        }
    }

    /// Waits for a change.
    pub(crate) async fn wait(&self) {
        self.news.notified().await;
    }

    /// What changes from here on is another change; what changed before is seen by whoever took it.
    pub(crate) fn take(&self) {
        self.made.swap(false, Ordering::AcqRel);
    }
}

/// A series. One that is beyond the bounds is kept by nobody but its user.
#[derive(Clone, Debug)]
pub(crate) struct Cell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    value: Value,
    change: Arc<Change>,
}

#[derive(Debug)]
enum Value {
    /// The bits of an `f64`.
    Number(AtomicU64),
    Histogram {
        bounds: Vec<f64>,
        seen: Mutex<Seen>,
    },
}

#[derive(Clone, Debug)]
struct Seen {
    counts: Vec<u64>,
    sum: f64,
}

impl Cell {
    pub(super) fn new(kind: &MetricKind, change: &Arc<Change>) -> Self {
        let value = match kind {
            MetricKind::Counter | MetricKind::Gauge => Value::Number(AtomicU64::new(0)),
            MetricKind::Histogram { bounds } => Value::Histogram {
                bounds: bounds.clone(),
                seen: Mutex::new(Seen { counts: vec![0; bounds.len() + 1], sum: 0.0 }),
            },
        };
        Self(Arc::new(Inner { value, change: Arc::clone(change) }))
    }

    pub(super) fn set(&self, value: f64) {
        if let Value::Number(number) = &self.0.value {
            number.store(value.to_bits(), Ordering::Relaxed);
            self.0.change.make();
        }
    }

    pub(super) fn add(&self, more: f64) {
        if let Value::Number(number) = &self.0.value {
            let sum = |bits| Some((f64::from_bits(bits) + more).to_bits());
            // It always gives a sum.
            let _ = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
            self.0.change.make();
        }
    }

    pub(super) fn observe(&self, value: f64) {
        let Value::Histogram { bounds, seen } = &self.0.value else { return };
        // Neither has a place among the bounds, and either would spoil the sum for good.
        if !value.is_finite() {
            return;
        }
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.counts[bounds.partition_point(|bound| *bound < value)] += 1;
        seen.sum += value;
        drop(seen);
        self.0.change.make();
    }

    pub(super) fn value(&self) -> SeriesValue {
        match &self.0.value {
            Value::Number(bits) => {
                SeriesValue::Number(f64::from_bits(bits.load(Ordering::Relaxed)))
            }
            Value::Histogram { seen, .. } => {
                let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
                SeriesValue::Histogram { counts: seen.counts, sum: seen.sum }
            }
        }
    }
}
