//! The Prometheus text format, version 0.0.4: families of series, each with its HELP and TYPE.
//!
//! Written here and not by a library: those that are kept up hold the values themselves and write
//! OpenMetrics, and what is shown here is a view of what the service knows already, with series that
//! are absent where a value is not known.

use std::fmt::{self, Write as _};

/// The media type of a scrape.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the values of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        })
    }
}

/// The value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Whole(value) => value.fmt(f),
            Number::Real(value) if value.is_nan() => f.write_str("NaN"),
            Number::Real(value) if value.is_infinite() => {
                f.write_str(if *value > 0.0 { "+Inf" } else { "-Inf" })
            }
            Number::Real(value) => value.fmt(f),
        }
    }
}

/// Names and values of a series' labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A scrape that is being written.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// A family that is being written; without a series nothing of it is.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
    kind: Kind,
    help: &'a str,
    begun: bool,
}

impl Exposition {
    pub(super) fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &'a str) -> Family<'a> {
        Family { text: &mut self.text, name, kind, help, begun: false }
    }

    /// A family of one series without labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Into<Number>) {
        self.family(name, kind, help).series(&[], value);
    }

    pub(super) fn text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    pub(super) fn series(&mut self, labels: Labels<'_>, value: impl Into<Number>) {
        self.line("", labels, None, value.into());
    }

    /// The buckets, the sum and the count. `counts` has one more than `bounds`: of what is beyond the
    /// last.
    pub(super) fn histogram(
        &mut self,
        labels: Labels<'_>,
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        let mut below = 0;
        for (bound, count) in bounds.iter().chain([&f64::INFINITY]).zip(counts) {
            below += count;
            self.line("_bucket", labels, Some(Number::Real(*bound)), Number::Whole(below));
        }
        self.line("_sum", labels, None, Number::Real(sum));
        self.line("_count", labels, None, Number::Whole(below));
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<Number>, value: Number) {
        let Self { text, name, kind, help, .. } = self;
        if !std::mem::replace(&mut self.begun, true) {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            push(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
        push(text, format_args!("{name}{suffix}"));
        let mut separator = '{';
        for (label, value) in labels {
            push(text, format_args!("{separator}{label}=\"{}\"", Escaped(value)));
            separator = ',';
        }
        if let Some(bound) = bound {
            push(text, format_args!("{separator}le=\"{bound}\""));
            separator = ',';
        }
        push(text, format_args!("{} {value}\n", if separator == ',' { "}" } else { "" }));
    }
}

fn push(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("writing to a string does not fail");
}

/// The value of a label, within its quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::histogram::{BOUNDS, Histogram};
    use super::*;

    #[test]
    fn a_family_has_a_head_and_its_series() {
        let mut out = Exposition::default();
        let mut family = out.family("bulkhead_x", Kind::Gauge, "of a \\ and\nmore");
        family.series(&[("plugin", "a\"b\\c\nd"), ("kind", "é")], 7_u64);
        family.series(&[], 0.25);
        out.family("bulkhead_nothing", Kind::Counter, "none");
        out.single("bulkhead_y", Kind::Gauge, "not a number", f64::NAN);
        assert_eq!(
            out.text(),
            "# HELP bulkhead_x of a \\\\ and\\nmore\n# TYPE bulkhead_x gauge\n\
             bulkhead_x{plugin=\"a\\\"b\\\\c\\nd\",kind=\"é\"} 7\nbulkhead_x 0.25\n\
             # HELP bulkhead_y not a number\n# TYPE bulkhead_y gauge\nbulkhead_y NaN\n"
        );
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let mut histogram = Histogram::default();
        for millis in [1, 1, 40, 100_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut out = Exposition::default();
        out.family("h", Kind::Histogram, "x").histogram(
            &[("m", "a")],
            &BOUNDS,
            &histogram.counts,
            histogram.sum,
        );
        let text = out.text();
        for line in [
            "h_bucket{m=\"a\",le=\"0.0005\"} 0\n",
            "h_bucket{m=\"a\",le=\"0.001\"} 2\n",
            "h_bucket{m=\"a\",le=\"0.05\"} 3\n",
            "h_bucket{m=\"a\",le=\"30\"} 3\n",
            "h_bucket{m=\"a\",le=\"+Inf\"} 4\n",
            "h_sum{m=\"a\"} 100.042\n",
            "h_count{m=\"a\"} 4\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }
}
