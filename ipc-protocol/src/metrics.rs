//! What a plugin measures of itself, as it tells its host.
//!
//! A push has everything that there is, not what changed: one that is lost costs nothing, and a
//! supervisor that starts anew has all with the next one. Both sides hold it against the same bounds,
//! the plugin so that it is told early, the host because it trusts no plugin.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Series of one plugin, at most: a counter or gauge is one for each set of its labels' values, a
/// histogram as many as it has bounds, and three.
pub const MAX_SERIES: usize = 256;
/// Bytes of the name of a metric or a label.
pub const MAX_NAME: usize = 64;
/// Bytes of a metric's help.
pub const MAX_HELP: usize = 256;
/// Labels of one metric.
pub const MAX_LABELS: usize = 8;
/// Bytes of a label's value.
pub const MAX_VALUE: usize = 128;
/// Bounds of a histogram.
pub const MAX_BOUNDS: usize = 24;

/// All that a plugin measures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsPush {
    /// In any order, each name once.
    pub metrics: Vec<Metric>,
    /// How many series there would be beyond the bounds.
    pub dropped: u64,
}

/// A metric, with a series for each set of its labels' values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// `a-z 0-9 _`, beginning with a letter. A counter's ends in `_total`; no other's does, nor in
    /// `_bucket`, `_sum`, `_count`, `_info` or `_created`.
    pub name: String,
    /// One line for people.
    pub help: String,
    /// What the values are.
    pub kind: MetricKind,
    /// The names of the labels, in the order of the values.
    pub labels: Vec<String>,
    /// Its series.
    pub series: Vec<Series>,
}

/// What the values of a metric are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MetricKind {
    /// Goes up only, from zero with each start of the plugin.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by their size.
    Histogram {
        /// The upper bounds of the buckets, going up, without infinity.
        bounds: Vec<f64>,
    },
}

/// One series of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The values of the labels.
    pub labels: Vec<String>,
    /// Its value.
    pub value: SeriesValue,
}

/// The value of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SeriesValue {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram {
        /// How many observations are within each bound and beyond the one before; the last are
        /// beyond all.
        counts: Vec<u64>,
        /// Of all that was observed.
        sum: f64,
    },
}

/// Why a metric is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricFault {
    /// Its name.
    #[error(
        "{0:?} is not a name of a metric: use a-z, 0-9 and _, beginning with a letter, at most 64; a counter's, and no other's, ends in _total, and none in _bucket, _sum, _count, _info or _created"
    )]
    Name(String),
    /// A label's name.
    #[error(
        "{0:?} is not a name of a label: use a-z, 0-9 and _, beginning with a letter, at most 64, each once; `plugin` and `le` are the host's"
    )]
    Label(String),
    /// There are too many labels, or not as many values as names.
    #[error("{0} labels; a metric has as many values as names, at most 8")]
    Labels(usize),
    /// A label's value.
    #[error("a label's value of {0} bytes; at most 128")]
    Value(usize),
    /// Its help.
    #[error("help of {0} bytes; one line, at most 256 bytes")]
    Help(usize),
    /// A histogram's bounds.
    #[error("the bounds of a histogram go up, are finite, and at most 24")]
    Bounds,
    /// A value that the kind cannot have, or a series that is there twice.
    #[error("a value that a metric of its kind cannot have")]
    Number,
}

impl Metric {
    /// Whether the metric keeps to the grammar and the bounds, its series included.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), MetricFault> {
        check_name(&self.name, &self.kind)?;
        check_labels(self.labels.iter().map(String::as_str))?;
        if self.help.len() > MAX_HELP || self.help.contains(['\n', '\r']) {
            return Err(MetricFault::Help(self.help.len()));
        }
        let mut seen = BTreeSet::new();
        for series in &self.series {
            if series.labels.len() != self.labels.len() {
                return Err(MetricFault::Labels(series.labels.len()));
            }
            check_values(series.labels.iter().map(String::as_str))?;
            let possible = match (&self.kind, &series.value) {
                (MetricKind::Counter, SeriesValue::Number(value)) => {
                    *value >= 0.0 && value.is_finite()
                }
                (MetricKind::Gauge, SeriesValue::Number(_)) => true,
                (MetricKind::Histogram { bounds }, SeriesValue::Histogram { counts, sum }) => {
                    let whole = counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count));
                    counts.len() == bounds.len() + 1 && sum.is_finite() && whole.is_some()
                }
                _ => false,
            };
            if !possible || !seen.insert(&series.labels) {
                return Err(MetricFault::Number);
            }
        }
        Ok(())
    }

    /// How many series it counts as.
    pub fn weight(&self) -> usize {
        self.kind.weight().saturating_mul(self.series.len())
    }
}

impl MetricKind {
    /// How many series one set of labels' values is.
    pub fn weight(&self) -> usize {
        match self {
            Self::Counter | Self::Gauge => 1,
            Self::Histogram { bounds } => bounds.len() + 3,
        }
    }
}

