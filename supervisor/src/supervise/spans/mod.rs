//! Spans: what of a trace passes through the supervisor, told to a collector by OTLP.
//!
//! Theory of operation. Each call of a plugin's method, by the host application, a schedule or another
//! plugin, is a span. It takes the place of its caller's in the trace context that goes on to the plugin,
//! so that what the plugin calls is beneath it. Spans go into a bounded queue and from there in batches
//! to the collector; a collector that is away or slow costs spans, which are counted, and never a call.
//! A span has names and codes, never what was asked or answered, and not for whom.
//!
//! Without `[tracing] otlp_endpoint` nothing is measured, and a trace context goes on as it came.

mod export;
mod otlp;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_ipc_protocol::TraceContext;
use tokio::sync::mpsc;

use super::plugin::PluginHandle;
use crate::config::Tracing;
use crate::failure::Failure;
use crate::id::PluginId;

/// Spans that wait to be told.
const QUEUE: usize = 4096;
/// The flag of a trace that somebody keeps.
const SAMPLED: u8 = 1;

/// A span that has ended.
#[derive(Clone, Debug)]
struct Span {
    trace: TraceContext,
    parent: Option<[u8; 8]>,
    plugin: PluginId,
    version: String,
    method: String,
    /// None: the host application, or a schedule.
    caller: Option<PluginId>,
    /// Nanoseconds since the epoch.
    began: u64,
    ended: u64,
    /// The code of a failure.
    failure: Option<String>,
}

/// What became of spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpanCounts {
    pub(crate) exported: u64,
    pub(crate) dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    exported: AtomicU64,
    dropped: AtomicU64,
}

/// Where spans go. A clone is another hand on the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Span>,
    counters: Arc<Counters>,
    /// Makes numbers that nobody can foretell, from a count.
    numbers: RandomState,
    made: AtomicU64,
}

impl Spans {
    /// As the configuration has it. Must run inside the runtime.
    pub(crate) fn new(tracing: &Tracing) -> Self {
        let Some(endpoint) = tracing.otlp_endpoint.clone() else { return Self::default() };
        let (queue, queued) = mpsc::channel(QUEUE);
        let counters = Arc::new(Counters::default());
        let pace = tracing.otlp_interval.duration();
        tokio::spawn(export::run(endpoint, pace, queued, Arc::clone(&counters)));
        Self(Some(Arc::new(Inner {
            queue,
            counters,
            numbers: RandomState::new(),
            made: AtomicU64::new(0),
        })))
    }

    /// None: spans are not told to anybody.
    pub(crate) fn counts(&self) -> Option<SpanCounts> {
        let counters = &self.0.as_ref()?.counters;
        Some(SpanCounts {
            exported: counters.exported.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
        })
    }

    /// Begins the span of a call; `trace` becomes what the call goes on with. A call without a trace
    /// begins one; one of a trace that nobody keeps has no span.
    pub(crate) fn begin(
        &self,
        handle: &PluginHandle,
        method: &str,
        caller: Option<&PluginId>,
        trace: &mut Option<TraceContext>,
    ) -> Open {
        let Some(inner) = &self.0 else { return Open(None) };
        let own = match *trace {
            Some(given) if given.flags & SAMPLED == 0 => return Open(None),
            Some(given) => TraceContext { span_id: inner.number(), ..given },
            None => {
                TraceContext { trace_id: inner.trace_id(), span_id: inner.number(), flags: SAMPLED }
            }
        };
        let parent = trace.replace(own).map(|given| given.span_id);
        let span = Span {
            trace: own,
            parent,
            plugin: handle.manifest.id.clone(),
            version: handle.manifest.version.to_string(),
            method: method.to_owned(),
            caller: caller.cloned(),
            began: now(),
            ended: 0,
            failure: Some("CANCELLED".to_owned()),
        };
        Open(Some((Arc::clone(inner), span)))
    }
}

impl Inner {
    /// Not all zeros, which would be none.
    fn number(&self) -> [u8; 8] {
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        self.numbers.hash_one(count).max(1).to_be_bytes()
    }

    fn trace_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.number());
        id[8..].copy_from_slice(&self.number());
        id
    }
}

/// A span of a call under way. Dropped, the call was withdrawn.
pub(crate) struct Open(Option<(Arc<Inner>, Span)>);

impl Open {
    pub(crate) fn end<T>(mut self, result: &Result<T, Failure>) {
        if let Some((_, span)) = &mut self.0 {
            span.failure = result.as_ref().err().map(|failure| failure.code.to_string());
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some((inner, mut span)) = self.0.take() else { return };
        span.ended = now();
        if inner.queue.try_send(span).is_err() {
            inner.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
