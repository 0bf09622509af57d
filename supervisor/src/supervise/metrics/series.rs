//! What plugins measure themselves: taken within bounds, shown as `bulkhead_plugin_<name>`.
//!
//! A family of Prometheus has one type, so the first plugin that has a name decides it for all that run
//! at the time. What is taken goes with the process that told it: the value of one that is gone is not
//! one of now.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_ipc_protocol::metrics::{MAX_SERIES, Metric, MetricKind, MetricsPush, SeriesValue};

use super::Known;
use super::exposition::{Exposition, Family, Kind};
use crate::id::PluginId;

/// What the process of a plugin measures.
#[derive(Debug, Default)]
pub(super) struct Measured {
    metrics: Vec<Metric>,
    /// What it has not told, and we have not taken, being beyond the bounds.
    dropped: u64,
    /// Of that what we have not taken.
    refused: u64,
    warned: bool,
}

impl Measured {
    /// Takes what is told. For the first time that something of it is dropped: why.
    fn take(&mut self, push: MetricsPush, clashes: impl Fn(&Metric) -> bool) -> Option<String> {
        let (mut names, mut weight) = (BTreeSet::new(), 0);
        let mut why = None;
        self.metrics = Vec::new();
        for metric in push.metrics {
            let fault = if let Err(fault) = metric.check() {
                Some(fault.to_string())
            } else if !names.insert(metric.name.clone()) {
                Some(format!("{} is told twice", metric.name))
            } else if clashes(&metric) {
                Some(format!("{} is of another kind in another plugin", metric.name))
            } else if weight + metric.weight() > MAX_SERIES {
                Some(format!("there are more than {MAX_SERIES} series"))
            } else {
                None
            };
            if let Some(fault) = fault {
                self.refused += 1;
                why.get_or_insert(fault);
            } else {
                weight += metric.weight();
                self.metrics.push(metric);
            }
        }
        self.dropped = push.dropped.saturating_add(self.refused);
        if self.dropped == 0 || std::mem::replace(&mut self.warned, true) {
            return None;
        }
        Some(why.unwrap_or_else(|| "its log says what is beyond the bounds".to_owned()))
    }
}

impl Known {
    pub(super) fn measured(&mut self, plugin: &PluginId, push: MetricsPush) -> Option<String> {
        let mut measured = self.measured.remove(plugin).unwrap_or_default();
        let others = || self.measured.values().flat_map(|other| &other.metrics);
        let clashes = |metric: &Metric| {
            others()
                .any(|other| other.name == metric.name && kind(&other.kind) != kind(&metric.kind))
        };
        let why = measured.take(push, clashes);
        self.measured.insert(plugin.clone(), measured);
        why
    }
}

/// What is told late, by a process that has ended since, is not shown: `up` says whose is there.
pub(super) fn write(out: &mut Exposition, known: &Known, up: impl Fn(&PluginId) -> bool) {
    let measured = || known.measured.iter().filter(|(plugin, _)| up(plugin));
    let mut families: BTreeMap<&str, Vec<(&PluginId, &Metric)>> = BTreeMap::new();
    for (plugin, measured) in measured() {
        for metric in &measured.metrics {
            families.entry(&metric.name).or_default().push((plugin, metric));
        }
    }
    for (name, metrics) in families {
        let Some((_, first)) = metrics.first() else { continue };
        let name = format!("bulkhead_plugin_{name}");
        let help = if first.help.is_empty() { "Of the plugin's own." } else { &first.help };
        let mut family = out.family(&name, kind(&first.kind), help);
        for (plugin, metric) in metrics {
            series(&mut family, plugin, metric);
        }
    }
    let help = "What it measures beyond the bounds, which is shown nowhere.";
    let mut family = out.family("bulkhead_metrics_dropped_total", Kind::Counter, help);
    for (plugin, measured) in measured() {
        family.series(&[("plugin", plugin.as_str())], measured.dropped);
    }
}