/// Whether that can be the name of a metric of that kind, and its bounds can be.
///
/// # Errors
/// [`MetricFault::Name`], [`MetricFault::Bounds`].
pub fn check_name(name: &str, kind: &MetricKind) -> Result<(), MetricFault> {
    const TAKEN: [&str; 5] = ["_bucket", "_sum", "_count", "_info", "_created"];
    let counter = *kind == MetricKind::Counter;
    let taken = TAKEN.iter().any(|ending| name.ends_with(ending));
    if !is_word(name) || taken || name.ends_with("_total") != counter {
        return Err(MetricFault::Name(name.chars().take(MAX_NAME).collect()));
    }
    if let MetricKind::Histogram { bounds } = kind {
        let up = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !up || bounds.len() > MAX_BOUNDS || !bounds.iter().all(|bound| bound.is_finite()) {
            return Err(MetricFault::Bounds);
        }
    }
    Ok(())
}

/// Whether those can be the names of a metric's labels.
///
/// # Errors
/// [`MetricFault::Label`], [`MetricFault::Labels`].
pub fn check_labels<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), MetricFault> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !is_word(name) || matches!(name, "plugin" | "le") || !seen.insert(name) {
            return Err(MetricFault::Label(name.chars().take(MAX_NAME).collect()));
        }
    }
    if seen.len() > MAX_LABELS {
        return Err(MetricFault::Labels(seen.len()));
    }
    Ok(())
}

/// Whether those can be values of labels.
///
/// # Errors
/// [`MetricFault::Value`].
pub fn check_values<'a>(mut values: impl Iterator<Item = &'a str>) -> Result<(), MetricFault> {
    match values.find(|value| value.len() > MAX_VALUE) {
        Some(long) => Err(MetricFault::Value(long.len())),
        None => Ok(()),
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> Metric {
        let series = Series { labels: vec!["x".into()], value: SeriesValue::Number(1.0) };
        Metric {
            name: "booked_total".into(),
            help: "What was booked".into(),
            kind: MetricKind::Counter,
            labels: vec!["status".into()],
            series: vec![series],
        }
    }

    fn histogram() -> Metric {
        let value = SeriesValue::Histogram { counts: vec![1, 2], sum: 3.5 };
        Metric {
            name: "wait_seconds".into(),
            kind: MetricKind::Histogram { bounds: vec![1.0] },
            labels: Vec::new(),
            series: vec![Series { labels: Vec::new(), value }],
            ..counter()
        }
    }

    #[test]
    fn what_keeps_to_the_rules_is_taken() {
        assert_eq!(counter().check(), Ok(()));
        assert_eq!(histogram().check(), Ok(()));
        assert_eq!((counter().weight(), histogram().weight()), (1, 4));
    }

    #[test]
    fn each_rule_has_its_fault() {
        let faulty = |change: fn(&mut Metric)| {
            let (mut one, mut other) = (counter(), histogram());
            change(&mut one);
            change(&mut other);
            (one.check(), other.check())
        };
        let name = |name: &str| Err(MetricFault::Name(name.into()));
        assert_eq!(faulty(|m| m.name = "booked".into()), (name("booked"), Ok(())));
        assert_eq!(faulty(|m| m.name = "x_total".into()), (Ok(()), name("x_total")));
        for bad in ["", "A_total", "1_total", "a-b_total", "a_count", "_a_total"] {
            let mut metric = counter();
            metric.name = bad.into();
            assert_eq!(metric.check(), name(bad));
        }
        for bad in ["plugin", "le", "__x", "a b", ""] {
            let mut metric = counter();
            metric.labels = vec![bad.into()];
            assert_eq!(metric.check(), Err(MetricFault::Label(bad.into())));
        }
        let (one, other) = faulty(|m| m.labels.push("more".into()));
        assert_eq!((one, other), (Err(MetricFault::Labels(1)), Err(MetricFault::Labels(0))));
        let (one, other) = faulty(|m| m.help = "a\nb".into());
        assert_eq!((one, other), (Err(MetricFault::Help(3)), Err(MetricFault::Help(3))));
        let (one, _) = faulty(|m| m.series[0].labels = vec!["x".repeat(129)]);
        assert_eq!(one, Err(MetricFault::Value(129)));
        let (one, other) = faulty(|m| m.series[0].value = SeriesValue::Number(-1.0));
        assert_eq!((one, other), (Err(MetricFault::Number), Err(MetricFault::Number)));
        let (one, other) = faulty(|m| m.series.push(m.series[0].clone()));
        assert_eq!((one, other), (Err(MetricFault::Number), Err(MetricFault::Number)));
        for bounds in [vec![2.0, 1.0], vec![1.0, 1.0], vec![f64::INFINITY], vec![f64::NAN]] {
            let mut metric = histogram();
            metric.kind = MetricKind::Histogram { bounds };
            assert_eq!(metric.check(), Err(MetricFault::Bounds));
        }
        let mut metric = histogram();
        metric.series[0].value = SeriesValue::Histogram { counts: vec![1], sum: 0.0 };
        assert_eq!(metric.check(), Err(MetricFault::Number), "one count too few");
    }
}
