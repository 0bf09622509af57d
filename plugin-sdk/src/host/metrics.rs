//! What a plugin measures of itself.

mod cells;
mod pushing;
mod registry;

use std::time::Duration;

pub(crate) use pushing::push;
pub(crate) use registry::Registry;

use bulkhead_ipc_protocol::metrics::MetricKind;

use super::Host;
use cells::Cell;
use registry::Refused;

/// What the SDK measures by itself begins so; an author's names cannot.
const OWN: &str = "sdk_";

/// What a plugin measures: counters, gauges and histograms, which the host shows to Prometheus as
/// `bulkhead_plugin_<name>{plugin="<id>",…}`.
///
/// ```no_run
/// # fn example(host: &bulkhead_plugin_sdk::Host) {
/// let metrics = host.metrics();
/// let booked = metrics.counter("appointments_booked_total", "Appointments booked", &[]);
/// booked.increment();
/// metrics.gauge("rooms", "Rooms by their state", &[("state", "free")]).set(3.0);
/// let waits = metrics.histogram("wait_seconds", "Until a room is free", &[], &[60.0, 600.0]);
/// waits.observe(42.0);
/// # }
/// ```
///
/// The same name and labels give the same series, whoever asks. An update is a few instructions in
/// this process; what changed goes to the host a moment later, if a session is there, and again on
/// each new session. Bounds: 256 series, where a histogram is as many as it has bounds and three; names
/// of `a-z`, `0-9`, `_`, a counter's ending in `_total`; 8 labels of 128 bytes. What is beyond them is
/// counted nowhere, but how much that is, and the log is told once; a metric is never a reason to fail. Names that begin
/// with `sdk_` are the SDK's own: the [`Cache`](super::Cache)'s.
#[derive(Clone, Debug)]
pub struct Metrics {
    host: Host,
    /// Of the SDK, not of the plugin's author.
    own: bool,
}

/// Goes up only, from zero with each start of the plugin. Clones are the same counter.
#[derive(Clone, Debug)]
pub struct Counter(Cell);

/// Goes up and down. Clones are the same gauge.
#[derive(Clone, Debug)]
pub struct Gauge(Cell);

/// Counts observations by their size. Clones are the same histogram.
#[derive(Clone, Debug)]
pub struct Histogram(Cell);

impl Metrics {
    pub(super) fn new(host: Host) -> Self {
        Self { host, own: false }
    }

    pub(super) fn of_the_sdk(host: Host) -> Self {
        Self { host, own: true }
    }

    /// A counter, whose name ends in `_total`. `labels` are names and values.
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        Counter(self.cell(name, help, MetricKind::Counter, labels))
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Gauge {
        Gauge(self.cell(name, help, MetricKind::Gauge, labels))
    }

    /// A histogram, with the upper bounds of its buckets, going up; at most 24. Those of its first use
    /// are those of its name.
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
    ) -> Histogram {
        let kind = MetricKind::Histogram { bounds: bounds.to_vec() };
        Histogram(self.cell(name, help, kind, labels))
    }

    fn cell(&self, name: &str, help: &str, kind: MetricKind, labels: &[(&str, &str)]) -> Cell {
        let registry = self.host.metric_registry();
        let registered = if name.starts_with(OWN) && !self.own {
            registry.refuse(&kind, Refused::Reserved(name.to_owned()))
        } else {
            registry.register(name, help, kind, labels)
        };
        if let Some(refused) = registered.first_refusal {
            self.host.log().with("metric", name).warn(format_args!(
                "what is measured here is not shown, nor is whatever else is beyond the bounds: {refused}"
            ));
        }
        registered.cell
    }
}

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.add(count as f64);
    }
}

impl Gauge {
    /// It is that now.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// It is so much more now, or less.
    pub fn add(&self, value: f64) {
        self.0.add(value);
    }
}

impl Histogram {
    /// Something of this size.
    pub fn observe(&self, value: f64) {
        self.0.observe(value);
    }

    /// Something that took so long, in seconds.
    pub fn observe_duration(&self, span: Duration) {
        self.observe(span.as_secs_f64());
    }
}
