//! What Prometheus is shown: `GET /metrics`.
//!
//! Theory of operation. What happens is counted where it happens ([`counts`]), in memory, from zero
//! with each supervisor, as Prometheus expects of a process. What is used is what the last sampling
//! found ([`Sample`]): a scrape reads no file and asks nobody, so that it cannot hold the loop up. It
//! is a view of the plugins that are installed at that moment, so nothing of one is shown after its
//! uninstallation. Labels take few values: states, outcomes, reasons, routes, and of methods those
//! that the manifest names. The families of the service and of its plugins are `bulkhead_…`; all of
//! `bulkhead_plugin_…` is what plugins measure themselves ([`series`]).

mod counts;
mod exposition;
mod histogram;
mod plugin_families;
mod sample;
mod series;
mod service_families;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_sandbox::Exit;

use super::plugin::PluginHandle;
use super::registry::{Broken, Registry, at_its_end};
use crate::failure::Failure;
use crate::id::PluginId;
use crate::manifest::Manifest;
use bulkhead_ipc_protocol::metrics::MetricsPush;
use counts::{Counts, Outcome};
use exposition::Exposition;
pub(crate) use exposition::MEDIA_TYPE;
pub(crate) use sample::{ProcessSample, Sample, ServiceSample};
use series::Measured;

/// A request of the admin API: method, route, status.
type Answered = (&'static str, String, u16);

/// What is counted and was sampled; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    counts: BTreeMap<PluginId, Counts>,
    samples: BTreeMap<PluginId, Sample>,
    service: ServiceSample,
    requests: BTreeMap<Answered, u64>,
    /// What plugins measure themselves.
    measured: BTreeMap<PluginId, Measured>,
}

impl Metrics {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change under it is one of a number.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, plugin: &PluginId, count: impl FnOnce(&mut Counts)) {
        let mut known = self.known();
        if !known.counts.contains_key(plugin) {
            known.counts.insert(plugin.clone(), Counts::default());
        }
        if let Some(counts) = known.counts.get_mut(plugin) {
            count(counts);
        }
    }

    /// A call of a plugin begins. It is counted when it ends, or is given up.
    pub(crate) fn call(&self, manifest: &Arc<Manifest>, method: &str) -> Timing {
        let label = counts::label(manifest, method).to_owned();
        let began = Instant::now();
        Timing {
            metrics: self.clone(),
            manifest: Arc::clone(manifest),
            label,
            began,
            limit: None,
            outcome: Outcome::Cancelled,
        }
    }

    /// A plugin was refused something: a call, or to publish or to hear an event.
    pub(crate) fn refused(&self, plugin: &PluginId, what: &'static str) {
        self.count(plugin, |counts| *counts.refusals.entry(what).or_default() += 1);
    }

    /// Events did not arrive.
    pub(crate) fn lost(&self, plugin: &PluginId, why: &'static str, by: u64) {
        self.count(plugin, |counts| *counts.losses.entry(why).or_default() += by);
    }

    /// A plugin's process ended; `unasked`: nobody had asked for that.
    pub(crate) fn exited(&self, plugin: &PluginId, exit: &Exit, unasked: bool) {
        self.count(plugin, |counts| {
            counts.oom_kills += exit.usage.oom_kills;
            if unasked {
                *counts.deaths.entry(counts::reason(&exit.cause)).or_default() += 1;
            }
        });
        // What it used and measured is no more; what it keeps is still there.
        let mut known = self.known();
        known.measured.remove(plugin);
        if let Some(sample) = known.samples.get_mut(plugin) {
            sample.process = None;
        }
    }

    /// A plugin that died is to be started again.
    pub(crate) fn restarting(&self, plugin: &PluginId) {
        self.count(plugin, |counts| counts.restarts += 1);
    }

    /// A plugin is uninstalled.
    pub(crate) fn forget(&self, plugin: &PluginId) {
        let mut known = self.known();
        known.counts.remove(plugin);
        known.samples.remove(plugin);
        known.measured.remove(plugin);
    }

    /// A plugin tells what it measures. The first time that some of it is beyond the bounds: why.
    pub(crate) fn measured(&self, plugin: &PluginId, push: MetricsPush) -> Option<String> {
        self.known().measured(plugin, push)
    }

    /// Forgets all but these: what ended late may have been counted after its plugin was forgotten.
    pub(crate) fn keep_only(&self, installed: &[PluginId]) {
        let mut known = self.known();
        known.counts.retain(|id, _| installed.contains(id));
        known.samples.retain(|id, _| installed.contains(id));
        known.measured.retain(|id, _| installed.contains(id));
    }

    /// A request of the admin API was answered. `route` is one of the table's.
    pub(crate) fn answered(&self, method: &'static str, route: String, status: u16) {
        *self.known().requests.entry((method, route, status)).or_default() += 1;
    }

    /// What a plugin uses, as the sampling found it.
    pub(crate) fn sampled(&self, plugin: &PluginId, sample: Sample) {
        self.known().samples.insert(plugin.clone(), sample);
    }

    /// What the service has, as the sampling found it.
    pub(crate) fn sampled_service(&self, sample: ServiceSample) {
        self.known().service = sample;
    }

    /// The scrape.
    pub(crate) fn text(&self, registry: &Registry) -> String {
        let plugins = registry.all();
        let broken = registry.all_broken();
        let known = self.known();
        let mut out = Exposition::default();
        let states =
            plugins.iter().map(PluginHandle::state).chain(broken.iter().map(Broken::state));
        service_families::write(&mut out, &known, &(&*registry.settings).into(), states);
        service_families::spans(&mut out, registry.spans.counts());
        plugin_families::write(&mut out, &known, &plugins, |plugin| {
            registry.exposure(plugin).score
        });
        series::write(&mut out, &known, |id| {
            plugins.iter().any(|handle| handle.manifest.id == *id && handle.is_up())
        });
        out.text()
    }
}

#[cfg(any(test, fuzzing))]
impl Metrics {
    /// What plugins measure, whether they are up or not.
    pub(crate) fn measured_text(&self) -> String {
        let mut out = Exposition::default();
        series::write(&mut out, &self.known(), |_| true);
        out.text()
    }
}

/// A call under way.
pub(crate) struct Timing {
    metrics: Metrics,
    manifest: Arc<Manifest>,
    label: String,
    began: Instant,
    limit: Option<Duration>,
    outcome: Outcome,
}

impl Timing {
    /// Given up when its time is over it was late, whoever notices that first.
    pub(crate) fn within(mut self, limit: Option<Duration>) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn end<T>(mut self, result: &Result<T, Failure>) {
        self.outcome = Outcome::of(result);
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let over = |limit| at_its_end(took, limit);
        if self.outcome == Outcome::Cancelled && self.limit.is_some_and(over) {
            self.outcome = Outcome::Timeout;
        }
        self.metrics.count(&self.manifest.id, |counts| {
            counts.called(&self.label, self.outcome, took);
        });
    }
}
