//! All series of the process, within their bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_ipc_protocol::metrics::{
    MAX_HELP, MAX_SERIES, Metric, MetricFault, MetricKind, MetricsPush, Series, check_labels,
    check_name, check_values,
};

use super::cells::{Cell, Change};

/// The series of a process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    known: Arc<Mutex<Known>>,
    change: Arc<Change>,
}

#[derive(Debug, Default)]
struct Known {
    families: BTreeMap<String, Family>,
    /// As the bounds count them.
    weight: usize,
    /// Series that were refused; each asking counts.
    dropped: u64,
}

#[derive(Debug)]
struct Family {
    help: String,
    kind: MetricKind,
    labels: Vec<String>,
    series: BTreeMap<Vec<String>, Cell>,
}

/// Why a series is not kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Fault(#[from] MetricFault),
    #[error("{0} is measured already, of another kind or with other labels")]
    Different(String),
    #[error("{0} begins with sdk_, as what the SDK measures by itself does; choose another name")]
    Reserved(String),
    #[error("there are {MAX_SERIES} series already; give labels fewer values")]
    TooMany,
}

pub(super) struct Registered {
    pub(super) cell: Cell,
    /// For the first series that is refused: why.
    pub(super) first_refusal: Option<Refused>,
}

impl Registry {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(
        &self,
        name: &str,
        help: &str,
        kind: MetricKind,
        labels: &[(&str, &str)],
    ) -> Registered {
        let made = self.known().find_or_make(name, help, &kind, labels, &self.change);
        match made {
            Ok(cell) => Registered { cell, first_refusal: None },
            Err(refused) => self.refuse(&kind, refused),
        }
    }

    /// A series that is kept by nobody but its user.
    pub(super) fn refuse(&self, kind: &MetricKind, refused: Refused) -> Registered {
        let mut known = self.known();
        known.dropped += 1;
        let first_refusal = (known.dropped == 1).then_some(refused);
        drop(known);
        self.change.make();
        Registered { cell: Cell::new(kind, &self.change), first_refusal }
    }

    pub(crate) fn change(&self) -> &Change {
        &self.change
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        let known = self.known();
        known.families.is_empty() && known.dropped == 0
    }

    pub(crate) fn snapshot(&self) -> MetricsPush {
        let known = self.known();
        let metrics = known.families.iter().map(|(name, family)| Metric {
            name: name.clone(),
            help: family.help.clone(),
            kind: family.kind.clone(),
            labels: family.labels.clone(),
            series: family
                .series
                .iter()
                .map(|(labels, cell)| Series { labels: labels.clone(), value: cell.value() })
                .collect(),
        });
        MetricsPush { metrics: metrics.collect(), dropped: known.dropped }
    }
}

impl Known {
    fn find_or_make(
        &mut self,
        name: &str,
        help: &str,
        kind: &MetricKind,
        labels: &[(&str, &str)],
        change: &Arc<Change>,
    ) -> Result<Cell, Refused> {
        let values = || labels.iter().map(|(_, value)| *value);
        if let Some(family) = self.families.get(name) {
            let same = labels.iter().map(|(label, _)| *label).eq(family.labels.iter());
            let alike = std::mem::discriminant(kind) == std::mem::discriminant(&family.kind);
            if !same || !alike {
                return Err(Refused::Different(name.to_owned()));
            }
        } else {
            check_name(name, kind)?;
            check_labels(labels.iter().map(|(label, _)| *label))?;
            if help.len() > MAX_HELP || help.contains(['\n', '\r']) {
                return Err(MetricFault::Help(help.len()).into());
            }
        }
        check_values(values())?;
        let key: Vec<String> = values().map(str::to_owned).collect();
        let known = self.families.get(name);
        if let Some(cell) = known.and_then(|family| family.series.get(&key)) {
            return Ok(cell.clone());
        }
        let kind = known.map_or(kind, |family| &family.kind).clone();
        if self.weight + kind.weight() > MAX_SERIES {
            return Err(Refused::TooMany);
        }
        self.weight += kind.weight();
        let cell = Cell::new(&kind, change);
        let family = self.families.entry(name.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            labels: labels.iter().map(|(label, _)| (*label).to_owned()).collect(),
            series: BTreeMap::new(),
        });
        family.series.insert(key, cell.clone());
        change.make();
        Ok(cell)
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_ipc_protocol::metrics::SeriesValue;

    use super::*;

    #[test]
    fn the_same_name_and_labels_are_the_same_series() {
        let registry = Registry::default();
        let counter = |labels: &[(&str, &str)]| {
            registry.register("a_total", "help", MetricKind::Counter, labels)
        };
        counter(&[("x", "1")]).cell.add(2.0);
        counter(&[("x", "1")]).cell.add(3.0);
        counter(&[("x", "2")]).cell.add(1.0);
        let snapshot = registry.snapshot();
        assert_eq!(snapshot.metrics[0].series[0].value, SeriesValue::Number(5.0));
        assert_eq!((snapshot.metrics[0].series.len(), snapshot.dropped), (2, 0));
        assert_eq!(snapshot.metrics[0].check(), Ok(()));
        let other = counter(&[("y", "1")]);
        assert_eq!(other.first_refusal, Some(Refused::Different("a_total".into())));
        other.cell.add(1.0);
        assert_eq!(registry.snapshot().dropped, 1, "it is counted and shown nowhere");
        assert_eq!(counter(&[("z", "1")]).first_refusal, None, "the log is told once");
    }

    #[test]
    fn there_are_no_more_series_than_the_bounds_have() {
        let registry = Registry::default();
        let bounds = MetricKind::Histogram { bounds: vec![1.0, 2.0] };
        let histogram = registry.register("h", "", bounds, &[]);
        histogram.cell.observe(2.0);
        histogram.cell.observe(3.0);
        histogram.cell.observe(f64::NAN);
        assert_eq!(
            histogram.cell.value(),
            SeriesValue::Histogram { counts: vec![0, 1, 1], sum: 5.0 }
        );
        let told: Vec<usize> = (0..MAX_SERIES)
            .filter(|n| {
                let value = n.to_string();
                let labels = [("n", value.as_str())];
                registry.register("g", "", MetricKind::Gauge, &labels).first_refusal.is_some()
            })
            .collect();
        assert_eq!(told, [MAX_SERIES - 5], "the histogram is as many as it has bounds, and three");
        let snapshot = registry.snapshot();
        let weight: usize = snapshot.metrics.iter().map(Metric::weight).sum();
        assert_eq!((weight, snapshot.dropped), (MAX_SERIES, 5));
    }
}