fn series(family: &mut Family<'_>, plugin: &PluginId, metric: &Metric) {
    for series in &metric.series {
        let mut labels = vec![("plugin", plugin.as_str())];
        let names = metric.labels.iter().map(String::as_str);
        labels.extend(names.zip(series.labels.iter().map(String::as_str)));
        match (&series.value, &metric.kind) {
            (SeriesValue::Number(value), _) => family.series(&labels, *value),
            (SeriesValue::Histogram { counts, sum }, MetricKind::Histogram { bounds }) => {
                family.histogram(&labels, bounds, counts, *sum);
            }
            // It was checked when it was taken.
            (SeriesValue::Histogram { .. }, _) => {}
        }
    }
}

fn kind(kind: &MetricKind) -> Kind {
    match kind {
        MetricKind::Counter => Kind::Counter,
        MetricKind::Gauge => Kind::Gauge,
        MetricKind::Histogram { .. } => Kind::Histogram,
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_ipc_protocol::metrics::Series;

    use super::*;

    fn metric(name: &str, kind: MetricKind, values: &[f64]) -> Metric {
        let series = values.iter().enumerate().map(|(n, value)| Series {
            labels: vec![n.to_string()],
            value: SeriesValue::Number(*value),
        });
        let help = "of the test".into();
        Metric { name: name.into(), help, kind, labels: vec!["n".into()], series: series.collect() }
    }

    fn push(metrics: &[Metric], dropped: u64) -> MetricsPush {
        MetricsPush { metrics: metrics.to_vec(), dropped }
    }

    fn text(known: &Known) -> String {
        let mut out = Exposition::default();
        write(&mut out, known, |_| true);
        out.text()
    }

    #[test]
    fn what_two_plugins_measure_by_one_name_is_one_family() {
        let (one, other): (PluginId, PluginId) = ("one".parse().unwrap(), "other".parse().unwrap());
        let mut known = Known::default();
        let counter = metric("made_total", MetricKind::Counter, &[1.0]);
        for plugin in [&one, &other] {
            assert_eq!(known.measured(plugin, push(std::slice::from_ref(&counter), 0)), None);
        }
        let shown = text(&known);
        let mut out = Exposition::default();
        write(&mut out, &known, |plugin| *plugin == other);
        assert!(!out.text().contains("\"one\""), "it has ended");
        assert!(
            shown.starts_with(
                "# HELP bulkhead_plugin_made_total of the test\n\
                 # TYPE bulkhead_plugin_made_total counter\n\
                 bulkhead_plugin_made_total{plugin=\"one\",n=\"0\"} 1\n\
                 bulkhead_plugin_made_total{plugin=\"other\",n=\"0\"} 1\n"
            ),
            "{shown}"
        );
    }

    #[test]
    fn a_name_has_one_kind_and_what_is_dropped_is_told_once() {
        let (one, other): (PluginId, PluginId) = ("one".parse().unwrap(), "other".parse().unwrap());
        let mut known = Known::default();
        let bounds = MetricKind::Histogram { bounds: vec![1.0] };
        known.measured(&one, push(&[metric("level", MetricKind::Gauge, &[1.0])], 0));
        let clash = [metric("level", bounds, &[]), metric("mine", MetricKind::Gauge, &[2.0])];
        let why = known.measured(&other, push(&clash, 0)).unwrap();
        assert!(why.contains("another kind"), "{why}");
        assert_eq!(known.measured(&other, push(&clash, 0)), None, "told before");
        let shown = text(&known);
        assert!(shown.contains("bulkhead_plugin_mine{plugin=\"other\",n=\"0\"} 2"), "{shown}");
        assert!(shown.contains("bulkhead_metrics_dropped_total{plugin=\"other\"} 2"), "{shown}");
        assert!(shown.contains("bulkhead_metrics_dropped_total{plugin=\"one\"} 0"), "{shown}");
    }

    #[test]
    fn no_plugin_has_more_than_the_bounds() {
        let plugin: PluginId = "greedy".parse().unwrap();
        let mut known = Known::default();
        let all = vec![0.0; MAX_SERIES];
        let metrics = [
            metric("Not A Name", MetricKind::Gauge, &[1.0]),
            metric("first", MetricKind::Gauge, &all),
            metric("second", MetricKind::Gauge, &[1.0]),
        ];
        assert!(known.measured(&plugin, push(&metrics, 0)).unwrap().contains("not a name"));
        let shown = text(&known);
        assert_eq!(shown.matches("bulkhead_plugin_first{").count(), MAX_SERIES);
        assert!(!shown.contains("second"), "{shown}");
    }
}
